"""Lower bounds of total variation hold at their stated confidence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import beta

from understudy.diagnosis.types import Estimate
from understudy.errors import UserError
from understudy.recipes import bounds as B

PROMPTS, BINS, DELTA, REPEATS = 20, 6, 0.2, 150


class Lengths:
    """Two policies with lengths 0..BINS-1 that depend on the prompt, and the TV of the mixtures over prompts."""

    def __init__(self, apart: float, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.p = rng.dirichlet(np.full(BINS, 0.6), PROMPTS)
        other = rng.dirichlet(np.linspace(0.1, 3.0, BINS), PROMPTS)
        self.q = (1 - apart) * self.p + apart * other
        self.tv = 0.5 * float(np.abs(self.p.mean(0) - self.q.mean(0)).sum())

    def draw(self, rng: np.random.Generator, n: int, k: int, shared: bool = True) -> tuple[np.ndarray, np.ndarray]:
        x = rng.integers(0, PROMPTS, n)
        other = x if shared else rng.integers(0, PROMPTS, n)
        cumulative = (table.cumsum(1)[at] for table, at in ((self.p, x), (self.q, other)))
        p, q = ((rng.random((n, k))[..., None] > c[:, None, :-1]).sum(-1) for c in cumulative)
        return p, q


SAME, NEAR, FAR = Lengths(0.0), Lengths(0.25), Lengths(0.8)

WAYS: dict[str, Callable[[np.ndarray, np.ndarray, bool, int], Estimate]] = {
    "split": lambda p, q, shared, seed: B.split_witness(p, q, BINS, DELTA, shared, seed),
    "ks": lambda p, q, shared, seed: B.ks_bound(p, q, DELTA),
    "length": lambda p, q, shared, seed: B.length_bound(p, q, 4, DELTA, shared, seed),
}


@pytest.mark.parametrize("world", [SAME, NEAR], ids=["same", "near"])
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("shared", [True, False])
def test_lower_bounds_hold(world: Lengths, k: int, shared: bool) -> None:
    """Wrong at most a fraction DELTA of the time; 0.2 is large enough to reveal a bound with a missing factor."""
    rng = np.random.default_rng(k)
    wrong = dict.fromkeys(WAYS, 0)
    for seed in range(REPEATS):
        p, q = world.draw(rng, 80, k, shared)
        for name, way in WAYS.items():
            bound = way(p, q, shared, seed)
            wrong[name] += bound.low > world.tv + 1e-12
            assert bound.level == pytest.approx(1 - DELTA)
    limit = DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / REPEATS)
    assert all(w / REPEATS <= limit for w in wrong.values()), wrong


def test_lower_bounds_detect_a_difference() -> None:
    rng = np.random.default_rng(0)
    for k, least in ((1, 0.3), (8, 0.5)):
        p, q = FAR.draw(rng, 1000, k)
        assert B.length_bound(p, q).low > least * FAR.tv
        assert B.split_witness(p, q, BINS).low > least * FAR.tv
        assert B.ks_bound(p, q).low > 0


def test_clopper_pearson() -> None:
    for hits, n in ((0, 10), (3, 10), (10, 10), (57, 200)):
        low = beta.ppf(0.05, hits, n - hits + 1) if hits else 0.0
        high = beta.ppf(0.95, hits + 1, n - hits) if hits < n else 1.0
        assert B.share_low(hits, n, 0.05) == pytest.approx(low)
        assert B.share_high(hits, n, 0.05) == pytest.approx(high)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: (rng.random(60) < 0.1).astype(float),
        lambda rng: (rng.random(60) < 0.9).astype(float),
        lambda rng: rng.beta(0.3, 0.7, 60),
        lambda rng: 0.9 + 0.1 * rng.random(60),
    ],
)
def test_betting_bounds_hold_and_use_the_variance(draw: Callable[[np.random.Generator], np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    truth = float(np.mean([draw(rng).mean() for _ in range(4000)]))
    below = above = 0
    for _ in range(200):
        x = draw(rng)
        below += B.mean_low(x, DELTA) > truth
        above += B.mean_high(x, DELTA) < truth
    limit = 200 * (DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / 200))
    assert below <= limit
    assert above <= limit
    x = 0.5 + 0.02 * np.random.default_rng(1).standard_normal(200).clip(-3, 3)
    hoeffding = x.mean() - np.sqrt(np.log(1 / 0.05) / 400)
    assert x.mean() > B.mean_low(x, 0.05) > hoeffding + 0.05
    # the same mean on another scale
    assert B.mean_low(10 * x - 5, 0.05, -5, 5) == pytest.approx(10 * B.mean_low(x, 0.05) - 5, abs=1e-6)


# --- keywords ---------------------------------------------------------------------------------------


def _flags(rng: np.random.Generator, rates: np.ndarray, n: int, k: int) -> np.ndarray:
    return (rng.random((n, k, len(rates))) < rates).astype(float)


@pytest.mark.parametrize("k", [1, 3])
def test_keyword_bounds_hold(k: int) -> None:
    """Twelve words: without Bonferroni some word would nearly always seem to differ."""
    rng = np.random.default_rng(0)
    rates = rng.uniform(0.05, 0.95, 12)
    words = [f"w{i}" for i in range(12)]
    wrong = 0
    for _ in range(100):
        p, q = _flags(rng, rates, 60, k), _flags(rng, rates, 60, k)
        best, _ = B.keyword_bounds(p, q, words, DELTA, shared_prompts=False)
        wrong += best.low > 0
    assert wrong <= 100 * (DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / 100))


def test_keywords_are_found_in_both_directions() -> None:
    rng = np.random.default_rng(0)
    rates = np.full(6, 0.4)
    more, less = rates.copy(), rates.copy()
    more[2], less[4] = 0.9, 0.02
    words = list("abcdef")
    p = _flags(rng, np.where(np.arange(6) == 4, less, more), 400, 1)[:, 0]
    q = _flags(rng, rates, 400, 1)[:, 0]
    best, rows = B.keyword_bounds(p, q, words)
    assert [row.word for row in rows[:2]] == ["c", "e"]
    assert 0.2 < best.low < 0.5
    assert rows[0].low == best.low
    assert rows[0].p - rows[0].q == pytest.approx(0.5, abs=0.1)
    assert rows[1].low > 0.1
    assert all(row.low == 0 for row in rows[2:])
    assert best.value == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: B.split_witness([], [], 3),
        lambda: B.split_witness([0, 1, 5], [0, 1, 1], 3),
        lambda: B.split_witness([0, 1, 0.5], [0, 1, 1], 3),
        lambda: B.split_witness([0, 1], [0, 1, 1], 2),
        lambda: B.length_bound([3.0, float("nan")], [1.0, 2.0]),
        lambda: B.length_bound([3.0], [1.0]),
        lambda: B.keyword_bounds([[1.0]], [[0.0]], []),
        lambda: B.keyword_bounds([[1.0], [1.0]], [[0.5], [0.0]], ["a"]),
        lambda: B.keyword_bounds([[1.0], [1.0]], [[1.0], [0.0]], ["a", "b"]),
        lambda: B.mean_low([0.5, 2.0], 0.05),
    ],
)
def test_refused(call: Callable[[], object]) -> None:
    with pytest.raises(UserError):
        call()


def test_unequal_numbers_of_prompts() -> None:
    rng = np.random.default_rng(0)
    p, _ = FAR.draw(rng, 600, 1)
    _, q = FAR.draw(rng, 400, 1)
    assert 0 < B.length_bound(p, q, shared_prompts=False).low < FAR.tv
