"""Estimates at no extra cost: the expert from the data of the SFT pilot, the student from the online pilot."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from understudy.diagnosis.pilots.estimates import at_work, online_level
from understudy.diagnosis.pilots.pilot import Pilots
from understudy.runs.checkpoint import write_cached


def test_a_line_is_recovered() -> None:
    """Accuracy that rises by .1 per doubling and ends at .7, without noise."""
    n = np.arange(8, 8 * 41, 8)
    result = online_level([[float(x), 0.7 + 0.1 * np.log2(x / n[-1])] for x in n], 8)
    assert result["online_accuracy"].value == pytest.approx(0.7)
    assert result["online_trend"].value == pytest.approx(0.1)
    assert result["online_accuracy"].high - result["online_accuracy"].value > 0.05, "8 samples per update are noisy"


def test_its_intervals_cover() -> None:
    """95% intervals of both, over 2,000 simulated pilots of 40 updates of 8 samples: 94 to 98.5%."""
    rng, n = np.random.default_rng(0), np.arange(8, 8 * 41, 8)
    truth = 0.45 + 0.05 * np.log2(n / n[-1])
    inside = np.zeros(2)
    for _ in range(2000):
        share = rng.binomial(8, truth) / 8
        result = online_level([[float(a), float(b)] for a, b in zip(n, share)], 8)
        for i, (name, value) in enumerate((("online_accuracy", 0.45), ("online_trend", 0.05))):
            inside[i] += result[name].low <= value <= result[name].high
    assert ((inside / 2000 > 0.94) & (inside / 2000 < 0.985)).all(), inside / 2000


def test_few_updates_say_nothing() -> None:
    assert online_level([[8.0, 0.5]] * 7, 8) == {}


def test_the_expert_at_work(tmp_path: Path) -> None:
    assert at_work(tmp_path) == {}
    (tmp_path / "data").mkdir()
    write_cached(tmp_path / "data" / "fixed.safetensors", {"reward": torch.tensor([1.0] * 300 + [0.0] * 100)})
    estimate = at_work(tmp_path)["expert_at_work"]
    assert estimate.value == pytest.approx(0.75)
    assert 0.03 < estimate.high - estimate.value < 0.06


@pytest.mark.parametrize(
    ("lengths", "gain", "expected"),
    [
        ([40, 50, 60, 60, 60, 60], 0.2, 50),  # longer, and better: half of it stays
        ([40, 50, 60, 60, 60, 60], 0.0, 30),  # longer for nothing: half-way from the student's 40 to the expert's 20
        ([40, 30, 20, 10, 10, 10], 0.0, 10),  # shorter: it stays, and the expert is no shorter
    ],
)
def test_which_lengths_are_believed(
    lengths: list[int], gain: float, expected: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = [{"length": x} for x in lengths]
    monkeypatch.setattr("understudy.diagnosis.pilots.pilot.read_metrics", lambda path, kind: lines)
    stand_in = SimpleNamespace(run=SimpleNamespace(path=tmp_path), table=SimpleNamespace(length=np.full((2, 1), 20.0)))
    size = cast(Any, SimpleNamespace(online=48))
    assert Pilots.online_length(cast(Any, stand_in), size, 40.0, gain) == pytest.approx(expected)
