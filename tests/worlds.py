"""Provides small token policies whose completions can all be listed, so that every expectation is a finite sum."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

TOKENS, LONGEST, TOP = 3, 3, 2  # token 0 ends a completion; a third token ends it anyway


@dataclass(frozen=True)
class World:
    """P prompts, Y completions: all tables (P, Y) unless said otherwise. Prompts are equally likely."""

    ls: np.ndarray
    le: np.ndarray
    r: np.ndarray
    length: np.ndarray
    kl_student: np.ndarray  # sum over prefixes of KL(student || expert)
    kl_expert: np.ndarray  # sum over prefixes of KL(expert || student)
    top_student: np.ndarray  # (P, Y, LONGEST, TOP) likeliest tokens at each prefix
    top_expert: np.ndarray

    @property
    def student(self) -> np.ndarray:
        return np.exp(self.ls)

    @property
    def expert(self) -> np.ndarray:
        return np.exp(self.le)

    def mean(self, policy: np.ndarray, f: np.ndarray) -> float:
        return float((policy * f).sum(1).mean())

    def draw(self, rng: np.random.Generator, policy: np.ndarray, prompt: np.ndarray, k: int) -> np.ndarray:
        """(..., n, k) completions of prompts (..., n)."""
        u = rng.random((*prompt.shape, k))
        cumulative = policy.cumsum(1)
        y = np.zeros(u.shape, dtype=np.intp)
        for column in range(policy.shape[1] - 1):
            y += u > cumulative[prompt, column][..., None]
        return y


def make(seed: int, prompts: int = 12, noise: float = 0.9, pull: float = 0.8) -> World:
    """The expert is the student times e^noise per token, with some pull toward right completions.

    Every completion is wrong at the first prompt and right at the second.
    """
    rng = np.random.default_rng(seed)
    sequences = [
        s + end
        for n in range(LONGEST)
        for s in itertools.product(range(1, TOKENS), repeat=n)
        for end in ([(0,)] if n < LONGEST - 1 else [(t,) for t in range(TOKENS)])
    ]
    shape = (prompts, len(sequences))
    r = (rng.random(shape) < 0.45).astype(float)
    r[0], r[1] = 0.0, 1.0
    length = np.broadcast_to([float(len(s)) for s in sequences], shape).copy()
    ls, le, ks, ke = (np.zeros(shape) for _ in range(4))
    tops = np.zeros((2, *shape, LONGEST, TOP), dtype=np.int64)
    prefixes = [p for n in range(LONGEST) for p in itertools.product(range(1, TOKENS), repeat=n)]
    for i in range(prompts):
        student, expert = {}, {}
        for p in prefixes:
            good = [np.mean([r[i, j] for j, s in enumerate(sequences) if s[: len(p) + 1] == (*p, t)]) for t in range(3)]
            logits = rng.normal(0, 0.8, TOKENS)
            advice = logits + rng.normal(0, noise, TOKENS) + pull * np.array(good)
            student[p], expert[p] = (x - np.log(np.exp(x).sum()) for x in (logits, advice))
        for j, s in enumerate(sequences):
            for t, token in enumerate(s):
                a, b = student[s[:t]], expert[s[:t]]
                ls[i, j] += a[token]
                le[i, j] += b[token]
                ks[i, j] += (np.exp(a) * (a - b)).sum()
                ke[i, j] += (np.exp(b) * (b - a)).sum()
                tops[0, i, j, t], tops[1, i, j, t] = np.argsort(-a)[:TOP], np.argsort(-b)[:TOP]
    return World(ls, le, r, length, ks, ke, tops[0], tops[1])
