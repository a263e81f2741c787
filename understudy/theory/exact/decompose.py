"""Misspecification relative to the reward (docs/theory.md, section 3): the split L = R + N, Delta, Theorems 3A to 3C.

L(pi) = KL(pi || e) is the loss of online imitation, F(pi) = KL(e || pi) that of SFT. A statistic phi of the action that
determines the reward splits L into R (what the reward depends on) and N (nuisance). Delta = inf L - inf N.

Arrays: mu (..., X), students (..., K, X, Y), expert, reward (..., X, Y); leading dimensions are batches of instances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from understudy.theory.families.instance import Bandit
from understudy.theory.production import kl_expert_student, kl_student_expert
from understudy.theory.scalars import Array, kl_inv_lower, logistic, logit, pinsker_lower


@dataclass(frozen=True)
class Split:
    """Per student (..., K), in nats: L = R + N, SFT's F, the value V; and V_e (...)."""

    reverse: Array  # L = KL(student || expert)
    relevant: Array  # R
    nuisance: Array  # N
    forward: Array  # F = KL(expert || student)
    value: Array  # V
    value_expert: Array

    @property
    def eligible_nuisance(self) -> Array:
        """N of the students that online imitation could pick: infinite where L is.

        Where the expert rules out a whole reward level, N is a condition on an impossible event, so not defined.
        """
        return np.where(np.isfinite(self.reverse), self.nuisance, np.inf)

    @property
    def delta(self) -> Array:
        """Delta_phi = inf L - inf N over the class (>= 0); infinite if no student has finite L.

        inf N is over students of finite L: 3A's proof needs it only there, and Delta can only get smaller.
        """
        best, floor = self.reverse.min(-1), self.eligible_nuisance.min(-1)
        finite = np.isfinite(best)  # then floor <= best is finite too
        return np.where(finite, np.maximum(np.where(finite, best, 0) - np.where(finite, floor, 0), 0.0), np.inf)

    def online(self) -> NDArray[np.int64]:
        """Index of the reverse-KL minimiser: what online imitation picks with unlimited data."""
        return self.reverse.argmin(-1)

    def offline(self) -> NDArray[np.int64]:
        """Index of the forward-KL minimiser: what SFT picks with unlimited data (the first if all are infinite)."""
        return self.forward.argmin(-1)


def split(mu: Array, students: Array, expert: Array, reward: Array, phi: NDArray[np.int64] | None = None) -> Split:
    """The chain rule of section 3. `phi` (..., X, Y) are integer labels that determine the reward.

    By default phi = r, per context (one label per distinct reward value). R and N are each computed from the
    definition, so that L = R + N is a check.
    """
    if phi is None:
        phi = _levels(reward)
    expert_K = expert[..., None, :, :]
    masses, nuisance = [], np.zeros(students.shape[:-1])
    for z in range(int(phi.max()) + 1):
        member = (phi == z)[..., None, :, :]
        student_z, expert_z = ((students * member).sum(-1), (expert_K * member).sum(-1))  # (..., K, X), (..., 1, X)
        masses.append((student_z, np.broadcast_to(expert_z, student_z.shape)))
        within = kl_student_expert(_condition(students, member, student_z), _condition(expert_K, member, expert_z))
        reached = (student_z > 0) & (expert_z > 0)  # where the expert never goes, R is infinite already
        nuisance += np.where(reached, student_z * np.where(reached, within, 0.0), 0.0)
    relevant = kl_student_expert(*(np.stack(sides, -1) for sides in zip(*masses)))
    weight = mu[..., None, :]
    return Split(
        reverse=_mean(weight, kl_student_expert(students, expert_K)),
        relevant=_mean(weight, relevant),
        nuisance=_mean(weight, nuisance),
        forward=_mean(weight, kl_expert_student(students, expert_K)),
        value=(weight * (students * reward[..., None, :, :]).sum(-1)).sum(-1),
        value_expert=(mu * (expert * reward).sum(-1)).sum(-1),
    )


def split_bandit(bandit: Bandit, phi: NDArray[np.int64] | None = None) -> Split:
    return split(bandit.mu, bandit.students, bandit.expert, bandit.reward, phi)


def _levels(reward: Array) -> NDArray[np.int64]:
    """0, 1, ... for the distinct values of each row, in increasing order; (..., Y) -> (..., Y)."""
    order = np.argsort(reward, -1, kind="stable")
    ordered = np.take_along_axis(reward, order, -1)
    rank = np.concatenate([np.zeros_like(order[..., :1]), np.cumsum(np.diff(ordered, axis=-1) > 0, -1)], -1)
    out = np.empty_like(order)
    np.put_along_axis(out, order, rank, -1)
    return out


def _condition(p: Array, member: NDArray[np.bool_], mass: Array) -> Array:
    """p(. | x, z), uniform where z is never reached (it then carries no weight)."""
    uniform = member / np.maximum(member.sum(-1, keepdims=True), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(mass[..., None] > 0, p * member / mass[..., None], uniform)


def _mean(weight: Array, per_context: Array) -> Array:
    """E_x with 0 * inf = 0: a context of probability zero never happens."""
    return np.where(weight > 0, weight * np.where(weight > 0, per_context, 0.0), 0.0).sum(-1)


# --- Theorem 3A --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Guarantee:
    """What Theorem 3A promises an online learner whose L is within t of the best."""

    delta: float
    excess: float
    kl_inverse: float  # V >= min{v : kl(v || V_e) <= delta + t}
    pinsker: float  # V >= V_e - sqrt((delta + t) / 2)


def guarantee(value_expert: float, delta: float, excess: float = 0.0) -> Guarantee:
    budget = delta + excess
    return Guarantee(delta, excess, kl_inv_lower(value_expert, budget), pinsker_lower(value_expert, budget))


# --- Theorem 3B and 3C -------------------------------------------------------------------------------------


def conditional_divergence(policy: Array, expert: Array, reward: Array, level: int) -> Array:
    """D_k = KL(pi(.|r = k) || e(.|r = k)) per context, (..., Y) -> (...); binary reward, both sides positive."""
    member = reward == level
    p, e = policy * member, expert * member
    return kl_student_expert(p / p.sum(-1, keepdims=True), e / e.sum(-1, keepdims=True))


def score_reward_covariance(policy: Array, expert: Array, reward: Array) -> Array:
    """Cov_pi(r, A) per context with A = log e - log pi: dV/dt along the path of Theorem 3E (a)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        advantage = np.where(policy > 0, np.log(expert) - np.log(policy), 0.0)
    value = (policy * reward).sum(-1, keepdims=True)
    return (policy * (reward - value) * advantage).sum(-1)


def asymmetry_identity(policy: Array, expert: Array, reward: Array) -> Array:
    """The right-hand side of Theorem 3B: v(1-v) [logit v_e - logit v - (D_1 - D_0)], per context."""
    v, v_e = (policy * reward).sum(-1), (expert * reward).sum(-1)
    d1 = conditional_divergence(policy, expert, reward, 1)
    d0 = conditional_divergence(policy, expert, reward, 0)
    return v * (1 - v) * (logit(v_e) - logit(v) - (d1 - d0))


def tilt_value(value_expert: float, asymmetry: float) -> float:
    """Theorem 3C: where online imitation ends in a tilt-closed class, sigma(logit v_e - (D_1 - D_0))."""
    return float(logistic(logit(value_expert) - asymmetry))


def tilt_delta(value_expert: float, d1: float, d0: float) -> float:
    """Theorem 3C, one conditional pair: -log(v_e e^-D1 + (1 - v_e) e^-D0) - min(D1, D0)."""
    low = min(d1, d0)  # factored out: exact even when both are huge
    return float(-np.log(value_expert * np.exp(low - d1) + (1 - value_expert) * np.exp(low - d0)))
