"""What full training and a pilot do in a finite world: two learners of one class, and their exact expected accuracy.

SFT: the Bayes mixture of the options given n expert samples, weight = prior x likelihood, context by context.
Online: the same with the reverse KL of the visited contexts in place of the log loss (the Gibbs mixture): each prompt
tells the whole KL(option || expert) there, as `opd_full` is told. With n = 0 both are the start; with n to infinity
they are the forward and the reverse projection. Where one sample decides a bit they attain the Bayes regrets of
docs/theory.md (tests/unit/calibrate/test_lab.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from understudy.calibrate.worlds import World
from understudy.theory.scalars import Array

TARGET = 0.004
"""Standard error at which the replications of one expected accuracy stop."""


@dataclass(frozen=True)
class Outcome:
    """An expected accuracy; error: its standard error, 0 where it is exact."""

    value: float
    error: float


def sft_weights(world: World, counts: Array) -> Array:
    """(..., X, Y) counts of expert samples -> (..., X, K) weights of the options."""
    return _mix(world, np.einsum("...xy,kxy->...xk", counts, np.log(world.options)))


def online_losses(world: World) -> Array:
    """(X, K) KL(option || expert), by the expert's scores."""
    return np.asarray((world.options * (np.log(world.options) - np.log(world.score))).sum(-1).T)


def online_weights(world: World, visits: Array) -> Array:
    """(..., X) visits of each context -> (..., X, K) weights of the options."""
    return _mix(world, -visits[..., None] * online_losses(world))


def _mix(world: World, log_weight: Array) -> Array:
    with np.errstate(divide="ignore"):
        total = log_weight + np.log(world.prior)
    total = np.exp(total - total.max(-1, keepdims=True))
    return np.asarray(total / total.sum(-1, keepdims=True))


def option_values(world: World) -> Array:
    """(X, K) expected reward of each option in each context, times the context's probability."""
    return np.asarray(world.mu[:, None] * np.einsum("kxy,xy->xk", world.options, world.reward))


def online_outcome(world: World, n: int) -> Outcome:
    """Exact: the visits of a context are binomial, and contexts do not talk to each other."""
    losses, values, total = online_losses(world), option_values(world), 0.0
    with np.errstate(divide="ignore"):
        log_prior = np.log(world.prior)
    for x, p in enumerate(world.mu):
        top = min(n, math.ceil(n * p + 12 * math.sqrt(n * p + 1) + 40))
        visits = np.arange(top + 1)
        log_weight = log_prior[x] - visits[:, None] * losses[x]
        weight = np.exp(log_weight - log_weight.max(-1, keepdims=True))
        mean = (weight @ values[x]) / weight.sum(-1)
        total += float(binom.pmf(visits, n, p) @ mean)
    return Outcome(total, 0.0)


def sft_outcome(world: World, n: int, rng: np.random.Generator, least: int = 64, most: int = 2048) -> Outcome:
    """The theory's closed form where there is one, else replications until the standard error is below TARGET."""
    if world.exact_sft is not None:
        return Outcome(world.exact_sft(n), 0.0)
    law, values, found = (world.mu[:, None] * world.expert).ravel(), option_values(world), np.empty(0)
    batch = least
    while True:
        counts = rng.multinomial(n, law / law.sum(), batch).reshape(batch, *world.expert.shape)
        found = np.append(found, np.einsum("rxk,xk->r", sft_weights(world, counts.astype(float)), values))
        error = float(found.std(ddof=1) / math.sqrt(len(found)))
        if error < TARGET or len(found) >= most:
            return Outcome(float(found.mean()), error)
        batch = len(found)
