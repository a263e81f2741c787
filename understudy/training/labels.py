"""Rollouts -> what the loss kernels read: per completion token a target, a weight, and the recorded behavior.

Each function computes one cell of the table; none knows a method's name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from understudy.config import Resolved
from understudy.methods import divergences
from understudy.methods.cells import Method
from understudy.methods.losses import Objective
from understudy.policy import Policy, pad
from understudy.policy.sampling import inverse_cdf
from understudy.protocols import Expert
from understudy.randomness import uniforms
from understudy.types import Batch, Ledger, Prompt, Rollout


@dataclass(frozen=True)
class Labelled:
    """One rollout with its labels, all (T,) over its completion; `expert_logp` is (T, V)."""

    rollout: Rollout
    target_ids: Tensor
    weight: Tensor
    behavior_logp: Tensor
    expert_logp: Tensor | None = None


def objective(method: Method) -> Objective:
    """The loss kernel of a method, and its options."""
    return Objective(
        target="distribution" if method.target == "distribution" else "token", divergence=method.divergence,
        beta=method.beta, importance=method.importance == "token", clip=method.clip,
        top_k=method.top_k, top_k_of=method.top_k_of,
    )  # fmt: skip


def label(
    rollouts: Sequence[Rollout],
    config: Resolved,
    student: Policy,
    expert: Expert | None,
    ledger: Ledger,
    targets: Sequence[Tensor] | None = None,
    distributions: Sequence[Tensor] | None = None,
) -> list[Labelled]:
    """Labels by the cells of `config`. `targets` and `distributions` are given where replay has cached them."""
    if not rollouts:
        return []
    acted = [torch.tensor(r.ids) for r in rollouts]
    behavior = [torch.tensor(r.behavior_logp, dtype=torch.float32) for r in rollouts]
    if config.target == "distribution" and distributions is None:
        distributions = expert_tables(_expert(expert), rollouts, config)
        count_scored(ledger, rollouts)
    if config.target == "expert_token" and targets is None:
        targets = expert_draws(rollouts, _expert(expert), config.seed)
        count_scored(ledger, rollouts)
    weight = weights(rollouts, behavior, config, student, expert, ledger)
    tables = [None] * len(rollouts) if distributions is None else distributions
    return [
        Labelled(r, acted[i] if targets is None else targets[i], weight[i], behavior[i], tables[i])
        for i, r in enumerate(rollouts)
    ]


def expert_tables(expert: Expert, rollouts: Sequence[Rollout], method: Method) -> list[Tensor]:
    """(T, V) log-probs of each: the whole distribution, or what is exact where both are coarsened to its top k."""
    return expert.supervise(rollouts).table(method.top_k if method.top_k_of == "expert" else 0)


def weights(
    rollouts: Sequence[Rollout],
    behavior: list[Tensor],
    method: Method,
    student: Policy,
    expert: Expert | None,
    ledger: Ledger,
) -> list[Tensor]:
    """Per rollout (T,) weights: 1, the log-ratio to go or the group advantage, times a base's importance ratio."""
    lengths = [len(r.ids) for r in rollouts]
    row_N = torch.arange(len(rollouts)).repeat_interleave(torch.tensor(lengths))
    weight_N = torch.ones(len(row_N))
    student_N = behavior_N = torch.cat(behavior)
    if method.behavior == "base":
        student_N = torch.cat(student.score(rollouts)).cpu()
    if method.weight == "log_ratio":
        expert_N = torch.cat(_expert(expert).supervise(rollouts).logp()).cpu()
        count_scored(ledger, rollouts)
        weight_N = divergences.discounted_to_go(expert_N - student_N, row_N, method.gamma)
    elif method.weight == "advantage":
        weight_N = advantages(rollouts, method.advantage_norm)[row_N]
    if method.behavior == "base" and method.importance != "none":
        log_ratio_N = divergences.prefix_log_ratio(student_N, behavior_N, row_N)
        weight_N = weight_N * log_ratio_N.exp().clamp_max(method.importance_cap)
    return list(weight_N.split(lengths))


def advantages(rollouts: Sequence[Rollout], normalise: str) -> Tensor:
    """(B,) group advantages; groups are the rollouts of one prompt, which must be equally many and adjacent."""
    group = 1
    while group < len(rollouts) and rollouts[group].prompt.key == rollouts[0].prompt.key and rollouts[group].sample:
        group += 1
    reward_BG = torch.tensor([_reward(r) for r in rollouts], dtype=torch.float32).view(-1, group)
    return divergences.group_advantages(reward_BG, normalise).flatten()


def expert_draws(rollouts: Sequence[Rollout], expert: Expert, seed: int) -> list[Tensor]:
    """A fresh expert token at every prefix of every rollout: DAgger's labels."""
    out = []
    for r, logp_TV in zip(rollouts, expert.supervise(rollouts).table()):
        u = uniforms(seed, f"label/{r.prompt.key}", r.sample, len(r.ids))
        out.append(inverse_cdf(logp_TV, u).cpu())
    return out


def count_scored(ledger: Ledger, rollouts: Sequence[Rollout]) -> None:
    """Add to the ledger what it costs that the expert scores these."""
    ledger.expert_calls += len(rollouts)
    ledger.expert_tokens_scored += sum(len(r.ids) for r in rollouts)


def batches(parts: Sequence[Sequence[Labelled]], student: Policy) -> Iterator[Batch]:
    """What the loss kernels read, one batch per part (see `split`)."""
    for part in parts:
        padded = pad([x.rollout for x in part], student.pad_id, student.device)
        tables = [x.expert_logp for x in part if x.expert_logp is not None]
        yield Batch(
            padded.input_ids_BS,
            padded.attention_mask_BS,
            padded.position_ids_BS,
            padded.completion_mask_BT,
            torch.cat([x.target_ids for x in part]).to(student.device),
            padded.row_N,
            torch.cat([x.weight for x in part]).to(student.device),
            torch.cat([x.behavior_logp for x in part]).to(student.device),
            torch.cat(tables).to(student.device) if tables else None,
        )


def empty_row(student: Policy, goal: Objective) -> Labelled:
    """A row of weight zero, for a process that has none left."""
    end = student.end_ids[0]
    r = Rollout(Prompt("", "", ids=(end,)), 0, (end,), (0.0,), True, "", "student", None)
    table = torch.full((1, student.vocabulary), -math.log(student.vocabulary))
    return Labelled(
        r, torch.tensor([end]), torch.zeros(1), torch.zeros(1), table if goal.target == "distribution" else None
    )


def split(labelled: Sequence[Labelled], micro_batch: int = 0, micro_tokens: int = 0) -> list[list[Labelled]]:
    """The rows of each batch: of similar length (little padding), at most `micro_batch` rows and `micro_tokens` padded
    tokens; 0 = no limit.

    A batch of b rows is b x (its longest prompt + its longest completion) tokens; a row longer than `micro_tokens` is
    a batch of its own.
    """
    parts: list[list[Labelled]] = []
    prompt = completion = 0
    for x in sorted(labelled, key=lambda x: len(x.rollout.prompt.ids) + len(x.rollout.ids)):
        p, c = len(x.rollout.prompt.ids), len(x.rollout.ids)
        wide = max(prompt, p) + max(completion, c)
        full = parts and (
            (micro_batch and len(parts[-1]) >= micro_batch)
            or (micro_tokens and (len(parts[-1]) + 1) * wide > micro_tokens)
        )
        if not parts or full:
            parts.append([])
            prompt = completion = 0
        parts[-1].append(x)
        prompt, completion = max(prompt, p), max(completion, c)
    return parts


def _reward(rollout: Rollout) -> float:
    if rollout.reward is None:
        raise ValueError(f"rollout {rollout.prompt.key} was not verified")
    return rollout.reward


def _expert(expert: Expert | None) -> Expert:
    if expert is None:
        raise ValueError("this row's labels need an expert")
    return expert
