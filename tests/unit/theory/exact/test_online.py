"""docs/theory.md, section 4: estimators against hand-computed numbers, and Theorem 4's bounds by simulation."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from understudy.theory.exact.online import ESTIMATORS, RAW, Online, random_instance
from understudy.theory.families.instance import Bandit


def _tiny() -> Online:
    """One context, two playable actions and one that only the expert plays; two deterministic students."""
    students = np.array([[[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]])
    return Online(
        Bandit(
            mu=np.ones(1),
            expert=np.array([[0.02, 0.01, 0.97]]),
            students=students,
            reward=np.array([[1.0, 0.0, 1.0]]),
            base=np.array([[0.5, 0.5, 0.0]]),
        )
    )


def test_what_the_learner_knows_by_hand() -> None:
    problem = _tiny()
    assert problem.loss == pytest.approx([math.log(50), math.log(100)])
    assert problem.coverage == pytest.approx([2.0, 2.0])
    assert problem.worst_weight == 2.0
    assert problem.bound == pytest.approx(math.log(2) / 2)  # half the range, although L is near 4.6
    assert problem.baseline == pytest.approx([-(math.log(50) + math.log(100)) / 2])
    assert problem.spread == pytest.approx(math.log(2))
    lam = math.log(2 * 2 / 0.1)
    bonus = problem.bound * math.sqrt(2 * 2 * lam / 50) + 2 * problem.bound * 2 * lam / 150
    assert problem.bonus(50, 0.1) == pytest.approx([bonus, bonus])


def test_estimates_by_hand() -> None:
    problem = _tiny()
    counts = np.array([[[3, 1, 0]]])  # the right action three times, the wrong one once
    half = math.log(2) / 2
    assert problem.estimates(counts, "ips")[0] == pytest.approx([3 / 4 * 2 * -half, 1 / 4 * 2 * half])
    assert problem.estimates(counts, "snips")[0] == pytest.approx([-half, half])
    assert problem.estimates(counts, RAW)[0] == pytest.approx([1.5 * math.log(50), 0.5 * math.log(100)])
    assert problem.choose(counts, "ips")[0] == 0
    assert problem.choose(counts, RAW)[0] == 1  # it takes the action it saw less often


def test_ips_is_unbiased_for_the_centred_loss() -> None:
    problem = Online(random_instance(np.random.default_rng(0)))
    expected = problem.bandit.mu[:, None] * problem.base  # the law of one round
    table = problem.weights * (problem.log_ratio + problem.baseline[:, None])
    assert (expected * table).sum((1, 2)) == pytest.approx(problem.centred_loss, abs=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimators_find_the_best_student_with_enough_data(estimator: str) -> None:
    problem, rng = Online(random_instance(np.random.default_rng(2))), np.random.default_rng(3)
    picked = problem.choose(problem.sample(400_000, 20, rng), estimator)
    assert (problem.loss[picked] - problem.loss.min()).mean() < 0.02


def test_shifting_the_scores_changes_nothing_but_raw() -> None:
    """exp(shift) times the expert's playable mass moves every log ratio alike: only raw weighting cares."""
    base = random_instance(np.random.default_rng(5))
    smaller = base.expert.copy()
    smaller[:, :5] *= 1e-3
    smaller[:, 5:] *= (1 - smaller[:, :5].sum(1, keepdims=True)) / smaller[:, 5:].sum(1, keepdims=True)
    one, two = Online(base), Online(dataclasses.replace(base, expert=smaller))
    counts = one.sample(300, 200, np.random.default_rng(6))
    for estimator in ESTIMATORS:
        assert (one.choose(counts, estimator) == two.choose(counts, estimator)).all(), estimator
    assert (one.choose(counts, RAW) != two.choose(counts, RAW)).any()


def test_off_g_is_on_g_with_the_expert_as_base() -> None:
    bandit = random_instance(np.random.default_rng(7))
    problem = Online(dataclasses.replace(bandit, base=bandit.expert))
    assert (problem.coverage >= np.exp(problem.loss) - 1e-9).all()  # Jensen
    assert problem.worst_weight > 50 * Online(bandit).worst_weight
