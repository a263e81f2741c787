"""Intervals: coverage, exact reductions, pairing, and pass@k against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.errors import UserError
from understudy.evaluation import intervals

DRAWS = 600  # enough for tests of structure; coverage tests set their own number


def outcomes(seed: int, prompts: int = 60, k: int = 4, p: float = 0.6) -> np.ndarray:
    return (np.random.default_rng(seed).random((prompts, k)) < p).astype(float)


# --- the bootstrap ------------------------------------------------------------


def test_prompt_bootstrap_covers_at_its_level() -> None:
    """150 data sets of 80 prompts x 4 samples: a true 95% covers fewer than 87% once in 10,000."""
    rng, hits = np.random.default_rng(7), 0
    for _ in range(150):
        ability = rng.beta(1.0, 1.0, size=80)
        data = (rng.random((80, 4)) < ability[:, None]).astype(float)
        interval = intervals.bootstrap_prompts(data, draws=400)
        hits += interval.low <= 0.5 <= interval.high
    assert 0.87 <= hits / 150 <= 1.0


@pytest.mark.parametrize("shared", [False, True])
def test_hierarchical_bootstrap_covers_with_three_seeds(shared: bool) -> None:
    """Seeds spread by 3 points, 3 of them; ignoring the spread of seeds covers much less (checked below)."""
    rng, hits, naive_hits = np.random.default_rng(11), 0, 0
    for _ in range(120):
        ability = rng.beta(2, 2, size=(1 if shared else 3, 150))
        chance = np.clip(ability + rng.normal(0, 0.03, size=(3, 1)), 0, 1)
        data = rng.binomial(4, chance) / 4
        interval = intervals.bootstrap_seeds_prompts(list(data), shared_prompts=shared, draws=300)
        pooled = intervals.bootstrap_prompts(data.reshape(-1), draws=300)
        hits += interval.low <= 0.5 <= interval.high
        naive_hits += pooled.low <= 0.5 <= pooled.high
    assert hits / 120 >= 0.88
    assert hits > naive_hits


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), shared=st.booleans())
def test_hierarchical_with_one_seed_is_the_simple_one(seed: int, shared: bool) -> None:
    data = outcomes(seed)
    simple = intervals.bootstrap_prompts(data, draws=DRAWS, seed=seed)
    assert intervals.bootstrap_seeds_prompts([data], shared, seed=seed, draws=DRAWS) == simple
    assert simple.value == pytest.approx(data.mean(), abs=1e-12)
    assert simple.low <= simple.value <= simple.high


def test_prompt_bootstrap_has_the_textbook_standard_error() -> None:
    data = outcomes(3, prompts=400, k=2)
    per_prompt = data.mean(axis=1)
    interval = intervals.bootstrap_prompts(data)
    half = 1.96 * per_prompt.std() / np.sqrt(400)
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.06)


def test_shared_prompts_do_not_count_as_new_ones() -> None:
    """Three copies of one run are no more evidence about prompts than one; the crossed bootstrap accounts for it."""
    data = outcomes(5)
    one = intervals.bootstrap_prompts(data)
    crossed = intervals.bootstrap_seeds_prompts([data] * 3, shared_prompts=True)
    nested = intervals.bootstrap_seeds_prompts([data] * 3, shared_prompts=False)
    assert crossed.high - crossed.low == pytest.approx(one.high - one.low, rel=0.08)
    assert nested.high - nested.low < 0.7 * (one.high - one.low)


def test_the_spread_of_seeds_is_in_the_interval() -> None:
    sure = [np.full(50, value) for value in (0.4, 0.6)]  # no spread over prompts at all
    interval = intervals.bootstrap_seeds_prompts(sure)
    # widened by sqrt(2): the two extreme draws (both seeds alike) are 0.5 -+ 0.1 * sqrt(2)
    assert (interval.low, interval.high) == pytest.approx((0.5 - 0.1414214, 0.5 + 0.1414214), abs=1e-6)


def test_seeds_with_different_numbers_of_prompts() -> None:
    interval = intervals.bootstrap_seeds_prompts([outcomes(1, 30), outcomes(2, 90), np.ones(5)], draws=DRAWS)
    assert interval.low < interval.value < interval.high <= 1.2
    assert (interval.n_seeds, interval.n_prompts) == (3, 90)


def test_same_seed_same_interval_and_chunks_do_not_matter_much(monkeypatch: pytest.MonkeyPatch) -> None:
    data = [outcomes(i) for i in range(3)]
    assert intervals.bootstrap_seeds_prompts(data) == intervals.bootstrap_seeds_prompts(data)
    assert intervals.bootstrap_seeds_prompts(data) != intervals.bootstrap_seeds_prompts(data, seed=1)
    whole = intervals.bootstrap_seeds_prompts(data)
    monkeypatch.setattr(intervals, "_CHUNK", 10_000)
    assert intervals.bootstrap_seeds_prompts(data).low == pytest.approx(whole.low, abs=0.01)


# --- pairs ------------------------------------------------------------


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), n_seeds=st.integers(1, 4), shared=st.booleans())
def test_paired_difference_of_identical_runs_is_exactly_zero(seed: int, n_seeds: int, shared: bool) -> None:
    runs = [outcomes(seed + i) for i in range(n_seeds)]
    difference = intervals.paired_difference(runs, [run.copy() for run in runs], shared, draws=50)
    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)
    assert not difference.excludes_zero


def test_pairing_is_antisymmetric_and_narrower() -> None:
    rng = np.random.default_rng(2)
    ability = rng.beta(0.5, 0.5, size=200)  # problems differ a lot, so pairing narrows the interval
    a, b = rng.binomial(8, np.clip(ability + 0.1, 0, 1)) / 8, rng.binomial(8, ability) / 8
    forth, back = intervals.paired_difference([a], [b]), intervals.paired_difference([b], [a])
    assert forth.value == pytest.approx(-back.value)
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    unpaired = intervals.bootstrap_prompts(a)
    assert forth.high - forth.low < unpaired.high - unpaired.low
    assert forth.excludes_zero
    assert forth.reach == forth.high


def test_pairs_must_match() -> None:
    with pytest.raises(UserError, match="same seeds"):
        intervals.paired_difference([outcomes(0)], [])
    with pytest.raises(UserError, match="same prompts"):
        intervals.paired_difference([outcomes(0, 10)], [outcomes(0, 11)])
    a, b = intervals.align(["x", "y", "z"], ["z", "w", "x"])
    assert (a.tolist(), b.tolist()) == ([0, 2], [2, 0])
    with pytest.raises(UserError, match="same problems"):
        intervals.align(["x"], ["y"])


# --- avg@k and pass@k ------------------------------------------------------------


@settings(max_examples=60)
@given(row=st.lists(st.integers(0, 1), min_size=1, max_size=7), data=st.data())
def test_pass_at_k_is_the_mean_over_all_choices_of_k_samples(row: list[int], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(row)))
    brute = np.mean([max(choice) for choice in itertools.combinations(row, k)])
    assert intervals.pass_at_k([row], k)[0] == pytest.approx(brute, abs=1e-12)


def test_pass_at_k_edges() -> None:
    data = outcomes(1, prompts=20, k=5)
    assert intervals.pass_at_k(data, 1) == pytest.approx(data.mean(axis=1))
    assert (intervals.pass_at_k(data, 5) == data.max(axis=1)).all()
    assert intervals.avg_at_k(data) == pytest.approx(data.mean(axis=1))
    assert intervals.avg_at_k(data, 2) == pytest.approx(data[:, :2].mean(axis=1))
    big = np.zeros((1, 5000))
    big[0, 0] = 1
    assert intervals.pass_at_k(big, 2500)[0] == pytest.approx(0.5)  # no factorial overflows


@pytest.mark.parametrize("k", [0, -1, 5])
def test_k_beyond_the_samples_is_one_clear_line(k: int) -> None:
    for function in (intervals.pass_at_k, intervals.avg_at_k):
        with pytest.raises(UserError) as caught:
            function(np.ones((3, 4)), k)
        assert str(caught.value) == f"k: {k}: each prompt has 4 samples: choose k between 1 and 4"


@pytest.mark.parametrize("bad", [[], [[]], np.zeros((2, 2, 2)), [np.nan, 1.0], [np.inf]])
def test_bad_outcomes_are_user_errors(bad: object) -> None:
    with pytest.raises(UserError):
        intervals.bootstrap_prompts(bad)  # type: ignore[arg-type]
    with pytest.raises(UserError):
        intervals.bootstrap_seeds_prompts([])
    with pytest.raises(UserError, match="0 or 1"):
        intervals.pass_at_k([[0.5, 1.0]], 1)


# --- total variation ------------------------------------------------------------


def test_total_variation_and_its_chance_level() -> None:
    assert intervals.total_variation([10, 0], [0, 10])[0] == 1.0
    assert intervals.total_variation([5, 5], [50, 50])[0] == 0.0
    rng = np.random.default_rng(0)
    a, b = rng.multinomial(200, [0.05] * 20), rng.multinomial(200, [0.05] * 20)
    value, chance = intervals.total_variation(a, b)
    assert value == pytest.approx(chance, abs=0.05)  # alike: what is seen is what chance gives
    with pytest.raises(UserError):
        intervals.total_variation([0, 0], [1, 1])
