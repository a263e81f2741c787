"""The chunked head: its losses and gradients are those of the plain formulas by autograd, whatever the chunk."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from understudy.methods import divergences
from understudy.methods.kernel import Table, chunks, evaluate, token_losses
from understudy.methods.losses import Objective, divergence, surrogate
from understudy.protocols import TableSignal
from understudy.types import Batch

N, D, V = 7, 5, 11
CASES: dict[str, Objective] = {
    "nll": Objective("token"),
    "ratio": Objective("token", importance=True),
    "clip": Objective("token", importance=True, clip=0.2),
    **{k: Objective("distribution", k, beta=0.3) for k in ("kl_expert_student", "kl_student_expert", "jsd")},
    **{
        f"{k}, top of {side}": Objective("distribution", k, beta=0.3, top_k=3, top_k_of=side)
        for k in ("kl_expert_student", "kl_student_expert", "jsd")
        for side in ("student", "expert")
    },
    "reward beside a divergence": Objective("distribution", "kl_student_expert"),
    "reward beside jsd, ratio": Objective("distribution", "jsd", beta=0.3, importance=True),
    "reward beside a divergence, clip": Objective("distribution", "kl_expert_student", importance=True, clip=0.2),
    "reward beside the top": Objective("distribution", "kl_student_expert", top_k=3, importance=True, clip=0.2),
}


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def batch_of(weight_N: Tensor, expert_NV: Tensor, reward_weight_N: Tensor | None = None) -> Batch:
    n = torch.arange(N)
    return Batch(
        n[:, None], None, n[:, None], n, n % V, n, weight_N, numbers(N, seed=5) - 2, TableSignal(expert_NV),
        reward_weight_N=reward_weight_N,
    )  # fmt: skip


def plain(logits_NV: Tensor, batch: Batch, goal: Objective) -> Tensor:
    """(N,) losses as the papers write them."""
    logp_NV = logits_NV.log_softmax(-1)
    logp_N = logp_NV.gather(-1, batch.target_ids_N[:, None])[:, 0]
    if goal.target == "token":
        return surrogate(logp_N, batch.behavior_logp_N if goal.importance else None, batch.weight_N, goal.clip)
    assert isinstance(batch.signal, TableSignal)
    p, q = logp_NV, batch.signal.logp_NV
    if goal.top_k:
        ids = (p if goal.top_k_of == "student" else q).detach().topk(goal.top_k).indices
        p, q = divergences.bucketed(p, ids), divergences.bucketed(q, ids)
    loss_N = batch.weight_N * divergence(p, q, goal.divergence, goal.beta)
    if batch.reward_weight_N is not None:
        behavior_N = batch.behavior_logp_N if goal.importance else None
        loss_N = loss_N + surrogate(logp_N, behavior_N, batch.reward_weight_N, goal.clip)
    return loss_N


@pytest.mark.parametrize("chunk", [0, 1, 3, 7, 100])
@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients_are_those_of_the_formulas(name: str, chunk: int) -> None:
    """Catches a wrong closed-form gradient, a chunk that is dropped or counted twice, and a scale applied twice. For a
    plain head, and for one that is more than a matrix."""
    goal, head = CASES[name], nn.Linear(D, V, dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(numbers(V, D, seed=1) * 2)
    expert_NV = (numbers(N, V, seed=4) * 2).log_softmax(-1)
    reward_N = numbers(N, seed=8) if name.startswith("reward") else None
    scale_N, batch = numbers(N, seed=2).abs(), batch_of(numbers(N, seed=3), expert_NV, reward_N)

    def gradients(total: Tensor, hidden: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(total, [hidden, head.weight, head.bias]))

    hidden = numbers(N, D).requires_grad_()
    want_N = plain(head(hidden), batch, goal)
    want = gradients((want_N * scale_N).sum(), hidden)
    assert max(float(g.abs().max()) for g in want) > 0.01
    for form in (head, lambda h: head(h)):
        total, loss_N, logp_N = token_losses(hidden, form, batch, goal, scale_N, chunk)
        torch.testing.assert_close(loss_N, want_N.detach(), atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(total.detach(), (want_N * scale_N).sum().detach(), atol=1e-10, rtol=1e-10)
        taken = head(hidden).log_softmax(-1).gather(-1, batch.target_ids_N[:, None])[:, 0].detach()
        torch.testing.assert_close(logp_N, taken)
        for got, expected in zip(gradients(3 * total, hidden), want):
            torch.testing.assert_close(got, 3 * expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", ["kl_expert_student", "kl_student_expert", "jsd"])
def test_tokens_of_probability_zero(name: str) -> None:
    """Catches 0 times infinity: tokens that the student, the expert or both never write."""
    never = torch.zeros(N, V, dtype=torch.float64)
    student, expert = (numbers(N, V, seed=s) for s in (6, 7))
    never[:, 0] = -math.inf
    if name != "kl_expert_student":  # else the loss is infinite
        student[:, 1] = -math.inf
    expert_NV = (expert + never).log_softmax(-1)
    if name != "kl_student_expert":  # else the loss is infinite
        student[:, 0] = 0.5
    else:
        student = student + never
    batch = batch_of(torch.ones(N), expert_NV)
    part = evaluate(student.clone(), None, batch, Objective("distribution", name), slice(0, N))
    assert torch.isfinite(part.loss_n).all()
    assert torch.isfinite(part.d_nV).all()
    logits = student.requires_grad_()
    torch.testing.assert_close(part.loss_n, plain(logits, batch, Objective("distribution", name)).detach())


def test_only_one_chunk_of_logits_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a whole table in memory: the head is given at most `chunk` tokens, the expert is asked for as many."""
    sizes: list[Any] = []
    logits = Table.logits
    monkeypatch.setattr(Table, "logits", lambda self, h: sizes.append(len(h)) or logits(self, h))
    batch = batch_of(torch.ones(N), numbers(N, V).log_softmax(-1))
    table = batch.signal.table
    monkeypatch.setattr(batch.signal, "table", lambda at: sizes.append(at.stop - at.start) or table(at))
    hidden = numbers(N, D).requires_grad_()
    token_losses(hidden, nn.Linear(D, V, dtype=torch.float64), batch, CASES["jsd"], torch.ones(N), 3).total.backward()
    assert len(sizes) == 6
    assert max(sizes) <= 3


def test_chunks_cover_everything_once() -> None:
    for n, size in ((0, 4), (1, 4), (7, 3), (9, 3), (10, 100)):
        parts = chunks(n, size)
        assert [i for at in parts for i in range(n)[at]] == list(range(n))
        assert max(at.stop - at.start for at in parts) <= size
