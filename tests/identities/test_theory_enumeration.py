"""Closed forms equal brute force over every data set of every tiny instance, to 1e-12.

The enumeration (understudy/theory/exact/enumerate.py) uses no closed form. Catches a wrong vote error, a swapped
information model, and a missing tie.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.theory.exact import enumerate as brute
from understudy.theory.families.bandit import FamilyF, rate_instance, truncated_decoding_regret
from understudy.theory.families.horizon import HZ, KINDS
from understudy.theory.families.learners import group_centred_regret, midrange_regret, raw_ips_regret
from understudy.theory.families.realizable import StochasticRealizable, Unvisited
from understudy.theory.information import Info

IID = (Info.OFF_S, Info.OFF_G, Info.OFF_L, Info.ON_G)
EXACT = 1e-12


@settings(max_examples=25)
@given(
    st.floats(0.02, 1.0),
    st.floats(0.0, 0.49),
    st.floats(0.05, 0.95),
    st.sampled_from(["D", "S"]),
    st.sampled_from(IID),
    st.integers(0, 3),
)
def test_family_f(eps: float, kappa: float, p: float, students: str, info: Info, n: int) -> None:
    family = FamilyF(2, eps, kappa, students, (p, 1 - p))  # type: ignore[arg-type]
    assert brute.family_regret(family, info, n) == pytest.approx(family.regret(info, n), abs=EXACT)


@pytest.mark.parametrize("n", [4, 5])
def test_family_f_with_more_data(n: int) -> None:
    family = FamilyF(2, 0.4, 0.2, "D", (0.3, 0.7))
    assert brute.family_regret(family, Info.OFF_S, n) == pytest.approx(family.regret(Info.OFF_S, n), abs=EXACT)


def test_three_contexts_and_known_bits() -> None:
    family = FamilyF(3, 0.5, 0.1, "D", (0.2, 0.3, 0.5), active=(0, 2))
    for info in IID:
        assert brute.family_regret(family, info, 2) == pytest.approx(family.regret(info, 2), abs=EXACT)


@pytest.mark.parametrize("info", [Info.OFF_S, Info.OFF_G])
def test_truncated_decoding(info: Info) -> None:
    family = FamilyF(2, 0.3, 0.2, "D", (0.3, 0.7))
    for n in range(4):
        exact = brute.family_regret(family, info, n, truncated=True)
        assert exact == pytest.approx(truncated_decoding_regret(family, info, n), abs=EXACT)


def test_rate_instance() -> None:
    family = rate_instance(3, 0.5, 5)
    for n in range(5):
        assert brute.family_regret(family, Info.OFF_S, n) == pytest.approx(family.regret(Info.OFF_S, n), abs=EXACT)


@pytest.mark.parametrize("eps", [0.3, 1.0])
@pytest.mark.parametrize("kappa", [0.05, 0.2])
def test_online_learners_run_on_every_data_set(eps: float, kappa: float) -> None:
    family = FamilyF(2, eps, kappa, "D", (0.3, 0.7))
    for n in range(4):
        for name, formula in (("midrange", midrange_regret), ("group", group_centred_regret), ("none", raw_ips_regret)):
            assert brute.ips_regret(family, n, name) == pytest.approx(formula(family, n), abs=EXACT), (name, n)


@pytest.mark.parametrize("info", IID)
def test_realizable_families(info: Info) -> None:
    for g in (0.05, 0.15, 0.5):
        stochastic = StochasticRealizable(2, g)
        for n in range(5):
            exact = brute.stochastic_regret(stochastic, info, n)
            assert exact == pytest.approx(stochastic.regret(info, n), abs=EXACT)
    unvisited = Unvisited(3, 0.2)
    for n in range(5):
        assert brute.unvisited_regret(unvisited, info, n) == pytest.approx(unvisited.regret(info, n), abs=EXACT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("info", [Info.OFF_S, Info.OFF_L, Info.ON_G])
def test_horizon_families_token_by_token(kind: str, info: Info) -> None:
    for h in (1, 2, 3):
        if kind.endswith("indep") and h == 3:
            continue
        for n in (0, 1, 2):
            family = HZ(kind, 2, 0.3, 0.0, h)
            exact = brute.horizon_regret(family, info, n)
            assert exact == pytest.approx(family.regret(info, n), abs=EXACT), (h, n)


@pytest.mark.parametrize("kind", ["R-shared", "M-mode-shared"])
def test_noisy_horizon_families(kind: str) -> None:
    for h in (1, 2):
        for n in (1, 2, 3):
            family = HZ(kind, 2, 0.3, 0.2, h)
            exact = brute.horizon_regret(family, Info.OFF_S, n)
            assert exact == pytest.approx(family.regret(Info.OFF_S, n), abs=EXACT)


def test_soft_students_an_improper_learner_does_better() -> None:
    """With soft students, Theorem 2 is about mixtures of students. A learner that may play any policy on {0, 1}
    plays deterministically and has regret (error of the vote) - kappa, which is smaller."""
    soft, hard = FamilyF(2, 0.3, 0.2, "S", (0.3, 0.7)), FamilyF(2, 0.3, 0.2, "D", (0.3, 0.7))
    laws, _, mu, best = brute.family_worlds(soft, Info.OFF_S)
    outright = brute.family_worlds(hard, Info.OFF_S)[1]
    for n in (1, 2, 3):
        improper = brute.bayes_regret(laws, outright, mu, best, n)
        assert improper == pytest.approx(hard.regret(Info.OFF_S, n) - soft.kappa, abs=EXACT)
        assert improper < soft.regret(Info.OFF_S, n)


def test_the_information_models_show_what_they_say() -> None:
    """Labels of one round: OFF-S hides the score, OFF-G shows it, OFF-L shows the row, ON-G uses base actions."""
    expert = np.array([[[0.25, 0.75]]])
    mu, base = np.ones(1), np.array([[1.0, 0.0]])
    labels = {info: brute.observation_laws(info, mu, expert, base)[0] for info in IID}
    assert set(labels[Info.OFF_S]) == {(0, 0), (0, 1)}
    assert all(len(label) == 3 for label in labels[Info.OFF_G])  # type: ignore[arg-type]
    assert labels[Info.OFF_L][(0, 0, (round(float(np.log(0.25)), 12), round(float(np.log(0.75)), 12)))] == 0.25
    assert labels[Info.ON_G][(0, 0, round(float(np.log(0.25)), 12))] == 1.0


def test_enumeration_refuses_what_it_cannot_finish() -> None:
    with pytest.raises(ValueError, match="too many"):
        brute.family_regret(FamilyF(2, 0.3, 0.2), Info.OFF_S, 12)
