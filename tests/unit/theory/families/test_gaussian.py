"""The Gaussian examples: reference numbers, quadrature and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.errors import UserError
from understudy.theory.families.gaussian import Bottleneck, Fig3
from understudy.theory.information import Info
from understudy.theory.scalars import kl_inv_lower, monte_carlo_tolerance


def test_figure3_reference_numbers() -> None:
    a, b = Fig3("A"), Fig3("B")
    assert a.value(a.minimiser) == pytest.approx(0.977249868, abs=1e-9)
    assert b.value(b.minimiser) == 0.5
    assert (a.delta("y"), a.delta("r"), b.delta("y")) == pytest.approx((0, 0, 4), abs=1e-9)
    assert b.least_nuisance("r") == pytest.approx((2.166641533, -0.750751), abs=1e-6)
    assert b.least_nuisance("r")[0] == pytest.approx(2.166641533, abs=1e-9)
    assert b.delta("r") == pytest.approx(1.833358467, abs=1e-9)
    assert b.relevant(0.0) == pytest.approx(1.209951441, abs=1e-9)
    assert kl_inv_lower(a.value(2.0), b.delta("r")) == pytest.approx(0.346880863, abs=1e-9)
    assert [a.natural_step(t) for t in (0, 1, 2)] == pytest.approx([0.797884561, 0.241970725, 0], abs=1e-9)
    assert [b.natural_step(t) for t in (-1, -0.5, 0)] == pytest.approx([0.241970725, 0.176032663, 0], abs=1e-9)
    assert b.raw_covariance(0.0) == pytest.approx(0.797884561, abs=1e-9)


@settings(max_examples=15)
@given(st.sampled_from(["A", "B"]), st.floats(-2.5, 3))
def test_closed_forms_against_quadrature(cls: str, t: float) -> None:
    figure = Fig3(cls)  # type: ignore[arg-type]
    numeric = figure.quadrature(t)
    exact = {"L": figure.reverse_kl(t), "V": figure.value(t), "R": figure.relevant(t), "N": figure.nuisance(t)}
    assert numeric == pytest.approx(exact, abs=1e-9)
    assert figure.nuisance(t) >= figure.nuisance(t, "y") - 1e-12  # a coarser statistic leaves more nuisance


@pytest.mark.parametrize(
    ("distance", "n", "bound"),
    [(4, 10, 0.361891043), (6, 100, 0.415821359), (10, 1000, 0.477112810), (10, 10**5, 0.463763374)],
)
def test_bottleneck_reference_numbers(distance: float, n: int, bound: float) -> None:
    family = Bottleneck(distance)
    assert family.lower_bound(n) == pytest.approx(bound, abs=1e-9)
    assert family.regret(Info.OFF_S, n) >= bound
    assert family.regret(Info.OFF_G, n) == pytest.approx(bound, abs=1e-9)
    assert family.regret(Info.ON_G, n) < 1e-9


def test_bottleneck_values_by_simulation() -> None:
    """Seed 1: V(m; theta) = eps Phi(m) + (1 - eps) Phi(theta m) from draws of the student."""
    family, rng = Bottleneck(2.0), np.random.default_rng(1)
    x, noise = rng.normal(size=400_000), rng.normal(size=400_000)
    for m in (-2, 2):
        for theta in (-1, 1):
            sign = np.where(x < -1.0, 1, theta)
            reward = sign * (m + noise) >= 0
            error = reward.std() / np.sqrt(len(x))
            assert reward.mean() == pytest.approx(family.value(m, theta), abs=monte_carlo_tolerance(error))


def test_bad_parameters() -> None:
    with pytest.raises(UserError, match="mean_x"):
        Fig3("C")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="positive"):
        Bottleneck(0.0)
    with pytest.raises(UserError, match="no token distribution"):
        Bottleneck(4.0).regret(Info.OFF_L, 10)
