"""Confidence bounds of one share and of one mean that hold for every distribution, at every sample size.

Unlike the t intervals of `intervals` they trust no normality: each is wrong with probability at most delta.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv

from understudy.diagnosis.measures import intervals
from understudy.errors import UserError


def share_low(hits: int, n: int, delta: float) -> float:
    """Clopper and Pearson's lower bound of a probability: exceeds it with probability at most delta."""
    return float(betaincinv(hits, n - hits + 1, delta)) if hits > 0 else 0.0


def share_high(hits: int, n: int, delta: float) -> float:
    return 1.0 - share_low(n - hits, n, delta)


def mean_low(values: ArrayLike, delta: float, low: float = 0.0, high: float = 1.0) -> float:
    """Lower bound of the mean of (P,) independent values in [low, high]: exceeds it with probability <= delta.

    Betting (Waudby-Smith and Ramdas 2024, arXiv 2010.09686): a gambler who bets that the mean is above m makes
    wealth that is a martingale if m is the mean, so by Ville it reaches 1 / delta with probability at most delta.
    The bound is the smallest m that he could not refute. Bets use earlier values only; width adapts to the
    variance, without a t interval's trust in normality.
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
        # 3/4 of what would risk ruin; a smaller m only raises the wealth, so bisection finds the bound
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
