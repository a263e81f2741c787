"""Pure functions on log-probabilities (natural logs, nats). Divergences are written kl(p, q) with named roles."""

from __future__ import annotations

import torch
from torch import Tensor


def kl(logp: Tensor, logq: Tensor) -> Tensor:
    """KL(p || q) over the last dimension; (..., V) log-probs -> (...). 0 log 0 = 0, also in the gradient."""
    p = logp.exp()
    # where(), not nan_to_num: the gradient through the unused branch must stay finite
    gap = torch.where(p > 0, logp, 0.0) - torch.where(p > 0, logq, 0.0)
    return (p * gap).sum(-1)


def jsd(logp: Tensor, logq: Tensor, beta: float) -> Tensor:
    """beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q; GKD (arXiv 2306.13649), eq. 1.

    (..., V) log-probs -> (...). Symmetric at beta = 1/2. Divided by beta it tends to KL(p || q) as beta -> 0; divided
    by 1 - beta it tends to KL(q || p) as beta -> 1.
    """
    if not 0 < beta < 1:
        raise ValueError(f"beta must lie strictly between 0 and 1, not {beta}")
    logm = torch.logaddexp(logp + _log(beta), logq + _log(1 - beta))
    return beta * kl(logp, logm) + (1 - beta) * kl(logq, logm)


def _log(x: float) -> float:
    return float(torch.tensor(x, dtype=torch.float64).log())


def entropy(logp: Tensor) -> Tensor:
    """-sum p log p over the last dimension."""
    p = logp.exp()
    return -(p * torch.where(p > 0, logp, 0.0)).sum(-1)


def extrapolated(expert_logp: Tensor, base_logp: Tensor, factor: float) -> Tensor:
    """log of base (expert / base)^factor, normalised over the last dimension; (..., V) log-probs -> the same.

    What the expert never does stays impossible at factor > 0; what the base never does has the expert's log-prob.
    """
    if factor == 0:
        return base_logp
    never = expert_logp == -torch.inf
    base = torch.where(base_logp == -torch.inf, expert_logp, base_logp)
    raw = torch.where(never, -torch.inf, torch.lerp(base, torch.where(never, 0.0, expert_logp), factor))
    return torch.log_softmax(raw, -1)


def bucketed(logp: Tensor, ids: Tensor) -> Tensor:
    """Coarsen (N, V) log-probs to the tokens `ids` (N, K) plus one bucket for all the rest: (N, K + 1).

    The tail bucket keeps the mass outside `ids`; a renormalised top-k would not penalise mass that moves there. The
    divergence of two distributions coarsened alike is a lower bound of the full one (data processing).
    """
    return with_tail(logp.gather(-1, ids))


def with_tail(kept_NK: Tensor) -> Tensor:
    """(N, K) log-probs of some tokens -> (N, K + 1): with that of all others together."""
    return torch.cat([kept_NK, log1m_sum_exp(kept_NK).unsqueeze(-1)], -1)


def log1m_sum_exp(logp: Tensor) -> Tensor:
    """log(1 - sum exp) over the last dimension, floored where rounding makes the sum reach one."""
    rest = 1 - logp.exp().sum(-1)
    return rest.clamp_min(torch.finfo(logp.dtype).tiny).log()


def discounted_to_go(values_N: Tensor, row_N: Tensor, gamma: float) -> Tensor:
    """out_t = sum over s >= t in the same row of gamma^(s - t) values_s, for (N,) row-major values. gamma in [0, 1]."""
    if gamma == 0:
        return values_N
    counts = torch.bincount(row_N)
    out = torch.zeros(len(counts), int(counts.max()), dtype=values_N.dtype, device=values_N.device)
    column_N = position_in_row(row_N)
    out[row_N, column_N] = values_N
    for t in range(out.shape[1] - 2, -1, -1):
        out[:, t] += gamma * out[:, t + 1]
    return out[row_N, column_N]


def spans_to_go(values_N: Tensor, row_N: Tensor, span_N: Tensor, gamma: float) -> Tensor:
    """The values summed over spans, for every token of a span: out_t = sum over spans j of the row of
    gamma^|j - span(t)| times their sums. (N,) row-major; span -1: no value, and out is 0 there.

    Spans before this one count too: where a later token decides how another tokenizer splits the text before it, their
    sums are no function of the past, so they are no baseline. With gamma 1 every token has the sum of its row.
    """
    there_N = span_N >= 0
    width = int(span_N.max()) + 1 if len(span_N) else 0
    keys_K, of_n = torch.unique(row_N[there_N] * width + span_N[there_N], return_inverse=True)
    out_N = torch.zeros_like(values_N)
    if not width:
        return out_N
    sums_K = values_N.new_zeros(len(keys_K)).index_add_(0, of_n, values_N[there_N])
    out_K = sums_K
    if gamma:
        row_K = keys_K.div(width, rounding_mode="floor")
        backward_K = discounted_to_go(sums_K.flip(0), (row_K.max() - row_K).flip(0), gamma).flip(0)
        out_K = discounted_to_go(sums_K, row_K, gamma) + backward_K - sums_K
    out_N[there_N] = out_K[of_n]
    return out_N


def sorted_distance(logp: Tensor, logq: Tensor) -> Tensor:
    """sum over ranks of |p - q|, both sorted by probability: the ULD loss (arXiv 2402.12030, eq. 4).

    (..., V) and (..., W) log-probs -> (...), in [0, 2]. It sees how certain two distributions are, not of what.
    """
    p, q = (x.exp().sort(-1, descending=True).values for x in (logp, logq))
    n = min(p.shape[-1], q.shape[-1])
    return (p[..., :n] - q[..., :n]).abs().sum(-1) + p[..., n:].sum(-1) + q[..., n:].sum(-1)


def position_in_row(row_N: Tensor) -> Tensor:
    """0, 1, 2, ... within each run of equal (sorted) row numbers."""
    counts = torch.bincount(row_N)
    starts = counts.cumsum(0) - counts
    return torch.arange(len(row_N), device=row_N.device) - starts[row_N]


def prefix_log_ratio(logp_N: Tensor, behavior_logp_N: Tensor, row_N: Tensor) -> Tensor:
    """sum over s < t in the row of (log student - log behavior): log importance weight of the prefix before t."""
    ratio_N = logp_N - behavior_logp_N
    running_N = ratio_N.cumsum(0)
    counts = torch.bincount(row_N)
    before_row = torch.cat([running_N.new_zeros(1), running_N[counts.cumsum(0) - 1]])[row_N]
    return running_N - ratio_N - before_row


def group_advantages(reward_BG: Tensor, normalise: str) -> Tensor:
    """Reward minus the group's mean; `normalise='std'` also divides by the group's standard deviation.

    (prompts, samples per prompt) -> same. 'std' is GRPO (arXiv 2402.03300, section 4.1.1); 'none' drops the
    division, which over-weights prompts that are nearly always right or wrong (arXiv 2503.20783).
    """
    centred = reward_BG - reward_BG.mean(1, keepdim=True)
    if normalise == "none":
        return centred
    return centred / (reward_BG.std(1, keepdim=True, correction=0) + 1e-4)
