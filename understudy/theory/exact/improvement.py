"""When moving toward the expert improves the reward: Theorems 3D and 3E, identity 3F (docs/theory.md, section 3).

Tables: mu (X,), policies, expert and reward (X, Y). A = log e - log pi is the expert's advantage in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from understudy.theory.production import kl_student_expert
from understudy.theory.scalars import Array, softmax


def value(mu: Array, policy: Array, reward: Array) -> float:
    return float(mu @ (policy * reward).sum(-1))


def reverse_kl(mu: Array, policy: Array, expert: Array) -> float:
    """KL(policy || expert), averaged over contexts, by the production divergence."""
    return float(mu @ kl_student_expert(policy, expert))


def expectation(mu: Array, policy: Array, f: Array) -> float:
    """E_{x, y ~ policy} f, with 0 * inf = 0."""
    return float(mu @ np.where(policy > 0, policy * np.where(policy > 0, f, 0.0), 0.0).sum(-1))


# --- Theorem 3D: the alignment decomposition -----------------------------------------------------


@dataclass(frozen=True)
class Alignment:
    """V(pi0) - V(pi1) = beta (entropy + imitation + misalignment) for log e = r/beta + log nu - a + xi (Theorem 3D)."""

    beta: float
    entropy: float  # KL(pi0 || nu) - KL(pi1 || nu)
    imitation: float  # L(pi1) - L(pi0)
    misalignment: float  # E_pi1 xi - E_pi0 xi

    @property
    def value_difference(self) -> float:
        return self.beta * (self.entropy + self.imitation + self.misalignment)


def alignment(
    mu: Array, policies: tuple[Array, Array], expert: Array, reward: Array, beta: float, reference: Array, offset: Array
) -> Alignment:
    """Theorem 3D's terms for pi0, pi1 = `policies`; `reference` nu (X, Y) positive, `offset` a(x) (X,) arbitrary.

    xi is the rest of log e by definition, so the identity holds for every beta, nu and a.
    """
    with np.errstate(divide="ignore"):
        xi = np.log(expert) - reward / beta - np.log(reference) + offset[:, None]
    first, second = policies
    return Alignment(
        beta=beta,
        entropy=reverse_kl(mu, first, reference) - reverse_kl(mu, second, reference),
        imitation=reverse_kl(mu, second, expert) - reverse_kl(mu, first, expert),
        misalignment=expectation(mu, second, xi) - expectation(mu, first, xi),
    )


# --- Theorem 3E: policy-gradient identities ------------------------------------------------------


def advantage(policy: Array, expert: Array) -> Array:
    """A = log e - log pi where the policy plays, 0 elsewhere."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(policy > 0, np.log(expert) - np.log(policy), 0.0)


def path(policy: Array, expert: Array, t: float) -> Array:
    """pi_t proportional to pi^(1-t) e^t on the support of pi; (..., Y) -> (..., Y). pi_1 = e(. | supp pi)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logits = np.where(policy > 0, (1 - t) * np.log(policy) + t * np.log(expert), -np.inf)
    return softmax(logits)


def covariance(policy: Array, f: Array, g: Array) -> Array:
    """Cov_policy(f, g) over the last axis."""
    f = f - (policy * f).sum(-1, keepdims=True)
    return np.asarray((policy * f * (g - (policy * g).sum(-1, keepdims=True))).sum(-1))


def path_derivatives(policy: Array, expert: Array, reward: Array, t: float) -> tuple[Array, Array]:
    """(dV/dt, d2V/dt2) per context along the path: Cov_t(r, A) and E_t[(r - V_t)(A - E_t A)^2], Theorem 3E (a)."""
    a, now = advantage(policy, expert), path(policy, expert, t)
    centred_r = reward - (now * reward).sum(-1, keepdims=True)
    centred_a = a - (now * a).sum(-1, keepdims=True)
    return covariance(now, reward, a), np.asarray((now * centred_r * centred_a**2).sum(-1))


def path_value_gain(policy: Array, expert: Array, reward: Array, nodes: int = 64) -> Array:
    """The integral of Cov_{pi_t}(r, A) over t in [0, 1] per context (Gauss-Legendre): V(e | supp pi) - V(pi)."""
    t, weight = np.polynomial.legendre.leggauss(nodes)
    total = np.zeros(policy.shape[:-1])
    for s, w in zip((t + 1) / 2, weight / 2):
        total += w * path_derivatives(policy, expert, reward, float(s))[0]
    return total


@dataclass(frozen=True)
class Softmax:
    """pi proportional to exp(features @ theta) in one context; features (Y, d), theta (d,)."""

    features: Array
    theta: Array

    @property
    def policy(self) -> Array:
        return softmax(self.features @ self.theta)

    @property
    def scores(self) -> Array:
        """s(y) = grad log pi(y), (Y, d)."""
        return np.asarray(self.features - self.policy @ self.features)

    def gradients(self, expert: Array, reward: Array) -> tuple[Array, Array]:
        """(grad V, -grad L) = (E[s r], E[s A]), each (d,): Theorem 3E (b)."""
        pi, s = self.policy, self.scores
        return s.T @ (pi * reward), s.T @ (pi * advantage(pi, expert))

    def natural_step(self, expert: Array, reward: Array) -> float:
        """dV per unit of natural-gradient descent on L: E[s r]^T Fisher^+ E[s A]."""
        grad_v, descent = self.gradients(expert, reward)
        fisher = self.scores.T @ (self.policy[:, None] * self.scores)
        return float(grad_v @ np.linalg.pinv(fisher, rcond=1e-12) @ descent)

    def vanilla_step(self, expert: Array, reward: Array) -> float:
        """dV per unit of plain gradient descent on L: E[s r]^T E[s A]."""
        grad_v, descent = self.gradients(expert, reward)
        return float(grad_v @ descent)

    def projected_covariance(self, expert: Array, reward: Array) -> float:
        """E[(P r)(P A)], P = projection (under pi) on the span of the scores. Equals `natural_step`."""
        root = np.sqrt(self.policy)
        basis = np.linalg.svd(root[:, None] * self.scores, full_matrices=False)
        span = basis[0][:, basis[1] > 1e-10 * max(basis[1].max(), 1e-300)]
        return float((span.T @ (root * reward)) @ (span.T @ (root * advantage(self.policy, expert))))


def tabular_vanilla_step(policy: Array, expert: Array, reward: Array) -> float:
    """Plain gradient on tabular softmax logits: sum_y pi^2 (r - V)(A - E A). One context."""
    a = advantage(policy, expert)
    return float((policy**2 * (reward - policy @ reward) * (a - policy @ a)).sum())


# --- identity 3F: best of two by a score ---------------------------------------------------------


def _higher(score: Array) -> Array:
    """(..., Y, Y) is the first score higher? A tie counts one half."""
    return np.asarray((score[..., :, None] > score[..., None, :]) + 0.5 * (score[..., :, None] == score[..., None, :]))


def pair_probabilities(policy: Array, score: Array, reward: Array) -> tuple[Array, Array]:
    """(P(concordant), P(discordant rewards)) per context for two i.i.d. draws; score ties count one half."""
    higher = _higher(score)
    pair = policy[..., :, None] * policy[..., None, :]
    better = (reward[..., :, None] > reward[..., None, :]) * pair
    return 2 * (better * higher).sum((-1, -2)), 2 * better.sum((-1, -2))


def auc_pair(mu: Array, policy: Array, score: Array, reward: Array) -> float:
    """P(concordant) / P(discordant rewards), same-prompt pairs; binary reward. nan if no pair is discordant."""
    concordant, discordant = pair_probabilities(policy, score, reward)
    total = float(mu @ discordant)
    return float(mu @ concordant) / total if total > 0 else float("nan")


def best_of_two_gain(mu: Array, policy: Array, score: Array, reward: Array) -> float:
    """V_bo2 - V by going through all pairs: draw two, keep the higher score (a tie by a fair coin)."""
    higher = _higher(score)
    pair = policy[..., :, None] * policy[..., None, :]
    kept = reward[..., :, None] * higher + reward[..., None, :] * (1 - higher)
    return float(mu @ (pair * kept).sum((-1, -2))) - value(mu, policy, reward)


def best_of_two_identity(mu: Array, policy: Array, score: Array, reward: Array) -> float:
    """The right-hand side of 3F: E_x[v(1 - v)] (2 AUC_pair - 1)."""
    v = (policy * reward).sum(-1)
    spread = float(mu @ (v * (1 - v)))
    return spread * (2 * auc_pair(mu, policy, score, reward) - 1) if spread > 0 else 0.0
