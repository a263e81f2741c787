"""Exact error rates of sequential rules, by going through every outcome (docs/theory.md, section 9).

Nothing here knows a formula of a rule: the production rule is applied at every node of the tree of outcomes. "worst" is
the largest probability over every policy whose conditional means obey the hypothesis, also one that reacts to the past:
from the last value backwards, the law of the next value that serves it best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from scipy.stats import binom

from understudy.evaluation.sequential import PULL, FallAlarm, PairedTest, share_high
from understudy.theory.scalars import Array

Rule = Callable[[Sequence[int]], bool]
"""Sums of the batches so far -> whether the rule goes off now."""


def ever(rule: Rule, size: int, batches: int, bound: float, means: Sequence[float] = ()) -> Array:
    """(batches, 1 + len(means)): P(the rule has gone off) after each batch of `size` values of 0 or 1.

    Column 0: the worst policy whose conditional means are all at least `bound`; then one column per constant mean.
    """
    chance = np.array(means, dtype=float)

    def visit(sums: tuple[int, ...]) -> Array:
        """(batches, columns) given these sums and that the rule has not gone off."""
        t = len(sums)
        if t == batches:
            return np.zeros((batches, 1 + len(chance)))
        after = []
        for total in range(size + 1):
            seen = (*sums, total)
            off = rule(seen)
            after.append(np.ones((batches, 1 + len(chance))) if off else visit(seen))
            after[-1][:t] = 0.0
        level = np.stack(after)  # by how many of the batch's values are 1; fold the values one at a time
        for _ in range(size):
            miss, hit = level[:-1], level[1:]
            worst = np.maximum(hit[..., :1], bound * hit[..., :1] + (1 - bound) * miss[..., :1])
            fixed = chance * hit[..., 1:] + (1 - chance) * miss[..., 1:]
            level = np.concatenate([worst, fixed], -1)
        return np.asarray(level[0])

    return visit(())


def fall_alarm(size: int, batches: int, bound: float, alpha: float) -> Rule:
    """`FallAlarm` as a rule; its state after each sequence of sums is kept, as a checkpoint keeps it."""
    start = FallAlarm(bound, batches, alpha)
    states: dict[tuple[int, ...], dict[str, Any]] = {(): start.as_dict()}

    def rule(sums: Sequence[int]) -> bool:
        key = tuple(sums)
        alarm = FallAlarm(bound, batches, alpha, states[key[:-1]])
        off = alarm.add(key[-1], size)
        states[key] = alarm.as_dict()
        return off

    return rule


def fixed_look(size: int, bound: float, alpha: float) -> Rule:
    """The fixed-sample upper bound of the share so far, looked at after every batch: off when it is below `bound`."""

    def rule(sums: Sequence[int]) -> bool:
        return share_high(sum(sums), size * len(sums), alpha) < bound

    return rule


def evidence(sums: Sequence[int], size: int, horizon: int, bound: float) -> float:
    """E_t of the definition: the mean over every moment of change, also one to come, of `bets_since`."""
    return sum(bets_since(sums[j:], size, bound) for j in range(horizon)) / horizon


def bets_since(sums: Sequence[int], size: int, bound: float) -> float:
    """Mean over the alternatives q = pull bound of the product of 1 + b (bound - x); 1 before the first batch."""
    out = 0.0
    for pull in PULL:
        bet = (1 - pull) / (1 - bound)  # (bound - q) / (bound (1 - bound))
        hit, miss = 1 - bet * (1 - bound), 1 + bet * bound
        out += math.prod(hit**total * miss ** (size - total) for total in sums) / len(PULL)
    return out


def unweighted(size: int, bound: float, alpha: float) -> Rule:
    """A wrong alarm: the best moment of change, picked afterwards, without paying for the choice (CUSUM)."""

    def rule(sums: Sequence[int]) -> bool:
        return max(bets_since(sums[j:], size, bound) for j in range(len(sums))) >= 1 / alpha

    return rule


def mean_evidence(size: int, horizon: int, bound: float, mean: float) -> float:
    """The mean of E_t at t = horizon at a constant mean, by going through every sequence of sums."""
    law = binom.pmf(np.arange(size + 1), size, mean)
    every = product(range(size + 1), repeat=horizon)
    return sum(float(np.prod(law[list(sums)])) * evidence(sums, size, horizon, bound) for sums in every)


def delay(rule: Rule, before: int, good: int, bad: int, most: int) -> float:
    """Batches with the sum `bad` until the rule goes off, after `before` batches with the sum `good`; else infinite."""
    history: list[int] = []
    for t in range(before + most):
        history.append(good if t < before else bad)
        if rule(history):
            return t + 1 - before
    return math.inf


def last_off(n: int, bound: float, alpha: float) -> int:
    """The largest count of n values at which the fixed-sample upper bound of the share is below `bound`; -1: none."""
    count = int(binom.ppf(alpha, n, bound)) + 1
    while count >= 0 and share_high(count, n, alpha) >= bound:
        count -= 1
    return count


def fixed_looks(size: int, batches: int, bound: float, alpha: float) -> Array:
    """(batches,) P(`fixed_look` has gone off) at mean = bound, by recursion over the count, so at any size."""
    law = binom.pmf(np.arange(size + 1), size, bound)
    alive, off, out = np.ones(1), 0.0, []
    for t in range(1, batches + 1):
        alive = np.convolve(alive, law)
        last = last_off(size * t, bound, alpha)
        off += float(alive[: last + 1].sum())
        alive[: last + 1] = 0.0
        out.append(off)
    return np.array(out)


def accepted(margin: float, alpha: float, size: int, batches: int, mean: float | None = None) -> float:
    """P(`PairedTest` accepts) on at most `batches` batches of `size` differences in {-1, 0, 1}.

    mean: of differences of 1 and -1 only; None: the worst policy whose conditional means are all at most -margin.
    """
    n = size * batches
    minus, plus = np.indices((n + 1, n + 1))
    value = np.zeros((n + 1, n + 1))  # by the counts of -1 and 1
    for seen in range(n, -1, -1):
        if seen < n:
            here, down, up = value[:-1, :-1], value[1:, :-1], value[:-1, 1:]
            if mean is None:  # a law on two points whose mean is -margin, or on -1 alone
                level = np.maximum.reduce([
                    down, margin * down + (1 - margin) * here, (1 + margin) / 2 * down + (1 - margin) / 2 * up,
                ])  # fmt: skip
            else:
                level = (1 - mean) / 2 * down + (1 + mean) / 2 * up
            value = np.pad(level, ((0, 1), (0, 1)))
        if seen % size == 0 and seen > 0:
            for i, j in zip(*np.nonzero(minus + plus <= seen)):
                verdict = _verdict(margin, alpha, int(i), seen - int(i) - int(j), int(j))
                if verdict:
                    value[i, j] = float(verdict == "accept")
    return float(value[0, 0])


@cache
def _verdict(margin: float, alpha: float, minus: int, zero: int, plus: int) -> str:
    return PairedTest(margin, alpha).add([-1.0] * minus + [0.0] * zero + [1.0] * plus)


def best_look(candidates: int, samples: int, start: float, margin: float) -> float:
    """P(a candidate is kept), all worse than the start by `margin`, if the best look decides; a tie keeps the start.

    samples: of every look, 0 or 1, the start's too.
    """
    hits = np.arange(samples + 1)
    return float(binom.pmf(hits, samples, start) @ (1 - binom.cdf(hits, samples, start - margin) ** candidates))
