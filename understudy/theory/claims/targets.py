"""Claims about targets made of a model itself: past the expert, and the student with a context (section 10)."""

from __future__ import annotations

import numpy as np
import torch

from understudy.methods.divergences import extrapolated
from understudy.theory.claims.claim import Options, Result, Row, at_least, at_most, equal
from understudy.theory.exact.decompose import split
from understudy.theory.families.hidden import Hidden, arithmetic, geometric
from understudy.theory.production import log_table
from understudy.theory.scalars import Array
from understudy.theory.tabular import BlindTable, FreeTable, expected_flow

FACTORS = (0.0, 0.5, 1.0, 1.25, 2.0, 4.0)
LURE_BASE, LURE_EXPERT = np.array([[0.30, 0.01, 0.69]]), np.array([[0.50, 0.10, 0.40]])
"""Example L: the first action is right, the second a mistake that the expert makes ten times as often as the base."""


def beyond(expert: Array, base: Array, factor: float) -> Array:
    """(X, Y) base (expert / base)^factor, normalised, by the function that training uses."""
    return np.asarray(extrapolated(log_table(expert), log_table(base), factor).exp().numpy())


def extrapolation(o: Options) -> Result:
    """Theorem 10A and Example L."""
    rng, identity, slope, step = o.rng("extrapolation"), 0.0, 0.0, np.inf
    for _ in range(50):
        base, expert, student = rng.dirichlet(np.ones(5), (3, 4))
        for factor in FACTORS:
            target = beyond(expert, base, factor)
            gain = factor * np.log(expert / base) - np.log(student / base)
            log_z = np.log((base * (expert / base) ** factor).sum(-1))
            kl = (student * np.log(student / target)).sum(-1)
            identity = max(identity, float(np.abs((student * gain).sum(-1) - log_z + kl).max()))
        reward, tau = rng.random((4, 5)), 0.5
        optimum = base * np.exp(reward / tau)
        optimum /= optimum.sum(-1, keepdims=True)
        values = [(beyond(optimum, base, f) * reward).sum(-1) for f in FACTORS]
        step = min(step, float(np.diff(values, axis=0).min()))
        at, width = beyond(optimum, base, 1.25), 1e-4
        ends = [(beyond(optimum, base, 1.25 + d) * reward).sum(-1) for d in (-width, width)]
        spread = (at * reward**2).sum(-1) - (at * reward).sum(-1) ** 2
        slope = max(slope, float(np.abs((ends[1] - ends[0]) / (2 * width) - spread / tau).max()))
    far = max(float(np.abs(beyond(expert, base, f) - e).max()) for f, e in ((0.0, base), (1.0, expert)))
    lure = {f: float(beyond(LURE_EXPERT, LURE_BASE, f)[0, 0]) for f in FACTORS}
    target = beyond(LURE_EXPERT, LURE_BASE, 2.0)
    rows = [
        equal("factor E log(e / b) - KL(pi || b) = log Z - KL(pi || target), 50 random instances", 0.0, identity, 1e-9),
        equal("factor 0 is the base, factor 1 the expert: largest difference", 0.0, far, 1e-12, headline=True),
        at_least(
            "expert = optimum of r - tau KL(. || b): smallest rise of V from one factor to the next", 0.0, step, 0.0
        ),
        equal("the same: dV / d factor against Var r / tau, central differences", 0.0, slope, 1e-6),
        at_least("Example L: V at factor 1.25, the expert has .5", 0.51, lure[1.25], 0.0, headline=True),
        at_most("Example L: V at factor 2", 0.41, lure[2.0], 0.0, headline=True),
        at_most("Example L: V at factor 4", 0.1, lure[4.0], 0.0),
    ]
    for method in ("opd", "opd_full"):
        end = expected_flow(method, FreeTable(1, (True,) * 3), np.ones(1), target).probabilities()
        rows.append(
            equal(f"row {method} on the target of factor 2: distance from it", 0.0, np.abs(end - target).max(), 1e-6)
        )
    return Result(rows, {"lure": lure})


def cited(m: int = 8, other: float = 1e-4) -> tuple[Array, Array]:
    """Example S: (expert (m, 2 + m), reward) of a model that reads a hint u. It is right with probability .85, wrong
    with .05, and cites a hint with .1: one that it does not read with probability `other`, each of them."""
    cites = np.full((m, m), other) + np.eye(m) * (0.1 - m * other)
    expert = np.concatenate([np.tile([0.85, 0.05], (m, 1)), cites], 1)
    return expert / expert.sum(-1, keepdims=True), np.concatenate([np.tile([1.0, 0.0], (m, 1)), np.eye(m)], 1)


def privileged(o: Options) -> Result:
    """Theorem 10B: a model that reads a context is the expert that sees a hidden feature."""
    torch.set_num_threads(1)
    rng, online, offline, least = o.rng("privileged"), 0.0, 0.0, np.inf
    for _ in range(50):
        mu, expert = rng.dirichlet(np.ones(3)), rng.dirichlet(np.full(4, 0.5), 3) + 1e-3
        expert /= expert.sum(-1, keepdims=True)
        mean, (best, floor) = arithmetic(mu, expert), geometric(mu, expert)
        information = float((mu[:, None] * expert * np.log(expert / mean)).sum())
        for student in rng.dirichlet(np.ones(4), 10):
            parts = split(mu, np.repeat(student[None, None], 3, 1), expert, np.zeros((3, 4)))
            online = max(online, float(np.abs(parts.reverse - (student * np.log(student / best)).sum() - floor).max()))
        to_mean = split(mu, np.repeat(mean[None, None], 3, 1), expert, np.zeros((3, 4)))
        offline = max(offline, float(np.abs(to_mean.forward - information).max()))
        least = min(least, floor)
    rows: list[Row] = [
        equal("E_u KL(pi || e_u) = KL(pi || G) - log Z, 50 random instances", 0.0, online, 1e-9),
        equal("least of E_u KL(e_u || pi), at A, against the mutual information I(u; y)", 0.0, offline, 1e-9),
        at_least("least of E_u KL(pi || e_u): -log Z, smallest", 0.0, least, 0.0),
    ]
    hints, reward = cited()
    even = np.full(len(hints), 1 / len(hints))
    common, known = geometric(even, hints)[0], float((even @ (hints * reward)).sum())
    lost = Hidden(eps=1e-6, delta=1e-3, lenient=True)
    before, after = lost.value(arithmetic(lost.mu, lost.expert)), lost.value(geometric(lost.mu, lost.expert)[0])
    ends = [
        expected_flow(method, BlindTable(len(hints), hints.shape[1]), even, hints, steps=250).probabilities()[0]
        for method in ("word_kd", "opd_full")
    ]
    seen = expected_flow("opd_full", FreeTable(len(hints), (True,) * hints.shape[1]), even, hints).probabilities()
    rows += [
        at_least("Example S: share of right answers at G; with the hint .85", 0.93, common[0], 0.0, headline=True),
        at_most("Example S: mass of citations at G; with the hint .1", 0.01, common[2:].sum(), 0.0),
        equal("row opd_full, blind to u: distance from G", 0.0, np.abs(ends[1] - common).max(), 1e-6),
        equal("row word_kd, blind to u: distance from A", 0.0, np.abs(ends[0] - even @ hints).max(), 1e-6),
        equal("row opd_full, u is a function of the prompt: V against that with the hint", known,
              float((even[:, None] * seen * reward).sum()), 1e-6),
        at_least("Example H, lenient: V of A, which a model that averages over its contexts has", 0.97, before, 0.0),
        at_most("the same after self-distillation with u in the prompt, at G", 0.06, after, 0.0, headline=True),
    ]  # fmt: skip
    return Result(rows, {"common": common, "before": before, "after": after})
