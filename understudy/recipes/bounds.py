"""Bounds on total variation that hold at a stated confidence, whatever the distributions.

A statistic of a completion (its length, whether it holds a word) has a distribution under expert and student; the
total variation (TV) between those two is at most that of the completions. `low` of each Estimate here is a rigorous
lower bound of TV with probability at least `level` = 1 - delta. `value` is the unbiased estimate, unless the method
says otherwise. The plug-in TV of two histograms is no bound: it is biased up, by about sqrt(bins / (pi n)) where the
distributions are equal.

Data: p (P,) one draw per prompt, or (P, K) draws; q likewise, from the other policy. Prompts are independent, draws of
one prompt are not: (P, K) data are averaged by prompt first. `shared_prompts`: row i of p and q is the same prompt;
then rows of p and q are dependent, which each bound allows for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from understudy.diagnosis.measures import intervals
from understudy.diagnosis.measures.intervals import Floats
from understudy.diagnosis.types import Estimate
from understudy.errors import UserError
from understudy.randomness import generator

DELTA = 0.05
PROBABILITY = "probability"


# --- lower bounds of TV from a statistic -------------------------------------------------------


def split_witness(
    p: ArrayLike, q: ArrayLike, bins: int, delta: float = DELTA, shared_prompts: bool = True, seed: int = 0
) -> Estimate:
    """TV >= p(A) - q(A) for any set A of categories: A is chosen on half of the prompts, bounded on the other half.

    A = the categories more common under p in the first half. One draw per prompt: Clopper-Pearson for each share, at
    delta / 2. More draws: betting bounds of prompt means; of the paired differences when prompts are shared.
    `value` estimates p(A) - q(A) without bias; it may be negative.
    """
    p_PB, q_PB, single = _shares(p, q, bins)
    _match(p_PB, q_PB, shared_prompts)
    first_p, second_p, first_q, second_q = _halves(len(p_PB), len(q_PB), shared_prompts, seed)
    witness = p_PB[first_p].mean(axis=0) > q_PB[first_q].mean(axis=0)
    one_P, two_P = p_PB[second_p][:, witness].sum(axis=1), q_PB[second_q][:, witness].sum(axis=1)
    bound = _gap(one_P, two_P, delta, shared_prompts, single)
    return replace(bound, method=f"split witness, {bound.method}")


def ks_bound(p: ArrayLike, q: ArrayLike, delta: float = DELTA) -> Estimate:
    """Largest gap of the two distribution functions of a number, less the Dvoretzky-Kiefer-Wolfowitz bands.

    TV >= |F - G| everywhere. Of (P, K) data the first draw of each prompt is used, because the bands need
    independent draws. No bins to choose; weaker than `split_witness` when the difference is not a shift.
    """
    a, b = intervals.samples("p", p)[:, 0], intervals.samples("q", q)[:, 0]
    at = np.unique(np.concatenate([a, b]))
    f, g = (np.searchsorted(np.sort(x), at, side="right") / len(x) for x in (a, b))
    value = float(np.abs(f - g).max())
    bands = sum(math.sqrt(math.log(4 / delta) / (2 * len(x))) for x in (a, b))
    n, low = min(len(a), len(b)), max(0.0, value - bands)
    return Estimate(value, low, 1.0, n, PROBABILITY, "Kolmogorov-Smirnov (biased up) less DKW bands", 1 - delta)


def length_bound(
    p: ArrayLike, q: ArrayLike, bins: int = 8, delta: float = DELTA, shared_prompts: bool = True, seed: int = 0
) -> Estimate:
    """Lower bound of the TV of lengths (or of another number): the better of split witness and KS, each at delta / 2,
    because one of the two is chosen.

    The bins are quantiles of the lengths in the half of the prompts on which the witness is chosen, so they may be used
    for the other half.
    """
    p_PK, q_PK = intervals.samples("p", p), intervals.samples("q", q)
    _match(p_PK, q_PK, shared_prompts)
    first_p, _, first_q, _ = _halves(len(p_PK), len(q_PK), shared_prompts, seed)
    seen = np.concatenate([p_PK[first_p].ravel(), q_PK[first_q].ravel()])
    edges = np.unique(np.quantile(seen, np.arange(1, bins) / bins, method="inverted_cdf"))
    a, b = np.searchsorted(edges, p_PK), np.searchsorted(edges, q_PK)  # bin i: up to and with edge i
    witness = split_witness(a, b, len(edges) + 1, delta / 2, shared_prompts, seed)
    best = max(witness, ks_bound(p_PK, q_PK, delta / 2), key=lambda e: (e.low, e.value))
    return replace(best, method=f"{best.method}, best of two", level=1 - delta)


@dataclass(frozen=True)
class KeywordGap:
    """How much more often a word occurs under p than under q (negative: less often)."""

    word: str
    p: float
    """Share of completions with the word, all prompts."""
    q: float
    low: float
    """Lower bound of |p - q| at the family's level."""


def keyword_bounds(
    p: ArrayLike, q: ArrayLike, words: Sequence[str], delta: float = DELTA, shared_prompts: bool = True
) -> tuple[Estimate, tuple[KeywordGap, ...]]:
    """TV >= |p(word) - q(word)| for every word: (the best bound, all words by the size of their gap).

    p (P, W) or (P, K, W) of 0/1: whether draw k of prompt i holds word w. All words are tested on all prompts, in both
    directions, with Bonferroni; so `words` must have been fixed before these texts were seen.
    """
    if not words:
        raise UserError("words", "none", "name at least one word")
    (p_PW, single_p), (q_PW, single_q) = _word_shares("p", p, len(words)), _word_shares("q", q, len(words))
    _match(p_PW, q_PW, shared_prompts)
    best = Estimate(0.0, 0.0, 1.0, min(len(p_PW), len(q_PW)), PROBABILITY, "no word differs", 1 - delta)
    tests, rows = 2 * len(words), []
    for w, word in enumerate(words):
        low = 0.0
        for more, less in ((p_PW, q_PW), (q_PW, p_PW)):
            bound = _gap(more[:, w], less[:, w], delta / tests, shared_prompts, single_p and single_q)
            low = max(low, bound.low)
            if (bound.low, bound.value) > (best.low, best.value):
                best = replace(bound, method=f"{bound.method}, Bonferroni over {tests}", level=1 - delta)
        rows.append(KeywordGap(word, float(p_PW[:, w].mean()), float(q_PW[:, w].mean()), low))
    return best, tuple(sorted(rows, key=lambda row: -abs(row.p - row.q)))


# --- bounds of one share and of one mean ------------------------------------------------------------
#
# They hold for every distribution at every sample size: unlike the t intervals of `intervals` they assume no normality,
# and each is wrong with probability at most delta.


def share_low(hits: int, n: int, delta: float) -> float:
    """Clopper and Pearson's lower bound of a probability: exceeds it with probability at most delta."""
    return float(betaincinv(hits, n - hits + 1, delta)) if hits > 0 else 0.0


def share_high(hits: int, n: int, delta: float) -> float:
    return 1.0 - share_low(n - hits, n, delta)


def mean_low(values: ArrayLike, delta: float, low: float = 0.0, high: float = 1.0) -> float:
    """Lower bound of the mean of (P,) independent values in [low, high]: exceeds it with probability <= delta.

    Betting (Waudby-Smith and Ramdas 2024, arXiv 2010.09686): the wealth of bets that the mean is above m is a
    martingale if m is the mean, so by Ville's inequality it reaches 1 / delta with probability at most delta. The bound
    is the smallest m that the bets do not refute. They use earlier values only; the width adapts to the variance,
    without assuming normality.
    """
    x_P = (intervals.per_prompt("values", values) - low) / (high - low)
    if x_P.min() < 0 or x_P.max() > 1:
        raise UserError("values", f"outside {low:g} to {high:g}", "the bound needs values in that range")
    n = len(x_P)
    count = np.arange(1, n + 1)
    running = (0.5 + np.cumsum(x_P)) / (count + 1)
    variance = (0.25 + np.cumsum((x_P - running) ** 2)) / (count + 1)
    known = np.concatenate([[0.25], variance[:-1]])  # of the values before this one
    bet = np.sqrt(2 * math.log(1 / delta) / (n * known))
    seen = float(x_P.mean())

    def refuted(m: float) -> bool:
        # 3/4 of the largest bet that cannot lose everything; a smaller m only raises the wealth: bisection works
        return float(np.log1p(np.minimum(bet, 0.75 / m) * (x_P - m)).sum()) >= math.log(1 / delta)

    bottom, top = 0.0, seen
    for _ in range(30):
        middle = (bottom + top) / 2
        if middle > 0 and refuted(middle):
            bottom = middle
        else:
            top = middle
    return low + (high - low) * bottom


def mean_high(values: ArrayLike, delta: float, low: float = 0.0, high: float = 1.0) -> float:
    return -mean_low(-np.asarray(values, dtype=np.float64), delta, -high, -low)


# --- inside -----------------------------------------------------------------------------------------


def _gap(one_P: Floats, two_P: Floats, delta: float, shared_prompts: bool, single: bool) -> Estimate:
    """Lower bound of E one - E two, (P,) shares in [0, 1] of an event that was fixed without these data."""
    value, (n, m) = float(one_P.mean() - two_P.mean()), (len(one_P), len(two_P))
    if single:  # one draw of each prompt: independent coins; holds however the two samples depend on each other
        low = share_low(round(one_P.sum()), n, delta / 2) - share_high(round(two_P.sum()), m, delta / 2)
        method = "Clopper-Pearson"
    elif shared_prompts:
        low, method = mean_low(one_P - two_P, delta, -1.0, 1.0), "betting on paired prompts"
    else:
        low, method = mean_low(one_P, delta / 2) - mean_high(two_P, delta / 2), "betting"
    return Estimate(value, max(0.0, low), 1.0, min(n, m), PROBABILITY, method, 1 - delta)


def _shares(p: ArrayLike, q: ArrayLike, bins: int) -> tuple[Floats, Floats, bool]:
    """(P, B) share of each prompt's draws in each category, for p and q; whether both have one draw per prompt."""
    out = []
    single = True
    for name, ids in (("p", p), ("q", q)):
        values_PK = intervals.samples(name, ids)
        if (values_PK != np.floor(values_PK)).any() or values_PK.min() < 0 or values_PK.max() >= bins:
            raise UserError(name, "not a category", f"give whole numbers from 0 to {bins - 1}")
        n, k = values_PK.shape
        place = (np.arange(n)[:, None] * bins + values_PK.astype(np.intp)).ravel()
        out.append(np.bincount(place, minlength=n * bins).reshape(n, bins) / k)
        single = single and k == 1
    return out[0], out[1], single


def _word_shares(name: str, flags: ArrayLike, n_words: int) -> tuple[Floats, bool]:
    """(P, W) share of each prompt's draws with each word, from (P, W) or (P, K, W); whether it is one draw."""
    values = np.asarray(flags, dtype=np.float64)
    if values.ndim not in (2, 3) or values.size == 0 or values.shape[-1] != n_words:
        raise UserError(name, f"shape {values.shape}", f"give (prompts, {n_words}) or (prompts, samples, {n_words})")
    if not intervals.is_binary(values):
        raise UserError(name, "not 0 or 1", "say of each draw whether it holds the word")
    return (values, True) if values.ndim == 2 else (values.mean(axis=1), values.shape[1] == 1)


def _match(p: Floats, q: Floats, shared_prompts: bool) -> None:
    if shared_prompts and len(p) != len(q):
        raise UserError("prompts", f"{len(p)} and {len(q)}", "shared prompts come in the same rows of both")
    if min(len(p), len(q)) < 2:
        raise UserError("prompts", min(len(p), len(q)), "a bound needs at least two prompts")


Index = NDArray[np.intp]


def _halves(n: int, m: int, shared_prompts: bool, seed: int) -> tuple[Index, Index, Index, Index]:
    """(first, second) of the prompts of p and of q. Shared prompts are split alike: the halves are independent."""
    order_n = generator("halves", seed, "p").permutation(n)
    order_m = order_n if shared_prompts else generator("halves", seed, "q").permutation(m)
    return order_n[: n // 2], order_n[n // 2 :], order_m[: m // 2], order_m[m // 2 :]
