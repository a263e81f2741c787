"""Where a learning curve ends: y(n) = a + b n^-c fitted to few points, and the interval of a.

y is a held-out loss (KL(expert || student), nats) after training on n sequences, with its standard error. c lies in
[0.25, 1.5] and b >= 0: the curve falls, neither slower nor faster than learning curves do. For each c the fit is
linear; the interval of a is the range over c of the a whose best fit has a chi-square within 3.84 of the best of all
(profile likelihood). A floor above 0 is no proof that the student cannot hold the expert: it may be the optimizer's
(run twice the steps) or the capacity's (run a larger student).

`extrapolate` asks the same of the curve at any n, such as that of the full training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtri

from understudy.diagnosis.measures import intervals
from understudy.diagnosis.measures.estimators import NATS
from understudy.diagnosis.measures.intervals import Floats
from understudy.diagnosis.types import Estimate, Floor, PilotPoint
from understudy.errors import UserError

EXPONENTS = np.linspace(0.25, 1.5, 51)
DROP = 3.84
"""Chi-square with one degree of freedom at 95%."""


def fit_floor(n: ArrayLike, y: ArrayLike, se: ArrayLike, unit: str = NATS) -> Floor:
    """The floor a >= 0 of losses y (k,) with standard errors se (k,) > 0 at n (k,) training sequences.

    Fewer than three different n: a is nan with the interval from 0 to the most that the lowest loss allows, and
    `a.method` says so. A fit worse than chance allows (5%) widens the errors by what is missing,
    as when the seeds of training matter more than the held-out sample. b and c are those of the best fit; with b = 0
    (losses that do not fall) c means nothing.
    """
    estimate, b, c = _fit(n, y, se, math.inf, unit)
    return Floor(estimate, b, c, rejects_zero=estimate.low > 0)


def extrapolate(n: ArrayLike, y: ArrayLike, se: ArrayLike, at: float, unit: str = NATS) -> Estimate:
    """y(at) >= 0 on the same curve with its profile interval; `at` sequences, not fewer than in the fit, or inf."""
    if not at >= np.max(n):
        raise UserError("at", at, "give a number of training sequences that is not below those of the fit")
    return _fit(n, y, se, at, unit)[0]


def floor(points: Sequence[PilotPoint]) -> Floor | None:
    """`fit_floor` of the SFT pilots' held-out KL(expert, student); None where no pilot measured it."""
    n, y, se = _losses(points)
    return fit_floor(n, y, se) if n else None


def ahead(points: Sequence[PilotPoint], at: float, steps: int = 16) -> dict[str, list[float]]:
    """{n, value, low, high}: that curve with its interval from the largest pilot to `at` sequences; or {}."""
    n, y, se = _losses(points)
    if len(set(n)) < 3 or at <= max(n):
        return {}
    ns = [float(max(n)), *np.geomspace(max(n), at, steps).tolist()[1:-1], float(at)]
    curve = [extrapolate(n, y, se, x) for x in ns]
    return {"n": ns} | {name: [float(getattr(e, name)) for e in curve] for name in ("value", "low", "high")}


def _losses(points: Sequence[PilotPoint]) -> tuple[list[int], list[float], list[float]]:
    """Sequences, KL(expert, student) and its standard error, of the offline curve."""
    seen = [(p.samples, p.kl_expert_student) for p in points if (p.kind, p.label) == ("sft", "curve")]
    known = [(n, e) for n, e in seen if e and math.isfinite(e.value) and e.high > e.low]
    return [n for n, _ in known], [e.value for _, e in known], [(e.high - e.low) / 4 for _, e in known]


@dataclass(frozen=True)
class _Line:
    """chi2(a) at one c, minimised over b >= 0: two parabolas, met at a = `turn`; left of it b > 0."""

    left: tuple[float, float, float]  # curvature, vertex, height of the parabola
    right: tuple[float, float, float]
    turn: float
    slope: float  # of a -> b(a): b = slope (turn - a)

    def minimum(self, at_least: float) -> tuple[float, float]:
        """(a, chi2) of the best a >= at_least."""
        best = self.left[1] if self.left[1] <= self.turn else self.right[1]
        a = max(best, at_least)
        return a, self.chi2(a)

    def chi2(self, a: float) -> float:
        curvature, vertex, height = self.left if a <= self.turn else self.right
        return height + curvature * (a - vertex) ** 2

    def range(self, limit: float) -> tuple[float, float] | None:
        """The interval of all a with chi2 <= limit; None when there are none."""
        ends = []
        for sign, (curvature, vertex, height) in ((-1, self.left), (-1, self.right), (1, self.left), (1, self.right)):
            inside = limit - height
            if inside < 0:
                continue
            a = vertex + sign * math.sqrt(inside / curvature) if curvature > 0 else sign * math.inf
            if (a <= self.turn) == ((curvature, vertex, height) == self.left):
                ends.append(a)
        return (min(ends), max(ends)) if ends else None


def _line(x: Floats, y: Floats, w: Floats) -> _Line:
    """For y = a + b x with weights w = 1 / se^2."""
    s_w, s_x, s_xx = float(w.sum()), float(w @ x), float(w @ (x * x))
    s_y, s_xy, s_yy = float(w @ y), float(w @ (x * y)), float(w @ (y * y))
    mean_y = s_y / s_w
    right = (s_w, mean_y, max(s_yy - s_w * mean_y**2, 0.0))
    # b(a) = (s_xy - a s_x) / s_xx; eliminated: chi2 = (s_w - s_x^2/s_xx) a^2 - 2 (s_y - s_x s_xy/s_xx) a + ...
    curvature = s_w - s_x**2 / s_xx
    vertex = (s_y - s_x * s_xy / s_xx) / curvature
    height = float(w @ (y - vertex - (s_xy - vertex * s_x) / s_xx * x) ** 2)
    return _Line((curvature, vertex, height), right, s_xy / s_x, s_x / s_xx)


def _fit(n: ArrayLike, y: ArrayLike, se: ArrayLike, at: float, unit: str) -> tuple[Estimate, float, float]:
    n_k, y_k, se_k = (intervals.per_prompt(name, v) for name, v in (("n", n), ("y", y), ("se", se)))
    intervals.same_shape(n=n_k, y=y_k, se=se_k)
    if not (np.isfinite(n_k).all() and np.isfinite(y_k).all() and np.isfinite(se_k).all()):
        raise UserError("pilots", "not finite", "leave out the runs whose loss is infinite, and say so")
    if n_k.min() <= 0 or se_k.min() <= 0:
        raise UserError("pilots", "n or se not above 0", "give sequences and standard errors above 0")
    sizes, k = len(np.unique(n_k)), len(n_k)
    if sizes < 3:
        high = max(0.0, float((y_k + 1.96 * se_k).min()))
        method = f"cannot tell: {sizes} training sizes, and a floor needs three"
        return Estimate(math.nan, 0.0, high, k, unit, method), math.nan, math.nan
    scale = float(n_k.min())  # n / scale: powers stay near 1, and b is put back at the end
    base = [(n_k / scale) ** -c - (at / scale) ** -c for c in EXPONENTS]
    weights = se_k**-2.0
    lines = [_line(x, y_k, weights) for x in base]
    fits = [line.minimum(0.0) for line in lines]
    best = int(np.argmin([chi2 for _, chi2 in fits]))
    (a, lowest), c = fits[best], float(EXPONENTS[best])
    # three parameters, less the ones that a bound holds; with three points there is nothing left to test
    spare = k - 3
    method = "profile likelihood"
    stretch = 1.0
    if spare > 0 and lowest > float(chdtri(spare, 0.05)):
        stretch = lowest / spare
        method += f", errors widened by {math.sqrt(stretch):.2g}: the points scatter more than they should"
    ranges = [line.range(lowest + DROP * stretch) for line in lines]
    low = max(0.0, min(r[0] for r in ranges if r))
    high = max(0.0, max(r[1] for r in ranges if r))
    b = max(0.0, lines[best].slope * (lines[best].turn - a))
    estimate = Estimate(a, min(low, a), max(high, a), k, unit, method)
    if b == 0:
        estimate = replace(estimate, method=f"{method}; the losses do not fall")
    return estimate, b * scale**c, c
