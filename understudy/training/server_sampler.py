"""The student's completions drawn by a vLLM server, behind the same call as the local sampler.

Before each draw the server gets the student's current weights: they are written as a model folder that the server can
read, then /collective_rpc reload_weights, then /reset_prefix_cache (old keys and values would be used silently). These
endpoints exist where vLLM was started with VLLM_SERVER_DEV_MODE=1; keep such a server off open networks.

Nothing is assumed: a refresh that did not arrive is detected by scoring the last completions again, and the recorded
log-probs of every draw are compared with the student's own.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from understudy.errors import UserError
from understudy.experts.server.check import preflight, same_tokens
from understudy.experts.server.expert import ServerExpert
from understudy.policy import Policy
from understudy.runs.checkpoint import load_tensors, save_tensors
from understudy.runs.files import new_folder, os_errors_explained, read_json, write_json
from understudy.servers.config import parse_server
from understudy.servers.http import Rejected, Unreachable
from understudy.types import Prompt, Rollout

PROBES = 4  # completions of each draw that the student scores too


class ServerSampler:
    """One student on one server."""

    def __init__(self, address: str, student: Policy, prompts: list[Prompt], folder: Path) -> None:
        """prompts: PROMPTS of the task, on which the server is checked. folder: for the weights, unless the address
        names one. Nothing is written yet. UserError: not reachable, another tokenizer, no way to give it weights."""
        options = parse_server(address, "sampler")
        if options.api != "completions":
            raise UserError("sampler.api", options.api, "the student's own tokens are needed: use completions")
        self.student, self.limit = student, options.noise
        self.server = ServerExpert(options, student, field="sampler")
        self.url = options.url
        self.folder = Path(os.path.abspath(options.weights or folder))
        self.prompts = prompts
        self.facts: dict[str, Any] = dict(self.server.provenance) | {"kind": "vllm sampler"}
        self.noise: float | None = None  # nats per token, measured at the first refresh
        self._probes: list[Rollout] = []
        self._before: list[Tensor] = []
        same_tokens(self.server)
        self._can_reset()

    def sample(
        self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int, actor: str
    ) -> list[Rollout]:
        """As policy.sampling.draw, from the student's weights of this moment."""
        self.refresh()
        drawn = self.server.sample(prompts, samples, seed, max_new_tokens)
        out = [dataclasses.replace(r, actor=actor) for r in drawn]
        self._probes = out[:PROBES]
        self._before = [x.cpu() for x in self.student.score(self._probes)]
        gap = _mean([own - torch.tensor(r.behavior_logp) for own, r in zip(self._before, self._probes)])
        if not gap <= self.limit:
            self._differ("its log-probs of the completions it has drawn", gap)
        return out

    def refresh(self) -> None:
        """Give the server the student's weights and see that it has them."""
        with os_errors_explained(self.folder, field="sampler.weights"):
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with new_folder(self.folder) as tmp:
                write_untied(self.student, tmp)
        self._call("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(self.folder)}})
        self._can_reset()
        if self.noise is None:
            measured = preflight(self.server, self.prompts, self.student)
            self.facts["preflight"] = measured
            self.noise = max(measured["noise"]["again_mean"], measured["noise"]["local_mean"])
        elif self._probes:
            self._check_arrived()

    def _check_arrived(self) -> None:
        """The server must score the last completions as the new weights do, not as the old ones did."""
        now = [x.cpu() for x in self.student.score(self._probes)]
        served = self.server.score(self._probes)
        moved = _mean([a - b for a, b in zip(now, self._before)])
        off = _mean([a - b for a, b in zip(now, served)])
        if not off <= self.limit:
            self._differ("after it was given new weights, its scores", off)
        if moved > 4 * max(self.noise or 0.0, 1e-6) and off > 0.5 * moved:
            hint = (
                f"it still scores like the weights before the last update (off by {off:.2g} of {moved:.2g} nats): "
                f"does it read {self.folder}? one server process per address, no replicas behind it"
            )
            raise UserError("sampler", self.url, hint)

    def _can_reset(self) -> None:
        self._call("/reset_prefix_cache", None)

    def _call(self, path: str, body: dict[str, Any] | None) -> None:
        """One of vLLM's own endpoints, which lie beside /v1."""
        try:
            self.server.client.post_bare(self.server.client.root + path, body)
        except Rejected as error:
            if error.status != 404:
                raise
            hint = f"has no {path}: start vLLM with VLLM_SERVER_DEV_MODE=1, or use --sampler local"
            raise UserError("sampler", self.url, hint) from None
        except Unreachable as error:
            if path == "/collective_rpc":
                hint = f"{error.hint} (it must be able to read {self.folder}: server:url=...,weights=SHARED_FOLDER)"
                raise UserError("sampler", self.url, hint) from None
            raise

    def _differ(self, what: str, gap: float) -> None:
        hint = (
            f"{what} differ from the student's by {gap:.4f} nats per token, more than {self.limit:g}: other weights, "
            "precision or sampling; correct the server, or allow it with server:url=...,noise=X"
        )
        raise UserError("sampler", self.url, hint)

    def close(self) -> None:
        """Take the weights off the disk again, and drop the connections."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.server.client.close()


def write_untied(policy: Policy, folder: Path) -> None:
    """The model with a head of its own. From a folder whose head is tied to the embedding vLLM 0.32 reloads the
    embedding and keeps the old head ("ParallelLMHead: Failed to load weights"), answers 200, and is neither model.
    """
    policy.save(folder)
    config = read_json(folder / "config.json")
    if not config.get("tie_word_embeddings"):
        return
    head = {"lm_head.weight": policy.model.get_output_embeddings().weight}
    index = folder / "model.safetensors.index.json"
    if index.exists():
        name = "model-head.safetensors"
        save_tensors(folder / name, head, {"format": "pt"})
        table = read_json(index)
        table["weight_map"]["lm_head.weight"] = name
        write_json(index, table)
    else:
        file = folder / "model.safetensors"
        save_tensors(file, load_tensors(file) | head, {"format": "pt"})
    write_json(folder / "config.json", config | {"tie_word_embeddings": False})


def _mean(differences: Sequence[Tensor]) -> float:
    return float(torch.cat(list(differences)).abs().mean())
