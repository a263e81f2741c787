"""Scalars of the theory lab against brute force and hand-worked numbers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.theory.production import kl_expert_student, kl_student_expert
from understudy.theory.scalars import bernoulli_kl, binomial_mean, kl_inv_lower, kl_inv_upper, pinsker_lower, vote_error

PROBABILITY = st.floats(0.001, 0.999)


def test_vote_error_against_all_outcomes() -> None:
    for m, kappa in itertools.product(range(8), (0.0, 0.1, 0.37)):
        total = 0.0
        for votes in itertools.product((0, 1), repeat=m):  # 1 = a wrong vote
            wrong = sum(votes)
            share = 1.0 if wrong > m / 2 else 0.5 if wrong == m / 2 else 0.0
            total += share * kappa**wrong * (1 - kappa) ** (m - wrong)
        assert float(vote_error(m, kappa)) == pytest.approx(total, abs=1e-14)
    assert float(vote_error(0, 0.3)) == 0.5


@given(PROBABILITY, st.floats(1e-9, 3))
def test_kl_inverse_is_an_inverse_and_beats_pinsker(v_e: float, budget: float) -> None:
    low, high = kl_inv_lower(v_e, budget), kl_inv_upper(v_e, budget)
    assert low <= v_e <= high
    if low > 0:
        assert float(bernoulli_kl(low, v_e)) == pytest.approx(budget, rel=1e-6, abs=1e-12)
    assert low >= pinsker_lower(v_e, budget) - 1e-12


def test_kl_inverse_at_the_ends() -> None:
    assert kl_inv_lower(0.9, math.inf) == 0.0
    assert kl_inv_lower(0.9, 0.0) == 0.9
    assert kl_inv_lower(0.0, 0.1) == 0.0
    assert kl_inv_lower(1.0, 5.0) == 1.0  # any v < 1 is infinitely far


@given(st.lists(PROBABILITY, min_size=2, max_size=2))
def test_bernoulli_kl_is_the_production_divergence_of_two_coins(ab: list[float]) -> None:
    a, b = ab
    p, q = np.array([a, 1 - a]), np.array([b, 1 - b])
    assert float(bernoulli_kl(a, b)) == pytest.approx(float(kl_student_expert(p, q)), abs=1e-12)
    assert float(bernoulli_kl(a, b)) == pytest.approx(float(kl_expert_student(q, p)), abs=1e-12)


def test_bernoulli_kl_where_something_is_impossible() -> None:
    assert float(bernoulli_kl(0.0, 0.25)) == pytest.approx(-math.log(0.75))
    assert float(bernoulli_kl(0.5, 0.0)) == math.inf
    assert float(bernoulli_kl(1.0, 1.0)) == 0.0


def test_truncated_binomial_sum_loses_nothing() -> None:
    for n, q in ((7, 0.3), (500, 0.01), (5000, 0.4)):
        assert binomial_mean(n, q, lambda m: m * 1.0) == pytest.approx(n * q, rel=1e-12)
