"""Theorem 4 (docs/theory.md, section 4): online imitation from data of a fixed base policy, finite sample.

Data: n i.i.d. rounds of ON-G, (x, y ~ b(.|x), g = log e(y|x)). w = pi / b. A learner picks the student with the
smallest estimated L. OFF-G is the case b = e. Importance weights without a baseline ('raw ips') are a bad example.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from understudy.theory.exact.decompose import split_bandit
from understudy.theory.families.instance import Bandit
from understudy.theory.scalars import Array

ESTIMATORS = ("ips", "snips", "clipped", "pessimistic", "ix")
RAW = "raw ips"


@dataclass(frozen=True)
class Online:
    """One instance with its sampling base: what the learner may know (B, hi, coverage), and the truth."""

    bandit: Bandit

    @cached_property
    def base(self) -> Array:
        """(X, Y) b(y|x); actions that no student plays are irrelevant and may carry mass."""
        return self.bandit.sampling_base()

    @cached_property
    def weights(self) -> Array:
        """(K, X, Y) w = pi / b, zero where b never goes."""
        return np.where(self.base > 0, self.bandit.students / np.where(self.base > 0, self.base, 1.0), 0.0)

    @cached_property
    def log_ratio(self) -> Array:
        """(K, X, Y) log pi - log e where pi plays, else 0."""
        played = self.bandit.students > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(played, np.log(self.bandit.students) - np.log(self.bandit.expert), 0.0)

    @cached_property
    def _range(self) -> tuple[Array, Array]:
        """Smallest and largest log ratio per prompt over students and the actions they play, (X,) each."""
        played = self.bandit.students > 0
        low = np.where(played, self.log_ratio, np.inf).min((0, 2))
        return low, np.where(played, self.log_ratio, -np.inf).max((0, 2))

    @cached_property
    def baseline(self) -> Array:
        """(X,) c(x), minus the midrange: |log pi - g + c| <= B then has the least B."""
        low, high = self._range
        return -(low + high) / 2

    @cached_property
    def bound(self) -> float:
        """B."""
        low, high = self._range
        return float(((high - low) / 2).max())

    @cached_property
    def coverage(self) -> Array:
        """(K,) C_pi = E_pi[w] = 1 + chi2(pi || b)."""
        return (self.bandit.students * self.weights).sum(-1) @ self.bandit.mu

    @cached_property
    def worst_weight(self) -> float:
        """C = max over students of sup w (where a prompt can occur)."""
        return float(self.weights[:, self.bandit.mu > 0].max())

    @cached_property
    def loss(self) -> Array:
        """(K,) L(pi), by the production divergence."""
        return split_bandit(self.bandit).reverse

    @cached_property
    def centred_loss(self) -> Array:
        """(K,) L_c = L + E c, what Lhat estimates."""
        return self.loss + float(self.bandit.mu @ self.baseline)

    # --- Theorem 4a and 4b
    def bonus(self, n: int, delta: float) -> Array:
        """(K,) bon(pi) = B sqrt(2 C_pi lam / n) + 2 B C lam / (3 n), lam = log(2 K / delta). Theorem 4a."""
        lam = math.log(2 * len(self.loss) / delta)
        leading = self.bound * np.sqrt(2 * self.coverage * lam / n)
        return np.asarray(leading + 2 * self.bound * self.worst_weight * lam / (3 * n))

    # --- Theorem 4c
    def gamma(self, n: int, delta: float) -> float:
        return math.sqrt(math.log(2 * len(self.loss) / delta) / n)

    @cached_property
    def top(self) -> Array:
        """(X,) hi(x) = max over students and actions of log pi / e. The learner must know it (or a bound)."""
        return self._range[1]

    @cached_property
    def spread(self) -> float:
        """B': the within-prompt range of log pi / e, so that rho lies in [0, 1]."""
        low, high = self._range
        return float(max((high - low).max(), 1e-300))

    @cached_property
    def rho(self) -> Array:
        """(K, X, Y) rho = (hi - log pi / e) / B', zero where pi does not play."""
        rho = (self.top[:, None] - self.log_ratio) / self.spread
        return np.where(self.bandit.students > 0, rho, 0.0)

    def ix_bound(self, n: int, delta: float) -> float:
        """Theorem 4c: L(pi_hat) - L(pi0) <= B' [lam/(2 gamma n) + gamma C_g + sqrt(2 C_g log(2/delta)/n)].

        pi0 is the best student; C_g = E_pi0[w / (1 + gamma w)].
        """
        k = int(self.loss.argmin())
        gamma, lam = self.gamma(n, delta), math.log(2 * len(self.loss) / delta)
        w = self.weights[k]
        c_gamma = float(self.bandit.mu @ (self.bandit.students[k] * w / (1 + gamma * w)).sum(-1))
        tail = math.sqrt(2 * c_gamma * math.log(2 / delta) / n)
        return self.spread * (lam / (2 * gamma * n) + gamma * c_gamma + tail)

    # --- simulation
    def sample(self, n: int, runs: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """(runs, X, Y) counts of n rounds of (x ~ mu, y ~ b); the scores g are functions of (x, y)."""
        joint = (self.bandit.mu[:, None] * self.base).ravel()
        return rng.multinomial(n, joint / joint.sum(), runs).reshape(runs, *self.base.shape)

    def choose(self, counts: NDArray[np.int64], estimator: str, delta: float = 0.05) -> NDArray[np.int64]:
        """(runs,) the student each estimator picks from `counts` (runs, X, Y)."""
        estimates = self.estimates(counts, estimator, delta)
        return np.asarray(estimates.argmin(-1))

    def estimates(self, counts: NDArray[np.int64], estimator: str, delta: float = 0.05) -> Array:
        """(runs, K) what the estimator minimises: an estimate of L up to a shift common to all students."""
        n = int(counts[0].sum())
        w, centred = self.weights, self.log_ratio + self.baseline[:, None]
        if estimator == "ips":
            return _mean(counts, w * centred) / n
        if estimator == RAW:
            return _mean(counts, w * self.log_ratio) / n
        if estimator == "snips":  # shift-invariant: any baseline gives the same choice
            return _mean(counts, w * centred) / np.maximum(_mean(counts, w), 1e-300)
        if estimator == "clipped":
            return _mean(counts, np.minimum(w, math.sqrt(n)) * centred) / n
        if estimator == "pessimistic":
            return _mean(counts, w * centred) / n + self.bonus(n, delta)
        if estimator == "ix":
            return -_mean(counts, w / (1 + self.gamma(n, delta) * w) * self.rho) / n
        raise ValueError(f"unknown estimator {estimator!r}: one of {(*ESTIMATORS, RAW)}")

    def bounds(self, n: int, delta: float) -> Mapping[str, float]:
        """The certified excess of L over inf L, for the estimators that have one.

        4a: L(argmin Lhat) <= inf L + 2 max bon. 4b: L(argmin Lhat + bon) <= min over pi of [L + 2 bon].
        """
        bonus = self.bonus(n, delta)
        pessimistic = float((self.loss + 2 * bonus).min() - self.loss.min())
        return {"ips": 2 * float(bonus.max()), "pessimistic": pessimistic, "ix": self.ix_bound(n, delta)}


def _mean(counts: NDArray[np.int64], table: Array) -> Array:
    """sum over (x, y) of counts * table: (runs, X, Y), (K, X, Y) -> (runs, K)."""
    return counts.reshape(len(counts), -1).astype(float) @ table.reshape(len(table), -1).T


def random_instance(
    rng: np.random.Generator, contexts: int = 3, playable: int = 5, reserved: int = 2, k: int = 64
) -> Bandit:
    """Section 4's simulation: `reserved` actions only the expert plays (mass about .99), K students on the rest."""
    within = 0.9 * rng.dirichlet(np.ones(playable), contexts) + 0.1 / playable
    style = rng.dirichlet(np.ones(reserved), contexts)
    mass = rng.uniform(0.005, 0.02, (contexts, 1))
    expert = np.concatenate([within * mass, style * (1 - mass)], -1)
    students = np.zeros((k, contexts, playable + reserved))
    students[..., :playable] = rng.dirichlet(np.ones(playable), (k, contexts))
    reward = np.zeros((contexts, playable + reserved))
    reward[:, 0] = 1
    reward[np.arange(contexts), within.argmax(-1)] = 1
    reward[:, -1] = 1
    base = np.zeros((contexts, playable + reserved))
    base[:, :playable] = 1 / playable
    return Bandit(rng.dirichlet(np.full(contexts, 5.0)), expert, students, reward, base, name="random")
