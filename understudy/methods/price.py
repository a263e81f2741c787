"""What an update of a method is expected to spend, before it runs: tokens, FLOPs, or seconds. Needs no torch.

An update on n prompts with k completions each spends, in mean tokens of a prompt (P), of a student's completion (L_s)
and of an expert's (L_e), where every prompt is counted once (its completions share it):

    sampled by the expert     n P + n k L_e      behavior expert
    sampled by the student    n P + n k L_s      behavior student or base
    scored by the expert      n P + n k L        a distribution, an expert draw or a log-ratio is asked for
    scored by the base        the same           signal extrapolated
    sft_alpha                 m P + m k L_e      sampled by the expert and trained, m prompts (Method.text_prompts)
    trained                   n P + n k L        L: of who acted; a coin between them mixes both

where an expert with a context of its own reads longer prompts (Lengths.expert_prompt),

and in FLOPs (types.flops_of) 2 N_e and 2 N_s per token sampled or scored, 6 N_s per token trained. With k = 1:

    sft        2 N_e (P + L_e) + 6 N_s (P + L_e)
    word_kd    4 N_e (P + L_e) + 6 N_s (P + L_e)
    opd*       2 N_s (P + L_s) + 2 N_e (P + L_s) + 6 N_s (P + L_s)
    gkd        student_share times opd_full + (1 - student_share) times word_kd
    *_reward   opd* or gkd with k completions per prompt
    grpo       2 N_s (P + k L_s) + 6 N_s (P + k L_s), no expert
    rft        the same, but only completions that pass are trained
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from understudy.methods.cells import Method
from understudy.types import LEDGER_AXES, flops_of

SECONDS = "train_seconds"


@dataclass(frozen=True)
class Lengths:
    """Mean tokens of a prompt and of completions of student and expert (0 where there is no expert)."""

    prompt: float
    student: float
    expert: float = 0.0
    passed: float = 1.0
    """Share of the student's completions that the verifier passes."""
    expert_prompt: float = 0.0
    """Mean tokens of a prompt as the expert reads it, with its context. 0: as the student does."""


@dataclass(frozen=True)
class Sizes:
    """Number of weights. 0: a program, or a server that does not say."""

    student: float
    expert: float = 0.0


def tokens_per_update(method: Method, lengths: Lengths, updates: int = 0) -> dict[str, float]:
    """Column of the ledger -> what one update is expected to add. updates: of the phase, for a pool that is cycled and
    for DAgger's rounds; 0 = one pass, one round."""
    n, k = method.prompts_per_update, method.samples_per_prompt
    pool = method.prompt_pool
    first = min(1.0, pool / (updates * n)) if pool and updates else 1.0  # share of an update that is a first use
    by_expert = _share_of_expert(method, updates)
    mixed = by_expert * lengths.expert + (1 - by_expert) * lengths.student
    once = 1 / method.updates_per_rollout
    sampling = once * (first if method.replay == "fixed" else 1.0)
    kept = method.replay == "fixed" and method.target == "distribution" and not method.extrapolates
    scoring = once * (first if kept else 1.0)
    asked = lengths.expert_prompt or lengths.prompt
    out = dict.fromkeys(LEDGER_AXES, 0.0)
    out["updates"] = 1.0
    together = method.behavior == "mixture_token"  # both write one completion, and the expert scores every token
    expert_acts = 0.0 if together else by_expert
    out["expert_tokens_sampled"] = sampling * expert_acts * n * k * lengths.expert
    out["student_tokens_sampled"] = sampling * (1 - expert_acts) * n * k * (mixed if together else lengths.student)
    out["student_prompt_tokens_sampled"] = sampling * (1 - expert_acts) * n * lengths.prompt
    out["expert_prompt_tokens"] = sampling * expert_acts * n * asked
    out["expert_calls"] = sampling * expert_acts * n * k
    scored = scoring * (method.target != "token" or method.reads_scores) + sampling * together
    out["expert_tokens_scored"] = scored * n * k * mixed
    out["expert_prompt_tokens"] += scored * n * asked
    out["expert_calls"] += scored * n * k
    out["base_tokens_scored"] = scored * method.extrapolates * n * (k * mixed + lengths.prompt)
    passed = lengths.passed if method.weight == "passed" else 1.0
    out["student_tokens_trained"] = passed * n * k * mixed
    out["student_prompt_tokens_trained"] = (1 - (1 - passed) ** k) * n * lengths.prompt
    m = method.text_prompts
    out["expert_tokens_sampled"] += once * m * k * lengths.expert
    out["expert_prompt_tokens"] += once * m * asked
    out["expert_calls"] += once * m * k
    out["student_tokens_trained"] += m * k * lengths.expert
    out["student_prompt_tokens_trained"] += m * lengths.prompt
    return out


def _share_of_expert(method: Method, updates: int) -> float:
    """Share of the completions (of their tokens, where both write one) that the expert writes."""
    if method.behavior == "mixture_batch":
        return 1 - method.student_share
    if method.behavior == "mixture_token":
        rounds = max(1, math.ceil(updates / method.round_updates))
        return sum(method.expert_share**r for r in range(rounds)) / rounds
    return float(method.behavior == "expert")


def flops_per_update(method: Method, lengths: Lengths, sizes: Sizes, updates: int = 0) -> float:
    """Expected FLOPs of one update."""
    return flops_of(tokens_per_update(method, lengths, updates), sizes.student, sizes.expert)


def price(
    axis: str, method: Method, lengths: Lengths, sizes: Sizes, pace: float = math.nan, updates: int = 0
) -> float:  # fmt: skip
    """What one update is expected to spend on an axis of the ledger. pace: seconds per update."""
    if axis == "flops":
        return flops_per_update(method, lengths, sizes, updates)
    return pace if axis == SECONDS else tokens_per_update(method, lengths, updates)[axis]
