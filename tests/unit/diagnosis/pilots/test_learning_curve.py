"""The curve of the SFT pilots extended to the full training: start, end, and when there is none."""

from __future__ import annotations

import numpy as np
import pytest
from diagnosis_by_hand import diagnosis

from understudy.diagnosis.pilots.learning_curve import ahead, extrapolate, floor
from understudy.diagnosis.types import Diagnosis, PilotPoint


@pytest.fixture
def points() -> tuple[PilotPoint, ...]:
    return Diagnosis.from_dict(diagnosis()).evidence.pilots


def test_from_the_largest_pilot_to_the_full_training(points: tuple[PilotPoint, ...]) -> None:
    curve = ahead(points, 12_800)
    n, value, low, high = (np.array(curve[name]) for name in ("n", "value", "low", "high"))
    assert (n[0], n[-1]) == (256, 12_800)
    assert (np.diff(n) > 0).all()
    assert ((low <= value) & (value <= high)).all()
    assert (np.diff(value) <= 0).all()
    fitted = floor(points)
    assert fitted is not None
    assert value[0] == pytest.approx(fitted.a.value + fitted.b * 256**-fitted.c, abs=1e-6)
    curve = [p for p in points if (p.kind, p.label) == ("sft", "curve")]
    y = [p.kl_expert_student.value for p in curve if p.kl_expert_student]
    end = extrapolate([p.samples for p in curve], y, [0.075] * 3, 12_800)  # half of 0.15 is two standard errors
    assert (value[-1], low[-1], high[-1]) == pytest.approx((end.value, end.low, end.high))


def test_none_where_three_sizes_or_a_future_are_missing(points: tuple[PilotPoint, ...]) -> None:
    assert ahead(points, 256) == {}
    assert ahead([p for p in points if p.samples != 64], 12_800) == {}
    assert ahead([], 12_800) == {}
