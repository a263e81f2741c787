"""Rows trained through a server end with the weights of the same rows with a local expert."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from stub_server import Stub
from tiny import config

from understudy.errors import UserError
from understudy.experts import LocalExpert
from understudy.policy import Policy, load_policy
from understudy.runs.checkpoint import load_tensors
from understudy.runs.read import read_ledger, read_metrics, read_provenance
from understudy.training import server_sampler as engine_module
from understudy.training import session as session_module
from understudy.training.sent_weights import write_untied
from understudy.training.train import train
from understudy.types import Prompt, Rollout


@pytest.fixture(scope="module")
def policy(models: dict[str, Path]) -> Policy:
    return load_policy(str(models["qwen2"]), "expert", device="cpu")


@pytest.fixture
def stub(policy: Policy) -> Iterator[Stub]:
    with Stub(policy).running() as server:
        yield server


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_tensors(path / "final" / "model.safetensors")


def close(a: Path, b: Path) -> None:
    want, got = weights(a), weights(b)
    for name in want:
        torch.testing.assert_close(got[name], want[name], atol=1e-5, rtol=0)
    skipped = ("train_seconds", "eval_seconds", "flops")  # a server does not say how many weights it has
    spent = [{k: v for k, v in read_ledger(p).items() if k not in skipped} for p in (a, b)]
    assert spent[0] == spent[1]


TOP = {"top_k": 5, "top_k_of": "expert"}
ROWS: list[tuple[str, dict[str, Any]]] = [
    ("opd", {}),
    ("opd", {"gamma": 0.5}),
    ("opd_full", TOP),
    ("gkd", TOP | {"student_share": 1.0}),
    ("base_opd", TOP | {"prompt_pool": 4}),
]


@pytest.mark.parametrize(("method", "cells"), ROWS)
def test_scores_train_like_the_model_itself(
    method: str, cells: dict[str, Any], stub: Stub, models: dict[str, Path], tmp_path: Path
) -> None:
    """Catches scores of other positions or rollouts, and a top-k without its tail: the student samples the same
    completions in both runs, so the weights must be equal."""
    base = config(method, tmp_path / "local", student=str(models["llama"]), expert=str(models["qwen2"]), **cells)
    local = train(base)
    there = train(dataclasses.replace(base, expert=stub.url, out=str(tmp_path / "server")))
    close(local, there)
    facts = read_provenance(there)["expert"]
    assert facts["provenance"]["kind"] == "server"
    assert facts["provenance"]["preflight"]["noise"]["again_mean"] < 1e-4


@pytest.mark.parametrize(("method", "cells"), [("sft", {}), ("word_kd", TOP)])
def test_its_samples_train_like_the_models_own(
    method: str,
    cells: dict[str, Any],
    stub: Stub,
    models: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The expert acts: on completions that the server drew, training with the local expert gives the same weights."""
    base = config(method, tmp_path / "server", student=str(models["llama"]), expert=stub.url, **cells)
    loaded: list[Any] = []
    load_expert = session_module.load_expert
    monkeypatch.setattr(session_module, "load_expert", lambda *a: loaded.append(load_expert(*a)) or loaded[-1])
    there = train(base)
    monkeypatch.setattr(session_module, "load_expert", load_expert)
    monkeypatch.setattr(LocalExpert, "sample", lambda self, *a: loaded[0].sample(*a))
    local = train(dataclasses.replace(base, expert=str(models["qwen2"]), out=str(tmp_path / "local")))
    close(local, there)


def test_an_evaluation_requests_what_a_server_can_give(stub: Stub, models: dict[str, Path], tmp_path: Path) -> None:
    """With --eval-expert: sampled and greedy accuracy of the expert; divergences are absent, not zero."""
    run = train(
        config("opd", tmp_path / "r", student=str(models["llama"]), expert=stub.url, eval_expert=True, eval_every=1)
    )
    lines = read_metrics(run, "eval")
    assert lines
    for line in lines:
        assert line["kl_student_expert"] is None
        assert line["kl_expert_student"] is None
        assert line["expert"]["greedy"] is not None


# -- rollouts by a server -------------------------------------------------------------------------------------------


@pytest.fixture
def engine(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stub]:
    """A server with other weights of the student's shape: the run must send it the student's weights."""
    folder = tmp_path_factory.mktemp("served")
    write_untied(load_policy(str(models["llama"]), "student", device="cpu"), folder)
    served = load_policy(str(folder), "student", device="cpu")  # as in vLLM: the head is never tied
    with torch.no_grad():
        for p in served.model.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) * 0.3)
    with Stub(served).running() as server:
        yield server


def by_server(engine: Stub, method: str, out: Path, models: dict[str, Path], options: str = "", **cells: Any) -> Any:
    return config(
        method, out, student=str(models["llama"]), expert=str(models["qwen2"]), updates=3, lr=0.02,
        sampler=f"server:url={engine.url},wait=0.001{options}", **cells,
    )  # fmt: skip


@pytest.mark.parametrize("method", ["opd", "opd_full", "grpo", "rft", "gkd"])
def test_rollouts_by_a_server(method: str, engine: Stub, models: dict[str, Path], tmp_path: Path) -> None:
    """Parity of sampler and trainer at every update, while the weights change: catches a refresh that is late, tied
    weights that are lost on the way, and recorded log-probs of another policy."""
    cells = {"student_share": 1.0} if method == "gkd" else {}
    run = train(by_server(engine, method, tmp_path / "run", models, **cells))
    lines = read_metrics(run, "train")
    assert len(lines) == 3
    for line in lines:
        if line["logp_drift"] is not None:
            assert line["logp_drift"] < 1e-4
    assert engine.seen["/collective_rpc"] >= 3
    assert engine.seen["/reset_prefix_cache"] >= engine.seen["/collective_rpc"], "old keys and values would be used"
    assert not (run / "data" / "sampler").exists(), "the weights were left behind"
    facts = read_provenance(run)["sampler"]
    assert facts["kind"] == "vllm sampler"
    assert facts["preflight"]["noise"]["local_mean"] < 1e-4


def test_a_refresh_that_does_nothing_is_noticed(engine: Stub, models: dict[str, Path], tmp_path: Path) -> None:
    """Catches training on samples of another model: a server that answers 200 and keeps its weights, from the start or
    later, even after a small update."""
    engine.stale = True
    with pytest.raises(UserError, match=r"differently than the local copy|differ from the student's"):
        train(by_server(engine, "opd", tmp_path / "a", models))
    engine.stale = False
    reload, calls = engine.reload, [0]

    def late(body: dict[str, Any]) -> Any:
        calls[0] += 1
        engine.stale = calls[0] > 1
        return reload(body)

    engine.reload = late  # type: ignore[method-assign]
    small = dataclasses.replace(by_server(engine, "opd", tmp_path / "b", models), lr=1e-4)
    with pytest.raises(UserError, match="still scores like the weights before the last update"):
        train(small)


def test_a_head_that_is_not_updated_is_noticed(
    engine: Stub, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM keeps its old head when it loads a model with a tied head; so the run sends an untied copy."""
    monkeypatch.setattr(engine_module, "write_untied", lambda policy, folder: policy.save(folder))
    with pytest.raises(UserError, match="scores differently"):
        train(by_server(engine, "opd", tmp_path / "run", models))


MISTAKES = [
    ("opd", {"sampler": "sglang"}, "sampler: sglang: local, vllm, or the address"),
    ("sft", {}, "sampler: .*behavior=expert has none of"),
    ("dagger", {}, "sampler: .*behavior=mixture_token has none of"),
]


@pytest.mark.parametrize(("method", "changes", "words"), MISTAKES)
def test_mistakes_with_samplers(
    method: str, changes: dict[str, Any], words: str, engine: Stub, models: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        train(dataclasses.replace(by_server(engine, method, tmp_path / "run", models), **changes))
    assert not (tmp_path / "run").exists()


def test_a_sampler_that_takes_no_weights(engine: Stub, models: dict[str, Path], tmp_path: Path) -> None:
    """The refusal comes before anything is written."""
    engine.dev_mode = False
    with pytest.raises(UserError, match="has no /reset_prefix_cache: start vLLM with VLLM_SERVER_DEV_MODE=1"):
        train(by_server(engine, "opd", tmp_path / "run", models))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("shards", [False, True])
def test_an_untied_copy_is_the_same_model(
    shards: bool, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a missing or wrong head in the weights that are sent to vLLM."""
    policy = load_policy(str(models["llama"]), "student", device="cpu")
    assert policy.model.config.tie_word_embeddings
    if shards:
        save = policy.model.save_pretrained
        monkeypatch.setattr(policy.model, "save_pretrained", lambda folder: save(folder, max_shard_size="8KB"))
    folder = tmp_path / "copy"
    folder.mkdir()
    write_untied(policy, folder)
    assert (folder / "model.safetensors.index.json").exists() == shards
    copy = load_policy(str(folder), "student", device="cpu")
    head, embedding = copy.model.get_output_embeddings().weight, copy.model.get_input_embeddings().weight
    assert head.data_ptr() != embedding.data_ptr()
    rollout = Rollout(Prompt("p", "", ids=(5, 6)), 0, (7, 8, 1), (0.0,) * 3, True, "", "x")
    torch.testing.assert_close(copy.score([rollout])[0], policy.score([rollout])[0])
