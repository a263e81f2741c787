"""The entropies that the loss kernel logs, against their definition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from understudy.methods.kernel import Entropies, token_losses
from understudy.methods.losses import Objective
from understudy.protocols import TableSignal
from understudy.types import Batch

N, D, V = 33, 5, 7
WATCHED = [0, 16, 17, 31]


def batch_of(expert_NV: Tensor | None) -> Batch:
    empty = torch.zeros(1, N, dtype=torch.long)
    ones, zeros = torch.ones(N), torch.zeros(N)
    signal = None if expert_NV is None else TableSignal(expert_NV)
    return Batch(
        empty,
        None,
        empty,
        torch.arange(N),
        torch.arange(N) % V,
        torch.zeros(N).long(),
        ones,
        zeros,
        signal,
        torch.tensor(WATCHED),
    )


def entropy(logp_NV: Tensor) -> float:
    """Of every token that is watched, in the mean."""
    p = logp_NV[WATCHED].exp()
    return float(-(p * logp_NV[WATCHED].nan_to_num(neginf=0.0)).sum(-1).mean())


@pytest.mark.parametrize("chunk", [0, 9])
@pytest.mark.parametrize("name", ["token", "kl_student_expert", "kl_expert_student", "jsd"])
def test_entropies(name: str, chunk: int) -> None:
    """Catches a table that was overwritten before it was read, and an impossible token that makes it nan."""
    torch.manual_seed(0)
    hidden, head, seen = torch.randn(N, D), nn.Linear(D, V, bias=False), Entropies()
    expert = torch.randn(N, V).log_softmax(-1)
    expert[0] = torch.tensor([0.0] + [-math.inf] * (V - 1))
    goal = Objective("token") if name == "token" else Objective("distribution", name)
    batch = batch_of(None if name == "token" else expert.clone())
    token_losses(hidden, head, batch, goal, torch.ones(N), chunk, seen)
    student, tokens, of_expert, known = seen.sums
    assert tokens == 4
    assert student / tokens == pytest.approx(entropy(head(hidden).detach().log_softmax(-1)), rel=1e-5)
    assert known == (0 if name == "token" else 4)
    if known:
        assert of_expert / known == pytest.approx(entropy(expert), rel=1e-5)
