"""Formatted numbers: the notation does not jump at a boundary, and a missing number is a dash."""

from __future__ import annotations

import math

from understudy.diagnosis.types import Estimate
from understudy.evaluation.numbers import decimal, duration, large, percent, points, with_bounds


def estimate(value: float, half: float) -> Estimate:
    return Estimate(value, value - half, value + half, 9, "nats", "by hand")


def test_large_numbers() -> None:
    assert [large(x) for x in (0, 950, 1234, 1.5e7, 2e12)] == ["0", "950", "1.23k", "15M", "2T"]
    assert [large(x) for x in (999, 999.6, 999_600, 1e21)] == ["999", "1k", "1M", "1e+03E"]
    assert [large(x, " ") for x in (None, 0, 999.6e9, 4e14, "nan")] == ["–", "0", "1 T", "400 T", "–"]


def test_durations() -> None:
    assert [duration(x, 0) for x in (math.nan, 5, 300, 7200)] == ["–", "5 s", "5 min", "2.0 h"]
    assert [duration(x, 0) for x in (5399, 3600 * 99, 3600 * 1234)] == ["90 min", "99.0 h", "1,234 h"]
    assert [duration(x) for x in (None, 1.25, 77, 300)] == ["–", "1.2 s", "77 s", "5.0 min"]


def test_values_with_their_intervals() -> None:
    assert with_bounds(estimate(9.1, 1.1)) == "9.10 [8.00, 10.2]"
    assert with_bounds(estimate(0.56, 0.05), points) == "+56.0 [+51.0, +61.0]"
    assert with_bounds(estimate(0.05, 0.1), lambda x: percent(x, 0)) == "5% [-5%, 15%]"
    assert [with_bounds(e) for e in (None, estimate(math.nan, 1.0))] == ["–", "–"]
    assert [decimal(x) for x in (-0.001, -0.5, 135.1, 12345)] == ["0.00", "−0.50", "135", "12,345"]
