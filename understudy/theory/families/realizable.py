"""The realizable case (docs/theory.md, section 1): rates for finite classes of size K, two families with exact regrets,
and random classes over token sequences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from understudy.errors import UserError
from understudy.theory.families.bandit import check_rounds, miss
from understudy.theory.information import Info
from understudy.theory.scalars import Array, binomial_mean, logistic, vote_error

ONLINE_RATIO_LIMIT = 2 * math.e * math.log(2)  # 3.768...: Theorem 1c with 1a, as K and n grow


def mle_hellinger_bound(k: int, n: int, delta: float) -> float:
    """Theorem 1a: with probability 1 - delta, D2(MLE, e) <= 2 log(K / delta) / n, for every horizon."""
    return 2 * math.log(k / delta) / n


def mle_hellinger_mean_bound(k: int, n: int) -> float:
    """Theorem 1a: E D2(MLE, e) <= 2 (log K + 1) / n."""
    return 2 * (math.log(k) + 1) / n


def deterministic_mean_bound(k: int, n: int) -> float:
    """Theorem 1a, deterministic class: E[V_e - V(MLE)] <= (log K + 1) / n."""
    return (math.log(k) + 1) / n


def score_bound(k: int, n: int, delta: float) -> float:
    """Theorem 1b (OFF-G): with probability 1 - delta every consistent policy is within TV log(K / delta) / n."""
    return math.log(k / delta) / n


def online_ratio(k: int, n: int) -> float:
    """Best proved offline sup-regret (1a) over the online lower bound (1c), deterministic realizable classes."""
    return deterministic_mean_bound(k, n) / ((math.log2(k) - 1) / (2 * math.e * (n + 1)))


@dataclass(frozen=True)
class Unvisited:
    """Theorem 1c's family: l - 1 rare contexts of mass zeta hide one bit each; the expert always plays it.

    Every information model with i.i.d. prompts has the same exact Bayes regret, (zeta/2)(l-1)(1-zeta)^n: only a visit
    helps, and one visit shows the bit.
    """

    l: int = 8
    zeta: float = 1 / 65

    def __post_init__(self) -> None:
        if self.l < 2:
            raise UserError("l", self.l, "at least two contexts: one of them is known")
        if not 0 < self.zeta <= 1 / (self.l - 1):
            raise UserError("zeta", self.zeta, f"a mass in (0, 1/(l-1)] = (0, {1 / (self.l - 1):.6g}]")

    def regret(self, info: Info, n: int) -> float:
        check_rounds(n)
        if info is Info.ON_G_STAR:
            return self.zeta / 2 * max(0, self.l - 1 - n)
        return self.zeta / 2 * (self.l - 1) * miss(self.zeta, n)


def unvisited_lower_bound(l: int, n: int) -> float:
    """Theorem 1c at zeta = 1/(n+1): regret >= (l - 1) / (2 e (n + 1))."""
    return (l - 1) / (2 * math.e * (n + 1))


@dataclass(frozen=True)
class StochasticRealizable:
    """Family R-stoch: e(theta_i|i) = 1/2 + g, students of the same form, so e is in the class. Gap 2 g.

    ON-G beats OFF-S by more than a constant here, but OFF-G equals ON-G: the score helps, not the interaction.
    """

    l: int = 8
    g: float = 0.1

    def __post_init__(self) -> None:
        if self.l < 1:
            raise UserError("l", self.l, "at least one context")
        if not 0 < self.g <= 0.5:
            raise UserError("g", self.g, "a margin in (0, 1/2]")

    def regret(self, info: Info, n: int) -> float:
        """Exact Bayes regret over learners that mix students context by context."""
        check_rounds(n)
        if info is Info.OFF_S:
            return 2 * self.g * binomial_mean(n, 1 / self.l, lambda m: vote_error(m, 0.5 - self.g))
        if info is Info.ON_G_STAR:
            return self.g * max(0, self.l - n) / self.l
        return self.g * miss(1 / self.l, n)

    def expert(self, theta: Array) -> Array:
        """(l, 2) e(y|x)."""
        table = np.full((self.l, 2), 0.5 - self.g)
        table[np.arange(self.l), theta.astype(int)] = 0.5 + self.g
        return table


@dataclass(frozen=True)
class TokenClass:
    """K random policies over sequences of H binary tokens at X contexts; the expert is policy 0 (realizable)."""

    policies: Array  # (K, X, 2^H) sequence probabilities
    mu: Array  # (X,)

    @classmethod
    def random(cls, k: int, horizon: int, contexts: int, rng: np.random.Generator) -> TokenClass:
        """Autoregressive: a coin at every prefix, uniform mu. Policy j is the expert with its coins' logits jittered by
        s_j / sqrt(H), s_j log-uniform on [.05, 1.5]: a whole sequence moves about as much for every H.
        """
        table = np.ones((k, contexts, 1))
        scale = np.exp(rng.uniform(np.log(0.05), np.log(1.5), (k, 1, 1))) / math.sqrt(horizon)
        scale[0] = 0.0
        for t in range(horizon):
            logits = rng.normal(0, 1, (contexts, 2**t)) + scale * rng.normal(0, 1, (k, contexts, 2**t))
            coin = logistic(logits)
            table = np.stack([table * coin, table * (1 - coin)], -1).reshape(k, contexts, 2 ** (t + 1))
        return cls(table, np.full(contexts, 1 / contexts))

    def hellinger2(self) -> Array:
        """(K,) D2 of every policy to the expert."""
        return ((np.sqrt(self.policies) - np.sqrt(self.policies[0])) ** 2).sum(-1) @ self.mu

    def sample_mle(self, n: int, runs: int, rng: np.random.Generator) -> Array:
        """(runs,) index of the MLE on n OFF-S samples, ties to the lowest index that is not the expert's."""
        k, contexts, sequences = self.policies.shape
        joint = (self.mu[:, None] * self.policies[0]).ravel()
        counts = rng.multinomial(n, joint / joint.sum(), size=runs)
        likelihood = counts @ np.log(self.policies.reshape(k, contexts * sequences)).T
        return np.asarray(likelihood[:, ::-1].argmax(1) * -1 + k - 1)
