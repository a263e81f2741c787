"""Rows whose completions vLLM draws in this process (a stand-in: fake_vllm.py)."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import fake_vllm
import pytest
import torch
from tiny import config

from understudy.config import TrainConfig
from understudy.errors import UserError
from understudy.evaluation.sequential import PairedTest
from understudy.policy import load_policy
from understudy.runs.checkpoint import load_tensors
from understudy.runs.read import read_final, read_metrics, read_provenance
from understudy.servers.colocated import import_vllm
from understudy.training import guard as guard_module
from understudy.training import held as held_module
from understudy.training import session as session_module
from understudy.training.sent_weights import named_weights, write_untied
from understudy.training.train import train


def by_vllm(method: str, out: Path, models: dict[str, Path], sampler: str = "vllm", **cells: Any) -> TrainConfig:
    return config(
        method, out, student=str(models["llama"]), expert=str(models["qwen2"]), updates=3, lr=0.02, sampler=sampler,
        **cells,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("method", "level", "cells"), [("opd", 1, {}), ("grpo", 2, {}), ("opd_full", 0, {"lora_rank": 2})]
)
def test_rollouts_by_vllm(
    method: str, level: int, cells: Any, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parity of sampler and trainer at every update, while the weights change: catches weights that are sent late, of
    the wrong name, without the adapter or without the head, and a draw on memory that sleeps."""
    fake = fake_vllm.install(monkeypatch, can_sleep=level > 0)
    spec = f"vllm:sleep={level or 1},gpu_memory_utilization=0.25,max_model_len=100"
    run = train(by_vllm(method, tmp_path / "run", models, spec, **cells))
    lines = read_metrics(run, "train")
    assert len(lines) == 3
    assert all(line["logp_drift"] < 1e-4 for line in lines)
    facts = read_provenance(run)["sampler"]
    assert facts["kind"] == "vllm in this process"
    assert facts["preflight"]["noise"]["local_mean"] < 1e-4
    (engine,) = fake.made
    assert engine.options["gpu_memory_utilization"] == 0.25
    assert engine.options["max_model_len"] == 100
    assert engine.options["dtype"] == "float32"
    assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0", "the engine would be in another process"
    expected = ["wake weights", "reload", "wake kv_cache", "reset", "generate", "generate", f"sleep {level}"]
    if not level:
        expected = [e for e in expected if "wake" not in e and "sleep" not in e]
    assert engine.events[-len(expected) - 1 :] == [*expected, "shutdown"]


def test_weights_that_are_not_taken_are_noticed(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = fake_vllm.install(monkeypatch)
    rpc, calls = fake.collective_rpc, [0]

    def late(self: Any, method: str, kwargs: Any) -> Any:
        calls[0] += 1
        self.stale = calls[0] > 1
        return rpc(self, method, kwargs)

    monkeypatch.setattr(fake, "collective_rpc", late)
    small = dataclasses.replace(by_vllm("opd", tmp_path / "a", models), lr=1e-4)
    with pytest.raises(UserError, match=r"still scores like the weights before the last update.*does not take weights"):
        train(small)
    monkeypatch.setattr(fake, "collective_rpc", rpc)
    fake.old = True
    with pytest.raises(UserError, match=r"did not take the student's weights in place: .*weights_iterator"):
        train(by_vllm("opd", tmp_path / "b", models))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda o: o.outputs.pop(), "choices instead of"),
        (lambda o: setattr(o, "prompt_token_ids", [1, 2]), "another prompt|other tokens"),
        (lambda o: o.outputs[0].token_ids.append(10**6), "outside of the student's vocabulary"),
        (lambda o: setattr(o.outputs[0], "logprobs", None), "log-probs for|prompt_logprobs is missing"),
    ],
)
def test_wrong_answers_are_refused(
    spoil: Any, words: str, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = fake_vllm.install(monkeypatch)
    start = fake.__init__

    def spoiled(self: Any, *args: Any, **options: Any) -> None:
        start(self, *args, **options)
        self.spoil = spoil

    monkeypatch.setattr(fake, "__init__", spoiled)
    with pytest.raises(UserError, match=rf"vllm: answers what was not requested: .*({words})"):
        train(by_vllm("opd", tmp_path / "run", models))


def test_mistakes(models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is one line that names the remedy, before anything is written."""
    out = tmp_path / "run"
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    with pytest.raises(UserError, match=r"vllm: needs a GPU, and the student is on cpu: use local"):
        train(by_vllm("opd", out, models))
    with pytest.raises(UserError, match=r"needs vLLM .*pip install 'understudy\[vllm\]'"):
        import_vllm("vllm", "cuda")
    fake_vllm.install(monkeypatch, on_cpu=False)
    with pytest.raises(UserError, match="needs a GPU"):
        train(by_vllm("opd", out, models))
    fake = fake_vllm.install(monkeypatch)
    fake.start_error = "No available memory for the cache blocks"
    with pytest.raises(UserError, match=r"did not start .*: No available memory for the cache blocks"):
        train(by_vllm("opd", out, models))
    for spec, words in (
        ("vllm:gpu_memory_utilization=1.5", "sampler.gpu_memory_utilization: 1.5: must lie in"),
        ("vllm:memory=1", "sampler.memory: 1: unknown; one of"),
        ("sglang", "sampler: sglang: local, vllm, or the address"),
    ):
        with pytest.raises(UserError, match=words):
            train(by_vllm("opd", out, models, spec))
    monkeypatch.setattr(session_module.distributed, "size", lambda: 2)
    with pytest.raises(UserError, match="one process gives another engine its weights"):
        session_module._sampler(session_module.Resolved(sampler="vllm"), None, None)  # type: ignore[arg-type]
    assert not out.exists()


@pytest.mark.parametrize("rank", [0, 2])
def test_named_weights_are_those_of_the_folder(rank: int, models: dict[str, Path], tmp_path: Path) -> None:
    policy = load_policy(str(models["llama"]), "student", device="cpu")
    if rank:
        policy.adapt(rank, 4.0, 0.0, "all-linear", 0)
        with torch.no_grad():
            for p in policy.trained().values():
                p.add_(0.1)
    write_untied(policy, tmp_path)
    written = load_policy(str(tmp_path), "student", device="cpu").model.state_dict()
    sent = named_weights(policy)
    assert set(sent) == set(written)
    for name, tensor in written.items():
        torch.testing.assert_close(sent[name], tensor, atol=0, rtol=0)


def test_the_guard_restores_through_the_engine(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The confirmation swaps the student's weights: catches an engine that goes on drawing with those before."""
    fake = fake_vllm.install(monkeypatch)
    monkeypatch.setattr(held_module, "LEAST_PROMPTS", 8)
    for name in ("REFERENCE", "CONFIRM"):
        monkeypatch.setattr(guard_module, name, (16, 16))
    monkeypatch.setattr(PairedTest, "verdict", "")  # nothing is ever confirmed
    c = by_vllm("opd", tmp_path / "run", models, prompts_per_update=1, samples_per_prompt=1, max_new_tokens=4)
    run = train(dataclasses.replace(c, updates=10, save_every=5))
    guard = (read_final(run) or {})["guard"]
    assert guard["reference"]["from"] == "fresh prompts"
    assert guard["confirmation"]["prompts"] == 16, guard
    assert (guard["state"], guard["step"]) == ("restored", 0), guard
    a, b = (load_tensors(folder / "model.safetensors") for folder in (models["llama"], run / "final"))
    assert all(torch.equal(a[name], b[name]) for name in b)
    (engine,) = fake.made
    assert engine.events.count("reload") == 1 + 10 + 2 * 1, "the look, the updates, candidate and start"
