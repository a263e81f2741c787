"""The evidence that a diagnosis of a finite world would have: sampled, noisy, and from pilots at a few percent.

Nothing exact gets in: accuracies and divergences are estimated from a few hundred prompts by the estimators of
understudy.diagnose, and a pilot is one run of the learner on one draw of data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from understudy.calibrate.learners import online_weights, sft_weights
from understudy.calibrate.worlds import World
from understudy.diagnosis.measures import alignment, divergences, intervals
from understudy.diagnosis.types import Estimate, Evidence, PilotPoint
from understudy.theory.scalars import Array


@dataclass(frozen=True)
class Design:
    """What the lab's diagnosis spends."""

    sft_shares: tuple[float, ...] = (1 / 64, 1 / 32, 1 / 16)
    """Sizes of the SFT pilots, as shares of the full training; one run, looked at on the way."""
    opd_shares: tuple[float, ...] = (1 / 16,)
    """Sizes of the online pilot, likewise."""
    prompts: int = 256
    """Held-out prompts."""
    samples: int = 4
    """Samples a prompt, of the start and of the expert; the pilots get half."""

    @property
    def cost_share(self) -> float:
        """Training sequences of the pilots over those of both full trainings."""
        return (max(self.sft_shares) + max(self.opd_shares)) / 2


def gather(world: World, rng: np.random.Generator, design: Design | None = None) -> Evidence:
    """Everything: a verifier, scores, both pilots, and takeover where a sequence has more than one token."""
    design = design or Design()
    x = rng.choice(len(world.mu), design.prompts, p=world.mu)
    y_e = draw(world.expert[x], design.samples, rng)
    r_e = at(world.reward, x, y_e)
    measures, r_s = _measures(world, x, y_e, r_e, design.samples, rng)
    measures["headroom"] = intervals.mean(r_e.mean(1) - r_s.mean(1), "accuracy")
    pilots = []
    seen = np.zeros_like(world.expert)
    law = (world.mu[:, None] * world.expert).ravel()
    for size in _sizes(world, design.sft_shares):
        seen += rng.multinomial(size - int(seen.sum()), law / law.sum()).reshape(seen.shape)
        policy = world.policy(sft_weights(world, seen))
        pilots.append(_pilot("sft", size, world, policy, x, y_e, design, rng))
    visits = np.zeros(len(world.mu))
    for size in _sizes(world, design.opd_shares):
        visits += rng.multinomial(size - int(visits.sum()), world.mu)
        policy = world.policy(online_weights(world, visits))
        pilots.append(_pilot("opd", size, world, policy, x, y_e, design, rng))
    return Evidence(
        measures=measures, pilots=tuple(pilots),
        budget={"updates": float(world.n), "sequences": 1.0, "share": design.cost_share},
        has_verifier=True, capabilities=("sample", "score", "distribution"),
    )  # fmt: skip


def _sizes(world: World, shares: tuple[float, ...]) -> list[int]:
    """At least one sequence, each size once."""
    return sorted({max(1, round(world.n * share)) for share in shares})


def _measures(
    world: World, x: NDArray[np.int64], y_e: NDArray[np.int64], r_e: Array, samples: int, rng: np.random.Generator
) -> tuple[dict[str, Estimate], Array]:
    """What needs no training, and the start's rewards (P, K)."""
    start = world.start
    y = draw(start[x], samples, rng)
    r = at(world.reward, x, y)
    log_start, log_score = np.log(start), np.log(world.score)
    ls, le = at(log_start, x, y), at(log_score, x, y)
    found = {
        "student_accuracy": intervals.share(r),
        "expert_accuracy": intervals.share(r_e),
        "kl_student_expert": divergences.reverse_kl(ls, le),
        "kl_expert_student": divergences.forward_kl(at(log_start, x, y_e), at(log_score, x, y_e)),
        "reward_advantage_cov": alignment.reward_covariance(r, le - ls),
        "gap_nats": alignment.gap_nats(r, le - ls),
        "auc": alignment.auc(r, le - ls),
        "tilt_ceiling": alignment.tilt_ceiling(r, le - ls),
    }
    length, gains = world.tokens.shape[1], []
    for depth in sorted({int(length * share) for share in (0.25, 0.5, 0.75)} - {0}):
        own = at(continued(world, start, depth), x, y)  # the rest in expectation: the pairing of a real diagnosis
        taken = at(continued(world, world.score, depth), x, y)
        name = f"takeover_{25 * max(1, min(3, round(4 * depth / length)))}"
        found[name] = intervals.mean(taken.mean(1), "accuracy", (0.0, 1.0))
        gains.append((taken - own).mean(1))
    if gains:
        found["takeover_gain"] = intervals.mean(np.mean(gains, 0), "accuracy")
    return found, r


def continued(world: World, policy: Array, depth: int) -> Array:
    """(X, Y) expected reward if `policy` goes on from the first `depth` tokens of action y."""
    _, prefix = np.unique(world.tokens[:, :depth], axis=0, return_inverse=True)
    same = (prefix.reshape(-1)[:, None] == prefix.reshape(-1)[None, :]).astype(float)
    return np.asarray((policy * world.reward) @ same / (policy @ same))


def _pilot(
    kind: str, size: int, world: World, policy: Array, x: NDArray[np.int64], y_e: NDArray[np.int64],
    design: Design, rng: np.random.Generator,
) -> PilotPoint:  # fmt: skip
    y = draw(policy[x], max(1, design.samples // 2), rng)
    log_policy, log_score = np.log(policy), np.log(world.score)
    return PilotPoint(
        "sft" if kind == "sft" else "opd", size, size,
        accuracy=intervals.share(at(world.reward, x, y)),
        kl_expert_student=divergences.forward_kl(at(log_policy, x, y_e), at(log_score, x, y_e)),
        kl_student_expert=divergences.reverse_kl(at(log_policy, x, y), at(log_score, x, y)),
        label="curve",
    )  # fmt: skip


def draw(laws: Array, samples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(P, Y) laws -> (P, K) independent draws."""
    cumulative = np.cumsum(laws, -1)
    u = rng.random((len(laws), samples)) * cumulative[:, -1:]
    return np.minimum((u[..., None] > cumulative[:, None, :]).sum(-1), laws.shape[1] - 1)


def at(table: Array, x: NDArray[np.int64], y: NDArray[np.int64]) -> Array:
    """table[x, y] for prompts x (P,) and actions y (P, K)."""
    return np.asarray(table[x[:, None], y])


def without(evidence: Evidence, *what: str) -> Evidence:
    """The same diagnosis with less: "opd" (no online pilot), "pilots" (none), "scores" (a black-box expert)."""
    pilots, measures = evidence.pilots, dict(evidence.measures)
    if "opd" in what:
        pilots = tuple(p for p in pilots if p.kind != "opd")
    if "pilots" in what:
        pilots = ()
    if "takeover" in what:
        measures = {k: v for k, v in measures.items() if not k.startswith("takeover")}
    capabilities = evidence.capabilities
    if "scores" in what:
        keep = ("accuracy", "headroom", "takeover", "length", "keyword")
        measures = {k: v for k, v in measures.items() if any(word in k for word in keep)}
        pilots = tuple(replace(p, kl_expert_student=None, kl_student_expert=None) for p in pilots)
        capabilities = ("sample",)
    return replace(evidence, pilots=pilots, measures=measures, capabilities=capabilities)
