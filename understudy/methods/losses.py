"""The two losses that serve every row of the table, and the reduction, as plain formulas (kernel.py computes them).

Everything here works on flattened completion tokens: (N,) and (N, V), padding already removed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from understudy.methods import divergences
from understudy.methods.cells import DIVERGENCES, REDUCTIONS


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


def log_of(logits_NV: Tensor, out: Tensor | None = None) -> Tensor:
    """log softmax over the vocabulary, in float32 at least."""
    return torch.log_softmax(logits_NV, -1, dtype=wide(logits_NV.dtype), out=out)


def wide(dtype: torch.dtype) -> torch.dtype:
    """The precision of log-probs from logits of this one."""
    return dtype if dtype == torch.float64 else torch.float32


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
    jsd = divergences.jsd(expert, student, beta), uld = divergences.sorted_distance(student, expert).
    """
    if kind == "kl_expert_student":
        return divergences.kl(expert_logp, student_logp)
    if kind == "kl_student_expert":
        return divergences.kl(student_logp, expert_logp)
    if kind == "jsd":
        return divergences.jsd(expert_logp, student_logp, beta)
    if kind == "uld":
        return divergences.sorted_distance(student_logp, expert_logp)
    raise ValueError(f"unknown divergence {kind!r}: one of {tuple(DIVERGENCES)}")


def scales(row_N: Tensor, reduction: str, total_tokens: int | None = None, total_rows: int | None = None) -> Tensor:
    """(N,) factor of each token's loss in the loss of the update.

    The totals (default: of these tokens) are those of the whole update, so that micro-batches of whole rows, summed one
    by one and added, give exactly the full batch.
    token_mean: sum over tokens / number of tokens. sequence_mean: mean over rows of each row's token mean (weights
    states by 1 / length, which can change a comparison). sequence_sum: mean over rows of each row's sum.
    """
    lengths = torch.bincount(row_N)
    total_tokens = len(row_N) if total_tokens is None else total_tokens
    total_rows = int((lengths > 0).sum()) if total_rows is None else total_rows
    if reduction == "token_mean":
        return torch.full(row_N.shape, 1 / total_tokens, device=row_N.device)
    if reduction == "sequence_mean":
        return 1 / (lengths[row_N] * float(total_rows))
    if reduction == "sequence_sum":
        return torch.full(row_N.shape, 1 / total_rows, device=row_N.device)
    raise ValueError(f"unknown reduction {reduction!r}: one of {REDUCTIONS}")
