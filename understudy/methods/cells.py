"""What a method is made of: the values of its cells, the options that fill them, and the filled-in `Method`.

A method is who acts (`behavior`), what each position is pulled toward (`target`), how strongly (`weight`) and how
fresh the data is (`replay`), with the numbers that these need. `None` in an option means "as the method's row has it";
`Method` is what a row, its options and the defaults here make together: nothing in it is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from understudy.specs import ROWS, option
from understudy.types import LEDGER_AXES

BEHAVIORS = {
    "expert": "the expert samples whole completions",
    "student": "the current student samples",
    "base": "the frozen base (the student before training) samples",
    "mixture_batch": "a coin per batch: student (probability student_share) or expert",
    "mixture_token": "a coin per token: expert (probability expert_share^round) or student",
}
TARGETS = {
    "token": "the token that was acted",
    "expert_token": "a fresh expert draw at that prefix",
    "distribution": "the expert's whole next-token distribution, by the divergence",
}
WEIGHTS = {
    "one": "1",
    "log_ratio": "log expert - log student of the acted token, discounted to go by gamma",
    "advantage": "the verifier's reward minus its group's mean",
    "expert_reward": "expert_coef times the expert's pull (the log-ratio to go, or a distribution target's divergence) "
    "plus advantage_coef times the advantage of the acted token (0 where the expert has written it)",
    "passed": "1 if the verifier passed the completion, else the completion is dropped",
}
REPLAYS = {
    "fixed": "sampled once, some updates ahead (a pool: before training), and cached in the run directory",
    "fresh": "sampled anew for every update",
    "aggregate": "each round adds to all earlier rounds",
    "round": "sampled once per round from the current student, replacing the last round",
}
IMPORTANCES = {
    "none": "no ratio",
    "token": "student / behavior at the acted token (PPO clip range `clip`); for behavior base times the prefix ratio",
    "prefix": "student / base over the tokens before this one, capped at `importance_cap`",
}
DIVERGENCES = {
    "kl_expert_student": "KL(expert || student): the student must cover whatever the expert may do",
    "kl_student_expert": "KL(student || expert): the student must do nothing that the expert would not",
    "jsd": "beta KL(expert || m) + (1 - beta) KL(student || m), m = beta expert + (1 - beta) student",
    "uld": "sum over ranks of |student - expert|, both sorted: how certain the next token is, not which it is",
}
SIGNALS = {
    "expert": "the expert's own",
    "extrapolated": "of base (expert / base)^extrapolation, normalised at every token; the base is frozen",
}
CELLS: dict[str, Mapping[str, str]] = {
    "behavior": BEHAVIORS, "target": TARGETS, "weight": WEIGHTS, "replay": REPLAYS, "importance": IMPORTANCES,
    "divergence": DIVERGENCES, "signal": SIGNALS,
}  # fmt: skip
"""Cell -> its values, each with its meaning."""
COMPUTED: dict[str, dict[str, str]] = {
    "behavior": dict.fromkeys(BEHAVIORS, "training/acting.py: Actor.act"),
    "target": {
        "token": "training/labels.py: label",
        "expert_token": "training/labels.py: expert_draws",
        "distribution": "methods/kernel.py: evaluate",
    },
    "weight": {
        "one": "training/labels.py: weights",
        "log_ratio": "methods/divergences.py: discounted_to_go",
        "advantage": "methods/divergences.py: group_advantages",
        "expert_reward": "training/labels.py: reward_weights",
        "passed": "training/rollouts.py: RolloutSource.labels",
    },
    "replay": {name: f"training/rollouts.py: RolloutSource.{name}" for name in REPLAYS},
    "importance": {
        "none": "",
        "token": "methods/losses.py: surrogate",
        "prefix": "methods/divergences.py: prefix_log_ratio",
    },
    "divergence": {"": ""} | dict.fromkeys(DIVERGENCES, "methods/losses.py: divergence"),
    "signal": {"expert": "", "extrapolated": "experts/extrapolated.py: Extrapolated"},
}
"""Cell -> value -> the function of the package that computes it."""
MATCHES = ("first", "shared")
REDUCTIONS = ("token_mean", "sequence_mean", "sequence_sum")


@dataclass(frozen=True)
class Cells:
    """Changes of the row's cells, and the numbers that a cell reads."""

    behavior: str | None = option(None, heading="cells of the method's row", choices=BEHAVIORS)
    """Cell: who acts. expert, student, base, mixture_batch, mixture_token. Default: the row's."""
    target: str | None = option(None, choices=TARGETS)
    """Cell: what each position is pulled toward. token, expert_token, distribution. Default: the row's."""
    weight: str | None = option(None, choices=WEIGHTS)
    """Cell: how strongly. one, log_ratio, advantage, expert_reward, passed. Default: the row's."""
    replay: str | None = option(None, choices=REPLAYS)
    """Cell: how fresh the data is. fixed, fresh, aggregate, round. Default: the row's."""
    importance: str | None = option(None, choices=IMPORTANCES)
    """Ratio that corrects for the behavior policy. none, token, prefix. Default: the row's."""
    divergence: str | None = option(None, choices=("", *DIVERGENCES))
    """kl_expert_student, kl_student_expert, jsd or uld, for a distribution target. Default: the row's."""
    signal: str | None = option(None, choices=SIGNALS)
    """Cell: whose log-probs target and weight read. expert, or extrapolated beyond it. Default: the row's."""
    extrapolation: float = option(1.25, least=0)
    """signal=extrapolated: how often the step from base to expert is taken. 0 = the base, 1 = the expert."""
    beta: float | None = None
    """Weight of the expert in the mixture of jsd, between 0 and 1. Default: 0.5."""
    gamma: float | None = None
    """Discount of the log-ratio to go, 0 (this token only) to 1 (sequence reverse KL). Default: 0."""
    clip: float | None = option(None, within="(0, inf]", why="it is the width of the range around a ratio of 1")
    """PPO clip range of the token ratio. Default: none (grpo: 0.2)."""
    importance_cap: float | None = option(None, least=1)
    """Cap of the prefix ratio (importance=prefix). Default: 5."""
    advantage_norm: str | None = option(None, choices=("std", "none"))
    """std or none: whether group advantages are divided by the group's standard deviation. Default: std."""
    expert_coef: float = option(1.0, least=0)
    """weight=expert_reward: factor of the expert's pull."""
    expert_anneal: float = option(0.0, within="[0, 1]")
    """Share of expert_coef that is gone at the end of the training, linearly: 0 = none, 1 = all of it."""
    advantage_coef: float | None = option(None, least=0)
    """weight=expert_reward: factor of the group advantage. Default: 1 (gkd_reward 0.5)."""
    student_share: float | None = option(None, within="[0, 1]")
    """mixture_batch: probability that a batch is the student's. Default: 0.5."""
    sft_alpha: float = option(0.0, within="[0, 1)")
    """behavior=student: share of the loss's tokens that are the expert's own text, imitated as by sft. 0 = none."""
    expert_share: float | None = option(None, within="[0, 1]")
    """mixture_token: probability, to the power of the round, that the expert picks a token. Default: 0.5."""
    round_updates: int | None = option(None, least=1)
    """Updates per round for replay aggregate and round. Default: 20."""
    top_k: int = option(0, least=0, recipe=True)
    """Coarsen both distributions to this many top tokens plus one tail bucket. 0 = the whole vocabulary."""
    top_k_of: str = option("student", choices=("student", "expert"), recipe=True)
    """Model whose top tokens are kept: student or expert."""
    token_match: str = option("first", choices=MATCHES, recipe=True)
    """Tokens of an expert of another family that a distribution target compares (docs/experts.md): first (one that only
    one side has counts where the first token does that the other writes for it) or shared (all such are one bucket)."""
    reduction: str = option("token_mean", choices=REDUCTIONS, recipe=True)
    """token_mean, sequence_mean (reweights states by 1/length) or sequence_sum."""


@dataclass(frozen=True)
class Sampling:
    """How much data, and how it is sampled."""

    updates: int = option(200, heading="budget", least=1)
    """Optimizer updates."""
    budget_axis: str = option("updates", choices=LEDGER_AXES)
    """Ledger column that `budget` limits, such as train_seconds or expert_tokens_scored."""
    budget: float = option(0.0, least=0)
    """Stop when that column has reached this value, or at `updates`, whichever comes first. 0 = no limit."""
    prompts_per_update: int = option(64, least=1, most=ROWS)
    """Prompts per update."""
    samples_per_prompt: int | None = option(None, least=1, most=ROWS)
    """Completions per prompt. Default: 1 (grpo and opd_reward 8, gkd_reward and rft 4)."""
    updates_per_rollout: int = option(1, least=1)
    """Updates on the same fresh rollouts (needs the token ratio)."""
    prompt_pool: int | None = option(None, least=0, most=100 * ROWS, recipe=True)
    """Distinct training prompts, cycled. 0 = never repeat. Default: 0 (base_opd 512)."""
    first_prompt: int = option(0, least=0)
    """Place in the stream of training prompts where the training begins (a pool begins at 0): a phase of a route goes
    on where the one before ended."""
    max_new_tokens: int = option(0, least=0, recipe=True)
    """Longest completion, in tokens. 0 = as the task sets it."""
    temperature: float = option(1.0, within="(0, inf)", why="greedy accuracy is always evaluated", recipe=True)
    """Sampling temperature of the behavior policy."""
    top_p: float = option(1.0, within="(0, 1]", why="a nucleus of no mass holds no token", recipe=True)
    """Nucleus of the behavior policy."""


@dataclass(frozen=True)
class Method(Sampling, Cells):
    """A row with everything filled in. The defaults here hold where the row has none of its own."""

    behavior: str = ""
    target: str = ""
    weight: str = ""
    replay: str = ""
    importance: str = "none"
    divergence: str = ""
    signal: str = "expert"
    beta: float = 0.5
    gamma: float = 0.0
    clip: float = math.inf
    """inf = no clipping (null in config.json)."""
    importance_cap: float = 5.0
    advantage_norm: str = "std"
    advantage_coef: float = 1.0
    student_share: float = 0.5
    expert_share: float = 0.5
    round_updates: int = 20
    samples_per_prompt: int = 1
    prompt_pool: int = 0

    @property
    def reads_scores(self) -> bool:
        """Whether the weight reads the expert's log-probs of the acted tokens."""
        return self.weight == "log_ratio" or (self.weight == "expert_reward" and self.target == "token")

    @property
    def text_prompts(self) -> int:
        """Prompts per update that the expert completes too, for sft_alpha: about that share of the completions."""
        n, alpha = self.prompts_per_update, self.sft_alpha
        return min(n, max(1, round(n * alpha / (1 - alpha)))) if alpha else 0

    @property
    def extrapolates(self) -> bool:
        """Whether target or weight read the expert through the base."""
        return self.signal == "extrapolated" and self.extrapolation != 1

    @property
    def reads_advantages(self) -> bool:
        """Whether the weight reads group advantages, so rewards."""
        return self.weight in ("advantage", "expert_reward")
