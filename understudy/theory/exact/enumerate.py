"""Brute force: the exact Bayes regret by going through every possible data set; no formula of docs/theory.md is used.

A world (hypothesis) is a law of one round's observation and a payoff table. The learner sees n rounds and then plays,
per context, the action with the largest posterior payoff.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from understudy.theory.families.bandit import FamilyF
from understudy.theory.families.horizon import HZ
from understudy.theory.families.realizable import StochasticRealizable, Unvisited
from understudy.theory.information import Info
from understudy.theory.scalars import Array

Law = Mapping[Hashable, float]
LIMIT = 40_000_000  # entries of the likelihood table


def observation_laws(info: Info, mu: Array, experts: Array, base: Array | None = None) -> list[Law]:
    """One round's observation under each world of a bandit, as the information model shows it.

    mu (X,), experts (J, X, Y), base (X, Y) for ON-G. Scores are rounded to 1e-12 so that equal ones are equal.
    """
    laws: list[Law] = []
    for expert in experts:
        law: dict[Hashable, float] = {}
        actor = base if info is Info.ON_G else expert
        if actor is None:
            raise ValueError("ON-G needs the base policy that acts")
        for x, y in product(range(expert.shape[0]), range(expert.shape[1])):
            label: Hashable = (x, y)
            if info in (Info.OFF_G, Info.ON_G):
                label = (x, y, _score(expert[x, y]))
            elif info is Info.OFF_L:
                label = (x, y, tuple(_score(p) for p in expert[x]))
            law[label] = law.get(label, 0.0) + float(mu[x] * actor[x, y])
        laws.append(law)
    return laws


def _score(p: float) -> float:
    return round(float(np.log(p)), 12) if p > 0 else -np.inf


def bayes_regret(laws: Sequence[Law], payoff: Array, mu: Array, best: Array, n: int) -> float:
    """min over learners of E[V* - V] under a uniform prior, by enumeration of all data sets of n rounds.

    `payoff` (J, X, A): expected reward of playable action a (or of playable policy a) in context x of world j; `best`
    (J,): V* of the class in world j.
    """
    likelihood = _likelihoods(laws, n) * _prior(laws)[:, None]
    value = 0.0
    for x in range(len(mu)):
        value += mu[x] * (payoff[:, x, :].T @ likelihood).max(0).sum()
    return float(_prior(laws) @ best - value)


def learner_regret(
    laws: Sequence[Law], payoff: Array, mu: Array, best: Array, n: int, decide: Callable[[tuple[Any, ...]], Array]
) -> float:
    """E[V* - V] of one learner: `decide` maps a data set (n observations) to a policy (X, A) over playable actions."""
    symbols = _symbols(laws)
    likelihood = _likelihoods(laws, n) * _prior(laws)[:, None]
    value = 0.0
    for d, data in enumerate(product(symbols, repeat=n)):
        if (weight := likelihood[:, d]).any():
            value += weight @ np.einsum("jxa,xa,x->j", payoff, decide(data), mu)
    return float(_prior(laws) @ best - value)


def _symbols(laws: Sequence[Law]) -> list[Hashable]:
    return list(dict.fromkeys(label for law in laws for label, p in law.items() if p > 0))


def _likelihoods(laws: Sequence[Law], n: int) -> Array:
    """(J, O^n) probability of every data set, in the order of itertools.product over the symbols."""
    symbols = _symbols(laws)
    if len(laws) * len(symbols) ** n > LIMIT:
        raise ValueError(f"{len(symbols)}^{n} data sets in {len(laws)} worlds is too many to enumerate")
    one = np.array([[law.get(s, 0.0) for s in symbols] for law in laws])
    table = np.ones((len(laws), 1))
    for _ in range(n):
        table = (table[:, :, None] * one[:, None, :]).reshape(len(laws), -1)
    return table


def _prior(laws: Sequence[Law]) -> Array:
    return np.full(len(laws), 1 / len(laws))


# --- Family F and R-stoch -------------------------------------------------------------------------


def family_worlds(family: FamilyF, info: Info, truncated: bool = False) -> tuple[list[Law], Array, Array, Array]:
    """(laws, payoff, mu, best) of Family F over every theta, for `bayes_regret` and `learner_regret`.

    Payoffs are those of the students, context by context: b_i = 0 or 1. `truncated`: expert samples come from
    e(. | {+, -}) while scores come from e (C3).
    """
    thetas = family.bits()
    if family.active is not None:
        thetas = thetas[(np.delete(thetas, list(family.active), axis=1) == 0).all(1)]
    experts = np.stack([family.expert(theta) for theta in thetas])
    base = np.tile([0.5, 0.5, 0.0, 0.0], (family.l, 1))
    if truncated:
        laws = [_truncated_law(info, family.law, e) for e in experts]
    else:
        laws = observation_laws(info, family.law, experts, base)
    students = np.stack([family.student(np.full(family.l, b)) for b in (0, 1)], 1)  # (X, 2, 4)
    payoff = np.stack([(students * family.reward(theta)[:, None, :]).sum(-1) for theta in thetas])
    return laws, payoff, family.law, np.full(len(thetas), family.value_best)


def family_regret(family: FamilyF, info: Info, n: int, truncated: bool = False) -> float:
    """Theorem 2 by enumeration. Tiny l and n only."""
    laws, payoff, mu, best = family_worlds(family, info, truncated)
    return bayes_regret(laws, payoff, mu, best, n)


def _truncated_law(info: Info, mu: Array, expert: Array) -> Law:
    acted = np.concatenate([expert[:, :2] * 0, expert[:, 2:]], 1)
    acted = acted / acted.sum(-1, keepdims=True)
    law: dict[Hashable, float] = {}
    for x, y in product(range(expert.shape[0]), range(expert.shape[1])):
        label = (x, y, _score(expert[x, y])) if info is Info.OFF_G else (x, y)
        law[label] = law.get(label, 0.0) + float(mu[x] * acted[x, y])
    return law


def ips_regret(family: FamilyF, n: int, baseline: str) -> float:
    """The ON-G importance-weighting learner of section 2, on every data set. baseline: midrange, group, none."""
    laws, payoff, mu, best = family_worlds(family, Info.ON_G)
    scores = np.log([family.eps * (1 - family.kappa), family.eps * family.kappa])

    def decide(data: tuple[Any, ...]) -> Array:
        loss = np.zeros((family.l, 2))
        for x in range(family.l):
            samples = [(y, g) for context, y, g in data if context == x]
            centre = {"midrange": scores.mean(), "none": 0.0}.get(baseline)
            if centre is None:
                centre = np.mean([g for _, g in samples]) if samples else 0.0
            for y, g in samples:
                loss[x, y] += 2 * (centre - g)
        tie = np.isclose(loss[:, 0], loss[:, 1], rtol=1e-9, atol=1e-9)
        one = np.where(tie, 0.5, loss[:, 1] < loss[:, 0])
        return np.stack([1 - one, one], -1)

    return learner_regret(laws, payoff, mu, best, n, decide)


def stochastic_regret(family: StochasticRealizable, info: Info, n: int) -> float:
    """Family R-stoch by enumeration; the base of ON-G is uniform."""
    thetas = (np.arange(2**family.l)[:, None] >> np.arange(family.l)) & 1
    experts = np.stack([family.expert(theta) for theta in thetas])
    mu = np.full(family.l, 1 / family.l)
    laws = observation_laws(info, mu, experts, np.full((family.l, 2), 0.5))
    soft = np.array([[0.5 + family.g, 0.5 - family.g], [0.5 - family.g, 0.5 + family.g]])
    payoff = np.stack([np.eye(2)[theta] @ soft for theta in thetas])  # r = 1[y = theta]
    return bayes_regret(laws, payoff, mu, np.full(len(thetas), 0.5 + family.g), n)


def unvisited_regret(family: Unvisited, info: Info, n: int) -> float:
    """Theorem 1c's family by enumeration: the last context is known, the others hide one bit each."""
    hidden = family.l - 1
    thetas = np.pad((np.arange(2**hidden)[:, None] >> np.arange(hidden)) & 1, ((0, 0), (0, 1)))
    experts = np.stack([np.eye(2)[theta] for theta in thetas])
    mu = np.array([family.zeta] * hidden + [1 - hidden * family.zeta])
    laws = observation_laws(info, mu, experts, np.full((family.l, 2), 0.5))
    return bayes_regret(laws, experts, mu, np.ones(len(thetas)), n)


# --- sequence families ----------------------------------------------------------------------------


def horizon_regret(family: HZ, info: Info, n: int) -> float:
    """The Bayes regret of a horizon family from its token-by-token description, by enumeration. Tiny l, H,
    n.
    """
    shared = family.kind.endswith("shared")
    steps = 1 if shared else family.H
    worlds = list(product((0, 1), repeat=family.l * steps))
    mu = np.full(family.l, 1 / family.l)
    laws, payoff = [], []
    plays = list(product((0, 1), repeat=steps))  # one bit for every step, or one for all of them
    for world in worlds:
        bits = np.array(world).reshape(family.l, steps)
        bits = np.repeat(bits, family.H, axis=1) if shared else bits
        laws.append(_horizon_law(family, bits, info, mu))
        right = [[float(tuple(b) == (a * family.H if shared else a)) * family.gap for a in plays] for b in bits]
        payoff.append(right)
    return bayes_regret(laws, np.array(payoff), mu, np.full(len(worlds), family.gap), n)


def _horizon_law(family: HZ, bits: Array, info: Info, mu: Array) -> Law:
    law: dict[Hashable, float] = {}
    for x in range(family.l):
        if info is Info.ON_G:  # the student's own content tokens, uniformly, and the expert's score of each
            for played in product((0, 1), repeat=family.H):
                prefix = ("play",) if family.kind.startswith("M-mode") else ()
                scores = []
                for token in played:
                    scores.append(_score(_next_token(family, bits[x], prefix).get(token, 0.0)))
                    prefix = (*prefix, token)
                law[(x, played, tuple(scores))] = float(mu[x]) * 0.5**family.H
            continue
        for sequence, p, seen in _expert_sequences(family, bits[x], ()):
            label: Hashable = (x, sequence, seen) if info is Info.OFF_L else (x, sequence)
            law[label] = law.get(label, 0.0) + mu[x] * p
    return law


def _next_token(family: HZ, bits_H: Array, prefix: tuple[Hashable, ...]) -> dict[Hashable, float]:
    """The expert's next-token law after `prefix`, whose tokens may be wrong, in one context."""
    mode = family.kind.startswith("M-mode")
    if mode and not prefix:
        return {"+": 1 - family.eps, "play": family.eps}
    if mode and prefix[0] == "+":
        return {"filler": 1.0}
    bit = int(bits_H[len(prefix) - mode])
    law: dict[Hashable, float] = {bit: 1 - family.kappa, 1 - bit: family.kappa}
    if family.kind.startswith("M-token"):
        law = {"filler": 1 - family.eps, bit: family.eps, 1 - bit: 0.0}
    return law


def _expert_sequences(
    family: HZ, bits_H: Array, prefix: tuple[Hashable, ...], seen: tuple[Hashable, ...] = ()
) -> list[tuple[tuple[Hashable, ...], float, tuple[Hashable, ...]]]:
    """Every completion of the expert: (tokens, probability, the next-token laws along it)."""
    length = family.H + family.kind.startswith("M-mode")
    if len(prefix) == length:
        return [(prefix, 1.0, seen)]
    law = _next_token(family, bits_H, prefix)
    shown = (*seen, tuple(sorted((str(k), v) for k, v in law.items())))
    out = []
    for token, p in law.items():
        if p > 0:
            out += [(s, p * q, laws) for s, q, laws in _expert_sequences(family, bits_H, (*prefix, token), shown)]
    return out
