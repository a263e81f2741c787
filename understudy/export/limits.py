"""What each target can express of a method: the combinations that it cannot, why, and what is nearest there.

A limit either refuses (the target has nothing of the kind) or is a difference: the nearest that the target has is
written if the user agrees. Read from the sources of the versions in VERSIONS.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from understudy.config import Resolved
from understudy.methods import table
from understudy.specs import names_self

VERSIONS = {"trl": "trl 1.16.0", "verl": "verl 0.9.1", "ms-swift": "ms-swift 4.6.0", "tinker": "tinker-cookbook 0.6.1"}
"""Target -> the package and its version whose sources the export was written for."""
TARGETS = tuple(VERSIONS)

SAMPLED = "opd is written (the same gradient in expectation, from the sampled token, so noisier)"


@dataclass(frozen=True)
class Limit:
    """A combination that a target does not have."""

    targets: tuple[str, ...]
    applies: Callable[[Resolved], bool]
    field: str
    """Of TrainConfig, for the message."""
    reason: str
    nearest: str
    """What to do instead; of a difference, what is written."""
    difference: bool = False
    """True: `nearest` is close enough to be written where the user agrees."""
    instead: Callable[[Resolved], Resolved] | None = None
    """Of such a difference: the training that is written in place of this one. None: the same."""


def is_offline(c: Resolved) -> bool:
    """Completions of the expert that are imitated token by token: sft, seq_kd."""
    return (c.behavior, c.target, c.weight) == ("expert", "token", "one")


def is_gradient_of_score(c: Resolved) -> bool:
    return c.weight == "log_ratio"


def is_reward(c: Resolved) -> bool:
    return c.weight == "advantage"


def is_divergence(c: Resolved) -> bool:
    return c.target == "distribution"


def teaches(c: Resolved) -> bool:
    """Whether the target must load the expert: it scores."""
    return is_divergence(c) or is_gradient_of_score(c)


def is_full_reverse(c: Resolved) -> bool:
    """opd_full: KL(student || expert) over the vocabulary, on the student's fresh completions."""
    cells = (c.behavior, c.target, c.replay, c.divergence, c.top_k)
    return cells == ("student", "distribution", "fresh", "kl_student_expert", 0)


def sampled(c: Resolved) -> Resolved:
    """opd in the place of opd_full: the same gradient in expectation, estimated from the sampled token."""
    return dataclasses.replace(
        c, method="opd", target="token", weight="log_ratio", importance="token", divergence="", gamma=0.0
    )


def teachers_top(c: Resolved) -> bool:
    """Whether only the expert's own top tokens are compared."""
    return c.top_k > 0 and c.top_k_of == "expert"


def trl_tail(c: Resolved) -> bool:
    """top_k with one tail bucket as TRL's IWOPDTrainer has it: the tokens of the first argument of the KL."""
    whose = {"kl_student_expert": "student", "kl_expert_student": "expert"}.get(c.divergence)
    return c.behavior == "student" and c.top_k_of == whose


_ALL = TARGETS
LIMITS: tuple[Limit, ...] = (
    Limit(_ALL, lambda c: c.behavior == "mixture_token", "behavior",
          "no target mixes expert and student token by token", "--method gkd --to trl (a mixture by completions)"),
    Limit(_ALL, lambda c: c.target == "expert_token", "target",
          "no target labels the student's prefixes with fresh draws of the expert",
          "--target distribution --divergence kl_expert_student (what those draws estimate)"),
    Limit(_ALL, lambda c: c.behavior == "base" or c.importance == "prefix", "behavior",
          "no target corrects the base's completions by their prefix ratio", "--method opd_full (fresh completions)"),
    Limit(_ALL, lambda c: c.weight == "passed", "weight",
          "no target has rounds of rejection sampling in one training", "--method grpo (the same reward)"),
    Limit(_ALL, lambda c: table.needs_expert(c) and names_self(c.expert), "expert",
          "no target gives the student's own prompts a context", "an expert that is a model"),
    Limit(_ALL, lambda c: table.needs_expert(c) and bool(c.expert_of), "expert_of",
          "no target sends each prompt to its own expert", "an export for each expert with its rows alone"),
    Limit(_ALL, lambda c: c.sft_alpha > 0, "sft_alpha",
          "no target has the expert's text as a share of an online update's tokens", "--method gkd, or --sft-alpha 0"),
    Limit(_ALL, lambda c: c.extrapolates, "signal",
          "no target reads expert and base together", "--signal expert (that is --extrapolation 1)"),
    Limit(_ALL, lambda c: c.weight == "expert_reward", "weight",
          "no target has the expert's pull and the reward in one loss, with a coefficient each",
          "--method opd, or --method grpo"),
    Limit(_ALL, lambda c: c.replay in ("aggregate", "round"), "replay",
          "every target samples anew for each update or reads a file", "--replay fresh"),
    Limit(_ALL, lambda c: c.behavior == "mixture_batch" and not is_divergence(c), "behavior",
          "a mixture by batches exists for divergences only", "--method gkd"),

    # -- TRL
    Limit(("trl", "verl", "ms-swift"), lambda c: is_gradient_of_score(c) and c.gamma > 0, "gamma",
          "its advantage is the log-ratio of one token, not of those to come", "--to tinker, or --gamma 0"),
    Limit(("trl",), lambda c: is_divergence(c) and c.top_k > 0 and not trl_tail(c), "top_k",
          "its top-k with a tail bucket keeps the tokens of the first argument of the KL, and jsd has none here",
          "--method opd_full --top-k-of student, or --top-k 0"),
    Limit(("trl",), lambda c: c.updates_per_rollout > 1 and not is_reward(c), "updates_per_rollout",
          "only its GRPOTrainer uses completions again", "--updates-per-rollout 1"),

    # -- verl
    Limit(("verl",), lambda c: is_divergence(c) and c.behavior != "student", "behavior",
          "its distillation acts on fresh completions of the student only", "--to trl or --to ms-swift"),
    Limit(("verl",), is_full_reverse, "divergence",
          "it has no reverse KL over the vocabulary (its k3 descends the forward KL)", SAMPLED,
          difference=True, instead=sampled),
    Limit(("verl",), lambda c: c.divergence == "kl_student_expert" and not is_full_reverse(c), "divergence",
          "it has no reverse KL of distributions", "--method opd"),
    Limit(("verl",), lambda c: is_divergence(c) and c.divergence == "jsd", "divergence",
          "it has no Jensen-Shannon divergence", "--to trl or --to ms-swift"),
    Limit(("verl",), lambda c: c.divergence == "kl_expert_student" and not teachers_top(c), "top_k",
          "its teacher gives its own top tokens only", "--top-k 64 --top-k-of expert"),
    Limit(("verl",), lambda c: is_divergence(c) and teachers_top(c), "top_k",
          "its top-k has no tail bucket: mass outside is not pulled, and negative values are set to 0",
          "forward_kl_topk with the same k is written", difference=True),
    Limit(("verl",), lambda c: c.schedule == "linear", "schedule",
          "its schedules are constant and cosine", "--schedule cosine, or constant"),
    Limit(("verl",), lambda c: c.lora_dropout > 0, "lora_dropout",
          "its FSDP adapters have no dropout", "--lora-dropout 0"),

    # -- ms-swift
    Limit(("ms-swift",), lambda c: is_divergence(c) and c.top_k > 0 and c.top_k_of == "student", "top_k_of",
          "its top-k keeps the teacher's tokens", "--top-k-of expert, or --top-k 0"),
    Limit(("ms-swift",), lambda c: is_divergence(c) and teachers_top(c), "top_k",
          "its top-k has no tail bucket: both distributions are renormalised over the kept tokens",
          "gkd_logits_topk with the same k is written", difference=True),
    Limit(("ms-swift",), lambda c: c.updates_per_rollout > 1 and not is_reward(c), "updates_per_rollout",
          "only its task-reward GRPO uses completions again", "--updates-per-rollout 1"),

    # -- tinker
    Limit(("tinker",), is_full_reverse, "target",
          "its teacher scores the sampled token, not the distribution", SAMPLED, difference=True, instead=sampled),
    Limit(("tinker",), lambda c: is_divergence(c) and not is_full_reverse(c), "target",
          "its teacher scores the sampled token, not the distribution", "--method opd"),
    Limit(("tinker",), lambda c: c.lora_rank == 0, "lora_rank",
          "it trains adapters only", "an adapter of rank 32 is written (or train with --lora-rank)", difference=True),
    Limit(("tinker",), lambda c: is_reward(c) and c.advantage_norm == "std", "advantage_norm",
          "its advantages are not divided by the group's deviation",
          "centred rewards are written (that is --advantage-norm none)", difference=True),
    Limit(("tinker",), lambda c: c.updates_per_rollout > 1, "updates_per_rollout",
          "its num_substeps splits a batch instead of using it again", "--updates-per-rollout 1"),
    Limit(("tinker",), lambda c: not is_offline(c) and c.schedule != "constant", "schedule",
          "its online loops have a constant learning rate", "a constant one is written", difference=True),
    Limit(("tinker",), lambda c: c.warmup > 0, "warmup",
          "it has no warm-up", "none is written", difference=True),
    Limit(("tinker",), lambda c: c.weight_decay > 0, "weight_decay",
          "its loops have no weight decay", "none is written", difference=True),
    Limit(("tinker",), lambda c: c.adam_beta2 != 0.95 and not is_offline(c), "adam_beta2",
          "its online loops have 0.95", "0.95 is written", difference=True),

    # -- reductions
    Limit(("trl", "ms-swift", "tinker"), lambda c: c.reduction == "sequence_sum", "reduction",
          "it has no mean over completions of token sums", "--to verl, or --reduction token_mean"),
    Limit(("trl", "ms-swift"), lambda c: c.reduction == "sequence_mean" and not is_reward(c), "reduction",
          "this trainer means over tokens only", "--reduction token_mean"),
    Limit(("verl",), lambda c: c.reduction != "token_mean" and is_offline(c), "reduction",
          "its SFT means over tokens only", "--reduction token_mean"),
    Limit(("tinker",), lambda c: c.reduction == "sequence_mean" and not is_offline(c), "reduction",
          "its policy losses sum over tokens", "--reduction token_mean"),
    Limit(_ALL, lambda c: is_offline(c) and c.replay == "fresh" and c.prompt_pool > 0,
          "replay", "completions of a pool come from a file, the same in every pass", "--replay fixed"),
    Limit(("ms-swift",), lambda c: is_divergence(c) and c.behavior != "student" and c.replay == "fresh"
          and c.prompt_pool > 0, "replay", "the expert's completions come from a file, the same in every pass",
          "--prompt-pool 0, or --to trl"),
)  # fmt: skip


def limits_of(target: str, config: Resolved) -> list[Limit]:
    """The limits of `target` that this training meets, refusals first."""
    found = [limit for limit in LIMITS if target in limit.targets and limit.applies(config)]
    return sorted(found, key=lambda limit: limit.difference)


def written(target: str, config: Resolved) -> Resolved:
    """The training that is written: another one where a difference says so."""
    for limit in limits_of(target, config):
        if limit.instead is not None:
            config = limit.instead(config)
    return config


def trainer_of(target: str, c: Resolved) -> str:
    """The trainer or command of `target` that runs this method; it must have no refusal."""
    if target == "trl":
        if is_offline(c):
            return "SFTTrainer"
        if is_reward(c):
            return "GRPOTrainer"
        if is_gradient_of_score(c) or (c.behavior == "student" and c.top_k):
            return "experimental.iw_opd.IWOPDTrainer"
        return "DistillationTrainer" if c.behavior == "student" else "experimental.gkd.GKDTrainer"
    if target == "verl":
        return "verl.trainer.sft_trainer" if is_offline(c) else "verl.trainer.main_ppo"
    if target == "ms-swift":
        if is_offline(c):
            return "swift sft"
        return "swift rlhf --rlhf_type gkd" if is_divergence(c) else "swift rlhf --rlhf_type grpo"
    if is_offline(c):
        return "tinker_cookbook.supervised.train"
    return "tinker_cookbook.rl.train" if is_reward(c) else "tinker_cookbook.distillation.train_on_policy"


def ppo_range(c: Resolved) -> str:
    """What `clipped` means, as a comment."""
    return "PPO range of the token ratio" if c.clip < math.inf else "no clipping of the token ratio"


def clipped(c: Resolved) -> float:
    """The PPO range as targets can hold it: without clipping one that no ratio reaches."""
    return c.clip if c.clip < math.inf else 1e6
