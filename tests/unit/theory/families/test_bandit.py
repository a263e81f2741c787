"""docs/theory.md, section 2: every reference number of Family F and its corollaries, to 1e-6 or better."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.errors import UserError
from understudy.theory.families.bandit import (
    FamilyF,
    le_cam,
    rate_instance,
    rate_lower_bound,
    truncated_decoding_regret,
)
from understudy.theory.families.learners import group_centred_regret, midrange_regret, perfect_run, raw_ips_regret
from understudy.theory.information import Info
from understudy.theory.scalars import monte_carlo_tolerance

# n: OFF-S kappa 0, OFF-S kappa .1, OFF-G, ON-G, ON-G group-centred; l = 8, eps = .01, gap 1
REFERENCE = {
    1: (0.499375000, 0.499500000, 0.499375000, 0.437500000, 0.500000000),
    8: (0.495021820, 0.496017448, 0.495021820, 0.171804458, 0.424915016),
    16: (0.490093205, 0.492074486, 0.490093205, 0.059033544, 0.297040587),
    64: (0.461535077, 0.469222527, 0.461535077, 0.000097160, 0.015978237),
    256: (0.363001850, 0.390093967, 0.363001850, 0.0, 6.678e-8),
    1024: (0.138907387, 0.200979163, 0.138907387, 0.0, 0.0),
    4096: (0.002978457, 0.025721539, 0.002978457, 0.0, 0.0),
}


@pytest.mark.parametrize("n", REFERENCE)
def test_family_f_reference(n: int) -> None:
    clean, noisy = FamilyF(8, 0.01, 0.0), FamilyF(8, 0.01, 0.1)
    got = (
        clean.regret(Info.OFF_S, n),
        noisy.regret(Info.OFF_S, n),
        noisy.regret(Info.OFF_G, n),
        noisy.regret(Info.ON_G, n),
        group_centred_regret(noisy, n),
    )
    assert got == pytest.approx(REFERENCE[n], abs=1e-9)
    assert noisy.regret(Info.OFF_L, n) == noisy.regret(Info.ON_G, n)  # C6
    assert midrange_regret(noisy, n) == pytest.approx(noisy.regret(Info.ON_G, n), abs=1e-15)


@pytest.mark.parametrize(("n", "expected"), [(16, 0.409184447), (64, 0.320381753), (256, 0.143735362)])
def test_raw_ips_reference(n: int, expected: float) -> None:
    assert raw_ips_regret(FamilyF(8, 0.01, 0.1), n) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("l", "eps", "n", "zeta", "regret", "lower"),
    [
        (8, 1.0, 64, 0.015384615, 0.019962650, 0.019808893),
        (8, 0.1, 128, 0.077519380, 0.100200879, 0.099812251),
        (8, 0.01, 1024, 0.097560976, 0.125678682, 0.125617370),
        (16, 0.01, 4096, 0.024408103, 0.067352516, 0.067344296),
    ],
)
def test_rate_reference(l: int, eps: float, n: int, zeta: float, regret: float, lower: float) -> None:
    family = rate_instance(l, eps, n)
    assert family.law[0] == pytest.approx(zeta, abs=1e-9)
    assert family.regret(Info.OFF_S, n) == pytest.approx(regret, abs=1e-9)
    assert rate_lower_bound(l, eps, n) == pytest.approx(lower, abs=1e-9)
    assert rate_lower_bound(l, eps, n) <= family.regret(Info.OFF_S, n)
    if (l, eps) == (8, 0.1):
        assert family.regret(Info.ON_G, n) == pytest.approx(0.000008872, abs=1e-9)


@pytest.mark.parametrize(("c", "expected"), [(1, 0.000097160), (10, 0.223534561), (100, 0.461535077)])
def test_coverage_reference(c: float, expected: float) -> None:
    assert FamilyF(8, 0.01, 0.1).regret(Info.ON_G, 64, coverage=c) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("n", "expected"), [(64, 0.40011), (256, 0.23840), (1024, 0.05910)])
def test_falsifier_floor_reference(n: int, expected: float) -> None:
    assert FamilyF(8, 0.05, 0.2).regret(Info.OFF_S, n) == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize(("n", "expected"), [(64, 0.0062909), (1024, 0.1659447), (4096, 0.8118060)])
def test_perfect_run_is_exact(n: int, expected: float) -> None:
    """Exact values, and one of them by simulation."""
    family = FamilyF(8, 0.01, 0.1)
    assert perfect_run(family, n) == pytest.approx(expected, abs=1e-6)
    if n > 100:
        return
    rng, runs = np.random.default_rng(0), 200_000
    counts = rng.multinomial(rng.binomial(n, family.eps, runs), [1 / 8] * 8)
    right = counts - rng.binomial(counts, family.kappa)
    won = (right > counts - right) | ((2 * right == counts) & (rng.random(counts.shape) < 0.5))
    share = won.all(1).mean()
    assert share == pytest.approx(expected, abs=monte_carlo_tolerance(np.sqrt(expected / runs)))


@settings(max_examples=60)
@given(st.integers(1, 12), st.floats(1e-6, 1.0), st.floats(0.0, 0.49), st.integers(0, 500), st.sampled_from(["D", "S"]))
def test_more_information_never_hurts(l: int, eps: float, kappa: float, n: int, students: str) -> None:
    family = FamilyF(l, eps, kappa, students)  # type: ignore[arg-type]
    off_s, off_g, on_g = (family.regret(info, n) for info in (Info.OFF_S, Info.OFF_G, Info.ON_G))
    assert on_g <= off_g + 1e-12
    assert off_g <= off_s + 1e-12
    assert off_s <= family.gap / 2 + 1e-12
    assert family.regret(Info.ON_G_STAR, n) <= on_g + 1e-12
    assert family.regret(Info.OFF_S, n + 1) <= off_s + 1e-12
    assert off_s >= family.gap / 2 * (1 - n * eps / l) - 1e-12  # C1
    assert truncated_decoding_regret(family, Info.OFF_S, n) == pytest.approx(family.gap / 2)


def test_subnormal_probabilities() -> None:
    for family in (FamilyF(2, 5e-324, 0.1), FamilyF(2, 0.1, 5e-324)):
        assert 0 <= family.regret(Info.OFF_S, 100) <= 0.5
        assert 0 <= raw_ips_regret(family, 10) <= 1


@settings(max_examples=40)
@given(st.floats(0, 2), st.floats(0, 1), st.integers(0, 200))
def test_le_cam_lies_between_zero_and_half_the_separation(d2: float, s: float, n: int) -> None:
    assert 0 <= le_cam(s, d2, n) <= s / 2


def test_soft_students_need_mixtures_of_students() -> None:
    """The gap of 'S' is 1 - 2 kappa: the regret of a learner that mixes students, not of a deterministic one."""
    soft, hard = FamilyF(8, 0.01, 0.1, "S"), FamilyF(8, 0.01, 0.1, "D")
    assert soft.regret(Info.OFF_S, 64) == pytest.approx(0.8 * hard.regret(Info.OFF_S, 64))
    assert soft.value_best == pytest.approx(soft.value_expert)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"l": 0}, "l"),
        ({"eps": 0.0}, "eps"),
        ({"eps": 1.5}, "eps"),
        ({"kappa": 0.5}, "kappa"),
        ({"kappa": -0.1}, "kappa"),
        ({"students": "X"}, "students"),
        ({"l": 2, "p": (0.5, 0.6)}, "p"),
        ({"l": 2, "active": (2,)}, "active"),
    ],
)
def test_bad_parameters(arguments: dict, field: str) -> None:
    with pytest.raises(UserError) as error:
        FamilyF(**arguments)
    assert error.value.field == field


def test_rate_instance_that_does_not_fit() -> None:
    with pytest.raises(UserError, match="at most eps"):
        rate_instance(8, 0.01, 64)
    with pytest.raises(UserError, match="rounds"):
        FamilyF().regret(Info.OFF_S, -1)
