"""Section 10 of the theory by other means: plain sums over actions, and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from understudy.theory.claims.targets import LURE_BASE, LURE_EXPERT, beyond, cited
from understudy.theory.families.hidden import geometric


def test_example_l_by_hand() -> None:
    """Factor 2: .25/.3, .01/.01, .16/.69 over their sum."""
    raw = [0.25 / 0.3, 1.0, 0.16 / 0.69]
    assert beyond(LURE_EXPERT, LURE_BASE, 2.0)[0] == pytest.approx([x / sum(raw) for x in raw])


def test_no_policy_is_better_than_the_target() -> None:
    """The target maximises factor E log(e / b) - KL(. || b): a grid over the simplex finds nothing above it."""
    base, expert, factor = LURE_BASE[0], LURE_EXPERT[0], 1.5

    def objective(p: np.ndarray) -> float:
        return float(sum(x * (factor * math.log(e / b) - math.log(x / b)) for x, e, b in zip(p, expert, base) if x))

    best = objective(beyond(LURE_EXPERT, LURE_BASE, factor)[0])
    grid = [np.array([i, j, 60 - i - j]) / 60 for i in range(61) for j in range(61 - i)]
    assert max(map(objective, grid)) <= best
    assert max(map(objective, grid)) > best - 1e-2


def test_example_s_by_hand() -> None:
    """A citation has the eighth root of its own mass times that of the seven others."""
    expert, _ = cited()
    assert expert.sum(-1) == pytest.approx(np.ones(8))
    cite = ((0.1 - 7e-4) * 1e-4**7) ** (1 / 8)
    raw = np.array([0.85, 0.05, *[cite] * 8])
    got = geometric(np.full(8, 1 / 8), expert)[0]
    assert got == pytest.approx(raw / raw.sum())
