"""The two loss kernels that serve every row of the table, the reduction, and the chunked head.

Everything here works on flattened completion tokens: (N,) and (N, V), padding already removed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from understudy.methods import divergences
from understudy.methods.cells import DIVERGENCES, REDUCTIONS
from understudy.types import Batch


@dataclass(frozen=True)
class Objective:
    """Which kernel, and its options."""

    target: str  # "token" or "distribution"
    divergence: str = "kl_student_expert"
    beta: float = 0.5
    importance: bool = False  # multiply the surrogate by student / behavior at the acted token
    clip: float = math.inf  # PPO clip range of that ratio
    top_k: int = 0  # coarsen both distributions to this many tokens and one tail bucket; 0 = all
    top_k_of: str = "student"  # whose top tokens


def token_logp(logits_NV: Tensor, ids_N: Tensor) -> Tensor:
    """log softmax(logits)[id], (N,), in float32 at least."""
    logits_NV = logits_NV.float() if logits_NV.dtype in (torch.float16, torch.bfloat16) else logits_NV
    return logits_NV.gather(-1, ids_N.unsqueeze(-1)).squeeze(-1) - logits_NV.logsumexp(-1)


def surrogate(logp_N: Tensor, behavior_logp_N: Tensor | None, weight_N: Tensor, clip: float = math.inf) -> Tensor:
    """Per-token loss whose gradient is -weight * ratio * grad log student; (N,) each.

    Without `behavior_logp_N` it is the weighted negative log-likelihood, -weight * logp. With it, the
    importance-weighted policy-gradient surrogate -ratio * weight, ratio = student / behavior; `clip` gives
    PPO's pessimistic minimum (arXiv 1707.06347, eq. 7). `weight_N` must carry no gradient.
    """
    if weight_N.requires_grad:
        raise ValueError("weights are signals, not functions of the student: detach them")
    if behavior_logp_N is None:
        return -weight_N * logp_N
    ratio_N = (logp_N - behavior_logp_N).exp()
    if clip == math.inf:
        return -ratio_N * weight_N
    return -torch.minimum(ratio_N * weight_N, ratio_N.clamp(1 - clip, 1 + clip) * weight_N)


def divergence(student_logp: Tensor, expert_logp: Tensor, kind: str, beta: float = 0.5) -> Tensor:
    """Per-token divergence of two (N, V) log-prob tables, (N,) nats. Names give the argument order of KL.

    kl_expert_student = KL(expert || student), kl_student_expert = KL(student || expert),
    jsd = divergences.jsd(expert, student, beta).
    """
    if kind == "kl_expert_student":
        return divergences.kl(expert_logp, student_logp)
    if kind == "kl_student_expert":
        return divergences.kl(student_logp, expert_logp)
    if kind == "jsd":
        return divergences.jsd(expert_logp, student_logp, beta)
    raise ValueError(f"unknown divergence {kind!r}: one of {tuple(DIVERGENCES)}")


def reduce(
    loss_N: Tensor, row_N: Tensor, reduction: str, total_tokens: int | None = None, total_rows: int | None = None
) -> Tensor:
    """Sum of per-token losses over its denominator; a scalar.

    The totals (default: of these tokens) are those of the whole update, so that micro-batches of whole rows, reduced
    one by one and added, give exactly the full batch.
    token_mean: sum over tokens / number of tokens. sequence_mean: mean over rows of each row's token mean (weights
    states by 1 / length, which can change a comparison). sequence_sum: mean over rows of each row's sum.
    """
    lengths = torch.bincount(row_N)
    total_tokens = len(row_N) if total_tokens is None else total_tokens
    total_rows = int((lengths > 0).sum()) if total_rows is None else total_rows
    if reduction == "token_mean":
        return loss_N.sum() / total_tokens
    if reduction == "sequence_mean":
        return (loss_N / lengths[row_N]).sum() / total_rows
    if reduction == "sequence_sum":
        return loss_N.sum() / total_rows
    raise ValueError(f"unknown reduction {reduction!r}: one of {REDUCTIONS}")


def token_losses(
    hidden_ND: Tensor, head: Callable[[Tensor], Tensor], batch: Batch, objective: Objective, chunk: int = 0
) -> tuple[Tensor, Tensor]:
    """(loss_N, logp_N of the target tokens without gradient) from the last hidden states.

    `head` maps hidden states to logits. With `chunk` > 0 only that many tokens' logits exist at a time, also in the
    backward pass (they are recomputed), so memory is chunk * V instead of N * V.
    """

    def piece(hidden: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        return _piece(head(hidden), batch, objective, index)

    n = hidden_ND.shape[0]
    index_N = torch.arange(n, device=hidden_ND.device)
    if chunk <= 0 or n <= chunk:
        loss_N, logp_N = piece(hidden_ND, index_N)
        return loss_N, logp_N.detach()
    parts = [checkpoint(piece, h, i, use_reentrant=False) for h, i in zip(hidden_ND.split(chunk), index_N.split(chunk))]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]).detach()


def _piece(logits: Tensor, batch: Batch, objective: Objective, index: Tensor) -> tuple[Tensor, Tensor]:
    if objective.target == "token":
        logp = token_logp(logits, batch.target_ids_N[index])
        behavior = None
        if objective.importance:
            if batch.behavior_logp_N is None:
                raise ValueError("an importance ratio needs the recorded behavior log-probs")
            behavior = batch.behavior_logp_N[index]
        return surrogate(logp, behavior, batch.weight_N[index], objective.clip), logp
    student_logp = logits.float().log_softmax(-1) if logits.dtype != torch.float64 else logits.log_softmax(-1)
    logp = student_logp.gather(-1, batch.target_ids_N[index].unsqueeze(-1)).squeeze(-1)
    if batch.expert_logp_NV is None:
        raise ValueError("a distribution target needs the expert's distribution")
    expert_logp = batch.expert_logp_NV[index]
    if objective.top_k:
        chooser = student_logp if objective.top_k_of == "student" else expert_logp
        ids = chooser.detach().topk(min(objective.top_k, chooser.shape[-1] - 1), -1).indices
        student_logp, expert_logp = divergences.bucketed(student_logp, ids), divergences.bucketed(expert_logp, ids)
    loss = divergence(student_logp, expert_logp, objective.divergence, objective.beta)
    return batch.weight_N[index] * loss, logp
