"""Closed forms of section 3 and Example T for `understudy theory value`; see values_regret.py for what a
quantity is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from understudy.errors import UserError
from understudy.theory.exact.decompose import guarantee, split_bandit, tilt_delta, tilt_value
from understudy.theory.families import bandit
from understudy.theory.families.bandit import FamilyF
from understudy.theory.families.gaussian import Fig3
from understudy.theory.families.instance import Bandit
from understudy.theory.families.trap import Trap
from understudy.theory.scalars import bernoulli_kl, kl_inv_lower, kl_inv_upper
from understudy.theory.values_regret import pick, probability


@dataclass(frozen=True)
class Misspecification:
    """L, F, N, R, Delta or the guarantee on Example T or Family F."""

    source: ClassVar[str] = "section 3, Theorem 3A; Example T"

    example: str = "trap"
    """trap or F."""
    what: str = "delta"
    """L, F, R, N, V (of --student), delta, guarantee, pinsker, online, offline, tv, coverage."""
    student: int = 0
    """Which student: trap 0 or 1; F 0 = right everywhere, 1 = wrong everywhere."""
    eps: float = 0.01
    """Family F: playable mass (trap has its own parameters)."""
    kappa: float = 0.1
    """Family F: the expert's error rate."""

    def compute(self) -> float:
        if self.example not in ("trap", "F"):
            raise UserError("example", self.example, "trap or F")
        if self.student not in (0, 1):
            raise UserError("student", self.student, "0 or 1")
        b = Trap().bandit() if self.example == "trap" else self._family_f()
        parts = split_bandit(b)
        promise = guarantee(float(parts.value_expert), float(parts.delta))
        pi = b.students[self.student]
        values = {
            "L": parts.reverse[self.student],
            "F": parts.forward[self.student],
            "R": parts.relevant[self.student],
            "N": parts.nuisance[self.student],
            "V": parts.value[self.student],
            "delta": parts.delta,
            "guarantee": promise.kl_inverse,
            "pinsker": promise.pinsker,
            "online": parts.value[int(parts.online())],
            "offline": parts.value[int(parts.offline())],
            "tv": 0.5 * np.abs(pi - b.expert).sum(-1) @ b.mu,
            "coverage": np.where(pi > 0, pi**2 / np.where(pi > 0, b.expert, 1.0), 0.0).sum(-1) @ b.mu,
        }
        return float(pick(values, self.what, "what"))

    def _family_f(self) -> Bandit:
        family, theta = FamilyF(1, self.eps, self.kappa), np.zeros(1, dtype=np.int64)
        students = np.stack([family.student(theta), family.student(1 - theta)])
        return Bandit(family.law, family.expert(theta), students, family.reward(theta))


@dataclass(frozen=True)
class MlePick:
    """P(the MLE on n offline samples takes the bad student) in Example T."""

    source: ClassVar[str] = "Example T"

    n: int = 1
    """Rounds of data."""

    def compute(self) -> float:
        bandit.check_rounds(self.n)
        return Trap().mle_picks_second(self.n)


@dataclass(frozen=True)
class Figure3:
    """Quantities of Figure 3's two Gaussian classes."""

    source: ClassVar[str] = "section 3, Figure 3"

    cls: str = "A"
    """A (mean_x = 0) or B (mean_y = mean_x)."""
    what: str = "V"
    """At --t: V, L, R, N, natural-step, raw-covariance. Of the class: delta, minimiser, least-nuisance,
    guarantee."""
    t: float | None = None
    """Parameter of the student. Default: the reverse-KL projection."""
    phi: str = "r"
    """Statistic of the split: r or y."""

    def compute(self) -> float:
        if self.phi not in ("r", "y"):
            raise UserError("phi", self.phi, "r or y")
        fig = Fig3(self.cls)  # type: ignore[arg-type]
        t, phi = fig.minimiser if self.t is None else self.t, self.phi
        values = {
            "V": lambda: fig.value(t),
            "L": lambda: fig.reverse_kl(t),
            "R": lambda: fig.relevant(t, phi),  # type: ignore[arg-type]
            "N": lambda: fig.nuisance(t, phi),  # type: ignore[arg-type]
            "natural-step": lambda: fig.natural_step(t),
            "raw-covariance": lambda: fig.raw_covariance(t),
            "delta": lambda: fig.delta(phi),  # type: ignore[arg-type]
            "minimiser": lambda: fig.minimiser,
            "least-nuisance": lambda: fig.least_nuisance(phi)[0],  # type: ignore[arg-type]
            "guarantee": lambda: kl_inv_lower(fig.value(2.0), fig.delta(phi)),  # type: ignore[arg-type]
        }
        return pick(values, self.what, "what")()


@dataclass(frozen=True)
class Tilt:
    """Where online imitation ends in a tilt-closed class, or that class's Delta."""

    source: ClassVar[str] = "Theorem 3C"

    value: float = 0.9
    """The expert's success rate v_e."""
    d1: float = 0.0
    """D1 = KL of the conditionals given reward 1, nats."""
    d0: float = 0.0
    """D0, given reward 0."""
    what: str = "value"
    """value or delta."""

    def compute(self) -> float:
        probability("value", self.value)
        if min(self.d1, self.d0) < 0:
            raise UserError("d1, d0", min(self.d1, self.d0), "divergences are at least 0")
        if self.what == "delta":
            return tilt_delta(self.value, self.d1, self.d0)
        return pick({"value": tilt_value}, self.what, "what")(self.value, self.d1 - self.d0)


@dataclass(frozen=True)
class Kl:
    """kl(a || b) of two coins, in nats."""

    source: ClassVar[str] = "section 0"

    a: float = 0.5
    """First coin."""
    b: float = 0.9
    """Second coin."""

    def compute(self) -> float:
        probability("a", self.a)
        probability("b", self.b)
        return float(bernoulli_kl(self.a, self.b))


@dataclass(frozen=True)
class KlInverse:
    """min (or max) of v with kl(v || value) <= budget: the guarantee of Theorem 3A."""

    source: ClassVar[str] = "Theorem 3A"

    value: float = 0.9
    """The expert's value V_e."""
    budget: float = 0.05
    """Delta + t, in nats."""
    side: str = "lower"
    """lower or upper."""

    def compute(self) -> float:
        probability("value", self.value)
        if self.budget < 0:
            raise UserError("budget", self.budget, "nats, at least 0")
        return pick({"lower": kl_inv_lower, "upper": kl_inv_upper}, self.side, "side")(self.value, self.budget)
