"""One optimizer step on labelled rollouts, in one process or several, and what must stop a run after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import torch

from understudy import distributed, running
from understudy.config import Resolved
from understudy.errors import UserError
from understudy.methods.kernel import Entropies
from understudy.methods.losses import Objective, scales, surrogate
from understudy.policy import Policy
from understudy.training.labels import Clock, Labelled, batches, empty_row, objective, split
from understudy.types import prompt_tokens

SPLIT = ("loss_expert", "loss_reward", "weight_expert", "weight_reward")
"""Metrics of weight=expert_reward: both parts of the loss, and the mean size of both weights per token."""

TEXT = ("loss_text",)
"""Of sft_alpha: the part of the loss that is the negative log-likelihood of the expert's text."""


def update(
    student: Policy, optimizer: torch.optim.Optimizer, labelled: Sequence[Labelled], config: Resolved,
    clock: Clock | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One optimizer step on these labelled rollouts; its metrics. No rollouts (none passed): no step.

    clock: counts what the expert takes meanwhile.
    With several processes, each brings its share: the metrics and the step are those of all together.
    """
    rewards = [x.rollout.reward for x in labelled if x.rollout.reward is not None and not x.imitated]
    rollouts = [x.rollout for x in labelled]
    here = [sum(len(r.ids) for r in rollouts), len(rollouts), sum(rewards), len(rewards), prompt_tokens(rollouts)]
    counts = distributed.total([*here, *_sizes(labelled, config)])
    tokens_float, rows_float, reward_sum, rewarded, before, *sizes = counts
    total_tokens, rows = int(tokens_float), int(rows_float)
    in_parts, with_text = config.weight == "expert_reward", config.sft_alpha > 0
    if not rows:
        names = ("loss", "grad_norm", "actor", "reward", "length", "logp_drift", "entropy", "expert_entropy")
        nothing = dict.fromkeys(names)
        return nothing | {"tokens": 0, "prompt_tokens": 0} | dict.fromkeys(SPLIT * in_parts + TEXT * with_text)
    # a row whose weights are all zero has zero gradient: it counts in the mean, but is not computed
    pulled = [x for x in labelled if x.pulls]
    goal, likelihood = objective(config), Objective("token")
    _learning(student.model, dropout=config.behavior == "expert")
    optimizer.zero_grad(set_to_none=False)
    loss_sum, drift_sum, clipped, tokens, reward_loss, text_loss = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    entropies = Entropies()
    parts = [
        part
        for imitated in (False, True)
        for part in split(
            [x for x in pulled if x.imitated == imitated], student, config.micro_batch, config.micro_tokens
        )
    ]  # fmt: skip
    if student.shards is not None:  # all make the same number of passes, or they would wait for each other forever
        passes = max(distributed.gathered(len(parts)))
        parts += [[[empty_row(student, goal)]]] * (passes - len(parts))
    with closing(batches(parts, student, clock)) as stream:
        for i, batch in enumerate(stream):
            text = parts[i][0][0].imitated
            running.check()  # for the last time before the weights change: what follows is short
            scale_N = scales(batch.row_N, config.reduction, total_tokens, rows)
            pulls = batch.pulls
            watched = entropies if pulls and not text else None
            kind = likelihood if text else goal
            total, _, logp_N = student.losses(batch, kind, scale_N, config.logit_chunk, watched)
            # FSDP2 takes the mean of the processes' gradients; the gradient is their sum
            (total if student.shards is None else total * distributed.size()).backward()
            if not pulls:
                continue
            loss_sum += float(total.detach())
            if text:
                text_loss += float(total.detach())
                continue
            tokens += len(logp_N)
            if batch.reward_weight_N is not None:
                behavior_N = batch.behavior_logp_N if goal.importance else None
                reward_N = surrogate(logp_N, behavior_N, batch.reward_weight_N, goal.clip)
                reward_loss += float((reward_N * scale_N).sum())
            if batch.behavior_logp_N is not None:
                gap_N = logp_N - batch.behavior_logp_N
                drift_sum += float(gap_N.abs().sum())
                if config.clip < math.inf:
                    clipped += float((gap_N.exp() - 1).abs().gt(config.clip).sum())
    student.model.eval()
    trained = list(student.trained().values())
    for p in trained:  # nothing pulled: zero gradients, as the full computation would have
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    limit = config.grad_clip or math.inf
    norm_tensor = torch.nn.utils.clip_grad_norm_(trained, limit)
    norm = float(norm_tensor.full_tensor() if hasattr(norm_tensor, "full_tensor") else norm_tensor)
    if student.shards is not None:
        sums = [loss_sum, drift_sum, tokens, clipped, reward_loss, text_loss, *entropies.sums]
        loss_sum, drift_sum, tokens, clipped, reward_loss, text_loss, *entropy = distributed.total(sums)
    else:
        entropy = entropies.sums
    if math.isfinite(loss_sum) and math.isfinite(norm):
        optimizer.step()
    acted_is_target = config.behavior == "student" and config.target != "expert_token"
    split_loss = (loss_sum - reward_loss - text_loss, reward_loss, *(size / total_tokens for size in sizes))
    return (
        {
            "loss": loss_sum,
            "grad_norm": norm,
            "tokens": total_tokens,
            "prompt_tokens": int(before),
            "actor": rollouts[0].actor if rollouts else None,
            "reward": reward_sum / rewarded if rewarded else None,
            "length": total_tokens / rows,
            "logp_drift": drift_sum / tokens if tokens and acted_is_target else None,
            "entropy": entropy[0] / entropy[1] if entropy[1] else None,
            "expert_entropy": entropy[2] / entropy[3] if entropy[3] else None,
            "ratio_clipped": clipped / tokens if tokens and config.clip < math.inf else None,
        }
        | dict(zip(SPLIT, split_loss if in_parts else ()))
        | dict(zip(TEXT, (text_loss,) if with_text else ()))
    )


def _sizes(labelled: Sequence[Labelled], config: Resolved) -> list[float]:
    """Sums over tokens of abs(weight): of the expert's part and of the reward's, where they are two."""
    if config.weight != "expert_reward":
        return [0.0, 0.0]
    own = [x for x in labelled if not x.imitated]
    reward = [x.reward_weight for x in own if x.reward_weight is not None]
    expert = [x.weight for x in own]
    if config.target == "token":
        expert = [whole - part for whole, part in zip(expert, reward)]
    return [sum(float(part.abs().sum()) for part in parts) for parts in (expert, reward)]


def _learning(model: torch.nn.Module, dropout: bool) -> None:
    """Switch the model to learning. Without dropout on prefixes that a policy has drawn: it would be noise in ratios
    and divergences, also where the student's own configuration has it."""
    model.train(dropout)
    if not dropout:
        for module in model.modules():
            if getattr(module, "gradient_checkpointing", False):  # transformers does it in training mode alone
                module.training = True


def learning_rate(config: Resolved, step: int, spent: float = 0.0) -> float:
    """Linear warm-up to lr, then the schedule, at update `step` (from 0) when `spent` of the budget is gone (0 to 1).

    A schedule ends where the training does: at its last update, or where its budget is spent.
    """
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    if config.schedule == "constant":
        return config.lr
    progress = max((step - config.warmup) / max(1, config.updates - config.warmup), min(spent, 1.0))
    return config.lr * (1 - progress if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress)))


def check_finite(metrics: dict[str, Any], step: int, labelled: Sequence[Labelled], config: Resolved) -> None:
    """Stop before a bad update reaches a checkpoint: the last good one stays."""
    keys = ", ".join(x.rollout.prompt.key for x in labelled[:3])
    where = f"at update {step + 1}, batch {keys}{', ...' if len(labelled) > 3 else ''}"
    for name in ("loss", "grad_norm"):
        value = metrics[name]
        if value is not None and not math.isfinite(value):
            raise UserError(
                name, value, f"not finite {where}; stopped, the last checkpoint is kept: lower --lr or set --grad-clip"
            )
    drift = metrics["logp_drift"]
    first_use = config.updates_per_rollout == 1 or step % config.updates_per_rollout == 0
    if drift is not None and first_use and config.replay == "fresh" and drift > config.drift_limit:
        raise UserError(
            "logp_drift",
            f"{drift:.3f}",
            f"recomputed and recorded log-probs differ {where} by more than drift_limit={config.drift_limit}: "
            "the sampler and the trainer do not score alike (dtype? sampling transforms?)",
        )


def check_weights(student: Policy, step: int) -> None:
    """A finite loss can still make an infinite step: no such weights may replace a good checkpoint."""
    here = (p.to_local() if hasattr(p, "to_local") else p for p in student.trained().values())
    finite = [bool(torch.isfinite(p).all()) for p in here]
    for name, everywhere in zip(student.trained(), zip(*distributed.gathered(finite))):
        if not all(everywhere):
            hint = f"not finite after update {step}; stopped, the last checkpoint is kept: lower --lr"
            raise UserError("weights", name, hint)
