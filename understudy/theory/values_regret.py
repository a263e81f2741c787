"""Closed forms of regrets and bounds (sections 0, 1, 2 and 5) for `understudy theory value`.

A quantity is a frozen dataclass: its fields are the options (the string under a field is its help),
`source` names the statement, `compute()` returns the number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from understudy.errors import UserError
from understudy.theory.families import bandit, learners, realizable
from understudy.theory.families.bandit import FamilyF
from understudy.theory.families.gaussian import Bottleneck
from understudy.theory.families.horizon import HZ, KINDS
from understudy.theory.families.information import parse_info
from understudy.theory.families.realizable import StochasticRealizable, Unvisited
from understudy.theory.scalars import vote_error

FAMILIES: dict[str, tuple[str, ...]] = {
    "F": ("l", "eps", "kappa", "students", "coverage"),
    "R-stoch": ("l", "g"),
    "unvisited": ("l", "zeta"),
    "rate": ("l", "eps", "kappa"),
    "truncated": ("l", "eps", "kappa", "students"),
    "gaussian": ("M",),
} | dict.fromkeys(KINDS, ("l", "eps", "kappa", "H"))
_DEFAULTS: dict[str, Any] = {
    "l": 8, "eps": 0.01, "kappa": 0.0, "students": "D", "coverage": 1.0,
    "g": 0.1, "zeta": None, "M": 4.0, "H": 1,
}  # fmt: skip
LEARNERS = {
    "ON-G-MIDRANGE": learners.midrange_regret,
    "ON-G-GROUP": learners.group_centred_regret,
    "ON-G-RAW": learners.raw_ips_regret,
}


def pick(table: dict[str, Any], name: str, field: str) -> Any:
    """table[name], or a UserError that lists the names."""
    if name not in table:
        raise UserError(field, name, f"one of {', '.join(table)}")
    return table[name]


def probability(field: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UserError(field, value, "a probability in [0, 1]")


@dataclass(frozen=True)
class Regret:
    """Exact Bayes regret of a family after n rounds of an information model."""

    source: ClassVar[str] = "Theorems 1c, 2, C3, C4; sections 1, 2, 5"

    family: str = "F"
    """F, R-stoch, unvisited (1c), rate (C4), truncated (C3), gaussian, or a horizon kind (R-shared, ...)."""
    info: str = "OFF-S"
    """OFF-S, OFF-G, OFF-L, ON-G, ON-G*; family F: also the learners ON-G-midrange, ON-G-group, ON-G-raw."""
    n: int = 64
    """Rounds of data."""
    l: int | None = None  # noqa: E741
    """Contexts. Default: 8."""
    eps: float | None = None
    """Mass the expert puts on actions that students can play. Default: 0.01."""
    kappa: float | None = None
    """Expert's error rate there. Default: 0."""
    students: str | None = None
    """Family F: D (deterministic) or S (soft) students. Default: D."""
    coverage: float | None = None
    """Family F, ON-G: the base puts mass 1/coverage on playable actions. Default: 1."""
    g: float | None = None
    """R-stoch: the expert plays the right bit with probability 1/2 + g. Default: 0.1."""
    zeta: float | None = None
    """unvisited: mass of each rare context. Default: 1/(n + 1)."""
    M: float | None = None
    """gaussian: distance of the expert in standard deviations. Default: 4."""
    H: int | None = None
    """Horizon kinds: content tokens. Default: 1."""

    def compute(self) -> float:
        family = pick(FAMILIES, self.family, "family")
        given = [k for k in _DEFAULTS if getattr(self, k) is not None and k not in family]
        if given:
            raise UserError(given[0], getattr(self, given[0]), f"family {self.family} reads {', '.join(family)}")
        bandit.check_rounds(self.n)
        learner = LEARNERS.get(self.info.upper())
        if learner is not None:
            if self.family != "F":
                raise UserError("info", self.info, "a learner of family F; elsewhere name an information model")
            return learner(self._family_f(), self.n)
        info, n = parse_info(self.info, "info"), self.n
        if self.family == "F":
            return self._family_f().regret(info, n, self._get("coverage"))
        if self.family == "truncated":
            return bandit.truncated_decoding_regret(self._family_f(), info, n)
        if self.family == "rate":
            return bandit.rate_instance(self._get("l"), self._get("eps"), n, self._get("kappa")).regret(info, n)
        if self.family == "R-stoch":
            return StochasticRealizable(self._get("l"), self._get("g")).regret(info, n)
        if self.family == "unvisited":
            zeta = 1 / (n + 1) if self.zeta is None else self.zeta
            return Unvisited(self._get("l"), zeta).regret(info, n)
        if self.family == "gaussian":
            return Bottleneck(self._get("M")).regret(info, n)
        return HZ(self.family, *(self._get(k) for k in ("l", "eps", "kappa", "H"))).regret(info, n)

    def _get(self, name: str) -> Any:
        return _DEFAULTS[name] if getattr(self, name) is None else getattr(self, name)

    def _family_f(self) -> FamilyF:
        return FamilyF(self._get("l"), self._get("eps"), self._get("kappa"), self._get("students"))

    def resolved(self) -> dict[str, Any]:
        """The options that this family reads, with their defaults."""
        read = {k: self._get(k) for k in FAMILIES[self.family] if k != "zeta"}
        if self.family == "unvisited":
            read["zeta"] = 1 / (self.n + 1) if self.zeta is None else self.zeta
        return {"family": self.family, "info": self.info, "n": self.n} | read


@dataclass(frozen=True)
class Bound:
    """A proved bound of the realizable case, or of the rate and Gaussian families."""

    source: ClassVar[str] = "Theorems 1a, 1b, 1c, C4, Gaussian bottleneck"

    name: str = "mle-hellinger"
    """mle-hellinger, mle-hellinger-mean, deterministic-mean, scores, online-lower, online-ratio, rate-lower,
    gaussian-lower."""
    k: int = 256
    """Size of the class."""
    n: int = 64
    """Rounds of data."""
    delta: float = 0.05
    """Probability of failure."""
    eps: float = 0.01
    """rate-lower: playable mass."""
    M: float = 4.0
    """gaussian-lower: distance of the expert."""

    def compute(self) -> float:
        if self.k < 2 or self.n < 1 or not 0 < self.delta < 1:
            raise UserError("bound", f"k={self.k} n={self.n} delta={self.delta}", "needs k >= 2, n >= 1, 0 < delta < 1")
        bounds = {
            "mle-hellinger": lambda: realizable.mle_hellinger_bound(self.k, self.n, self.delta),
            "mle-hellinger-mean": lambda: realizable.mle_hellinger_mean_bound(self.k, self.n),
            "deterministic-mean": lambda: realizable.deterministic_mean_bound(self.k, self.n),
            "scores": lambda: realizable.score_bound(self.k, self.n, self.delta),
            "online-lower": lambda: realizable.unvisited_lower_bound(int(math.log2(self.k)), self.n),
            "online-ratio": lambda: realizable.online_ratio(self.k, self.n),
            "rate-lower": lambda: bandit.rate_lower_bound(int(math.log2(self.k)), self.eps, self.n),
            "gaussian-lower": lambda: Bottleneck(self.M).lower_bound(self.n),
        }
        return pick(bounds, self.name, "name")()


@dataclass(frozen=True)
class Samples:
    """Rounds for a regret in Family F (uniform contexts, kappa 0): OFF-S, or ON-G with --eps 1."""

    source: ClassVar[str] = "C1"

    regret: float = 0.05
    """Target regret, below 1/2."""
    l: int = 8  # noqa: E741
    """Contexts, at least 2."""
    eps: float = 0.01
    """Playable mass."""

    def compute(self) -> float:
        if not 0 < self.regret < 0.5:
            raise UserError("regret", self.regret, "strictly between 0 and 1/2")
        FamilyF(max(self.l, 2), self.eps)
        return bandit.samples_needed(self.regret, max(self.l, 2), self.eps)


@dataclass(frozen=True)
class LeCam:
    """Two-point lower bound on worst-world offline regret."""

    source: ClassVar[str] = "C5"

    separation: float = 1.0
    """s = min over the class of regret_0 + regret_1."""
    hellinger2: float = 0.01
    """D2(e0, e1), in [0, 2]."""
    n: int = 64
    """Rounds of data."""

    def compute(self) -> float:
        bandit.check_rounds(self.n)
        if not 0 <= self.hellinger2 <= 2:
            raise UserError("hellinger2", self.hellinger2, "lies in [0, 2]")
        return bandit.le_cam(self.separation, self.hellinger2, self.n)


@dataclass(frozen=True)
class PerfectRun:
    """P(one offline run gets every bit of Family F right): why single runs prove nothing."""

    source: ClassVar[str] = "section 6"

    n: int = 64
    """Rounds of data."""
    l: int = 8  # noqa: E741
    """Contexts."""
    eps: float = 0.01
    """Playable mass."""
    kappa: float = 0.1
    """Expert's error rate."""

    def compute(self) -> float:
        bandit.check_rounds(self.n)
        return learners.perfect_run(FamilyF(self.l, self.eps, self.kappa), self.n)


@dataclass(frozen=True)
class VoteError:
    """e_m(kappa): error of a majority of m votes, a tie by a fair coin."""

    source: ClassVar[str] = "section 0"

    m: int = 3
    """Votes."""
    kappa: float = 0.1
    """Error of one vote."""

    def compute(self) -> float:
        bandit.check_rounds(self.m)
        probability("kappa", self.kappa)
        return float(vote_error(self.m, self.kappa))
