"""Family F: the offline bottleneck at H = 1 (docs/theory.md, section 2), every regret in closed form.

A contextual bandit whose expert mixes two styles. With probability 1 - eps it acts in a style that no student can play
('+' right, '-' wrong). With probability eps it acts in the students' style, and only then does its sample depend on
the hidden bit theta_i of context i.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from understudy.errors import UserError
from understudy.theory.families.instance import Bandit
from understudy.theory.information import Info
from understudy.theory.scalars import Array, binomial_mean, vote_error

Bits = NDArray[np.int64]


@dataclass(frozen=True)
class FamilyF:
    """F(l, p, eps, kappa): l contexts with law p, playable mass eps, expert error kappa. Actions 0, 1, +, -.

    e(+|i) = (1-eps)(1-kappa), e(-|i) = (1-eps) kappa, e(theta_i|i) = eps(1-kappa), e(1-theta_i|i) = eps kappa. r = 1 on
    '+' and on theta_i. theta is uniform on the `active` contexts (all, by default) and known elsewhere. students 'D':
    the 2^l deterministic maps to {0, 1}; V* = 1, gap 1. students 'S': the soft ones, pi_b(b_i|i) = 1 - kappa;
    V* = 1 - kappa = V_e, gap 1 - 2 kappa.
    """

    l: int = 8
    eps: float = 0.01
    kappa: float = 0.0
    students: Literal["D", "S"] = "D"
    p: tuple[float, ...] | None = None  # the contexts' law; None is uniform
    active: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.l < 1:
            raise UserError("l", self.l, "at least one context")
        if not 0 < self.eps <= 1:
            raise UserError("eps", self.eps, "a probability in (0, 1]: the mass the expert puts on playable actions")
        if not 0 <= self.kappa < 0.5:
            raise UserError("kappa", self.kappa, "an error rate in [0, 0.5)")
        if self.students not in ("D", "S"):
            raise UserError("students", self.students, "D (deterministic) or S (soft)")
        if self.p is not None and (len(self.p) != self.l or min(self.p) < 0 or abs(sum(self.p) - 1) > 1e-9):
            raise UserError("p", self.p, f"{self.l} probabilities that sum to 1")
        if self.active is not None and not set(self.active) <= set(range(self.l)):
            raise UserError("active", self.active, f"contexts are numbered 0..{self.l - 1}")

    @cached_property
    def law(self) -> Array:
        """(l,) probabilities of the contexts."""
        return np.full(self.l, 1 / self.l) if self.p is None else np.asarray(self.p, float)

    @cached_property
    def active_law(self) -> Array:
        return self.law if self.active is None else self.law[list(self.active)]

    @property
    def value_expert(self) -> float:
        return 1 - self.kappa

    @property
    def value_best(self) -> float:
        """V* of the student class."""
        return 1.0 if self.students == "D" else 1 - self.kappa

    @property
    def gap(self) -> float:
        """What playing the wrong bit costs in a context."""
        return 1.0 if self.students == "D" else 1 - 2 * self.kappa

    def expert(self, theta: Bits) -> Array:
        """(l, 4) e(y|x)."""
        table = np.empty((self.l, 4))
        rows = np.arange(self.l)
        table[rows, theta] = self.eps * (1 - self.kappa)
        table[rows, 1 - theta] = self.eps * self.kappa
        table[:, 2] = (1 - self.eps) * (1 - self.kappa)
        table[:, 3] = (1 - self.eps) * self.kappa
        return table

    def reward(self, theta: Bits) -> Array:
        """(l, 4) r(x, y)."""
        table = np.zeros((self.l, 4))
        table[np.arange(self.l), theta] = 1
        table[:, 2] = 1
        return table

    def student(self, bits: Bits) -> Array:
        """(l, 4) pi_b(y|x)."""
        right = 1.0 if self.students == "D" else 1 - self.kappa
        table = np.zeros((self.l, 4))
        table[np.arange(self.l), bits] = right
        table[np.arange(self.l), 1 - bits] = 1 - right
        return table

    def bits(self) -> Bits:
        """(2^l, l) every theta, or every student's b."""
        return (np.arange(2**self.l)[:, None] >> np.arange(self.l)) & 1

    def bandit(self, theta: Bits, students: Bits | None = None) -> Bandit:
        """The instance at theta; students (K, l) are rows of bits, all by default."""
        rows = self.bits() if students is None else students
        return Bandit(self.law, self.expert(theta), np.stack([self.student(b) for b in rows]), self.reward(theta))

    def regret(self, info: Info, n: int, coverage: float = 1.0) -> float:
        """Least Bayes regret V* - V over learners, n rounds of `info`: Theorem 2, (i) to (iii), and corollary C6.

        Exact for every (randomised) learner whose policy mixes students context by context; for 'D' that is every
        policy on {0, 1}. `coverage` C: the base policy of ON-G puts mass 1/C on {0, 1} (1: all of it).
        """
        check_rounds(n)
        if coverage < 1:
            raise UserError("coverage", coverage, "the base policy puts mass 1/C on playable actions, so C >= 1")
        if info is Info.OFF_S:
            return self.gap * self.mean_over_active(
                lambda q: binomial_mean(n, q * self.eps, lambda m: vote_error(m, self.kappa))
            )
        if info is Info.ON_G_STAR:  # ask once about the heaviest contexts
            return self.gap / 2 * float(np.sort(self.active_law)[::-1][n:].sum())
        informative = {Info.OFF_G: self.eps, Info.OFF_L: 1.0, Info.ON_G: 1 / coverage}[info]
        return self.gap / 2 * self.mean_over_active(lambda q: miss(q * informative, n))

    def mean_over_active(self, f: Callable[[float], float]) -> float:
        """sum over active contexts of p f(p), each distinct p evaluated once."""
        values, counts = np.unique(self.active_law, return_counts=True)
        return float(sum(c * q * f(q) for q, c in zip(values.tolist(), counts.tolist())))


def check_rounds(n: int) -> None:
    if n < 0:
        raise UserError("n", n, "a number of rounds, at least 0")


def miss(q: float, n: int) -> float:
    """(1 - q)^n: an event of probability q never happens in n rounds."""
    return math.exp(n * math.log1p(-q)) if q < 1 else float(n == 0)


# --- corollaries of Theorem 2 ------------------------------------------------------------------------------


def samples_needed(regret: float, l: int, eps: float) -> float:
    """C1: OFF-S rounds for a regret of `regret` (uniform p, kappa 0, gap 1); eps = 1 gives the ON-G count."""
    return math.log(2 * regret) / math.log1p(-eps / l)


def rate_instance(l: int, eps: float, n: int, kappa: float = 0.0) -> FamilyF:
    """C4: the law (zeta, ..., zeta, heavy) with zeta = 1/(eps (n+1)), for which regret scales as log|Pi| / n.

    The last context is heavy and its bit is known. Needs l - 1 <= eps (n + 1).
    """
    if l < 2:
        raise UserError("l", l, "C4 needs at least two contexts")
    zeta = 1 / (eps * (n + 1))
    if (l - 1) * zeta > 1 + 1e-12:
        hint = f"l - 1 must be at most eps (n + 1) = {eps * (n + 1):.4g}: raise n or eps, or lower l"
        raise UserError("l", l, hint)
    heavy = max(0.0, 1 - (l - 1) * zeta)
    return FamilyF(l=l, eps=eps, kappa=kappa, p=(zeta,) * (l - 1) + (heavy,), active=tuple(range(l - 1)))


def rate_lower_bound(l: int, eps: float, n: int) -> float:
    """C4: (l - 1) / (2 e eps (n + 1)), where l = log2 |Pi|."""
    return (l - 1) / (2 * math.e * eps * (n + 1))


def truncated_decoding_regret(family: FamilyF, info: Info, n: int) -> float:
    """C3: the expert's samples come from its truncated law e(.|{+,-}) (top-p, greedy), its scores from e.

    The samples do not depend on theta, so OFF-S and OFF-G stay at gap/2 of the active mass for every n. ON-G (scores of
    own actions) and OFF-L (untruncated distributions) are unchanged.
    """
    if info in (Info.OFF_S, Info.OFF_G):
        return family.gap / 2 * float(family.active_law.sum())
    return family.regret(info, n)


def le_cam(separation: float, hellinger2: float, n: int) -> float:
    """C5: max_j E regret_j >= (s/2)(1 - sqrt(1 - (1 - D2/2)^(2n))) for any OFF-S learner into Pi.

    separation: s = min over pi in Pi of regret_0 + regret_1. hellinger2: D2 = E_x sum_y (sqrt e0 - sqrt e1)^2.
    """
    overlap = max(0.0, 1 - hellinger2 / 2) ** (2 * n)
    return separation / 2 * (1 - math.sqrt(max(0.0, 1 - overlap)))


def hellinger2(mu: Array, e0: Array, e1: Array) -> float:
    """D2(e0, e1) = E_x sum_y (sqrt e0 - sqrt e1)^2, in [0, 2]; (X,), (X, Y), (X, Y)."""
    return float(mu @ ((np.sqrt(e0) - np.sqrt(e1)) ** 2).sum(-1))
