"""Example C (docs/theory.md, section 8): after SFT the online phase is at a strict local minimum, for good.

The expert writes a completion of H tokens in one of two styles and keeps to it, except with probability a; the reward
is 1 for a completion in one style, whichever. The student has the same coin p at every token and cannot keep to a style
unless p is near 0 or 1. SFT matches the mean of the tokens; online imitation goes where a style can be kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import xlogy
from torch import Tensor, nn

from understudy.errors import UserError
from understudy.theory.scalars import Array, logistic, logit


@dataclass(frozen=True)
class Coin:
    """Actions: how many of the H tokens are of style 1. Given that number both policies are uniform over the words, so
    L and F are those over the 2^H words. The expert writes 0 or H with probability 1 - a, else any mixed word.
    """

    H: int = 8
    a: float = 0.02
    w: float = 0.5
    """Share of style 1 among the words in one style."""

    def __post_init__(self) -> None:
        if not 2 <= self.H <= 40:
            raise UserError("H", self.H, "from 2 to 40 tokens")
        for name in ("a", "w"):
            if not 0 < getattr(self, name) < 1:
                raise UserError(name, getattr(self, name), "a probability strictly between 0 and 1")

    @property
    def words(self) -> Array:
        """(H + 1,) how many words have k tokens of style 1."""
        return np.array([math.comb(self.H, k) for k in range(self.H + 1)], dtype=float)

    @property
    def one_word(self) -> Array:
        """(H + 1,) the expert's probability of one word with k tokens of style 1."""
        table = np.full(self.H + 1, self.a / (2**self.H - 2))
        table[[0, -1]] = (1 - self.a) * np.array([1 - self.w, self.w])
        return table

    @property
    def expert(self) -> Array:
        """(1, H + 1)"""
        return (self.words * self.one_word)[None]

    @property
    def reward(self) -> Array:
        """(1, H + 1)"""
        table = np.zeros((1, self.H + 1))
        table[0, [0, -1]] = 1.0
        return table

    def policy(self, p: float) -> Array:
        """(1, H + 1)"""
        k = np.arange(self.H + 1)
        return np.asarray(self.words * p**k * (1 - p) ** (self.H - k))[None]

    # --- closed forms in p ---------------------------------------------------------------------------------

    def value(self, p: float) -> float:
        return p**self.H + (1 - p) ** self.H

    @property
    def _pulls(self) -> tuple[float, float]:
        """log of the expert's odds of the word in style 1, and of that in style 0, against a mixed word."""
        e = self.one_word
        return math.log(e[-1] / e[1]), math.log(e[0] / e[1])

    def reverse(self, p: float) -> float:
        """L(p) = KL(pi_p || e)."""
        up, down = self._pulls
        entropy = -self.H * float(xlogy(p, p) + xlogy(1 - p, 1 - p))
        return -entropy - up * p**self.H - down * (1 - p) ** self.H - math.log(self.one_word[1])

    def slope(self, p: ArrayLike) -> Array:
        """dL/dp, elementwise."""
        (up, down), n, p = self._pulls, self.H, np.asarray(p, float)
        return np.asarray(n * (logit(p) - up * p ** (n - 1) + down * (1 - p) ** (n - 1)))

    def curvature(self, p: float) -> float:
        """d2L/dp2; positive at a stationary point: a strict local minimum."""
        (up, down), n = self._pulls, self.H
        return n * (1 / (p * (1 - p)) - (n - 1) * (up * p ** (n - 2) + down * (1 - p) ** (n - 2)))

    @property
    def offline(self) -> float:
        """p of the forward-KL minimiser: the mean bit of the expert."""
        return (1 - self.a) * self.w + self.a / 2

    @cached_property
    def stationary(self) -> list[float]:
        """Every p with dL/dp = 0, in increasing order, by the sign changes on a grid of logits."""
        grid = logistic(np.linspace(-30, 30, 3001) + 1e-4)  # 1/2 itself is no point of the grid
        sign = np.sign(self.slope(grid))
        changes = np.flatnonzero(sign[:-1] != sign[1:])
        return [float(brentq(self.slope, grid[i], grid[i + 1], xtol=1e-15, rtol=1e-15)) for i in changes]

    def end(self, p: float) -> float:
        """Where gradient descent on L from p ends: downhill to the next stationary point."""
        slope = float(self.slope(p))
        if slope == 0:
            return p
        points = self.stationary
        return max(q for q in points if q < p) if slope > 0 else min(q for q in points if q > p)

    @property
    def barriers(self) -> tuple[float, float]:
        """The two local maxima of L: from between them descent goes to the middle. UserError if there is no middle."""
        points = self.stationary
        if len(points) != 5:
            raise UserError("H", self.H, "L has no strict local minimum in the middle: longer, or a larger a")
        return points[1], points[3]


class CoinTable(nn.Module):
    """The student of Example C: one logit, for every token."""

    def __init__(self, family: Coin, p: float) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(math.log(p / (1 - p)), dtype=torch.float64))
        self.log_words = torch.from_numpy(np.log(family.words))
        self.ones = torch.arange(family.H + 1).double()

    def forward(self) -> Tensor:
        """(1, H + 1) log-probs."""
        up, down = nn.functional.logsigmoid(self.logit), nn.functional.logsigmoid(-self.logit)
        return (self.log_words + self.ones * up + self.ones.flip(0) * down)[None]

    @property
    def p(self) -> float:
        return float(self.logit.detach().sigmoid())
