"""The head's losses beside those of liger-kernel and cut-cross-entropy: the same values and gradients.

    pip install liger-kernel cut-cross-entropy && python -m pytest tests/optin/test_fused_kernels.py

Skipped without the package, and without a GPU; with TRITON_INTERPRET=1 Triton's interpreter stands in for the GPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from understudy.methods.kernel import token_losses
from understudy.methods.losses import Objective, scales
from understudy.policy.signals import HiddenSignal
from understudy.types import Batch

GPU = torch.cuda.is_available()
pytestmark = pytest.mark.skipif(
    not GPU and os.environ.get("TRITON_INTERPRET") != "1", reason="needs a GPU, or TRITON_INTERPRET=1"
)
DEVICE = "cuda" if GPU else "cpu"
N, D, V = (512, 256, 32_003) if GPU else (24, 32, 301)  # a vocabulary that is no multiple of a block


def numbers(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).to(DEVICE)


class Problem:
    """Hidden states and heads of a student and an expert, and the targets. grid: round to bfloat16's numbers."""

    def __init__(self, grid: bool = False) -> None:
        self.student, self.expert = numbers(N, D, seed=1), numbers(N, 2 * D, seed=2)
        self.weight, self.other = numbers(V, D, seed=3, scale=0.2), numbers(V, 2 * D, seed=4, scale=0.15)
        if grid:
            self.student, self.weight = self.student.bfloat16().float(), self.weight.bfloat16().float()
        self.targets = torch.randint(0, V, (N,), generator=torch.Generator().manual_seed(5)).to(DEVICE)

    def ours(self, goal: Objective) -> list[Tensor]:
        """[mean loss, its gradient by the hidden states, by the head's weights]."""
        head = nn.Linear(D, V, bias=False, device=DEVICE)
        with torch.no_grad():
            head.weight.copy_(self.weight)
        hidden, n = self.student.clone().requires_grad_(), torch.arange(N, device=DEVICE)
        signal = HiddenSignal(self.expert, lambda h: h @ self.other.T)
        ones = torch.ones(N, device=DEVICE)
        batch = Batch(n[:, None], None, n[:, None], n, self.targets, n, ones, None, signal)
        total = token_losses(hidden, head, batch, goal, scales(n, "token_mean"), 7).total
        total.backward()
        assert hidden.grad is not None
        assert head.weight.grad is not None
        return [total.detach(), hidden.grad, head.weight.grad]

    def theirs(self, function: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype = torch.float32) -> list[Tensor]:
        hidden = self.student.to(dtype).clone().requires_grad_()
        weight = self.weight.to(dtype).clone().requires_grad_()
        loss = function(hidden, weight)
        loss.backward()
        assert hidden.grad is not None
        assert weight.grad is not None
        return [loss.detach().float(), hidden.grad.float(), weight.grad.float()]


def agree(a: list[Tensor], b: list[Tensor], loss: float, gradient: float) -> None:
    """Relative to the loss, and to the largest entry of each gradient."""
    gaps = [float((x - y).abs().max() / y.abs().max()) for x, y in zip(a, b)]
    print("relative differences: loss {:.1e}, gradients {:.1e} and {:.1e}".format(*gaps))
    assert gaps[0] < loss
    assert max(gaps[1:]) < gradient


def test_linear_cross_entropy_of_liger() -> None:
    liger: Any = pytest.importorskip("liger_kernel.transformers.functional")
    problem = Problem()
    theirs = problem.theirs(lambda h, w: liger.liger_fused_linear_cross_entropy(h, w, problem.targets))
    agree(theirs, problem.ours(Objective("token")), 1e-5, 1e-4)


KINDS = [("kl_expert_student", 0.0), ("jsd", 0.3), ("jsd", 0.9), ("kl_student_expert", 1.0)]


@pytest.mark.parametrize(("kind", "beta"), KINDS)
def test_linear_divergence_of_liger(kind: str, beta: float) -> None:
    """Its generalised JSD has the same orientation: beta weighs the teacher, 0 and 1 are the two KLs."""
    liger: Any = pytest.importorskip("liger_kernel.transformers.functional")
    problem = Problem()

    def loss(hidden: Tensor, weight: Tensor) -> Tensor:
        return liger.liger_fused_linear_jsd(hidden, weight, problem.expert, problem.other, jsd_beta=beta)

    agree(problem.theirs(loss), problem.ours(Objective("distribution", kind, beta=beta)), 1e-5, 1e-4)


@pytest.mark.parametrize(("kind", "beta"), KINDS)
def test_chunked_divergence_of_liger(kind: str, beta: float) -> None:
    chunked: Any = pytest.importorskip("liger_kernel.chunked_loss")
    problem = Problem()
    layer = chunked.LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=beta, compiled=False)

    def loss(hidden: Tensor, weight: Tensor) -> Tensor:
        return layer(hidden, weight, problem.expert, problem.other, problem.targets)

    agree(problem.theirs(loss), problem.ours(Objective("distribution", kind, beta=beta)), 1e-5, 1e-4)


def test_cut_cross_entropy() -> None:
    """In bfloat16, which its backward pass needs: its rounding, and gradients that it leaves out as too small.

    Triton's interpreter cannot run it; without a GPU its own second implementation is compared.
    """
    cce: Any = pytest.importorskip("cut_cross_entropy")
    problem, implementation = Problem(grid=True), "cce" if GPU else "torch_compile"

    def loss(hidden: Tensor, weight: Tensor) -> Tensor:
        return cce.linear_cross_entropy(hidden, weight, problem.targets, impl=implementation)

    agree(problem.theirs(loss, torch.bfloat16), problem.ours(Objective("token")), 1e-2, 3e-2)
