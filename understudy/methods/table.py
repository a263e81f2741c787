"""The table: every training method is one row of cells (cells.py), and rules say which combinations are legal.

`Row.computed` names the functions that compute a row's cells. docs/algorithms.md is generated from this file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from understudy.methods.cells import CELLS, COMPUTED, Method
from understudy.types import MATCHED


@dataclass(frozen=True)
class Row:
    """One method: its cells, its other defaults, and where it comes from."""

    name: str
    behavior: str
    target: str
    weight: str
    replay: str
    summary: str
    equation: str
    source: str
    deviations: str
    importance: str = "none"
    divergence: str = ""
    signal: str = "expert"
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cells(self) -> dict[str, str]:
        """Cell -> its value."""
        return {name: getattr(self, name) for name in CELLS}

    @property
    def computed(self) -> dict[str, str]:
        """Cell -> the function that computes it, for the cells that this row uses."""
        places = {name: COMPUTED[name][value] for name, value in self.cells.items()}
        return {name: place for name, place in places.items() if place}


_ROWS = (
    Row(
        "sft", "expert", "token", "one", "fixed",
        summary="supervised fine-tuning on the expert's samples: offline imitation",
        equation="-E_{y ~ expert} sum_t log student(y_t | y_<t)",
        source="behavior cloning; the offline arm of arXiv 2606.30445",
        deviations="token mean over the update, not over each sequence",
    ),
    Row(
        "seq_kd", "expert", "token", "one", "fixed",
        summary="sequence-level distillation; the same cells as sft under its name in the distillation literature",
        equation="-E_{y ~ expert} sum_t log student(y_t | y_<t)",
        source="arXiv 1606.07947, eq. 8 and section 3.2",
        deviations="samples from the expert instead of its beam-search mode",
    ),
    Row(
        "word_kd", "expert", "distribution", "one", "fixed",
        summary="word-level distillation on the expert's own samples",
        equation="E_{y ~ expert} sum_t KL(expert(. | y_<t) || student(. | y_<t))",
        source="arXiv 1606.07947, eq. 7; supervised KD of arXiv 2306.13649",
        deviations="no interpolation with a hard-label loss, temperature 1",
        divergence="kl_expert_student",
    ),
    Row(
        "gkd", "mixture_batch", "distribution", "one", "fresh",
        summary="generalised distillation: student or expert completions by a coin, JSD(beta)",
        equation="E_{y ~ student or expert} sum_t JSD_beta(expert || student)(. | y_<t)",
        source="arXiv 2306.13649, algorithm 1 and eq. 1",
        deviations="the fixed data set of the paper is replaced by fresh expert samples",
        divergence="jsd",
        defaults={"beta": 0.5, "student_share": 0.5},
    ),
    Row(
        "dagger", "mixture_token", "expert_token", "one", "aggregate",
        summary="dataset aggregation: label the states that the student visits with fresh expert draws",
        equation="-E_{y ~ mixture of rounds 0..i} sum_t log student(a_t | y_<t), a_t ~ expert(. | y_<t)",
        source="DAgger, arXiv 1011.0686, algorithm 3.1",
        deviations="sampled labels (a stochastic expert); one learner warm-started over rounds, not refitted",
        defaults={"expert_share": 0.5, "round_updates": 20},
    ),
    Row(
        "opd", "student", "token", "log_ratio", "fresh",
        summary="on-policy distillation by policy gradient on the sampled token",
        equation="-E_{y ~ student} sum_t A_t log student(y_t | y_<t), "
        "A_t = sum_{s>=t} gamma^(s-t) [log expert - log student](y_s)",
        source="arXiv 2606.30445 (online arm); arXiv 2306.08543 for gamma = 1",
        deviations="gamma = 0 by default: the per-token reverse KL without its effect on later states",
        importance="token",
        defaults={"gamma": 0.0},
    ),
    Row(
        "opd_full", "student", "distribution", "one", "fresh",
        summary="on-policy distillation with the exact per-token KL over the vocabulary",
        equation="E_{y ~ student} sum_t KL(student(. | y_<t) || expert(. | y_<t))",
        source="arXiv 2306.13649 (on-policy, reverse KL); arXiv 2604.13016 with top_k = 16 of the student",
        deviations="no gradient through the sampled prefix (that is gamma = 1 of opd)",
        divergence="kl_student_expert",
    ),
    Row(
        "exopd", "student", "token", "log_ratio", "fresh",
        summary="reward extrapolation: on-policy distillation past the expert, away from the base",
        equation="-E_{y ~ student} sum_t A_t log student(y_t | y_<t), A_t = sum_{s>=t} gamma^(s-t) [log base + "
        "extrapolation (log expert - log base) - log student](y_s)",
        source="ExOPD, arXiv 2602.12125; extrapolation 1 is opd",
        deviations="the reference is the student before training (`base` names another); gamma = 0 by default",
        importance="token", signal="extrapolated",
        defaults={"gamma": 0.0},
    ),
    Row(
        "base_opd", "base", "distribution", "one", "fixed",
        summary="reverse KL on prefixes sampled once from the base, importance-weighted to the student's",
        equation="E_{y ~ base} sum_t w_t KL(student || expert)(. | y_<t), w_t = prod_{s<t} student/base (y_s)",
        source="after the base-policy guarantee of arXiv 2606.30445 (its exact form was not available to us)",
        deviations="the prefix ratio is truncated at importance_cap (bias for variance) and carries no gradient",
        importance="prefix",
        divergence="kl_student_expert",
        defaults={"importance_cap": 5.0, "prompt_pool": 512},
    ),
    Row(
        "grpo", "student", "token", "advantage", "fresh",
        summary="reinforcement learning from the verifier's reward, baseline = the group's mean",
        equation="-E_{y ~ student} sum_t (r(y) - mean_group r) / std_group log student(y_t | y_<t)",
        source="GRPO, arXiv 2402.03300, eq. 3",
        deviations="no KL penalty; token mean over the update (arXiv 2503.14476), not over each sequence",
        importance="token",
        defaults={"samples_per_prompt": 8, "advantage_norm": "std", "clip": 0.2},
    ),
    Row(
        "opd_reward", "student", "token", "expert_reward", "fresh",
        summary="on-policy distillation and the verifier's reward in one policy gradient",
        equation="-E_{y ~ student} sum_t (b A_t + c R(y)) log student(y_t | y_<t), A_t as in opd, R as in grpo, "
        "b = expert_coef (1 - expert_anneal progress), c = advantage_coef",
        source="KDRL, arXiv 2506.02208, with the k1 estimate of the reverse KL; its annealed coefficient",
        deviations="the log-ratio is part of the weight, so that one clipping range holds for both; no masks by reward",
        importance="token",
        defaults={"gamma": 0.0, "samples_per_prompt": 8, "advantage_norm": "std", "clip": 0.2},
    ),
    Row(
        "opd_full_reward", "student", "distribution", "expert_reward", "fresh",
        summary="the exact per-token KL from the expert plus a policy gradient of the verifier's reward",
        equation="E_{y ~ student} sum_t [b KL(student || expert)(. | y_<t) - c R(y) log student(y_t | y_<t)], "
        "b, c and R as in opd_reward",
        source="the joint objective of KDRL, arXiv 2506.02208, with the exact KL of opd_full",
        deviations="no gradient of the KL through the sampled prefix; the clipping range holds for the reward's part",
        importance="token", divergence="kl_student_expert",
        defaults={"samples_per_prompt": 8, "advantage_norm": "std", "clip": 0.2},
    ),
    Row(
        "gkd_reward", "mixture_batch", "distribution", "expert_reward", "fresh",
        summary="gkd plus a policy gradient of the verifier's reward on the batches that the student writes",
        equation="E_{y ~ student or expert} sum_t [b JSD_beta(expert || student)(. | y_<t) - 1[y ~ student] c R(y) "
        "log student(y_t | y_<t)], b, c and R as in opd_reward",
        source="ours: gkd (arXiv 2306.13649) with the joint objective of KDRL (arXiv 2506.02208)",
        deviations="as in gkd and opd_full_reward; all completions of a prompt are by one side",
        importance="token", divergence="jsd",
        defaults={"beta": 0.5, "student_share": 0.5, "samples_per_prompt": 4, "advantage_norm": "std",
                  "advantage_coef": 0.5, "clip": 0.2},
    ),
    Row(
        "rft", "student", "token", "passed", "round",
        summary="rejection-sampling fine-tuning on the student's own passed completions, round by round",
        equation="-E_{y ~ student of this round} 1[r(y) = 1] sum_t log student(y_t | y_<t)",
        source="arXiv 2308.01825; expert iteration",
        deviations="no de-duplication of completions; the current student, not the base, starts each round",
        defaults={"samples_per_prompt": 4, "round_updates": 20},
    ),
)  # fmt: skip

TABLE: dict[str, Row] = {row.name: row for row in _ROWS}


@dataclass(frozen=True)
class Rule:
    """A combination of cells that makes no sense: when, which field to name, and why."""

    illegal: Callable[[Method], bool]
    field: str
    reason: str


def _is_policy_gradient(c: Method) -> bool:
    return c.weight in ("log_ratio", "advantage", "expert_reward")


def _is_rewarded_mixture(c: Method) -> bool:
    """On the batches that the expert writes, its distributions are left to learn from."""
    return (c.behavior, c.target, c.weight) == ("mixture_batch", "distribution", "expert_reward")


RULES: tuple[Rule, ...] = (
    Rule(
        lambda c: c.weight in ("log_ratio", "advantage") and c.target != "token",
        "weight",
        "a log-ratio or advantage scales the acted token; with another target it has no meaning: use --target token",
    ),
    Rule(
        lambda c: c.weight == "expert_reward" and c.target == "expert_token",
        "target",
        "a draw of the expert has no log-ratio, and was not rewarded: use --target token, or --target distribution",
    ),
    Rule(
        lambda c: c.weight == "expert_reward" and c.expert_coef == c.advantage_coef == 0,
        "advantage_coef",
        "with expert_coef 0 too there is nothing to learn from: use a positive one of the two",
    ),
    Rule(
        lambda c: c.weight == "log_ratio" and c.behavior not in ("student", "base"),
        "behavior",
        "a log-ratio is a policy-gradient signal, unbiased only on the student's own samples (or the base's with "
        "--importance token); on expert samples it descends no divergence: use --behavior student",
    ),
    Rule(
        lambda c: c.reads_advantages and c.behavior != "student" and not _is_rewarded_mixture(c),
        "behavior",
        "a group advantage compares the student's own samples: use --behavior student (gkd_reward has a mixture)",
    ),
    Rule(
        lambda c: c.reads_advantages and c.samples_per_prompt < 2,
        "samples_per_prompt",
        "a group of one is always at its own mean, so its advantage is 0: use at least 2",
    ),
    Rule(
        lambda c: c.weight == "one" and c.target == "token" and c.behavior != "expert",
        "target",
        "imitating its own sampled tokens gives the student zero gradient in expectation: use --target distribution, "
        "--target expert_token, or a weight",
    ),
    Rule(
        lambda c: c.replay == "fixed" and c.behavior not in ("expert", "base"),
        "replay",
        "the student's samples go stale as it learns: use --replay fresh, or round (sampled again each round)",
    ),
    Rule(
        lambda c: c.replay in ("aggregate", "round") and _is_policy_gradient(c),
        "replay",
        "policy-gradient signals need samples of the current student: use --replay fresh",
    ),
    Rule(
        lambda c: c.replay == "aggregate" and c.behavior in ("expert", "base"),
        "replay",
        "an expert or base that never changes has no rounds to aggregate: use --replay fixed or fresh",
    ),
    Rule(
        lambda c: (c.behavior, c.target) == ("base", "token") and c.importance != "token" and c.weight != "passed",
        "importance",
        "tokens sampled from the base without the ratio student / base descend another objective: "
        "use --weight log_ratio with --importance token",
    ),
    Rule(
        lambda c: c.importance == "prefix" and c.behavior != "base",
        "importance",
        "the prefix ratio corrects prefixes that the base sampled: use --importance none, or --behavior base",
    ),
    Rule(
        lambda c: c.importance == "token" and not _is_policy_gradient(c),
        "importance",
        "the token ratio belongs to an acted token with a log-ratio or advantage weight: use --importance none",
    ),
    Rule(
        lambda c: c.updates_per_rollout > 1 and (c.importance == "none" or c.replay != "fresh"),
        "updates_per_rollout",
        "re-using rollouts needs fresh replay and the token ratio that corrects for it: use 1, or a row with "
        "importance token",
    ),
    Rule(
        lambda c: c.updates_per_rollout > 1 and c.target == "distribution",
        "updates_per_rollout",
        "the token ratio corrects the acted tokens, not a divergence on prefixes of an older student: use 1",
    ),
    Rule(
        lambda c: c.clip < math.inf and c.importance != "token",
        "clip",
        "there is no token ratio to clip in this row: drop --clip",
    ),
    Rule(
        lambda c: c.gamma != 0 and not c.reads_scores,
        "gamma",
        "gamma discounts the log-ratio to go; this row has none: use --gamma 0",
    ),
    Rule(
        lambda c: c.gamma != 0 and c.behavior == "base",
        "gamma",
        "the log-ratio to go of base samples would need the ratio of the tokens to come too: use --gamma 0, or "
        "--behavior student",
    ),
    Rule(lambda c: not 0 <= c.gamma <= 1, "gamma", "must lie in [0, 1]"),
    Rule(
        lambda c: c.signal == "extrapolated" and c.target == "token" and not c.reads_scores,
        "signal",
        "nothing in this row reads the expert's log-probs: use --signal expert, or --target distribution",
    ),
    Rule(
        lambda c: c.target == "distribution" and not c.divergence,
        "divergence",
        "a distribution target needs one: kl_expert_student, kl_student_expert, jsd or uld",
    ),
    Rule(
        lambda c: c.target != "distribution" and bool(c.divergence),
        "divergence",
        "this row's target is a token: a divergence needs --target distribution",
    ),
    Rule(
        lambda c: c.divergence == "jsd" and not 0 < c.beta < 1,
        "beta",
        "must lie strictly between 0 and 1; the two ends are kl_expert_student and kl_student_expert",
    ),
    Rule(
        lambda c: c.top_k > 0 and c.divergence == "uld",
        "top_k",
        "uld compares all ranks of both distributions: use --top-k 0",
    ),
    Rule(
        lambda c: c.top_k > 0 and c.target != "distribution",
        "top_k",
        "only a distribution target can be coarsened to its top tokens: use --top-k 0",
    ),
    Rule(
        lambda c: c.sft_alpha > 0 and (c.behavior, c.replay) != ("student", "fresh"),
        "sft_alpha",
        "the expert's text is added to fresh completions of the student: use 0, or --behavior student with "
        "--replay fresh (gkd has its own mixture, student_share)",
    ),
    Rule(
        lambda c: c.temperature != 1 and c.behavior != "expert",
        "temperature",
        "sampling under another temperature while scoring the full softmax is not on-policy: use 1",
    ),
    Rule(
        lambda c: c.top_p != 1 and c.behavior != "expert",
        "top_p",
        "sampling from a nucleus while scoring the full softmax is not on-policy: use 1",
    ),
)


def needs_expert(method: Method) -> bool:
    """Whether training (not only evaluation) calls the expert."""
    return (
        method.behavior in ("expert", "mixture_batch", "mixture_token")
        or method.target in ("expert_token", "distribution")
        or method.reads_scores
        or method.sft_alpha > 0
    )


def capabilities(method: Method) -> frozenset[str]:
    """What the expert must be able to do for these cells: a subset of protocols.CAPABILITIES."""
    out = set()
    if method.behavior in ("expert", "mixture_batch") or method.sft_alpha > 0:
        out.add("sample")
    if method.behavior == "mixture_token" or method.target == "expert_token":
        out.add("distribution")
    if method.target == "distribution":
        # coarsened to the expert's own top k and one tail bucket, its top k is all that is read
        experts_top = method.top_k and method.top_k_of == "expert" and not method.extrapolates
        out.add("top_k" if experts_top else "distribution")
    if method.reads_scores:
        out.add("score")
    return frozenset(out)


def lacking(method: Method, able: frozenset[str]) -> frozenset[str]:
    """What these cells need and an expert with the capabilities `able` cannot do."""
    if "distribution" in able:
        able |= {"top_k"}
    both_write = method.behavior == "mixture_token" or method.target == "expert_token"
    if MATCHED in able and method.signal == "expert" and not both_write:
        able |= {"top_k", "distribution"}
    return capabilities(method) - able
