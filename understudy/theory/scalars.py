"""Bernoulli KL and its inverse, the error of a vote, binomial sums. Natural logs; 0 log 0 = 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, ndtr, xlogy
from scipy.stats import binom

Array = NDArray[np.float64]
TINY = 1e-250  # scipy's binomial overflows for probabilities near the smallest double


def bernoulli_kl(a: ArrayLike, b: ArrayLike) -> Array:
    """kl(a || b) of two coins, elementwise, in nats; infinite if a does what b rules out."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        one = np.where(a > 0, xlogy(a, a) - a * np.log(b), 0.0)
        zero = np.where(a < 1, xlogy(1 - a, 1 - a) - (1 - a) * np.log1p(-b), 0.0)
    return np.maximum(one + zero, 0.0)  # rounding can leave -1e-17 at a = b


def kl_inv_lower(value_expert: float, budget: float) -> float:
    """min{v : kl(v || value_expert) <= budget}: the guarantee of Theorem 3A, by bisection.

    `value_expert` in [0, 1], `budget` >= 0 nats (infinite gives 0). Accurate to the last bits of a double.
    """
    if value_expert <= 0 or budget == math.inf:
        return 0.0
    if budget <= 0:
        return value_expert
    if float(bernoulli_kl(0.0, value_expert)) <= budget:
        return 0.0
    low, high = 0.0, value_expert
    while (middle := 0.5 * (low + high)) not in (low, high):
        if float(bernoulli_kl(middle, value_expert)) <= budget:
            high = middle
        else:
            low = middle
    return high


def kl_inv_upper(value_expert: float, budget: float) -> float:
    """max{v : kl(v || value_expert) <= budget}."""
    return 1 - kl_inv_lower(1 - value_expert, budget)


def pinsker_lower(value_expert: float, budget: float) -> float:
    """The weaker guarantee of Theorem 3A: value_expert - sqrt(budget / 2), not below 0."""
    return max(0.0, value_expert - math.sqrt(budget / 2)) if budget < math.inf else 0.0


def vote_error(votes: ArrayLike, kappa: float) -> Array:
    """e_m(kappa): error of a majority of m votes, each wrong with probability kappa, ties by a fair coin; e_0 = 1/2."""
    m = np.asarray(votes)
    kappa = kappa if kappa > TINY else 0.0
    half = m // 2
    error = binom.sf(half, m, kappa) + np.where(m % 2 == 0, 0.5 * binom.pmf(half, m, kappa), 0.0)
    return np.where(m == 0, 0.5, error)


def binomial_mean(n: int, q: float, f: Callable[[Any], Array]) -> float:
    """E f(m) for m ~ Bin(n, q). The sum stops at n q + 12 sqrt(n q + 1) + 40: the tail is below 1e-30 of it."""
    if q < TINY:
        return float(f(np.zeros(1, dtype=np.int64))[0])
    top = min(n, math.ceil(n * q + 12 * math.sqrt(n * q + 1) + 40))
    m = np.arange(top + 1)
    return float(binom.pmf(m, n, q) @ f(m))


def monte_carlo_tolerance(standard_error: float) -> float:
    """The tolerance of every Monte Carlo check of the theory: 4 standard errors + 2e-4."""
    return 4 * standard_error + 2e-4


def softmax(logits: Array) -> Array:
    """Over the last axis."""
    weight = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(weight / weight.sum(-1, keepdims=True))


def gaussian_density(x: ArrayLike) -> Array:
    return np.exp(-0.5 * np.asarray(x, float) ** 2) / math.sqrt(2 * math.pi)


def gaussian_cdf(x: ArrayLike) -> Array:
    return np.asarray(ndtr(np.asarray(x, float)))


def logistic(x: ArrayLike) -> Array:
    return np.asarray(expit(np.asarray(x, float)))


def logit(p: ArrayLike) -> Array:
    p = np.asarray(p, float)
    with np.errstate(divide="ignore"):
        return np.log(p) - np.log1p(-p)
