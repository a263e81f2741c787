"""Inference for bounded means that holds at every time at once: bands, alarms and paired tests that may stop early.

Everything rests on Ville's inequality: a non-negative process that starts at 1 and is a supermartingale under a
hypothesis ever reaches 1 / alpha with probability at most alpha if the hypothesis holds. The processes here are the
wealth of bets (Waudby-Smith and Ramdas 2024, arXiv 2010.09686). Values come in batches; a bet is fixed before its batch
is seen, so that a batch of n values of 0 or 1 enters by its sum alone. Values between 0 and 1 enter by their sum too:
log(1 + b (x - m)) is concave in x, so the chord between x = 0 and x = 1 is a lower bound of the wealth.

numpy and scipy only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import betaincinv

PULL = (0.02, 0.1, 0.25, 0.45, 0.65, 0.85, 0.95)
"""Alternatives that an alarm bets on: the mean has fallen to these shares of its bound."""
LEAST = -1e300  # the log of nothing, as a number that JSON keeps
LEANS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7)
"""Bets of the paired test, as shares of the largest bet that cannot lose everything."""


def share_low(hits: float, n: int, alpha: float) -> float:
    """Clopper and Pearson's lower bound of a probability from n trials, n fixed: too high with probability <= alpha."""
    return float(betaincinv(hits, n - hits + 1, alpha)) if hits > 0 else 0.0


def share_high(hits: float, n: int, alpha: float) -> float:
    """The upper bound likewise."""
    return 1.0 - share_low(n - hits, n, alpha)


class MeanBand:
    """Confidence sequence for the mean of values in [0, 1] that arrive in batches, all with the same conditional mean.

    The predictable plug-in empirical-Bernstein sequence (arXiv 2010.09686, theorem 2), with one bet b_t per batch:
    centre = sum b_i x_i / sum b_i, half width = (log(2 / alpha) + sum 4 (x_i - m_{t-1})^2 psi(b_i)) / sum b_i,
    psi(b) = (-log(1 - b) - b) / 4, b_t = min(1/2, sqrt(2 log(2 / alpha) / (s2_{t-1} n log(1 + n)))), n = values up to
    the end of the batch, m and s2 the running mean and variance before it. P(the mean is ever outside) <= alpha.
    """

    def __init__(self, alpha: float = 0.05) -> None:
        self.alpha = alpha
        self.n, self.total, self.square = 0, 0.0, 0.0  # values, their sum, their squared distances from earlier means
        self.bets, self.weighted, self.spread = 0.0, 0.0, 0.0

    def add(self, total: float, n: int, squares: float | None = None) -> None:
        """A batch of n values by their sum and the sum of their squares (None: values of 0 and 1)."""
        if n <= 0:
            return
        squares = total if squares is None else squares
        mean, variance = (0.5 + self.total) / (self.n + 1), (0.25 + self.square) / (self.n + 1)
        upto = self.n + n
        bet = min(0.5, math.sqrt(2 * math.log(2 / self.alpha) / (variance * upto * math.log1p(upto))))
        distance = squares - 2 * mean * total + n * mean * mean
        self.n, self.total, self.square = upto, self.total + total, self.square + distance
        self.bets += bet * n
        self.weighted += bet * total
        self.spread += 4 * distance * (-math.log1p(-bet) - bet) / 4

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high) now."""
        if not self.n:
            return 0.0, 1.0
        centre, half = self.weighted / self.bets, (math.log(2 / self.alpha) + self.spread) / self.bets
        return max(0.0, centre - half), min(1.0, centre + half)


class FallAlarm:
    """An e-process against "every conditional mean is at least `bound`" that a long good history does not blunt.

    With a bet for each moment j at which the mean may have fallen and each alternative q_k = pull_k * bound,
        E_t = sum_j w_j mean_k prod_{i=j..t} prod_(x in batch i) (1 + b_k (bound - x)),
        b_k = (bound - q_k) / (bound (1 - bound)), w_j = 1 / horizon,
    where a bet whose moment has not come counts as 1. For values of 0 and 1 the factor is the likelihood ratio of q_k
    against `bound`. E is a supermartingale while the conditional means are >= bound, so P(E ever >= 1 / alpha) <= alpha
    (Ville), whatever the means do above the bound and however they depend on the past. A mixture over change points
    (e-detectors, arXiv 2203.03532) instead of the average run length: the whole phase has one error probability.
    """

    def __init__(self, bound: float, horizon: int, alpha: float, state: Mapping[str, Any] | None = None) -> None:
        """horizon: the number of batches that may come; further ones start no new bets. state: of `as_dict`."""
        self.bound, self.horizon, self.alpha = bound, max(1, horizon), alpha
        self.silent = bound <= 0.0  # no mean is below zero
        inside = min(bound, 1 - 1e-9)
        pulls = np.array(PULL)
        self._hit = np.log(pulls)  # log(q / bound)
        self._miss = np.log1p(-pulls * inside) - math.log1p(-inside)  # log((1 - q) / (1 - bound))
        state = state or {}
        self.batches = int(state.get("batches", 0))
        self.peak = float(state.get("peak", 1.0))
        """The largest value of E so far."""
        self.since = int(state.get("since", 0))
        """The batch (from 1) at which the fall that is seen now most likely began; 0 = none is seen."""
        self._log = np.array(state.get("log", [LEAST] * len(PULL)))
        self._cusum = np.array(state.get("cusum", [0.0] * len(PULL)))
        self._starts = list(state.get("starts", [0] * len(PULL)))

    def add(self, total: float, n: int) -> bool:
        """A batch of n values in [0, 1] with this sum; whether the alarm has gone off, now or before."""
        if n > 0 and not self.silent:
            self.batches += 1
            gain = total * self._hit + (n - total) * self._miss
            begun = -math.log(self.horizon) if self.batches <= self.horizon else LEAST
            self._log = np.logaddexp(self._log, begun) + gain
            waiting = max(0, self.horizon - self.batches) / self.horizon
            value = math.exp(min(700.0, _log_mean(self._log))) + waiting
            self.peak = max(self.peak, value)
            fresh = self._cusum <= 0
            self._starts = [self.batches if new else old for new, old in zip(fresh, self._starts)]
            self._cusum = np.maximum(self._cusum, 0.0) + gain
            best = int(self._cusum.argmax())
            self.since = self._starts[best] if self._cusum[best] > 0 else 0
        return self.alarmed

    @property
    def alarmed(self) -> bool:
        return self.peak >= 1 / self.alpha

    def as_dict(self) -> dict[str, Any]:
        """What `state` takes, in numbers that JSON keeps."""
        return {
            "batches": self.batches, "peak": self.peak, "since": self.since, "log": [float(x) for x in self._log],
            "cusum": [float(x) for x in self._cusum], "starts": [int(x) for x in self._starts],
        }  # fmt: skip


class PairedTest:
    """Sequential test of paired differences d in [-1, 1] (one candidate minus the other on the same prompts).

    Accepts "not worse than -margin": wealth of bets against "the mean of d is at most -margin",
        A_t = mean_k prod_i (1 + b_k (d_i + margin)), b_k = lean_k / (1 - margin), P(accept | mean <= -margin) <= alpha.
    Rejects by the mirrored wealth against "the mean of d is at least -margin": then going on is futile.
    """

    def __init__(self, margin: float, alpha: float) -> None:
        self.margin, self.alpha = margin, alpha
        self.n, self.total = 0, 0.0
        leans = np.array(LEANS)
        self._up, self._down = leans / (1 - margin), leans / (1 + margin)
        self._for, self._against = np.zeros(len(LEANS)), np.zeros(len(LEANS))

    def add(self, differences: Sequence[float]) -> str:
        """The verdict after these too: "accept", "reject" or "" (open). The first verdict stays."""
        if not self.verdict:
            shifted_n = np.asarray(differences, dtype=np.float64)[:, None] + self.margin
            self._for = self._for + np.log1p(self._up * shifted_n).sum(0)
            self._against = self._against + np.log1p(-self._down * shifted_n).sum(0)
            self.n += len(shifted_n)
            self.total += float(np.sum(differences))
        return self.verdict

    @property
    def verdict(self) -> str:
        limit = math.log(1 / self.alpha)
        if _log_mean(self._for) >= limit:
            return "accept"
        return "reject" if _log_mean(self._against) >= limit else ""

    @property
    def mean(self) -> float:
        """Of the differences so far."""
        return self.total / self.n if self.n else 0.0


def _log_mean(log_k: Any) -> float:
    """The log of the mean of exp(log_k)."""
    top = float(log_k.max())
    return top + math.log(float(np.add.reduce(np.exp(log_k - top))) / len(log_k))
