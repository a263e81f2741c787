"""Students that cannot see what the expert sees (docs/theory.md, section 8): SFT aims at the arithmetic mean of the
expert's answers over what is hidden, online imitation at their geometric mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from understudy.errors import UserError
from understudy.theory.families.instance import Bandit
from understudy.theory.scalars import Array


def arithmetic(mu: Array, expert: Array) -> Array:
    """A = E_u e(.|u), (X,), (X, Y) -> (Y,): E_u KL(e(.|u) || pi) = KL(A || pi) + a constant, so SFT ends here."""
    return np.asarray(mu @ expert)


def geometric(mu: Array, expert: Array) -> tuple[Array, float]:
    """(G, -log Z) with G = exp E_u log e(.|u) / Z: E_u KL(pi || e(.|u)) = KL(pi || G) - log Z, so L is least at G.

    The expert must be positive everywhere: an action that it rules out for one u has G = 0.
    """
    logs = mu @ np.log(expert)
    top = logs.max()
    mass = np.exp(logs - top)
    return np.asarray(mass / mass.sum()), -float(top + np.log(mass.sum()))


@dataclass(frozen=True)
class Hidden:
    """Example H: a fact u, uniform on m values, that only the expert sees; one policy for all u.

    Actions: plain-right, plain-wrong, then right and wrong in style z = 0..m-1. The expert is plain with probability
    eps, in style u otherwise, and right with probability 1 - kappa; in each other style it is with probability delta,
    and right there with probability rho. `lenient`: right in any style counts; otherwise only plain and in style u.
    """

    m: int = 8
    eps: float = 1e-3
    delta: float = 1e-6
    kappa: float = 0.02
    rho: float = 0.02
    lenient: bool = False

    def __post_init__(self) -> None:
        if self.m < 2:
            raise UserError("m", self.m, "at least two hidden values")
        for name in ("eps", "delta", "kappa", "rho"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(name, getattr(self, name), "a probability strictly between 0 and 1")
        if self.own <= 0:
            raise UserError("delta", self.delta, "eps + (m - 1) delta must be below 1")

    @property
    def own(self) -> float:
        """Mass of the expert's own style."""
        return 1 - self.eps - (self.m - 1) * self.delta

    @property
    def mu(self) -> Array:
        return np.full(self.m, 1 / self.m)

    @property
    def expert(self) -> Array:
        """(m, 2 + 2m) e(y|u)."""
        good, other = np.array([1 - self.kappa, self.kappa]), self.delta * np.array([self.rho, 1 - self.rho])
        styled = np.tile(other, (self.m, self.m, 1))
        styled[np.arange(self.m), np.arange(self.m)] = self.own * good
        return np.concatenate([np.tile(self.eps * good, (self.m, 1)), styled.reshape(self.m, -1)], 1)

    @property
    def reward(self) -> Array:
        """(m, 2 + 2m)"""
        counts = np.ones((self.m, self.m)) if self.lenient else np.eye(self.m)
        styled = np.stack([counts, np.zeros_like(counts)], -1).reshape(self.m, -1)
        return np.concatenate([np.tile([1.0, 0.0], (self.m, 1)), styled], 1)

    @property
    def mixed(self) -> Array:
        """(2, m, 2 + 2m) the guess (a style at random) and the plain answer, each right with probability 1 - kappa."""
        good = np.array([1 - self.kappa, self.kappa])
        plain, guess = np.zeros(2 + 2 * self.m), np.zeros(2 + 2 * self.m)
        plain[:2], guess[2:] = good, np.tile(good / self.m, self.m)
        return np.tile(np.stack([guess, plain])[:, None], (1, self.m, 1))

    def bandit(self) -> Bandit:
        """Contexts are the hidden values, students the guess and the plain answer."""
        return Bandit(self.mu, self.expert, self.mixed, self.reward, name="hidden")

    def value(self, policy: Array) -> float:
        """V of one policy (Y,) for all u."""
        return float((self.reward @ policy) @ self.mu)
