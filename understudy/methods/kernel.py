"""The loss of many tokens from hidden states, without their logits in memory: the output head, chunk by chunk.

The gradient by the logits is written down in closed form (below, p = student, q = expert, natural logs) and carried to
the hidden states and the head's weights while a chunk's logits exist, so nothing is computed twice and nothing of size
tokens x vocabulary is kept. The same idea, for cross-entropy alone: arXiv 2411.09009, and liger-kernel (2410.10989).

    token target          d loss / d z = c (onehot - p), c = d surrogate / d logp
    KL(student || expert) d loss / d z = p (log p - log q - loss)
    KL(expert || student) d loss / d z = p - q
    JSD, m = b q + (1-b) p: d loss / d z = g - p sum(g), g = (1-b) p (log p - log m)
    ULD                   d loss / d z = p (s - sum(p s)), s = the sign of p - q at each token's rank
    top-k with a tail     d loss / d z = scatter(g) - p sum(g), g = d loss / d log p of the k tokens

A distribution target with a reward weight has the sum of its own row and of the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from understudy import running
from understudy.methods import divergences
from understudy.methods.losses import Objective, divergence, log_of, surrogate, wide
from understudy.types import Batch, Signal

CPU_LOGITS, DEVICE_LOGITS = 3 * 2**20, 2**28
"""Logits of one chunk (12 MiB and 1 GiB of float32): a CPU wants them near its caches, a GPU wants large products."""
LEAST = 16  # tokens per chunk: the head's weights are read once per chunk


class Losses(NamedTuple):
    """What `token_losses` returns: only `total` has a gradient."""

    total: Tensor
    """() sum over tokens of scale times loss."""
    loss_N: Tensor
    logp_N: Tensor
    """Of the target tokens."""


class Entropies:
    """Entropy per token of student and expert, in nats, on the watched tokens of what passes the kernel.

    Sums of what this process has seen; the mean does not change when a chunk is computed twice.
    """

    def __init__(self) -> None:
        self.student: Tensor | float = 0.0
        self.expert: Tensor | float = 0.0
        self.tokens = self.of_expert = 0

    def add(
        self, student_nV: Tensor, expert_nV: Tensor | None, watched_M: Tensor | None, at: slice, signal: Signal | None
    ) -> None:
        """Log-probs of the tokens `at`, those of the expert as `signal` has compared them; None: not at hand."""
        kept_m = None
        if watched_M is not None:
            first, last = torch.searchsorted(watched_M, torch.tensor([at.start, at.stop])).tolist()
            if first == last:
                return
            kept_m = (watched_M[first:last] - at.start).to(student_nV.device)
            student_nV = student_nV[kept_m]
        self.student = self.student + _entropy(student_nV)
        self.tokens += len(student_nV)
        if expert_nV is not None and signal is not None:
            own_mW = signal.own(expert_nV, kept_m, at)
            self.expert = self.expert + _entropy(own_mW).to(student_nV.device)
            self.of_expert += len(own_mW)

    @property
    def sums(self) -> list[float]:
        """[student's nats, tokens, expert's nats, tokens]."""
        return [float(self.student), float(self.tokens), float(self.expert), float(self.of_expert)]


def _entropy(logp_nV: Tensor) -> Tensor:
    p_nV = logp_nV.exp()
    return -p_nV.mul_(logp_nV).masked_fill_(logp_nV == -torch.inf, 0.0).sum()


class Part(NamedTuple):
    """A chunk: per token the loss, the target's log-prob, and the loss's gradient by the logits: factor_n * d_nV."""

    loss_n: Tensor
    logp_n: Tensor
    d_nV: Tensor
    factor_n: Tensor


def chunk_of(vocabulary: int, device: torch.device, chunk: int = 0) -> int:
    """Tokens whose logits exist at the same time: `chunk`, or (0) as many as a device's budget holds."""
    return chunk or max(LEAST, (CPU_LOGITS if device.type == "cpu" else DEVICE_LOGITS) // vocabulary)


def chunks(n: int, size: int) -> list[slice]:
    """0..n in slices of `size`, the last one shorter."""
    return [slice(at, min(at + size, n)) for at in range(0, max(n, 1), size)]


def token_losses(
    hidden_ND: Tensor,
    head: Callable[[Tensor], Tensor],
    batch: Batch,
    objective: Objective,
    scale_N: Tensor,
    chunk: int = 0,
    entropies: Entropies | None = None,
) -> Losses:
    """The losses of a batch's tokens from the last hidden states; `head` maps these to logits.

    scale_N: factor of each token's loss in the total (losses.scales). chunk: see `chunk_of`. entropies: what adds up
    those of the tokens. Memory beyond the hidden states is that of one chunk's logits where the head is a plain
    matrix, or its logits can be recomputed.
    """
    scale_N = scale_N.to(hidden_ND.device)
    if type(head) is nn.Linear:
        size = chunk_of(head.weight.shape[0], hidden_ND.device, chunk)
        return Losses(*_FusedHead.apply(hidden_ND, head.weight, head.bias, batch, objective, scale_N, size, entropies))
    if chunk <= 0 or len(hidden_ND) <= chunk:
        whole = slice(0, len(hidden_ND))
        return Losses(*_FromLogits.apply(head(hidden_ND), batch, objective, scale_N, whole, entropies))

    def piece(hidden: Tensor, at: slice) -> tuple[Tensor, ...]:
        return _FromLogits.apply(head(hidden), batch, objective, scale_N[at], at, entropies)

    parts = [checkpoint(piece, hidden_ND[at], at, use_reentrant=False) for at in chunks(len(hidden_ND), chunk)]
    return Losses(sum(p[0] for p in parts), torch.cat([p[1] for p in parts]), torch.cat([p[2] for p in parts]))


class _FusedHead(torch.autograd.Function):
    """Hidden states and a plain head -> (total, loss_N, logp_N); its gradients are computed in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, batch: Batch, objective: Objective,
        scale_N: Tensor, size: int, entropies: Entropies | None,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        kind = hidden_ND.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight_VD.dtype
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        with torch.autocast(kind, enabled=False):
            w, b = weight_VD.to(dtype), None if bias_V is None else bias_V.to(dtype)
            d_hidden = torch.empty_like(hidden_ND) if wants_hidden else None
            d_weight = torch.zeros_like(weight_VD) if wants_weight else None
            d_bias = torch.zeros_like(bias_V) if wants_bias and bias_V is not None else None
            losses, logps = [], []
            table = Table(w, b, min(size, len(hidden_ND)))
            for at in chunks(len(hidden_ND), size):
                running.check()
                h = hidden_ND[at].to(dtype)
                part = evaluate(*table.logits(h), batch, objective, at, entropies)
                losses.append(part.loss_n)
                logps.append(part.logp_n)
                factor = (part.factor_n * scale_N[at]).unsqueeze(-1)
                d = part.d_nV.to(dtype)
                if d_hidden is not None:
                    d_hidden[at] = (d @ w) * factor
                if d_weight is not None:
                    scaled = (h * factor).to(dtype)
                    if d_weight.dtype == dtype:
                        d_weight.addmm_(d.T, scaled)
                    else:
                        d_weight += d.T @ scaled
                if d_bias is not None:
                    d_bias += (d * factor).sum(0)
        loss_N = torch.cat(losses)
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        logp_N = torch.cat(logps)
        ctx.mark_non_differentiable(loss_N, logp_N)
        return (loss_N * scale_N).sum(), loss_N, logp_N

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        return (*(None if d is None else d * grad.to(d.dtype) for d in ctx.saved_tensors), *(None,) * 5)


class _FromLogits(torch.autograd.Function):
    """Logits -> (total, loss, logp): for heads that are more than a matrix."""

    @staticmethod
    def forward(
        ctx: Any, logits_nV: Tensor, batch: Batch, objective: Objective, scale_n: Tensor, at: slice,
        entropies: Entropies | None,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        part = evaluate(logits_nV.clone(), None, batch, objective, at, entropies)
        ctx.save_for_backward(part.d_nV.mul_((part.factor_n * scale_n).unsqueeze(-1)).to(logits_nV.dtype))
        ctx.mark_non_differentiable(part.loss_n, part.logp_n)
        return (part.loss_n * scale_n).sum(), part.loss_n, part.logp_n

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        (d_nV,) = ctx.saved_tensors
        return d_nV * grad.to(d_nV.dtype), *(None,) * 5


class Table:
    """Two blocks of memory for all chunks: logits, and log-probs of them.

    New ones per chunk would cost page faults, and fragment a CPU's memory.
    """

    def __init__(self, weight_VD: Tensor, bias_V: Tensor | None, size: int) -> None:
        self.weight, self.bias = weight_VD, bias_V
        shape = (size, weight_VD.shape[0])
        self.first, self.second = weight_VD.new_empty(shape), weight_VD.new_empty(shape, dtype=wide(weight_VD.dtype))

    def logits(self, hidden_nD: Tensor) -> tuple[Tensor, Tensor]:
        """(their logits, a block for log-probs): both are overwritten by the next call."""
        n = len(hidden_nD)
        out = torch.mm(hidden_nD, self.weight.T, out=self.first[:n])
        return out if self.bias is None else out.add_(self.bias), self.second[:n]


@torch.no_grad()
def evaluate(
    logits_nV: Tensor, spare_nV: Tensor | None, batch: Batch, objective: Objective, at: slice,
    entropies: Entropies | None = None,
) -> Part:  # fmt: skip
    """The losses of tokens `at` and their gradient by the logits. logits and spare (None = new) are overwritten."""
    student_nV = log_of(logits_nV, spare_nV)
    expert_nV = None
    if objective.target == "distribution" and batch.signal is not None:
        if objective.divergence == "uld":
            expert_nV = batch.signal.ranked(student_nV, at)
        else:
            expert_nV = batch.signal.beside(student_nV, at, objective.top_k, objective.top_k_of)
    if entropies is not None:
        whole_nV = None if objective.top_k else expert_nV  # of top tokens alone there is no entropy
        entropies.add(student_nV, whole_nV, batch.watched_M, at, batch.signal)
    free_nV = logits_nV if logits_nV.dtype == student_nV.dtype else torch.empty_like(student_nV)
    target_n1 = batch.target_ids_N[at].unsqueeze(-1)
    logp_n = student_nV.gather(-1, target_n1).squeeze(-1)
    weight_n = batch.weight_N[at]
    behavior_n = None
    if objective.importance:
        if batch.behavior_logp_N is None:
            raise ValueError("an importance ratio needs the recorded behavior log-probs")
        behavior_n = batch.behavior_logp_N[at]
    if objective.target == "token":
        loss_n, slope_n = _with_slope(lambda x: surrogate(x, behavior_n, weight_n, objective.clip), logp_n)
        d_nV = student_nV.exp_()
        d_nV.scatter_add_(-1, target_n1, d_nV.new_full((len(logp_n), 1), -1.0))
        return Part(loss_n, logp_n, d_nV, -slope_n)
    if batch.signal is None:
        raise ValueError("a distribution target needs the expert's distribution")
    p_nV = student_nV.exp() if batch.reward_weight_N is not None else None
    if expert_nV is None:
        loss_n, d_nV = _coarse(student_nV, batch, objective, at)
    else:
        loss_n, d_nV = _whole(student_nV, expert_nV, free_nV, objective)
    if batch.reward_weight_N is None or p_nV is None:
        return Part(weight_n * loss_n, logp_n, d_nV, weight_n)
    reward_n = batch.reward_weight_N[at]
    acted_n, slope_n = _with_slope(lambda x: surrogate(x, behavior_n, reward_n, objective.clip), logp_n)
    d_nV = d_nV.mul_(weight_n.unsqueeze(-1)).sub_(p_nV.mul_(slope_n.unsqueeze(-1)))
    d_nV.scatter_add_(-1, target_n1, slope_n.unsqueeze(-1))
    return Part(weight_n * loss_n + acted_n, logp_n, d_nV, torch.ones_like(weight_n))


def _whole(student_nV: Tensor, expert_nV: Tensor, free_nV: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
    """(loss_n, its gradient by the logits). Works in place: all tables are overwritten."""
    kind, b = objective.divergence, objective.beta
    if kind == "kl_student_expert":
        p = torch.exp(student_nV, out=free_nV)
        gap = student_nV.sub_(expert_nV).masked_fill_(p == 0, 0)
        loss_n = _dot(p, gap)
        return loss_n, gap.sub_(loss_n.unsqueeze(-1)).mul_(p)
    if kind == "kl_expert_student":
        q = torch.exp(expert_nV, out=free_nV)
        loss_n = _dot(q, expert_nV.sub_(student_nV).masked_fill_(q == 0, 0))
        return loss_n, student_nV.exp_().sub_(q)
    if kind == "jsd":
        c = 1 - b
        log_b, log_c = torch.tensor([b, c], dtype=torch.float64).log().tolist()
        weighted_e, weighted_s = expert_nV.add_(log_b), student_nV.add_(log_c)  # of b q and c p
        log_m = torch.logaddexp(weighted_e, weighted_s)
        bq = torch.exp(weighted_e, out=free_nV)
        of_expert = _dot(bq, weighted_e.sub_(log_m).masked_fill_(bq == 0, 0)) - b * log_b
        cp = torch.exp(weighted_s, out=free_nV)
        g = weighted_s.sub_(log_m).masked_fill_(cp == 0, 0).sub_(log_c).mul_(cp)
        of_student = g.sum(-1)
        return of_expert + of_student, g.sub_(cp.mul_((of_student / c).unsqueeze(-1)))
    if kind == "uld":  # expert_nV: in falling order
        p, order = student_nV.exp_().sort(-1, descending=True)
        wide = expert_nV.shape[-1] - p.shape[-1]
        gap = torch.nn.functional.pad(p, (0, wide)).sub_(expert_nV.exp_())
        loss_n = gap.abs().sum(-1)
        g = torch.empty_like(student_nV).scatter_(-1, order, gap[:, : p.shape[-1]].sign_())
        return loss_n, student_nV.mul_(g.sub_(_dot(student_nV, g).unsqueeze(-1)))
    raise ValueError(f"unknown divergence {kind!r}")


def _coarse(student_nV: Tensor, batch: Batch, objective: Objective, at: slice) -> tuple[Tensor, Tensor]:
    """(loss_n, its gradient by the logits), both distributions coarsened to k tokens and one tail bucket."""
    assert batch.signal is not None
    k = min(objective.top_k, student_nV.shape[-1] - 1)
    if objective.top_k_of == "student":
        ids_nK = student_nV.topk(k, -1).indices
        expert_nK = batch.signal.at(ids_nK, at)
    else:
        ids_nK, expert_nK = batch.signal.top_k(k, at)
        ids_nK = ids_nK.to(student_nV.device)
    other = divergences.with_tail(expert_nK.to(student_nV))

    def loss(kept_nK: Tensor) -> Tensor:
        return divergence(divergences.with_tail(kept_nK), other, objective.divergence, objective.beta)

    loss_n, g_nK = _with_slope(loss, student_nV.gather(-1, ids_nK))
    d_nV = student_nV.exp_().mul_(-g_nK.sum(-1, keepdim=True))
    return loss_n, d_nV.scatter_add_(-1, ids_nK, g_nK)


def _with_slope(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """(function(x), the gradient of its sum)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = function(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
    return y.detach(), slope


def _dot(a_nV: Tensor, b_nV: Tensor) -> Tensor:
    return torch.bmm(a_nV.unsqueeze(1), b_nV.unsqueeze(2)).flatten()
