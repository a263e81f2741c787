"""The student's completions drawn by a vLLM server.

The weights are written as a model folder that the server can read, then /collective_rpc reload_weights, then
/reset_prefix_cache (old keys and values would be used silently). These endpoints exist where vLLM was started with
VLLM_SERVER_DEV_MODE=1; keep such a server off open networks.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from understudy.errors import UserError
from understudy.experts.server.check import same_tokens
from understudy.experts.server.expert import ServerExpert
from understudy.policy import Policy
from understudy.runs.files import new_folder, os_errors_explained
from understudy.servers.config import parse_server
from understudy.servers.http import Rejected, Unreachable
from understudy.training.engine_sampler import EngineSampler
from understudy.training.sent_weights import write_untied
from understudy.types import Prompt

MARK = ".understudy"
"""In a folder of weights that this module made, and so may replace and delete."""


def _is_ours(folder: Path) -> bool:
    if folder.is_symlink() or not folder.is_dir():
        return False
    return (folder / MARK).is_file() or not any(folder.iterdir())


class ServerSampler(EngineSampler):
    """One student on one server."""

    def __init__(self, address: str, student: Policy, prompts: list[Prompt], folder: Path) -> None:
        """folder: for the weights, unless the address names one. Nothing is written yet. UserError: not reachable,
        another tokenizer, no way to give it weights."""
        options = parse_server(address, "sampler")
        if options.api != "completions":
            raise UserError("sampler.api", options.api, "the student's own tokens are needed: use completions")
        server = ServerExpert(options, student, field="sampler")
        super().__init__(server, student, prompts, "vllm sampler")
        self.client, self.url = server.client, options.url
        self.folder = Path(os.path.abspath(options.weights or folder))
        if os.path.lexists(self.folder) and not _is_ours(self.folder):
            hint = "is not a new or empty folder; it would be replaced and deleted: name another"
            raise UserError("sampler.weights", self.folder, hint)
        same_tokens(server)
        self._reset()

    def send_weights(self) -> None:
        with os_errors_explained(self.folder, field="sampler.weights"):
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with new_folder(self.folder) as tmp:
                write_untied(self.student, tmp)
                (tmp / MARK).write_text("made and deleted by understudy\n")
        self._call("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(self.folder)}})
        self._reset()

    def not_arrived(self) -> str:
        return f"does it read {self.folder}? one server process per address, no replicas behind it"

    def close(self) -> None:
        """Take the weights off the disk again, and drop the connections."""
        if (self.folder / MARK).is_file():
            shutil.rmtree(self.folder, ignore_errors=True)
        self.client.close()

    def _reset(self) -> None:
        self._call("/reset_prefix_cache", None)

    def _call(self, path: str, body: dict[str, Any] | None) -> None:
        """One of vLLM's own endpoints, which lie beside /v1."""
        try:
            self.client.post_bare(self.client.root + path, body)
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
