"""The gradient score in closed form, what it does not depend on, and that it is the training's gradient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from understudy.diagnosis.measures import gradients
from understudy.policy import load_policy
from understudy.tasks import load_task

S = gradients.SMOOTHING


def _random(seed: int, prompts: int = 6, samples: int = 2, size: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(prompts, samples, size))


def test_identical_gradients_are_the_best_direction():
    """All equal to r e: A = e e^T, so g^T A^-1 g = r^2 / ((1 - s) + s / d)."""
    g = np.zeros((5, 2, 4))
    g[..., 0] = 3.0
    assert gradients.score(g).value == pytest.approx(9 / ((1 - S) + S / 4))


def test_orthogonal_gradients_find_nothing_in_the_others():
    """Prompt i has r e_i alone: A of the others has no part along e_i, so its smoothed value is s / d."""
    d = 6
    g = 2.0 * np.eye(d)[:, None, :]
    assert gradients.score(g).value == pytest.approx(4 * d / S)


def test_two_groups_by_hand():
    """Three prompts along e_0, one along e_1, unit length, d = 2; A of the three others is diagonal."""
    g = np.eye(2)[[0, 0, 0, 1]][:, None, :]
    of_first = 1 / ((1 - S) * 2 / 3 + S / 2)
    assert gradients.left_out(g) == pytest.approx([of_first] * 3 + [1 / (S / 2)])


@given(st.integers(0, 2**20))
def test_order_rotation_and_scale(seed: int):
    rng, g = np.random.default_rng(seed), _random(seed)
    value = gradients.score(g).value
    assert gradients.score(g[rng.permutation(6)]).value == pytest.approx(value)
    assert gradients.score(g[:, ::-1]).value == pytest.approx(value)
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    assert gradients.score(g @ rotation).value == pytest.approx(value)
    assert gradients.score(3 * g).value == pytest.approx(9 * value)


def test_a_zero_gradient_counts_nothing_and_breaks_nothing():
    g = _random(1)
    g[2] = 0
    parts = gradients.left_out(g)
    assert parts[2] == 0
    assert np.isfinite(parts).all()


def _labels(p: np.ndarray, labels: np.ndarray, x: np.ndarray) -> float:
    """Score of (n,) labels: of softmax regression, the gradient of one is (p - onehot) x^T."""
    g = (p - np.eye(2)[labels])[:, :, None] * x[:, None, :]
    return gradients.score(g.reshape(len(x), 1, -1)).value


def test_an_expert_near_what_the_student_can_do_scores_lower():
    """The better of two experts is known: labels by a rule that the student has half learned, or labels at random."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 4))
    right = 1 / (1 + np.exp(-2 * x[:, 0]))
    p = np.stack([1 - right, right], 1)
    assert _labels(p, (x[:, 0] > 0).astype(int), x) < 0.5 * _labels(p, rng.integers(0, 2, 48), x)


def test_it_does_not_see_the_sign_of_a_gradient():
    """Second moments alone: where the student is undecided, labels by a rule and labels at random have one score."""
    rng = np.random.default_rng(0)
    x, p = rng.normal(size=(48, 4)), np.full((48, 2), 0.5)
    assert _labels(p, (x[:, 0] > 0).astype(int), x) == pytest.approx(_labels(p, rng.integers(0, 2, 48), x))


def test_dimension_is_a_power_of_two_with_enough_gradients_each():
    assert [gradients.dimension(n) for n in (1, 4, 8, 48, 128, 2048, 10**6)] == [1, 1, 2, 8, 32, 512, 512]


@pytest.fixture(scope="module")
def student_and_rollouts(models: dict[str, Path]):
    task = load_task("countdown")
    student = load_policy(str(models["llama"]), "student", task.tokenizer(), 0)
    from understudy.experts import load_expert
    from understudy.experts.loading import ExpertSpec

    expert = load_expert(ExpertSpec("solver"), task, student)
    return student, expert.sample(student.encode(task.prompts("train", 3, 0)), 2, 0, 40)


def test_it_is_the_gradient_of_the_mean_negative_log_likelihood(student_and_rollouts, monkeypatch):
    """One dimension per weight, all signs positive: the projection is the gradient itself."""
    student, rollouts = student_and_rollouts
    r = rollouts[0]
    weights = list(student.trained().values())
    n = sum(w.numel() for w in weights)
    before = [w.detach().clone() for w in weights]
    monkeypatch.setattr(gradients, "_code", lambda total, size, seed: torch.arange(total))
    got = gradients.projected(student, [r], n, 0)[0]
    ids = torch.tensor([[*r.prompt.ids, *r.ids]])
    logp = student.model(input_ids=ids).logits[0].log_softmax(-1)
    at = torch.arange(len(r.prompt.ids) - 1, ids.shape[1] - 1)
    loss = -logp[at, torch.tensor(r.ids)].mean()
    wanted = torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)]).double().numpy()
    assert got == pytest.approx(wanted, abs=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(before, weights))
    assert all(w.grad is None for w in weights)


def test_the_projection_keeps_inner_products_on_average(student_and_rollouts):
    student, rollouts = student_and_rollouts
    weights = list(student.trained().values())
    g = [torch.randn(w.shape, generator=torch.Generator().manual_seed(i)) for i, w in enumerate(weights)]
    exact = float(sum((x * x).sum() for x in g))
    n = sum(w.numel() for w in weights)
    found = [gradients._sketch(g, weights, gradients._code(n, 16, seed), 16) for seed in range(200)]
    assert np.mean([x @ x for x in found]) == pytest.approx(exact, rel=0.1)
    same = gradients.projected(student, rollouts[:2], 8, 1)
    assert np.array_equal(same, gradients.projected(student, rollouts[:2], 8, 1))
    assert not np.array_equal(same, gradients.projected(student, rollouts[:2], 8, 2))
