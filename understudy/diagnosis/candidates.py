"""Which of several experts to imitate: what a diagnosis knows of each, and their order. Needs neither torch nor numpy.

The order: the highest expected accuracy (of the route that is advised with the expert) first. Forecasts that are within
a margin of the highest are not told apart: of these the expert that is right most often comes first. Where no reward is
known there is neither, and the gradient score decides (lower is better). `understudy calibrate experts` measures what
choosing by each of the three has lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from understudy.diagnosis.outcome import MARGIN
from understudy.diagnosis.types import Estimate


class Known(Protocol):
    """What the order reads of a candidate; None: not measured."""

    @property
    def accuracy(self) -> Estimate | None: ...
    @property
    def gradient(self) -> Estimate | None: ...
    @property
    def expected(self) -> Estimate | None: ...


def ranked(candidates: Sequence[Known], slack: float = MARGIN) -> list[int]:
    """Numbers of the candidates, the best first. slack: forecasts nearer than this are equal.

    The given order decides between equals, and does nothing else.
    """
    left, order = list(range(len(candidates))), []
    while left:
        top = max(_value(candidates[i].expected) for i in left)
        near = [i for i in left if _value(candidates[i].expected) >= top - slack]
        best = max(near, key=lambda i: _preference(candidates[i]))
        order.append(best)
        left.remove(best)
    return order


def _preference(c: Known) -> tuple[float, float, float]:
    return _value(c.accuracy), _value(c.expected), -_value(c.gradient, math.inf)


def _value(e: Estimate | None, missing: float = -math.inf) -> float:
    return missing if e is None or math.isnan(e.value) else e.value
