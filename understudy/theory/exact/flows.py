"""A student with one number z, trained by gradient flow (docs/theory.md, section 8): who gets how far in what time.

The student mixes two fixed policies, or plays one of two answers, with two softmax logits; z is their difference and
p = sigma(z) the share of the second. SFT ends at p = alpha, online imitation at z = goal. Time is learning rate times
updates. On both logits of a table, plain gradient descent has

    SFT     dz/dt = 2 (alpha - p)              F(p) = -alpha log p - (1 - alpha) log(1 - p) + a constant
    online  dz/dt = 2 p (1 - p) (goal - z)     L(p) = kl(p || sigma(goal)) + a constant

so the speed of online training vanishes with p, the share of its own rollouts that shows anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import quad, solve_ivp
from scipy.optimize import brentq
from scipy.special import expit

from understudy.errors import UserError
from understudy.theory.scalars import Array

Phase = Literal["sft", "opd"]


@dataclass(frozen=True)
class Flow:
    alpha: float
    """Where SFT ends, as a share."""
    goal: float
    """Where online imitation ends, as a logit."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise UserError("alpha", self.alpha, "a share strictly between 0 and 1")
        if not math.isfinite(self.goal):
            raise UserError("goal", self.goal, "a finite logit")

    def speed(self, phase: Phase, z: float) -> float:
        """dz/dt."""
        p = float(expit(z))
        return 2 * (self.alpha - p) if phase == "sft" else 2 * p * (1 - p) * (self.goal - z)

    def path(self, z: float, phase: Phase, times: ArrayLike) -> Array:
        """z at each of `times` (increasing, from 0) of one phase."""
        times = np.asarray(times, float)
        if times[-1] == 0:
            return np.full(times.shape, z)
        solved = solve_ivp(
            lambda _, y: [self.speed(phase, float(y[0]))],
            (0.0, float(times[-1])), [z], method="LSODA", t_eval=times, rtol=1e-11, atol=1e-12,
        )  # fmt: skip
        return np.asarray(solved.y[0])

    def run(self, z: float, phases: Sequence[tuple[Phase, float]]) -> float:
        """z after a route: (phase, time) one after the other."""
        for phase, time in phases:
            z = float(self.path(z, phase, [time])[-1])
        return z

    def time(self, phase: Phase, start: float, end: float) -> float:
        """How long a phase takes from `start` to `end`, by quadrature; infinite if it does not get there."""
        last = self.goal if phase == "opd" else math.log(self.alpha / (1 - self.alpha))
        if start == end:
            return 0.0
        if not (start < end < last or start > end > last):
            return math.inf
        return float(quad(lambda z: 1 / self.speed(phase, z), start, end, epsabs=0, epsrel=1e-12, limit=400)[0])

    def shortest(self, start: float, end: float) -> float:
        """A lower bound of the online time: (1/odds(start) - 1/odds(end)) / (2 (goal - start)), start < end < goal.

        p (1 - p) <= e^z and goal - z <= goal - start, so dz/dt <= 2 e^z (goal - start).
        """
        return (math.exp(-start) - math.exp(-end)) / (2 * (self.goal - start))

    def natural(self, start: float, end: float) -> float:
        """Online time of natural gradient, dz/dt = goal - z: no share slows it down."""
        return math.log((self.goal - start) / (self.goal - end))

    @property
    def switch(self) -> float:
        """The z up to which SFT is the faster one, where the two speeds cross once below both ends; else UserError.

        The last 1e-3 below the ends are left out: in the realizable case both speeds vanish there together.
        """
        low, high = -30.0, min(self.goal, math.log(self.alpha / (1 - self.alpha))) - 1e-3

        def ahead(z: float) -> float:
            return self.speed("sft", z) - self.speed("opd", z)

        if ahead(low) <= 0 or ahead(high) >= 0:
            raise UserError("alpha", self.alpha, "the two speeds do not cross below both ends")
        return float(brentq(ahead, low, high, xtol=1e-14))

    def route(self, start: float, budget: float) -> list[tuple[Phase, float]]:
        """SFT up to `switch`, then online: no schedule of the two gets further in the same time, from below it."""
        first = 0.0 if start >= self.switch else min(budget, self.time("sft", start, self.switch))
        return [("sft", first), ("opd", budget - first)]
