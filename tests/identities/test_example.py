"""The plain-torch example computes what production code computes for row `opd`: rollouts, gradient, weights."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from understudy.config import TrainConfig, resolve
from understudy.experts.local import LocalExpert
from understudy.policy import Policy, load_policy
from understudy.policy.sampling import draw
from understudy.tasks import load_task
from understudy.training.labels import label
from understudy.training.update import update
from understudy.types import Ledger, Rollout

pytestmark = pytest.mark.xdist_group("example")  # one worker makes `example`

FILE = Path(__file__).parents[2] / "examples" / "on_policy_distillation.py"
STUDENT = "scratch:width=16,layers=2,heads=2,context=64"


def config(**changes: Any) -> TrainConfig:
    """Row opd with a clip that applies and uneven micro-batches."""
    return resolve(
        TrainConfig(method="opd", student=STUDENT, expert="solver", grad_clip=0.05, micro_batch=5, **changes)
    )


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("on_policy_distillation", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def policies() -> tuple[Policy, Policy]:
    """Student and expert of the same shape and tokenizer, float64, with very different weights."""
    tokenizer = load_task("countdown").tokenizer()
    student, expert = (load_policy(STUDENT, "student", tokenizer, seed, "cpu") for seed in (0, 1))
    for policy in (student, expert):
        policy.model.double()
        with torch.no_grad():
            for p in policy.model.parameters():
                p.mul_(4 if p.dim() > 1 else 1)
    return student, expert


def rollouts_of(student: Policy) -> list[Rollout]:
    prompts = student.encode(load_task("countdown").prompts("train", 3, 0))
    return draw(student.start, student.decode, student.end_ids, prompts, 8, 0, 12, "student")


def production(student: Policy, expert: Policy, rollouts: Sequence[Rollout], c: TrainConfig) -> dict[str, Any]:
    """Metrics of one update by production code, which changes `student` in place."""
    optimizer = torch.optim.AdamW(student.trained().values(), lr=1e-3, betas=(0.9, c.adam_beta2), weight_decay=0.0)
    return update(student, optimizer, label(rollouts, c, student, LocalExpert(expert), Ledger()), c)


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_the_example_is_row_opd(example: ModuleType, gamma: float) -> None:
    """Catches an example of another method: a swapped difference, a mean per sequence, a lost end token. Control: with
    another discount, production code must differ."""
    student, expert = policies()
    rollouts = rollouts_of(student)
    assert len({len(r.ids) for r in rollouts}) > 1, "lengths must differ, or all means are equal"
    model = copy.deepcopy(student.model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0)
    pairs = [(list(r.prompt.ids), list(r.ids)) for r in rollouts]
    reverse_kl = example.update(model, expert.model, optimizer, pairs, max_norm=0.05)

    metrics = production(student, expert, rollouts, config(gamma=gamma))
    assert metrics["grad_norm"] > 0.05
    gaps = [float((a.grad - b.grad).abs().max()) for a, b in zip(student.trained().values(), model.parameters())]
    if gamma:
        assert max(gaps) > 1e-4
        return
    assert metrics["loss"] == pytest.approx(reverse_kl, abs=1e-6)
    assert max(gaps) < 1e-8
    for (name, a), b in zip(student.trained().items(), model.parameters()):
        torch.testing.assert_close(b, a, atol=1e-6, rtol=0, msg=name)


def test_the_example_runs_and_learns(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    history = example.main(["--updates", "8"])
    assert capsys.readouterr().out.count("nats per token") == 8
    assert sum(history[-3:]) < sum(history[:3])
