"""What each program calls its numbers, and how it is made to log one that is missing.

Read from the sources of transformers 5.23, TRL 1.16, verl 0.9.1, ms-swift 4.6, tinker-cookbook 0.6.1 and prime-rl at
commit 559b447 (August 2026).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Tool:
    """One program and its log."""

    title: str
    names: Mapping[str, str]
    """Its name of a number -> ours; * stands for any text. The first of several that is there counts."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Our name -> what to set, so that it is logged."""


_TRL = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "lr",
    "reward": "reward",
    "frac_reward_zero_std": "same_reward",
    "completions/mean_length": "length",
    "completions/clipped_ratio": "at_limit",
    "entropy": "entropy",
    "entropy/mean": "entropy",
    "jsd": "kl_expert",
    "teacher_kl": "kl_expert",
    "sampling/sampling_logp_difference/mean": "drift",
    "sampling/importance_sampling_ratio/mean": "ratio",
    "rollout_correction/kl": "kl_sampler",
    "clip_ratio/region_mean": "clipped",
    "eval_loss": "eval_loss",
}
_TRL_MISSING = {
    "at_limit": "GRPOTrainer, RLOOTrainer and DistillationTrainer log completions/clipped_ratio",
    "reward": "GRPOTrainer and RLOOTrainer log it; the other trainers have none (see understudy eval)",
    "kl_expert": "no trainer logs it apart; in DistillationTrainer the loss is the divergence itself",
    "drift": "set use_vllm=True with vllm_importance_sampling_correction=True; else one model does both",
    "ratio": "set use_vllm=True with vllm_importance_sampling_correction=True; else one model does both",
    "grad_norm": "set logging_steps; transformers logs it beside the loss",
}

TOOLS = {
    "trl": Tool("TRL or transformers", _TRL, _TRL_MISSING),
    "ms-swift": Tool("ms-swift", _TRL, {**_TRL_MISSING, "entropy": "set --log_entropy true"}),
    "verl": Tool(
        "verl",
        {
            "actor/pg_loss": "loss",
            "actor/loss": "loss",
            "train/loss": "loss",
            "actor/grad_norm": "grad_norm",
            "train/grad_norm": "grad_norm",
            "actor/lr": "lr",
            "train/lr": "lr",
            "critic/score/mean": "reward",
            "critic/rewards/mean": "reward",
            "response_length/mean": "length",
            "response_length/clip_ratio": "at_limit",
            "actor/entropy": "entropy",
            "actor/entropy_loss": "entropy",
            "actor/distillation/loss": "kl_expert",
            "distillation/loss": "kl_expert",
            "actor/distillation/student_mass": "student_mass",
            "distillation/student_mass": "student_mass",
            "training/rollout_probs_diff_mean": "probability_gap",
            "rollout_corr/kl": "kl_sampler",
            "rollout_corr/rollout_is_mean": "ratio",
            "actor/pg_clipfrac": "clipped",
            "val/loss": "eval_loss",
        },
        {
            "kl_expert": "it is logged with distillation.enabled=true",
            "student_mass": "it is logged with distillation.distillation_loss.loss_mode=forward_kl_topk",
            "probability_gap": "set actor_rollout_ref.rollout.calculate_log_probs=True",
            "kl_sampler": "set actor_rollout_ref.rollout.calculate_log_probs=True",
            "ratio": "set algorithm.rollout_correction.rollout_is=token",
        },
    ),
    "tinker": Tool(
        "tinker-cookbook",
        {
            "train_mean_nll": "loss",
            "optim/lr": "lr",
            "learning_rate": "lr",
            "env/all/reward/total": "reward",
            "env/all/by_group/frac_mixed": "-same_reward",
            "env/all/ac_tokens_per_turn": "length",
            "env/all/stop/max_tokens": "at_limit",
            "optim/entropy": "entropy",
            "teacher_kl": "kl_expert",
            "sdft/reverse_kl_mean": "kl_expert",
            "optim/kl_sample_train_v1": "kl_sampler",
            "test/nll": "eval_loss",
        },
        {
            "at_limit": "the environment has to report why it stops, metrics['stop/max_tokens']; else see `length`",
            "kl_expert": "train_on_policy of the distillation recipes logs teacher_kl",
            "grad_norm": "the service does not report it",
        },
    ),
    "prime-rl": Tool(
        "prime-rl",
        {
            "loss/mean": "loss",
            "optim/grad_norm": "grad_norm",
            "optim/lr": "lr",
            "train/agg/all/*/reward/mean": "reward",
            "train/agg/all/num_output_tokens/mean": "length",
            "train/agg/all/*/is_truncated/mean": "at_limit",
            "entropy/all/mean": "entropy",
            "mismatch_kl/all/mean": "kl_sampler",
        },
        {"reward": "the orchestrator writes it into a file of its own: watch both"},
    ),
    "understudy": Tool(
        "understudy",
        {
            "loss": "loss",
            "grad_norm": "grad_norm",
            "lr": "lr",
            "reward": "reward",
            "length": "length",
            "at_limit": "at_limit",
            "entropy": "entropy",
            "expert_entropy": "expert_entropy",
            "loss_expert": "loss_expert",
            "loss_reward": "loss_reward",
            "loss_text": "loss_text",
            "weight_expert": "weight_expert",
            "weight_reward": "weight_reward",
            "logp_drift": "drift",
            "ratio_clipped": "clipped",
        },
        {
            "reward": "the task has no verifier",
            "at_limit": "earlier versions did not log it",
            "entropy": "earlier versions did not log it",
            "kl_expert": "set --eval-divergences with an expert that gives its distribution, or train opd_full",
        },
    ),
}


def translated(tool: str, record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of one record under our names. A name that begins with "-" in the table holds 1 minus the value."""
    out: dict[str, float] = {}
    for theirs, ours in TOOLS[tool].names.items():
        values = (
            [record.get(theirs)] if "*" not in theirs else [v for k, v in record.items() if fnmatch.fnmatch(k, theirs)]
        )
        for value in filter(None, map(number, values)):
            if ours.removeprefix("-") not in out:
                out[ours.removeprefix("-")] = 1 - value[0] if ours.startswith("-") else value[0]
    return out


def number(value: Any) -> tuple[float] | None:
    """(value,) of a number, or of the text of one, as transformers prints it; None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return (float(value),) if isinstance(value, (int, float, str)) else None
    except (ValueError, OverflowError):
        return None


LAST_STEP = 10**15


def whole(value: Any) -> int:
    """A positive number without its fraction; 0 for anything else, and for what counts nothing (above LAST_STEP)."""
    found = number(value)
    return int(found[0]) if found and 0 < found[0] < LAST_STEP else 0
