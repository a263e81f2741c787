"""The floor of a learning curve: profile against brute force, coverage, power, and data that cannot decide."""

from __future__ import annotations

import math

import numpy as np
import pytest

from understudy.diagnosis.pilots.learning_curve import DROP, EXPONENTS, extrapolate, fit_floor
from understudy.errors import UserError

N = np.array([64.0, 256.0, 1024.0, 4096.0])
B, C, SE, REPEATS = 1.5 * 64**0.7, 0.7, 0.02, 400


def _curve(a: float, n: np.ndarray = N) -> np.ndarray:
    return a + B * n**-C


def _chi2(a: np.ndarray | float, at: float, y: np.ndarray, se: np.ndarray) -> np.ndarray:
    """(A,) least chi-square of curves with value a at n = at, by a grid over c and the sign of b."""
    best, a_A1 = np.full(np.size(a), math.inf), np.reshape(a, (-1, 1))
    for c in EXPONENTS:
        x = N**-c - (0.0 if math.isinf(at) else at**-c)
        b_A1 = np.maximum(0.0, (x * (y - a_A1) / se**2).sum(1, keepdims=True) / (x * x / se**2).sum())
        best = np.minimum(best, (((y - a_A1 - b_A1 * x) / se) ** 2).sum(1))
    return best


CURVES = {
    "falls": (_curve(0.1), 1.0),
    "pilots": (np.array([1.4, 1.38, 0.88, 0.79]), 3.0),
    "flat": (np.array([0.5, 0.52, 0.49, 0.51]), 0.5),
    "rises": (np.array([1.0, 1.1, 1.2, 1.3]), 3.0),
}


@pytest.mark.parametrize("at", [math.inf, 10_000.0, 4096.0])
@pytest.mark.parametrize("name", CURVES)
def test_interval_is_the_profile(at: float, name: str) -> None:
    y, scale = CURVES[name]
    se = scale * np.array([0.05, 0.1, 0.2, 0.15])
    result = extrapolate(N, y, se, at)
    least = _chi2(np.linspace(0, 2, 4001), at, y, se).min()
    assert _chi2(result.value, at, y, se)[0] == pytest.approx(least, abs=1e-3)
    assert "widened" not in result.method
    for end in (result.low, result.high):
        if end > 0:
            assert _chi2(end, at, y, se)[0] == pytest.approx(least + DROP, abs=1e-2)
    assert _chi2(result.high + 0.01, at, y, se)[0] > least + DROP
    assert result.low > 0 or _chi2(0.0, at, y, se)[0] < least + DROP


def test_noiseless_curve_is_recovered() -> None:
    floor = fit_floor(N, _curve(0.3), np.full(4, 1e-4))
    assert floor.a.value == pytest.approx(0.3, abs=1e-3)
    assert floor.c == pytest.approx(C, abs=0.02)
    assert floor.b * 1024**-floor.c == pytest.approx(B * 1024**-C, rel=0.02)
    assert floor.rejects_zero
    assert extrapolate(N, _curve(0.3), np.full(4, 1e-4), 20_000).value == pytest.approx(
        _curve(0.3, np.array([2e4]))[0], abs=1e-3
    )


@pytest.mark.parametrize(("a", "rejects"), [(0.0, (0.0, 0.05)), (0.1, (0.6, 0.9)), (0.3, (0.97, 1.0))])
def test_coverage_and_power(a: float, rejects: tuple[float, float]) -> None:
    """A reference simulation: coverage .992/.925/.942 and rejections of zero .008/.783/1 at a = 0/.1/.3."""
    rng = np.random.default_rng(0)
    covered = rejected = further = 0
    truth = float(_curve(a, np.array([16_384.0]))[0])
    for _ in range(REPEATS):
        y = _curve(a) + SE * rng.normal(size=4)
        floor = fit_floor(N, y, np.full(4, SE))
        covered += floor.a.low <= a <= floor.a.high
        rejected += floor.rejects_zero
        later = extrapolate(N, y, np.full(4, SE), 16_384)
        further += later.low <= truth <= later.high
    print(a, covered / REPEATS, rejected / REPEATS, further / REPEATS)
    assert 0.91 <= covered / REPEATS <= 1.0
    assert 0.91 <= further / REPEATS <= 1.0
    assert rejects[0] <= rejected / REPEATS <= rejects[1]


def test_three_points() -> None:
    rng = np.random.default_rng(0)
    n, covered = N[1:], 0
    for _ in range(REPEATS // 2):
        floor = fit_floor(n, _curve(0.1, n) + SE * rng.normal(size=3), np.full(3, SE))
        covered += floor.a.low <= 0.1 <= floor.a.high
    assert covered / (REPEATS // 2) >= 0.91


def test_scatter_beyond_the_errors_widens_them() -> None:
    y = _curve(0.2) + np.array([0.0, 0.1, -0.1, 0.1])
    tight, honest = fit_floor(N, y, np.full(4, 0.005)), fit_floor(N, y, np.full(4, 0.1))
    assert "widened" in tight.a.method
    assert "widened" not in honest.a.method
    assert tight.a.high - tight.a.low > 0.3 * (honest.a.high - honest.a.low)


def test_losses_that_do_not_fall() -> None:
    floor = fit_floor(N, [0.5, 0.52, 0.54, 0.56], np.full(4, 0.02))
    assert floor.b == 0
    assert "do not fall" in floor.a.method
    assert floor.a.value == pytest.approx(0.53)


@pytest.mark.parametrize("n", [[64.0], [64.0, 256.0], [64.0, 64.0, 256.0, 256.0]])
def test_too_few_sizes_cannot_tell(n: list[float]) -> None:
    floor = fit_floor(n, np.full(len(n), 0.5), np.full(len(n), 0.1))
    assert math.isnan(floor.a.value)
    assert (floor.a.low, floor.rejects_zero) == (0.0, False)
    assert floor.a.high == pytest.approx(0.696)
    assert "cannot tell" in floor.a.method


def test_a_floor_is_only_claimed_where_zero_is_excluded() -> None:
    result = fit_floor(N, _curve(0.3), np.full(4, 0.02))
    assert result.rejects_zero
    assert result.a.value == pytest.approx(0.3, abs=0.005)
    assert not fit_floor(N[:3], [0.6, 0.5, 0.45], np.full(3, 0.1)).rejects_zero


@pytest.mark.parametrize(
    ("n", "y", "se"),
    [
        ([], [], []),
        ([1, 2, 3], [1, 1], [1, 1, 1]),
        ([1, 2, 3], [1, math.inf, 1], [1, 1, 1]),
        ([1, 2, 3], [1, math.nan, 1], [1, 1, 1]),
        ([1, 2, 3], [1, 1, 1], [1, 0, 1]),
        ([0, 2, 3], [1, 1, 1], [1, 1, 1]),
    ],
)
def test_refused(n: list[float], y: list[float], se: list[float]) -> None:
    with pytest.raises(UserError):
        fit_floor(n, y, se)


def test_no_extrapolation_backwards() -> None:
    with pytest.raises(UserError):
        extrapolate(N, _curve(0.1), np.full(4, SE), 100)
