"""The theory is about the program that trains: it runs real rows, labels, rollouts, updates and kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from understudy.config import TrainConfig, resolve
from understudy.methods import table as algorithms
from understudy.theory.families.bandit import FamilyF
from understudy.theory.families.trap import Trap
from understudy.theory.production import log_table
from understudy.theory.tabular import (
    FreeTable,
    MixtureTable,
    SmoothedTable,
    TablePolicy,
    TableTask,
    expected_flow,
    train_row,
)

PLAYABLE = (True, True, False, False)
THETA = np.array([0, 1, 1, 0])


@pytest.mark.parametrize("method", ["opd", "opd_full"])
def test_family_f_ends_at_one_minus_kappa_also_near_the_expert(method: str) -> None:
    """The claim `rows` uses the smaller eps."""
    family = FamilyF(4, 0.3, 0.1)
    end = expected_flow(method, FreeTable(4, PLAYABLE), family.law, family.expert(THETA), steps=400)
    assert end.probabilities()[np.arange(4), THETA] == pytest.approx(np.full(4, 0.9), abs=1e-6)


def test_sft_cannot_even_start_on_family_f() -> None:
    """The expert's '+' has probability 0 under every student: forward KL is infinite, so SFT needs a smoothed class."""
    family = FamilyF(2, 0.3, 0.1)
    theta = np.array([0, 1])
    end = expected_flow("sft", SmoothedTable(2), family.law, family.expert(theta), steps=400)
    assert end.probabilities()[:, :2].sum(1) == pytest.approx(np.full(2, 0.99))
    assert end.probabilities()[np.arange(2), theta] / 0.99 == pytest.approx(np.full(2, 0.9), abs=1e-6)


@pytest.mark.parametrize("rows", [("sft", "word_kd"), ("opd", "opd_full")])
def test_rows_with_the_same_gradient_end_at_the_same_place(rows: tuple[str, str]) -> None:
    b = Trap().bandit()
    ends = [expected_flow(m, MixtureTable(b.students), b.mu, b.expert, steps=300) for m in rows]
    assert ends[0].probabilities() == pytest.approx(ends[1].probabilities(), abs=1e-7)


def test_the_rows_are_the_table_s() -> None:
    for method in ("sft", "opd", "opd_full"):
        config = resolve(TrainConfig(method=method, student="table", expert="table"))
        row = algorithms.TABLE[method]
        assert (config.behavior, config.target, config.weight) == (row.behavior, row.target, row.weight)


def test_samples_at_one_context_are_independent() -> None:
    """Catches keys that name the context: every prompt there would get the same random numbers."""
    task = TableTask(np.array([1.0]), np.zeros((1, 2)))
    prompts = task.prompts("train", 50, seed=0)
    assert len({p.key for p in prompts}) == 50
    assert [p.key for p in task.prompts("train", 10, seed=0, start=40)] == [p.key for p in prompts[40:]]
    family = FamilyF(1, 0.5, 0.2)
    seen: list[float] = []
    train_row(
        "sft",
        SmoothedTable(1),
        family.law,
        family.expert(np.array([0])),
        family.reward(np.array([0])),
        lambda step, policy: seen.append(float(policy.probabilities()[0, 0])),
        prompt_pool=400,
        prompts_per_update=400,
        updates=60,
        lr=0.1,
        schedule="linear",
        grad_clip=0.0,
    )
    share = seen[-1] / 0.99  # the empirical share of right bits among about 200 informative samples
    assert share == pytest.approx(0.8, abs=4 * np.sqrt(0.16 / 200))
    assert share not in (0.0, 1.0)


def test_masked_actions_stay_impossible_and_gradients_finite() -> None:
    table = FreeTable(2, PLAYABLE)
    policy = TablePolicy(table)
    policy.log_probs()
    loss = table()[:, 0].sum()
    loss.backward()
    assert torch.isfinite(table.logits.grad).all()
    assert (policy.probabilities()[:, 2:] == 0).all()


def test_log_table_of_zero() -> None:
    assert log_table(np.array([0.0, 1.0])).tolist() == [float("-inf"), 0.0]
