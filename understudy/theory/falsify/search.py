"""What would refute the theory, and a search for it (docs/theory.md, section 6).

F1  an offline learner whose regret, averaged over a family, is below the exact Bayes regret R_off(n);
F2  a Delta-benign instance on which online imitation breaks its guarantee: kl(V || V_e) > Delta;
F3  an instance that Theorem 3A' excludes and that happens;
F4  violations of Theorem 4's bounds more often than delta.

One instance on which SFT matches the expert is no refutation: the lower bound is about the average (or the worst) over
a family. `search` counts such instances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from understudy.theory.exact.decompose import Split, split
from understudy.theory.exact.online import Online, random_instance
from understudy.theory.falsify.generators import GENERATORS
from understudy.theory.families.bandit import FamilyF
from understudy.theory.families.instance import Bandit
from understudy.theory.families.learners import OFFLINE_LEARNERS, simulate_regret
from understudy.theory.information import Info
from understudy.theory.scalars import Array, bernoulli_kl, monte_carlo_tolerance, softmax

ROUNDING = 1e-9
ETAS = tuple(np.round(np.arange(0.01, 0.6, 0.01), 2))

# --- F2 and F3: search over instances ----------------------------------------------------------------------


@dataclass(frozen=True)
class Tally:
    """A population of random instances with unlimited data. 'matches': not more than tol below V_e."""

    kind: str
    instances: int
    dmax: float
    tol: float
    kept: int  # Delta <= dmax
    sft_matches: float  # share of the kept
    online_matches: float
    offline_better: float  # V_sft > V_online + tol, share of the kept
    online_better: float
    violations: int  # F2, over all instances with finite Delta, kept or not
    local_violations: int  # F3
    worst_slack: float  # smallest Delta - kl(V_online || V_e): negative would refute
    value_gaps: Array  # (kept, 2): V_e - V of online and of SFT


def search(kind: str, count: int, dmax: float, seed: int, tol: float | None = None) -> Tally:
    """Draw `count` instances, keep the Delta-benign ones, count who matches. tol: by default sqrt(dmax / 2)."""
    tol = math.sqrt(dmax / 2) if tol is None else tol
    batch = GENERATORS[kind](count, np.random.default_rng(seed))
    parts = split(batch.mu, batch.students, batch.expert, batch.reward)
    online, offline = chosen_values(parts)
    v_e = parts.value_expert
    slack = parts.delta - bernoulli_kl(online, v_e)
    kept = parts.delta <= dmax
    events = (offline >= v_e - tol, online >= v_e - tol, offline > online + tol, online > offline + tol)
    sft, on, sft_better, on_better = (float(np.mean(e[kept])) if kept.any() else math.nan for e in events)
    violations, local = int((slack < -ROUNDING).sum()), int(local_violations(parts, online).sum())
    gaps = np.stack([v_e - online, v_e - offline], -1)[kept]
    worst = float(slack.min())
    return Tally(
        kind, len(batch), dmax, tol, int(kept.sum()), sft, on, sft_better, on_better, violations, local, worst, gaps
    )


def chosen_values(parts: Split) -> tuple[Array, Array]:
    """V of the reverse-KL (online) and of the forward-KL (SFT) minimiser, for a batch of instances."""
    rows = np.arange(len(parts.value))
    return parts.value[rows, parts.online()], parts.value[rows, parts.offline()]


def local_violations(parts: Split, online_value: Array) -> Array:
    """Per instance: does some eta satisfy Theorem 3A' while V(pi_hat) <= V_e - eta? (F3; must never be.)"""
    v_e = parts.value_expert
    best = parts.reverse.min(-1)
    broken = np.zeros(v_e.shape, dtype=bool)
    for eta in ETAS:
        low = parts.value <= (v_e - eta)[..., None]
        cheapest = np.where(low, parts.eligible_nuisance, np.inf).min(-1)
        price = bernoulli_kl(np.maximum(v_e - eta, 0), v_e)
        broken |= (best + ROUNDING < cheapest + price) & (online_value <= v_e - eta) & (v_e > eta)
    return broken


@dataclass(frozen=True)
class Climb:
    """The worst Delta-benign instance of a hill climb: V_e - V_online against what Theorem 3A allows."""

    dmax: float
    gap: float
    proved: float  # sqrt(dmax / 2)
    delta: float
    bandit: Bandit


def hill_climb(dmax: float, seed: int, steps: int = 400, chains: int = 128) -> Climb:
    """Maximise V_e - V_online subject to Delta <= dmax by parallel random walks on logits. X = 1, Y = 4, K = 3."""
    rng = np.random.default_rng(seed)
    mu, reward = np.ones((chains, 1)), np.tile([1.0, 1.0, 0.0, 0.0], (chains, 1, 1))
    expert_logits = rng.normal(0, 1, (chains, 1, 4))
    student_logits = expert_logits[:, None] + rng.normal(0, 0.3, (chains, 3, 1, 4))
    best_gap, best_delta = np.full(chains, -np.inf), np.full(chains, np.inf)
    for step in range(steps):
        size = 0.3 * 0.99**step + 1e-3 if step else 0.0
        tried_e = expert_logits + size * rng.normal(size=expert_logits.shape)
        tried_s = student_logits + size * rng.normal(size=student_logits.shape)
        parts = split(mu, softmax(tried_s), softmax(tried_e), reward)
        gap = parts.value_expert - chosen_values(parts)[0]
        better = (parts.delta <= dmax) & (gap > best_gap)
        closer = (best_delta > dmax) & (parts.delta < best_delta)  # first find a benign instance at all
        take = better | closer
        best_gap = np.where(better, gap, best_gap)
        best_delta = np.where(take, parts.delta, best_delta)
        expert_logits = np.where(take[:, None, None], tried_e, expert_logits)
        student_logits = np.where(take[:, None, None, None], tried_s, student_logits)
    i = int(best_gap.argmax())
    expert, students = softmax(expert_logits)[i], softmax(student_logits)[i]
    worst = Bandit(mu[i], expert, students, reward[i], name=f"worst found at Delta <= {dmax}")
    return Climb(dmax, float(best_gap[i]), math.sqrt(dmax / 2), float(best_delta[i]), worst)


# --- F1: offline learners against the Bayes regret ---------------------------------------------------------


@dataclass(frozen=True)
class LearnerRow:
    learner: str
    n: int
    regret: float
    standard_error: float
    bayes: float

    @property
    def refutes(self) -> bool:
        return self.regret < self.bayes - monte_carlo_tolerance(self.standard_error)


def offline_learners(family: FamilyF, rounds: tuple[int, ...], runs: int, seed: int) -> list[LearnerRow]:
    """F1 on Family F: the family-average regret of simple offline learners, none below R_off(n)."""
    rng = np.random.default_rng(seed)
    return [
        LearnerRow(name, n, *simulate_regret(family, learner, n, runs, rng), family.regret(Info.OFF_S, n))
        for n in rounds
        for name, learner in OFFLINE_LEARNERS.items()
    ]


# --- F4: violations of Theorem 4 ---------------------------------------------------------------------------


@dataclass(frozen=True)
class ViolationRow:
    theorem: str
    allowed: float
    share: float
    trials: int
    worst_ratio: float  # largest excess / certified excess

    @property
    def refutes(self) -> bool:
        """More violations than delta by 4 standard errors of a frequency at delta."""
        return self.share > self.allowed + 4 * math.sqrt(self.allowed * (1 - self.allowed) / self.trials)


def theorem4_violations(instances: list[Bandit], n: int, runs: int, delta: float, seed: int) -> list[ViolationRow]:
    """How often L(pi_hat) exceeds what 4a, 4b, 4c certify with probability 1 - delta."""
    rng = np.random.default_rng(seed)
    ratios: dict[str, list[Array]] = {"4a": [], "4b": [], "4c": []}
    for bandit in instances:
        problem = Online(bandit)
        counts = problem.sample(n, runs, rng)
        certified = problem.bounds(n, delta)
        for theorem, estimator in (("4a", "ips"), ("4b", "pessimistic"), ("4c", "ix")):
            excess = problem.loss[problem.choose(counts, estimator, delta)] - problem.loss.min()
            ratios[theorem].append(excess / max(certified[estimator], 1e-300))
    pooled = {theorem: np.concatenate(parts) for theorem, parts in ratios.items()}
    return [
        ViolationRow(theorem, delta, float((ratio > 1 + ROUNDING).mean()), len(ratio), float(ratio.max()))
        for theorem, ratio in pooled.items()
    ]


def random_instances(count: int, seed: int) -> list[Bandit]:
    rng = np.random.default_rng(seed)
    return [random_instance(rng) for _ in range(count)]
