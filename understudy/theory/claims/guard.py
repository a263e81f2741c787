"""Claims about the guard: how often it stops a phase that does no harm, or keeps a worse model (section 9).

The production rules (`understudy.evaluation.sequential`) are applied at every node of the tree of outcomes.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.stats import binom

from understudy.evaluation.sequential import FallAlarm, share_low
from understudy.theory.claims.claim import Options, Result, Row, at_least, at_most, equal
from understudy.theory.exact import looks

TREES = ((1, 9, 0.5), (2, 6, 0.5), (4, 4, 0.7), (8, 3, 0.9))
"""(values of a batch, batches, bound): small enough to go through every sequence."""
SIZE, UPDATES, BOUND, ALPHA = 64, 200, 0.5, 0.05
"""A training as it is run by default."""


def false_alarm(o: Options) -> Result:
    """Theorem 9A, and the fixed-sample interval that does not have it."""
    rows = _is_the_process()
    for size, batches, bound in TREES:
        for alpha in (0.05, 0.2):
            rule = looks.fall_alarm(size, batches, bound, alpha)
            worst = float(looks.ever(rule, size, batches, bound)[-1, 0])
            name = (
                f"P(alarm ever), worst policy with means >= {bound:g}, {batches} batches of {size}, alpha = {alpha:g}"
            )
            rows.append(at_most(name, alpha, worst, 0.0, headline=(size, alpha) == (4, 0.05)))
    for error in (0.05, 0.2):
        name = (
            f"P(alarm ever) with the bound from a look at the start, 20 values, mean .7 throughout, error = {error:g}"
        )
        rows.append(at_most(name, error, _from_a_look(20, 0.7, 4, 3, error), 0.0))
    tree = looks.ever(looks.fixed_look(2, 0.5, ALPHA), 2, 6, 0.5, (0.5,))[:, 1]
    short, long = looks.fixed_looks(2, 6, 0.5, ALPHA), looks.fixed_looks(SIZE, UPDATES, BOUND, ALPHA)
    counts = [SIZE * t for t in range(1, UPDATES + 1)]
    single = [float(binom.cdf(looks.last_off(n, BOUND, ALPHA), n, BOUND)) for n in counts]
    slow = looks.delay(looks.fixed_look(SIZE, BOUND, ALPHA), 150, 35, 6, 60)
    fast = looks.delay(looks.fall_alarm(SIZE, UPDATES, BOUND, ALPHA), 150, 35, 6, 60)
    careless = float(looks.ever(looks.unweighted(2, 0.5, 0.2), 2, 6, 0.5)[-1, 0])
    rows += [
        at_least("without weights over the moment of change, 6 batches of 2: P(ever), alpha = .2", 0.24, careless, 0.0),
        equal("fixed-sample looks: recursion over counts against the tree", 0.0, np.abs(tree - short).max(), 1e-12),
        at_most("fixed-sample interval: P(off) at one look, worst of 200 updates of 64", ALPHA, max(single), 0.0),
        at_least("the same interval looked at after every update: P(ever off)", 0.3, long[-1], 0.0, headline=True),
        at_most("150 updates at .55, then .09: updates until the alarm", 3, fast, 0.0, headline=True),
        at_least("the same for the fixed-sample interval of the share so far", 18, slow, 0.0),
    ]
    size, batches, bound = 4, 5, 0.5
    tries = (looks.fall_alarm(size, batches, bound, ALPHA), looks.fixed_look(size, bound, ALPHA))
    small = [looks.ever(rule, size, batches, bound)[:, 0] for rule in tries]
    return Result(rows, {"long": long, "single": single, "small": small, "alpha": ALPHA})


def _from_a_look(n: int, mean: float, size: int, batches: int, error: float) -> float:
    """Half of the error for the lower bound of the start's share from n values, half for the alarm against it."""
    total = 0.0
    for hits in range(1, n + 1):  # 0: a bound of 0, below which nothing falls
        bound = share_low(hits, n, error / 2)
        off = looks.ever(looks.fall_alarm(size, batches, bound, error / 2), size, batches, bound, (mean,))[-1, 1]
        total += float(binom.pmf(hits, n, mean) * off)
    return total


def _is_the_process() -> list[Row]:
    """`FallAlarm` is the process of the definition, and that has mean 1 at the bound and less above it."""
    size, horizon, bound = 2, 5, 0.5
    worst = 0.0
    for sums in product(range(size + 1), repeat=horizon):
        alarm = FallAlarm(bound, horizon, ALPHA)
        for total in sums:
            alarm.add(total, size)
        seen = [looks.evidence(sums[:t], size, horizon, bound) for t in range(horizon + 1)]
        worst = max(worst, abs(alarm.peak / max(seen) - 1))
    return [
        equal("FallAlarm's peak against max E_t by the definition, all 243 sequences, relative", 0.0, worst, 1e-9),
        equal(
            "mean of E_t at mean = bound, 5 batches of 2", 1.0, looks.mean_evidence(size, horizon, bound, bound), 1e-10
        ),
        at_most("the same at mean .6", 1.0, looks.mean_evidence(size, horizon, bound, 0.6)),
    ]


def confirmation(o: Options) -> Result:
    """Theorem 9B, and the best of several looks."""
    rows = []
    for margin, size, batches in ((0.02, 8, 4), (0.1, 8, 4), (0.2, 8, 4)):
        worst = looks.accepted(margin, ALPHA, size, batches)
        name = f"P(kept), worst policy with mean difference <= -{margin:g}, {batches} batches of {size} prompts"
        rows.append(at_most(name, ALPHA, worst, 0.0, headline=margin == 0.02))
    gain = looks.accepted(0.1, ALPHA, 8, 4, mean=0.4)
    rows += [
        at_least("P(kept) if it is better by .4, margin .1, the same prompts", 0.5, gain),
        at_most(
            "two candidates at half the error each: sum of the two", ALPHA, 2 * looks.accepted(0.1, ALPHA / 2, 8, 4)
        ),
    ]
    names = {1: "one candidate", 4: "the best of four"}
    for k, name in names.items():
        chance = looks.best_look(k, 320, 0.5, 0.02)
        text = f"kept by its look alone, 320 samples, {name}, all worse by .02: P"
        rows.append(at_least(text, 0.25 if k == 1 else 0.55, chance, 0.0, headline=k == 4))
    candidates = list(range(1, 17))
    lines = {n: [looks.best_look(k, n, 0.5, 0.02) for k in candidates] for n in (80, 320, 1280)}
    return Result(rows, {"k": candidates, "lines": lines, "alpha": ALPHA})
