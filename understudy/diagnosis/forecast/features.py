"""From evidence to the few numbers that the forecast rests on, each in points of accuracy. No torch, no numpy.

Three ideas, each from a calibration:

reach    How much of the expert the better pilot has learnt: h = the share of the reverse KL on its own texts that it
         removed, times exp(-what is left / 3 nats); reach = 1 - (1 - h)^2. 1: the student can be the expert, what it
         lacks in accuracy is a matter of data. 0: no evidence that more training closes the distance.
noise    A gain no larger than its standard error is halved, one far larger stays (x^3 / (x^2 + se^2)).
life     Where neither the student nor a pilot was ever right, what the expert could add does not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

from understudy.diagnosis.types import Estimate, Evidence, PilotPoint

NATS = 3.0
"""What is left of the reverse KL counts by exp(-left / NATS)."""
LIFE = 0.03
"""Accuracy at which what is lacking counts by half."""
TREND_ERROR = 0.02
"""Least standard error of a rise per doubling."""


@dataclass(frozen=True)
class Feature:
    value: float
    error: float
    """Standard error of measurement."""

    def minus(self, other: Feature) -> Feature:
        return Feature(self.value - other.value, math.hypot(self.error, other.error))

    @property
    def damped(self) -> float:
        """Nearly 0 where it may be noise, nearly the value where it cannot be."""
        x, e = self.value, self.error
        return x**3 / (x * x + e * e) if x else 0.0


@dataclass(frozen=True)
class Features:
    """What is known. Accuracies and their differences; shares lie in [0, 1]. A pilot that was not run: None."""

    student: Feature
    expert: Feature | None
    sft: Feature | None
    """The largest SFT pilot minus the student."""
    opd: Feature | None
    """The online pilot minus the student."""
    sft_trend: Feature
    """Rise of the SFT pilots' accuracy per doubling of their data, between the last two."""
    opd_trend: Feature
    """The same within the online pilot."""
    reach: float | None
    """See above; None where no divergence is known."""
    fall: float
    """Share of the forward KL that the SFT pilots removed."""
    last_fall: float
    """Share of it that the largest one removed of what the one before had left."""
    takeover: Feature | None
    """Gain when the expert goes on from the student's own beginnings."""
    tilt: Feature | None
    """What the student would gain by re-weighing its own answers by the expert's scores."""
    life: float
    """0 where nothing was ever right, to 1."""

    paired: float
    """Standard error of expert minus student on the same prompts; infinite where it was not measured so."""

    @property
    def headroom(self) -> float:
        """Expert minus student. Where the expert was not measured, half of what there could be."""
        if self.expert is None:
            return (1 - self.student.value) / 2
        return self.expert.value - self.student.value

    @property
    def headroom_error(self) -> float:
        """Its standard error."""
        return min(self.paired, math.hypot(self.expert.error if self.expert else 0.5, self.student.error))


def features(evidence: Evidence) -> Features | None:
    """None where not even the student's accuracy is known. Not-a-number and infinite measures count as missing."""
    m = evidence.measures
    student = known(m.get("student_accuracy"))
    if student is None:
        return None
    headroom = known(m.get("headroom"))
    expert = known(m.get("expert_accuracy"))
    if headroom is not None:  # paired, and so what the two share has gone
        expert = Feature(student.value + headroom.value, headroom.error)
    expert = pooled(expert, known(m.get("expert_at_work")))
    sft, opd = evidence.curve("sft"), evidence.curve("opd")
    starts: dict[str, PilotPoint] = {p.kind: p for p in evidence.pilots if p.samples == 0}

    def gain(points: Sequence[PilotPoint]) -> Feature | None:
        last = known(points[-1].accuracy) if points else None
        if last is None:
            return None
        began = starts.get(points[-1].kind)
        base = known(began.accuracy) if began else None
        base = base or student
        # the same prompts: much of the two errors is one
        return Feature(last.value - base.value, math.hypot(last.error, base.error) * math.sqrt(0.5))

    online, seen = gain(opd), known(m.get("online_accuracy"))
    if online is not None and seen is not None:
        online = pooled(online, seen.minus(student))
    offline = gain(sft)
    reach = [r for points in (sft, opd) if (r := _reach(points, starts, evidence)) is not None]
    accuracies = [known(p.accuracy) for p in (*sft, *opd)]
    best = max([student.value, *(a.value for a in accuracies if a is not None)])
    takeover, tilt = known(m.get("takeover_gain")), known(m.get("tilt_ceiling"))
    return Features(
        student, expert, offline, online, _trend(sft), known(m.get("online_trend")) or Feature(0.0, 1.0),
        max(reach) if reach else None, *_falls(sft, starts, evidence), takeover,
        None if tilt is None else Feature(tilt.value - student.value, tilt.error), best / (best + LIFE),
        math.inf if headroom is None else headroom.error,
    )  # fmt: skip


def known(estimate: Estimate | None) -> Feature | None:
    """Value and standard error; None where there is no number."""
    if estimate is None or not math.isfinite(estimate.value):
        return None
    half = (estimate.high - estimate.low) / 2
    return Feature(estimate.value, half / _quantile(estimate.level) if math.isfinite(half) else 1.0)


@cache
def _quantile(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)


def pooled(one: Feature | None, other: Feature | None) -> Feature | None:
    """Two measurements of one thing, by their precision. An error of 0 is that of a share that was all or nothing."""
    if one is None or other is None:
        return one or other
    a, b = (1 / max(f.error, 1e-3) ** 2 for f in (one, other))
    return Feature((a * one.value + b * other.value) / (a + b), (a + b) ** -0.5)


def _trend(points: Sequence[PilotPoint]) -> Feature:
    seen = [(math.log2(p.samples), a) for p in points if (a := known(p.accuracy)) is not None]
    if len(seen) < 2 or seen[-1][0] <= seen[-2][0]:
        return Feature(0.0, 1.0)
    (x, a), (y, b) = seen[-2:]
    rise = b.minus(a)
    error = rise.error * math.sqrt(0.5) / (y - x)
    return Feature(rise.value / (y - x), max(error, TREND_ERROR))


def _reach(points: Sequence[PilotPoint], starts: dict[str, PilotPoint], evidence: Evidence) -> float | None:
    side = "kl_student_expert"
    left = known(points[-1].kl_student_expert) if points else None
    if left is None:
        return None
    removed = _removed(points[-1].kl_student_expert, _before(points, starts, evidence, side))
    return 1 - (1 - removed * math.exp(-max(left.value, 0.0) / NATS)) ** 2


def _falls(points: Sequence[PilotPoint], starts: dict[str, PilotPoint], evidence: Evidence) -> tuple[float, float]:
    if not points:
        return 0.0, 0.0
    last = points[-1].kl_expert_student
    before = points[-2].kl_expert_student if len(points) > 1 else None
    return _removed(last, _before(points, starts, evidence, "kl_expert_student")), _removed(last, before)


def _before(
    points: Sequence[PilotPoint], starts: dict[str, PilotPoint], evidence: Evidence, side: str
) -> Estimate | None:
    """A divergence before the pilots: of the start on their prompts, else as measured, else of the first one."""
    began = starts.get(points[-1].kind)
    before = (getattr(began, side) if began else None) or evidence.measures.get(side)
    return before or (getattr(points[0], side) if len(points) > 1 else None)


def _removed(last: Estimate | None, before: Estimate | None) -> float:
    """Share of a divergence that is gone, in [0, 1]."""
    a, b = known(before), known(last)
    if a is None or b is None or a.value <= 0:
        return 0.0
    return min(max(1 - max(b.value, 0.0) / a.value, 0.0), 1.0)
