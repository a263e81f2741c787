"""Tests with a real vLLM: skipped unless UNDERSTUDY_VLLM_URL is its address (docs/servers.md: how to start one).

    UNDERSTUDY_VLLM_URL=http://127.0.0.1:8000/v1 UNDERSTUDY_VLLM_MODEL=FOLDER python -m pytest tests/optin -s

FOLDER is a local copy of the served model, in the same precision, small enough to train, readable by the server.
The test of the sampler needs VLLM_SERVER_DEV_MODE=1; afterwards FOLDER's weights are put back.
With UNDERSTUDY_VLLM_HERE=1, vLLM is also run in this process (VLLM_CPU_KVCACHE_SPACE=1 on a CPU).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from tiny import config

from understudy.experts.server.check import preflight
from understudy.experts.server.expert import ServerExpert
from understudy.methods import divergences
from understudy.policy import Policy, load_policy
from understudy.runs.read import read_metrics, read_provenance
from understudy.servers.config import parse_server
from understudy.servers.http import Client
from understudy.tasks import load_task
from understudy.training.sent_weights import write_untied
from understudy.training.train import train

URL, MODEL = os.environ.get("UNDERSTUDY_VLLM_URL", ""), os.environ.get("UNDERSTUDY_VLLM_MODEL", "")
HERE = os.environ.get("UNDERSTUDY_VLLM_HERE", "")
needs_server = pytest.mark.skipif(not (URL and MODEL), reason="needs UNDERSTUDY_VLLM_URL and UNDERSTUDY_VLLM_MODEL")
LIMIT = 1e-3  # nats: float32 on both sides


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(MODEL, "expert", device="cpu")


@pytest.fixture(scope="module")
def expert(policy: Policy) -> ServerExpert:
    return ServerExpert(parse_server(URL, "expert"), policy)


@needs_server
def test_preflight_and_parity(expert: ServerExpert, policy: Policy) -> None:
    prompts = policy.encode(load_task("countdown").prompts("train", 8, 0))
    report = preflight(expert, prompts, policy)
    print(report)
    rollouts = expert.sample(prompts, 4, 0, 32)
    assert [r.ids for r in expert.sample(prompts, 4, 0, 32)] == [r.ids for r in rollouts], "the seed is not kept to"
    began = time.perf_counter()
    scores = expert.score(rollouts)
    print(f"{sum(map(len, scores))} tokens scored in {time.perf_counter() - began:.2f} s")
    gaps = [(a - b).abs().max() for a, b in zip(scores, policy.score(rollouts))]
    gaps += [(torch.tensor(r.behavior_logp) - s).abs().max() for r, s in zip(rollouts, scores)]
    print(f"largest difference {max(gaps):.2e} nats")
    assert max(gaps) < LIMIT
    supervision = expert.supervise(rollouts, 8)
    for i, whole in enumerate(policy.distribution(rollouts)):
        ids, logp = supervision.signal([[i]]).top_k(8, slice(0, len(whole)))
        torch.testing.assert_close(divergences.with_tail(logp), divergences.bucketed(whole, ids), atol=1e-2, rtol=0)


@needs_server
def test_opd_trains_like_the_local_expert(policy: Policy, tmp_path: Path) -> None:
    # a student unlike its expert: if the signal were rounding alone, the optimizer would still take full steps
    other = load_policy(MODEL, "student", device="cpu")
    with torch.no_grad():
        for p in other.model.parameters():
            p.mul_(1 + 0.2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    other.save(tmp_path / "student")
    student = str(tmp_path / "student")
    runs = [
        train(config("opd", tmp_path / name, student=student, expert=e, task="countdown"))
        for name, e in (("local", MODEL), ("server", URL))
    ]
    # not the weights: Adam takes a full step for a gradient that is all rounding
    a, b = ([(x["loss"], x["grad_norm"]) for x in read_metrics(run, "train")] for run in runs)
    assert len(a) == len(b) == 2
    for one, other_one in zip(a, b):
        assert other_one == pytest.approx(one, rel=1e-3)


@needs_server
def test_rollouts_with_weight_refresh(policy: Policy, tmp_path: Path) -> None:
    """The student's weights are sent at every update, with parity; FOLDER's weights are put back at the end."""
    try:
        check_refresh(tmp_path)
    finally:
        client = Client(URL)
        (tmp_path / "back").mkdir()
        write_untied(policy, tmp_path / "back")  # reloading FOLDER itself would leave a tied head as it is
        reload = {"method": "reload_weights", "kwargs": {"weights_path": str(tmp_path / "back")}}
        client.post_bare(f"{client.root}/collective_rpc", reload)
        client.post_bare(f"{client.root}/reset_prefix_cache", None)


def check_refresh(tmp_path: Path) -> None:
    run = train(
        config(
            "grpo", tmp_path / "run", student=MODEL, expert="", task="coin", sampler=URL, updates=4, lr=0.01,
            samples_per_prompt=4, max_new_tokens=32,
        )
    )  # fmt: skip
    print(read_provenance(run)["sampler"]["preflight"])
    for line in read_metrics(run, "train"):
        print(f"update {line['step']}: drift {line['logp_drift']:.2e} nats, {line['seconds']:.2f} s")
        assert line["logp_drift"] < LIMIT


@pytest.mark.skipif(not HERE, reason="needs UNDERSTUDY_VLLM_HERE=1")
@pytest.mark.parametrize(("method", "cells"), [("grpo", {"expert": ""}), ("opd", {"lora_rank": 2})])
def test_rollouts_in_this_process(method: str, cells: dict[str, str | int], tmp_path: Path) -> None:
    gpu = torch.cuda.is_available()
    run = train(
        config(
            method, tmp_path / "run", student="scratch:width=128,layers=2,heads=4,context=128",
            sampler="vllm:max_model_len=128,gpu_memory_utilization=0.05,eager=true", updates=4, lr=0.01,
            samples_per_prompt=4, device="cuda" if gpu else "cpu", **cells,
        )
    )  # fmt: skip
    print(read_provenance(run)["sampler"])
    for line in read_metrics(run, "train"):
        print(f"update {line['step']}: drift {line['logp_drift']:.2e} nats, {line['seconds']:.2f} s")
        assert line["logp_drift"] < LIMIT
