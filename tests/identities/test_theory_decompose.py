"""docs/theory.md, section 3, on random instances: identities to 1e-9, bounds, and production divergences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.methods import losses
from understudy.theory.exact.decompose import (
    Split,
    asymmetry_identity,
    conditional_divergence,
    guarantee,
    score_reward_covariance,
    split,
    split_bandit,
    tilt_delta,
    tilt_value,
)
from understudy.theory.falsify.generators import GENERATORS
from understudy.theory.falsify.search import ROUNDING, chosen_values, local_violations
from understudy.theory.families.bandit import FamilyF
from understudy.theory.families.instance import Bandit
from understudy.theory.scalars import bernoulli_kl, logit

SEEDS = st.integers(0, 2**32 - 1)


def _random(seed: int, sharp: float = 0.5, x: int = 2, y: int = 5, k: int = 4) -> Bandit:
    rng = np.random.default_rng(seed)

    def policies(*shape: int) -> np.ndarray:
        p = rng.dirichlet(np.full(y, sharp), shape) + 1e-6
        return p / p.sum(-1, keepdims=True)

    reward = rng.integers(0, 2, (x, y)).astype(float)
    reward[:, 0], reward[:, 1] = 1, 0
    return Bandit(rng.dirichlet(np.ones(x)), policies(x), policies(k, x), reward)


@settings(max_examples=120)
@given(SEEDS, st.sampled_from([0.1, 0.5, 2.0]))
def test_chain_rule_and_theorem_3a(seed: int, sharp: float) -> None:
    bandit = _random(seed, sharp)
    parts = split_bandit(bandit)
    assert parts.reverse == pytest.approx(parts.relevant + parts.nuisance, abs=1e-9)
    assert (parts.nuisance >= -1e-12).all()
    delta = float(parts.delta)
    best = int(parts.online())
    value, v_e = float(parts.value[best]), float(parts.value_expert)
    assert float(bernoulli_kl(value, v_e)) <= delta + ROUNDING  # 3A
    assert value >= guarantee(v_e, delta).kl_inverse - ROUNDING
    assert abs(value - v_e) <= math.sqrt(delta / 2) + ROUNDING
    for k in range(len(parts.value)):  # 3A with optimisation error t
        t = float(parts.reverse[k] - parts.reverse.min())
        assert float(bernoulli_kl(parts.value[k], v_e)) <= delta + t + ROUNDING
    batch = Split(**{name: np.asarray(part)[None] for name, part in vars(parts).items()})
    assert not local_violations(batch, chosen_values(batch)[0]).any()  # 3A'


@settings(max_examples=60)
@given(SEEDS)
def test_a_coarser_statistic_has_more_nuisance_and_less_delta(seed: int) -> None:
    bandit = _random(seed)
    coarse = split_bandit(bandit)
    finest = np.broadcast_to(np.arange(5), (2, 5)).copy()
    fine = split_bandit(bandit, finest)
    assert fine.nuisance == pytest.approx(np.zeros(4), abs=1e-12)
    assert fine.relevant == pytest.approx(fine.reverse, abs=1e-9)
    assert (coarse.nuisance >= fine.nuisance - 1e-12).all()
    assert float(coarse.delta) <= float(fine.delta) + 1e-12


@settings(max_examples=60)
@given(SEEDS)
def test_rewards_between_zero_and_one(seed: int) -> None:
    bandit = _random(seed)
    graded = np.random.default_rng(seed).integers(0, 4, (2, 5)) / 3
    parts = split(bandit.mu, bandit.students, bandit.expert, graded)
    assert parts.reverse == pytest.approx(parts.relevant + parts.nuisance, abs=1e-9)
    value = float(parts.value[int(parts.online())])
    assert float(bernoulli_kl(value, parts.value_expert)) <= float(parts.delta) + ROUNDING


@settings(max_examples=80)
@given(SEEDS, st.sampled_from([0.1, 0.5, 2.0]))
def test_theorem_3b(seed: int, sharp: float) -> None:
    bandit = _random(seed, sharp)
    for pi in bandit.students:
        left = score_reward_covariance(pi, bandit.expert, bandit.reward)
        assert left == pytest.approx(asymmetry_identity(pi, bandit.expert, bandit.reward), abs=1e-9)


@settings(max_examples=80)
@given(SEEDS)
def test_theorem_3c_by_two_routes(seed: int) -> None:
    """sigma(logit v_e - (D1 - D0)) and sigma(logit v + gap) at any policy with these conditionals."""
    bandit = _random(seed, x=1)
    pi, e, r = bandit.students[0], bandit.expert, bandit.reward
    d1, d0 = (float(conditional_divergence(pi, e, r, level)[0]) for level in (1, 0))
    v, v_e = float((pi * r).sum()), float((e * r).sum())
    advantage = np.log(e) - np.log(pi)
    gap = float((pi * r * advantage).sum() / v - (pi * (1 - r) * advantage).sum() / (1 - v))
    online = tilt_value(v_e, d1 - d0)
    assert online == pytest.approx(float(1 / (1 + np.exp(-(logit(v) + gap)))), abs=1e-9)
    # stationarity of L(v) = kl(v || v_e) + v D1 + (1 - v) D0
    assert float(logit(online) - logit(v_e)) + d1 - d0 == pytest.approx(0, abs=1e-7)
    least = float(bernoulli_kl(online, v_e)) + online * d1 + (1 - online) * d0
    assert tilt_delta(v_e, d1, d0) == pytest.approx(least - min(d1, d0), abs=1e-9)


@pytest.mark.parametrize(
    ("eps", "kappa", "good", "bad", "nuisance", "delta", "promise"),
    [
        (0.01, 0.1, 4.710530702, 6.907755279, 4.605170186, 0.105360516, 0.738460485),
        (1e-6, 0.01, 13.825560894, None, 13.815510558, 0.010050336, 0.972915296),
    ],
)
def test_family_f_is_benign(
    eps: float, kappa: float, good: float, bad: float | None, nuisance: float, delta: float, promise: float
) -> None:
    family, theta = FamilyF(3, eps, kappa), np.array([0, 1, 0])
    students = np.stack([family.student(b) for b in family.bits()])
    parts = split_bandit(Bandit(family.law, family.expert(theta), students, family.reward(theta)))
    assert parts.reverse.min() == pytest.approx(good, abs=1e-9)
    if bad is not None:
        assert parts.reverse.max() == pytest.approx(bad, abs=1e-9)
    assert parts.nuisance == pytest.approx(np.full(8, nuisance), abs=1e-9)
    assert float(parts.delta) == pytest.approx(delta, abs=1e-9)
    assert guarantee(family.value_expert, float(parts.delta)).kl_inverse == pytest.approx(promise, abs=1e-9)
    assert parts.value[int(parts.online())] == 1.0
    tv = 0.5 * np.abs(family.student(theta) - family.expert(theta)).sum(-1) @ family.law
    assert tv == pytest.approx(1 - eps * (1 - kappa))


def test_soft_students_of_family_f_have_delta_zero() -> None:
    family, theta = FamilyF(3, 0.01, 0.1, "S"), np.array([0, 1, 0])
    students = np.stack([family.student(b) for b in family.bits()])
    parts = split_bandit(Bandit(family.law, family.expert(theta), students, family.reward(theta)))
    assert float(parts.delta) == pytest.approx(0, abs=1e-9)
    assert parts.reverse.min() == pytest.approx(math.log(100), abs=1e-9)


def test_an_expert_without_errors_makes_wrong_students_ineligible() -> None:
    """At kappa = 0 wrong students have infinite L, so inf N is over the others and Delta = -log(1 - kappa) = 0."""
    family, theta = FamilyF(2, 0.1, 0.0), np.array([0, 1])
    students = np.stack([family.student(b) for b in family.bits()])
    parts = split_bandit(Bandit(family.law, family.expert(theta), students, family.reward(theta)))
    assert np.isinf(parts.reverse).sum() == 3
    assert float(parts.delta) == pytest.approx(0, abs=1e-12)


def test_singletons_make_3a_an_equality() -> None:
    bandit = _random(3, x=1, k=1)
    parts = split_bandit(bandit)
    assert float(parts.delta) == pytest.approx(float(bernoulli_kl(parts.value[0], parts.value_expert)), abs=1e-12)


@pytest.mark.parametrize("kind", GENERATORS)
def test_batches_agree_with_single_instances(kind: str) -> None:
    batch = GENERATORS[kind](6, np.random.default_rng(0))
    together = split(batch.mu, batch.students, batch.expert, batch.reward)
    for i in range(6):
        alone = split_bandit(batch.bandit(i))
        for field in ("reverse", "relevant", "nuisance", "forward", "value"):
            assert getattr(together, field)[i] == pytest.approx(getattr(alone, field), abs=1e-12)


@settings(max_examples=30)
@given(SEEDS)
def test_the_divergences_are_the_production_ones(seed: int) -> None:
    """Catches swapped directions: L is losses.divergence kl_student_expert on logits, F is kl_expert_student."""
    bandit = _random(seed)
    parts = split_bandit(bandit)
    expert = torch.from_numpy(np.log(bandit.expert))
    for k, pi in enumerate(bandit.students):
        student = torch.from_numpy(np.log(pi)).log_softmax(-1)
        for kind, exact in (("kl_student_expert", parts.reverse), ("kl_expert_student", parts.forward)):
            production = losses.divergence(student, expert, kind).numpy() @ bandit.mu
            assert exact[k] == pytest.approx(float(production), abs=1e-9)
