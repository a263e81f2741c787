"""Random instances for the search (docs/theory.md, section 6): one kind without structure, three with a planted style.

Every generator returns a batch: mu (M, X), students (M, K, X, Y), expert (M, X, Y), binary reward (M, X, Y).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from understudy.theory.families.instance import Bandit
from understudy.theory.scalars import Array

STYLES = 3


@dataclass(frozen=True)
class Instances:
    mu: Array
    students: Array
    expert: Array
    reward: Array

    def __len__(self) -> int:
        return len(self.mu)

    def bandit(self, i: int, name: str = "instance") -> Bandit:
        return Bandit(self.mu[i], self.expert[i], self.students[i], self.reward[i], name=name)


def generic(m: int, rng: np.random.Generator, x: int = 2, y: int = 6, k: int = 8) -> Instances:
    """No structure: Dirichlet(1/2) policies mixed with 1e-4, fair-coin rewards (not all equal in a context)."""

    def policies(*shape: int) -> Array:
        p = rng.dirichlet(np.full(y, 0.5), shape) + 1e-4
        return np.asarray(p / p.sum(-1, keepdims=True))

    reward = rng.integers(0, 2, (m, x, y)).astype(float)
    reward[..., 0], reward[..., 1] = 1.0, 0.0
    return Instances(np.full((m, x), 1 / x), policies(m, k, x), policies(m, x), reward)


def planted_tau(m: int, rng: np.random.Generator, x: int = 2, k: int = 8) -> Instances:
    """The expert's reward bit and style are independent; students differ in how much of its style they can imitate.

    Style 0 has expert mass 1 - eps, eps ~ 10^U(-3, -.5); student k gives it tau_k ~ 10^U(-9, -1.5). v_e ~ U(.6, .99);
    student 0 has a reward rate near v_e, the others U(.05, .95).
    """
    return _planted(m, rng, x, k, 10 ** rng.uniform(-9, -1.5, (m, k, 1)), jitter=0.0)


def planted_const(m: int, rng: np.random.Generator, x: int = 2, k: int = 8) -> Instances:
    """planted-tau with tau_k = 1e-3 for all: no student can imitate more style than another."""
    return _planted(m, rng, x, k, np.full((m, k, 1), 1e-3), jitter=0.0)


def planted_noisy(m: int, rng: np.random.Generator, x: int = 2, k: int = 8) -> Instances:
    """planted-const with the playable styles' shares jittered per student, context and reward bit."""
    return _planted(m, rng, x, k, np.full((m, k, 1), 1e-3), jitter=0.3)


def _planted(m: int, rng: np.random.Generator, x: int, k: int, tau_MK1: Array, jitter: float) -> Instances:
    eps = 10 ** rng.uniform(-3, -0.5, (m, x))
    v_e = rng.uniform(0.6, 0.99, (m, x))
    rest = rng.dirichlet(np.ones(STYLES - 1), (m, x))  # the two playable styles, as the expert mixes them
    style_e = np.concatenate([1 - eps[..., None], eps[..., None] * rest], -1)
    expert = _product(v_e, style_e[..., None, :])
    v = rng.uniform(0.05, 0.95, (m, k, x))
    v[:, 0] = np.clip(v_e + rng.normal(0, 0.01, (m, x)), 0.01, 0.995)
    tau = np.broadcast_to(tau_MK1[..., None], (m, k, x, 2))
    playable = np.broadcast_to(rest[:, None, :, None, :], (m, k, x, 2, STYLES - 1))
    if jitter:
        playable = playable * np.exp(rng.normal(0, jitter, playable.shape))
        playable = playable / playable.sum(-1, keepdims=True)
    style = np.concatenate([tau[..., None], (1 - tau[..., None]) * playable], -1)
    reward = np.broadcast_to(np.repeat([0.0, 1.0], STYLES), (m, x, 2 * STYLES)).copy()
    return Instances(np.full((m, x), 1 / x), _product(v, style), expert, reward)


def _product(v: Array, style: Array) -> Array:
    """(..., X) reward rates and (..., X, 2 or 1, S) styles given the bit -> (..., X, 2 S) action probabilities."""
    bit = np.stack([1 - v, v], -1)[..., None]
    joint = bit * style
    return np.asarray(joint.reshape(*joint.shape[:-2], -1))


GENERATORS: dict[str, Callable[[int, np.random.Generator], Instances]] = {
    "generic": generic,
    "planted-tau": planted_tau,
    "planted-noisy": planted_noisy,
    "planted-const": planted_const,
}
