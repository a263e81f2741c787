"""Theorems 3D and 3E and identity 3F on random instances, to 1e-9."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.theory.exact import improvement

SEEDS = st.integers(0, 2**32 - 1)


def _policies(rng: np.random.Generator, *shape: int, y: int = 5) -> np.ndarray:
    p = rng.dirichlet(np.full(y, 0.7), shape) + 1e-4
    return p / p.sum(-1, keepdims=True)


@settings(max_examples=80)
@given(SEEDS, st.floats(0.05, 10))
def test_theorem_3d(seed: int, beta: float) -> None:
    rng = np.random.default_rng(seed)
    mu, expert, reward = rng.dirichlet(np.ones(2)), _policies(rng, 2), rng.random((2, 5))
    first, second = _policies(rng, 2), _policies(rng, 2)
    second[:, 0] = 0  # students need not have full support
    second /= second.sum(-1, keepdims=True)
    terms = improvement.alignment(mu, (first, second), expert, reward, beta, _policies(rng, 2), rng.normal(0, 5, 2))
    truth = improvement.value(mu, first, reward) - improvement.value(mu, second, reward)
    assert terms.value_difference == pytest.approx(truth, abs=1e-9 * (1 + beta))


@settings(max_examples=60)
@given(SEEDS, st.floats(0, 1))
def test_theorem_3e_path(seed: int, t: float) -> None:
    rng = np.random.default_rng(seed)
    pi, expert, reward = _policies(rng, 3), _policies(rng, 3), rng.random((3, 5))
    pi[:, 1] = 0  # the end point is e restricted to the support
    pi /= pi.sum(-1, keepdims=True)
    rest = expert * (pi > 0)
    rest /= rest.sum(-1, keepdims=True)
    gain = ((rest - pi) * reward).sum(-1)
    assert improvement.path_value_gain(pi, expert, reward) == pytest.approx(gain, abs=1e-9)
    assert improvement.path(pi, expert, 1.0) == pytest.approx(rest, abs=1e-12)
    h = 1e-5

    def v(s: float) -> np.ndarray:
        return (improvement.path(pi, expert, s) * reward).sum(-1)

    first, second = improvement.path_derivatives(pi, expert, reward, t)
    assert first == pytest.approx((v(t + h) - v(t - h)) / (2 * h), abs=1e-6)
    slopes = [improvement.path_derivatives(pi, expert, reward, s)[0] for s in (t + h, t - h)]
    assert second == pytest.approx((slopes[0] - slopes[1]) / (2 * h), abs=1e-5)


@settings(max_examples=60)
@given(SEEDS, st.integers(1, 6))
def test_theorem_3e_gradients(seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    model = improvement.Softmax(rng.normal(size=(5, d)), rng.normal(size=d))
    expert, reward = _policies(rng), rng.random(5)
    natural = model.natural_step(expert, reward)
    assert natural == pytest.approx(model.projected_covariance(expert, reward), abs=1e-9)
    grad_v, descent = model.gradients(expert, reward)
    for i in range(d):
        h = np.zeros(d)
        h[i] = 1e-6
        up, down = (improvement.Softmax(model.features, model.theta + s * h).policy for s in (1, -1))
        assert grad_v[i] == pytest.approx(float((up - down) @ reward) / 2e-6, abs=1e-6)
        loss = [float((p * np.log(p / expert)).sum()) for p in (up, down)]
        assert descent[i] == pytest.approx(-(loss[0] - loss[1]) / 2e-6, abs=1e-5)


@settings(max_examples=60)
@given(SEEDS)
def test_tabular_softmax_steps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pi, expert, reward = _policies(rng), _policies(rng), rng.random(5)
    free = improvement.Softmax(np.eye(5), np.log(pi))
    a = improvement.advantage(pi, expert)
    assert free.natural_step(expert, reward) == pytest.approx(float(improvement.covariance(pi, reward, a)), abs=1e-9)
    assert free.vanilla_step(expert, reward) == pytest.approx(
        improvement.tabular_vanilla_step(pi, expert, reward), abs=1e-9
    )


@settings(max_examples=60)
@given(SEEDS, st.booleans())
def test_identity_3f(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    mu, pi = rng.dirichlet(np.ones(3)), _policies(rng, 3)
    reward = rng.integers(0, 2, (3, 5)).astype(float)
    score = rng.normal(size=(3, 5))
    score = np.round(score) if ties else score
    gain = improvement.best_of_two_gain(mu, pi, score, reward)
    assert gain == pytest.approx(improvement.best_of_two_identity(mu, pi, score, reward), abs=1e-9)
    by_hand = 0.0
    for x, a, b in itertools.product(range(3), range(5), range(5)):
        one, two = score[x, a], score[x, b]
        kept = reward[x, a] if one > two else reward[x, b] if one < two else (reward[x, a] + reward[x, b]) / 2
        by_hand += mu[x] * pi[x, a] * pi[x, b] * kept
    assert gain == pytest.approx(by_hand - improvement.value(mu, pi, reward), abs=1e-9)


def test_auc_without_discordant_pairs_is_not_a_number() -> None:
    pi = np.array([[0.5, 0.5]])
    assert np.isnan(improvement.auc_pair(np.ones(1), pi, pi, np.ones((1, 2))))
    assert improvement.best_of_two_identity(np.ones(1), pi, pi, np.ones((1, 2))) == 0.0
