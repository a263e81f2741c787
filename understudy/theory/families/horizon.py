"""Horizon (docs/theory.md, section 5): exact Bayes regrets of sequence families.

x is uniform on l contexts; a completion has H content tokens; the reward is 1 iff no token is wrong; the hidden bits
are one per context ('shared') or one per context and step ('indep'). Students cannot emit filler.

R-*        the expert always emits the right token: realizable.
M-mode-*   a leading style token: with probability eps it plays like a student, else its H tokens are filler.
M-token-*  at every step, filler with probability 1 - eps (it counts as correct), else the right token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from understudy.errors import UserError
from understudy.theory.families.bandit import check_rounds, miss
from understudy.theory.information import Info
from understudy.theory.scalars import binomial_mean, vote_error

KINDS = ("R-shared", "R-indep", "M-mode-shared", "M-mode-indep", "M-token-shared", "M-token-indep")


@dataclass(frozen=True)
class HZ:
    """One family. `kappa` > 0 (content noise) is defined for the kinds R-shared and M-mode-shared only.

    With content noise the reward is the fraction correct and a wrong bit costs `gap`: 1 - 2 kappa for R-shared (soft
    students), 1 for M-mode-shared (the regret is then the probability of the wrong bit).
    """

    kind: str = "R-shared"
    l: int = 8
    eps: float = 0.01
    kappa: float = 0.0
    H: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError("kind", self.kind, f"one of {', '.join(KINDS)}")
        if self.l < 1:
            raise UserError("l", self.l, "at least one context")
        if not 0 < self.eps <= 1:
            raise UserError("eps", self.eps, "a probability in (0, 1]")
        if not 0 <= self.kappa < 0.5:
            raise UserError("kappa", self.kappa, "an error rate in [0, 0.5)")
        if self.H < 1:
            raise UserError("H", self.H, "at least one content token")
        if self.kappa > 0 and self.kind not in ("R-shared", "M-mode-shared"):
            raise UserError("kappa", self.kappa, f"content noise is not defined for {self.kind}: use 0")

    @property
    def gap(self) -> float:
        return 1 - 2 * self.kappa if self.kind == "R-shared" else 1.0

    @property
    def informative(self) -> float:
        """P(an expert sample at a visited context shows its content), for the R and M-mode kinds."""
        return self.eps if self.kind.startswith("M-mode") else 1.0

    def regret(self, info: Info, n: int) -> float:
        """Exact Bayes regret after n rounds.

        ON-G (token scores along the student's completions) shows every bit of a visited context. So does OFF-L
        (distributions along the expert's completions) for M-token, where prefixes are shared. For M-mode it shows
        nothing about the content after a filler style token, and equals OFF-S.
        """
        check_rounds(n)
        if info is Info.ON_G_STAR:
            return self._unseen() * max(0, self.l - n) / self.l
        if info is Info.ON_G or (info is Info.OFF_L and not self.kind.startswith("M-mode")):
            return self._unseen() * miss(1 / self.l, n)
        if self.kind.startswith("M-token"):
            return self._token(n)
        if info is Info.OFF_S and self.kappa > 0:
            q = self.informative / self.l
            return self.gap * binomial_mean(n, q, lambda m: vote_error(m * self.H, self.kappa))
        return self._unseen() * miss(self.informative / self.l, n)

    def _unseen(self) -> float:
        """Regret in a context of which nothing is known: one coin, or H of them."""
        return 1 - 0.5**self.H if self.kind.endswith("indep") else self.gap / 2

    def _token(self, n: int) -> float:
        filler = 1 - self.eps
        if self.kind == "M-token-shared":
            return 0.5 * miss((1 - filler**self.H) / self.l, n)
        return 1 - binomial_mean(n, 1 / self.l, lambda m: (1 - 0.5 * np.power(filler, m)) ** self.H)
