"""Divergences: properties, then hand-computed numbers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.methods import divergences, losses

logits = st.lists(st.floats(-8, 8), min_size=4, max_size=4)


def table(rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).log_softmax(-1)


@given(logits, logits, st.floats(0.01, 0.99))
@settings(max_examples=200)
def test_divergences_are_zero_on_equals_and_positive(a, b, beta):
    p, q = table(a), table(b)
    assert abs(float(divergences.kl(p, p))) < 1e-12
    assert float(divergences.kl(p, q)) >= -1e-12
    assert abs(float(divergences.jsd(p, p, beta))) < 1e-12
    bound = -(beta * math.log(beta) + (1 - beta) * math.log(1 - beta))
    assert -1e-12 <= float(divergences.jsd(p, q, beta)) <= bound + 1e-12


def test_hand_worked_numbers_and_direction():
    p, q = (torch.tensor(x, dtype=torch.float64).log() for x in ([0.5, 0.5], [0.9, 0.1]))
    assert float(divergences.kl(p, q)) == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1))
    assert float(divergences.kl(q, p)) == pytest.approx(0.9 * math.log(1.8) + 0.1 * math.log(0.2))
    student, expert = p, q
    assert float(losses.divergence(student, expert, "kl_student_expert")) == pytest.approx(float(divergences.kl(p, q)))
    assert float(losses.divergence(student, expert, "kl_expert_student")) == pytest.approx(float(divergences.kl(q, p)))


def test_zero_probabilities_give_finite_values_and_gradients():
    p = torch.tensor([0.0, 0.4, 0.6], dtype=torch.float64).log()
    q = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64).log().requires_grad_()
    value = divergences.kl(p, q)
    assert math.isfinite(float(value.detach()))
    assert torch.isfinite(torch.autograd.grad(value, q)[0]).all()
    assert math.isinf(float(divergences.kl(q.detach(), p))), "mass where the other has none gives infinity, not zero"


def test_jsd_limits_are_the_two_kls():
    p, q = table([[0.1, 1.0, -0.5, 0.3]]), table([[1.0, -1.0, 0.2, 0.0]])
    assert float(divergences.jsd(p, q, 1e-6) / 1e-6) == pytest.approx(float(divergences.kl(p, q)), rel=1e-4)
    assert float(divergences.jsd(p, q, 1 - 1e-6) / 1e-6) == pytest.approx(float(divergences.kl(q, p)), rel=1e-4)


@given(logits, logits, st.integers(1, 3))
@settings(max_examples=100)
def test_tail_bucket_keeps_all_mass_and_lower_bounds(a, b, k):
    p, q = table([a]), table([b])
    ids = p.topk(k, -1).indices
    pk, qk = divergences.bucketed(p, ids), divergences.bucketed(q, ids)
    assert float(pk.exp().sum()) == pytest.approx(1, abs=1e-9)
    assert float(divergences.kl(pk, qk)) <= float(divergences.kl(p, q)) + 1e-9
    assert float(divergences.kl(qk, pk)) <= float(divergences.kl(q, p)) + 1e-9


def test_tail_bucket_sees_mass_that_escapes_the_top_tokens():
    """Renormalised top-k would call these two equal: mass in the tail must count."""
    expert = torch.tensor([[0.5, 0.4, 0.05, 0.05]], dtype=torch.float64).log()
    student = torch.tensor([[0.05, 0.04, 0.01, 0.9]], dtype=torch.float64).log()
    ids = expert.topk(2, -1).indices
    assert float(divergences.kl(divergences.bucketed(student, ids), divergences.bucketed(expert, ids))) > 1.0


def test_discounted_to_go_stays_in_its_row():
    values = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    rows = torch.tensor([0, 0, 0, 1, 1])
    assert divergences.discounted_to_go(values, rows, 0.5).tolist() == [3.0, 4.0, 4.0, 16.0, 16.0]
    assert divergences.discounted_to_go(values, rows, 1.0).tolist() == [7.0, 6.0, 4.0, 24.0, 16.0]
    assert divergences.discounted_to_go(values, rows, 0.0).tolist() == values.tolist()


def test_prefix_log_ratio_excludes_the_token_itself_and_other_rows():
    rows = torch.tensor([0, 0, 0, 1, 1])
    logp = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    assert divergences.prefix_log_ratio(logp, torch.zeros(5), rows).tolist() == [0.0, 1.0, 3.0, 0.0, 4.0]


def test_group_advantages_hand_worked():
    reward = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    plain = divergences.group_advantages(reward, "none")
    assert plain.tolist() == [[0.75, -0.25, -0.25, -0.25], [0.0] * 4]
    scaled = divergences.group_advantages(reward, "std")
    assert scaled[0, 0].item() == pytest.approx(0.75 / (0.1875**0.5 + 1e-4), rel=1e-5)
    assert scaled[1].tolist() == [0.0] * 4


@pytest.mark.parametrize("reduction", losses.REDUCTIONS)
def test_reduction_is_the_same_across_micro_batches(reduction):
    loss = torch.arange(1.0, 8.0)
    rows = torch.tensor([0, 0, 0, 0, 1, 2, 2])
    whole = (loss * losses.scales(rows, reduction)).sum()
    parts = [(loss[:5], rows[:5]), (loss[5:], rows[5:] - 2)]
    assert float(sum((x * losses.scales(r, reduction, 7, 3)).sum() for x, r in parts)) == pytest.approx(float(whole))


def test_reductions_hand_worked():
    loss, rows = torch.tensor([1.0, 3.0, 8.0]), torch.tensor([0, 0, 1])
    assert float(loss @ losses.scales(rows, "token_mean")) == 4.0
    assert float(loss @ losses.scales(rows, "sequence_mean")) == 5.0
    assert float(loss @ losses.scales(rows, "sequence_sum")) == 6.0


def test_weights_with_gradient_are_refused():
    logp = torch.zeros(2, requires_grad=True)
    with pytest.raises(ValueError, match="detach"):
        losses.surrogate(logp, None, logp * 2)
