"""Example T (docs/theory.md, `trap`): mass covering costs SFT .68 with unlimited data. Specific to SFT.

Actions are (c, s), a reward bit and a style bit, r = c. The expert is right with probability 1 - rho and almost always
in its own style s = 1 (probability 1 - eps). Student 1 is as good but can hardly imitate the style; student 2 imitates
it far more often but is right only with probability v2. SFT (forward KL) takes student 2 because of the style.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from understudy.errors import UserError
from understudy.theory.families.instance import Bandit
from understudy.theory.scalars import Array


@dataclass(frozen=True)
class Trap:
    """e = Bern(1-rho) x Bern(1-eps); pi_1 = Bern(1-rho) x Bern(t1); pi_2 = Bern(v2) x Bern(t2)."""

    rho: float = 0.02
    eps: float = 0.05
    t1: float = 1e-9
    t2: float = 1e-3
    v2: float = 0.3

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < 1:
                raise UserError(name, value, "a probability strictly between 0 and 1")

    @property
    def value_expert(self) -> float:
        return 1 - self.rho

    def bandit(self) -> Bandit:
        """One context, actions (c, s) = 00, 01, 10, 11, students (pi_1, pi_2)."""
        students = np.stack([_product(1 - self.rho, self.t1), _product(self.v2, self.t2)])[:, None]
        expert = _product(1 - self.rho, 1 - self.eps)[None]
        return Bandit(np.ones(1), expert, students, reward=np.array([[0.0, 0.0, 1.0, 1.0]]))

    def mle_picks_second(self, n: int) -> float:
        """P(the MLE on n OFF-S samples is student 2), exactly; a tie counts one half."""
        # log ratio of pi_2 to pi_1; over n samples it is additive over the two independent bits
        ratio = np.log(_product(self.v2, self.t2)) - np.log(_product(1 - self.rho, self.t1))
        count = np.arange(n + 1)
        total = n * ratio[0] + (count * (ratio[2] - ratio[0]))[:, None] + count * (ratio[1] - ratio[0])
        weight = np.outer(binom.pmf(count, n, 1 - self.rho), binom.pmf(count, n, 1 - self.eps))
        tie = np.abs(total) < 1e-9
        return float((weight * np.where(tie, 0.5, total > 0)).sum())


def _product(c: float, s: float) -> Array:
    return np.outer([1 - c, c], [1 - s, s]).ravel()
