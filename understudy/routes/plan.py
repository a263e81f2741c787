"""What a route costs before it runs: the budget of every phase and the updates that fit into it. Needs no torch.

An update on n prompts with k completions each spends, in mean tokens of a prompt (P), of a student's completion (L_s)
and of an expert's (L_e), where every prompt is counted once (its completions share it):

    sampled by the expert     n P + n k L_e      behavior expert
    sampled by the student    n P + n k L_s      behavior student or base
    scored by the expert      n P + n k L        a distribution, an expert draw or a log-ratio is asked for
    trained                   n P + n k L        L: of who acted; a coin between them mixes both

and in FLOPs (types.flops_of) 2 N_e and 2 N_s per token sampled or scored, 6 N_s per token trained. With k = 1:

    sft        2 N_e (P + L_e) + 6 N_s (P + L_e)
    word_kd    4 N_e (P + L_e) + 6 N_s (P + L_e)
    opd*       2 N_s (P + L_s) + 2 N_e (P + L_s) + 6 N_s (P + L_s)
    gkd        student_share times opd_full + (1 - student_share) times word_kd
    grpo       2 N_s (P + k L_s) + 6 N_s (P + k L_s), no expert
    rft        the same, but only completions that pass are trained
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from understudy.errors import UserError
from understudy.methods import table
from understudy.methods.cells import Method
from understudy.routes.route import Phase
from understudy.types import LEDGER_AXES, flops_of

SECONDS = "train_seconds"
SLACK = 2.0
"""A phase may have so many times the updates that its budget is expected to buy: completions become shorter."""


@dataclass(frozen=True)
class Lengths:
    """Mean tokens of a prompt and of completions of student and expert (0 where there is no expert)."""

    prompt: float
    student: float
    expert: float = 0.0
    passed: float = 1.0
    """Share of the student's completions that the verifier passes."""


@dataclass(frozen=True)
class Sizes:
    """Number of weights. 0: a program, or a server that does not say."""

    student: float
    expert: float = 0.0


@dataclass(frozen=True)
class PlannedPhase:
    """A phase with what it may spend."""

    name: str
    """As in the route, with its size and fields."""
    method: str
    budget: float
    """Of the route's axis."""
    expected_updates: int
    updates: int
    """It ends after so many, whatever it has spent."""
    exact: bool
    """Whether it is given as a number of updates, which `budget` does not limit."""
    flops: float
    """Of the expected updates."""
    seconds: float
    """Likewise; nan where no pace is known."""


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
    scoring = once * (first if method.replay == "fixed" and method.target == "distribution" else 1.0)
    out = dict.fromkeys(LEDGER_AXES, 0.0)
    out["updates"] = 1.0
    together = method.behavior == "mixture_token"  # both write one completion, and the expert scores every token
    expert_acts = 0.0 if together else by_expert
    out["expert_tokens_sampled"] = sampling * expert_acts * n * k * lengths.expert
    out["student_tokens_sampled"] = sampling * (1 - expert_acts) * n * k * (mixed if together else lengths.student)
    out["student_prompt_tokens_sampled"] = sampling * (1 - expert_acts) * n * lengths.prompt
    out["expert_prompt_tokens"] = sampling * expert_acts * n * lengths.prompt
    out["expert_calls"] = sampling * expert_acts * n * k
    scored = scoring * (method.target != "token" or method.weight == "log_ratio") + sampling * together
    out["expert_tokens_scored"] = scored * n * k * mixed
    out["expert_prompt_tokens"] += scored * n * lengths.prompt
    out["expert_calls"] += scored * n * k
    passed = lengths.passed if method.weight == "passed" else 1.0
    out["student_tokens_trained"] = passed * n * k * mixed
    out["student_prompt_tokens_trained"] = (1 - (1 - passed) ** k) * n * lengths.prompt
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


def after(lengths: Lengths, method: Method) -> Lengths:
    """Lengths after a phase: a student that has imitated the expert is taken to write as long as the expert."""
    if not table.needs_expert(method) or not lengths.expert:
        return lengths
    return dataclasses.replace(lengths, student=lengths.expert)


def usual_total(axis: str, updates: int, reference: Method, lengths: Lengths, sizes: Sizes) -> float:
    """The budget of a route that names none: what `updates` updates of `reference` (opd_full) are expected to spend.

    UserError: that is nothing on this axis.
    """
    total = updates * price(axis, reference, lengths, sizes)
    if not total > 0:
        hint = f"missing: {axis} has no usual amount for a route, so give one"
        raise UserError("budget", 0, hint)
    return total


def plan(
    phases: Sequence[tuple[Phase, Method]],
    axis: str,
    total: float,
    lengths: Lengths,
    sizes: Sizes,
    paces: Mapping[str, float] | None = None,
) -> list[PlannedPhase]:
    """The phases of a route of this total. total = 0: the phases, which are all of so many updates, make it.

    paces: method -> seconds per update. A phase without a size gets an equal part of what the others leave. UserError:
    the budget does not suffice for a phase.
    """
    paces = paces or {}
    prices, lengths_of = [], []
    for phase, method in phases:
        updates = phase.updates
        prices.append(price(axis, method, lengths, sizes, paces.get(phase.method, math.nan), updates))
        lengths_of.append(lengths)
        lengths = after(lengths, method)
    budgets = _budgets([phase for phase, _ in phases], prices, axis, total)
    out = []
    for (phase, method), budget, cost, known in zip(phases, budgets, prices, lengths_of):
        expected = phase.updates or int(budget / cost * (1 + 1e-9))
        for _ in range(0 if phase.updates or axis == SECONDS else 8):  # a pool and rounds cost less per update later
            expected = max(1, int(budget / price(axis, method, known, sizes, 0.0, expected) * (1 + 1e-9)))
        exact = bool(phase.updates) or axis == "updates"
        most = expected if exact else math.ceil(SLACK * expected)
        flops = expected * flops_per_update(method, known, sizes, expected)
        seconds = expected * paces.get(phase.method, math.nan)
        out.append(PlannedPhase(str(phase), phase.method, budget, expected, most, exact, flops, seconds))
    return out


def _budgets(phases: Sequence[Phase], prices: Sequence[float], axis: str, total: float) -> list[float]:
    """What each phase may spend."""
    fixed = [
        phase.updates * cost if phase.updates else (phase.share or 0) * total for phase, cost in zip(phases, prices)
    ]
    open_ = [not phase.updates and phase.share is None for phase in phases]
    left = total - sum(fixed)
    if total and left < -1e-9 * total:
        hint = f"its phases need {_amount(sum(fixed), axis)}, more than the budget of {_amount(total, axis)}"
        raise UserError("budget", f"{total:g}", hint)
    budgets = [left / sum(open_) if is_open else amount for is_open, amount in zip(open_, fixed)]
    if axis == "updates":  # whole numbers whose sum is the total: each phase ends at a rounded place
        ends = [0, *(round(sum(budgets[: i + 1])) for i in range(len(budgets)))]
        budgets = [float(b - a) for a, b in itertools.pairwise(ends)]
    for phase, budget, cost in zip(phases, budgets, prices):
        if not phase.updates and not cost > 0:
            hint = f"phase {phase} spends no {axis}, so that its size is not known: give it a number of updates"
            raise UserError("route", str(phase), hint)
        if not phase.updates and budget < cost * (1 - 1e-9):
            hint = (
                f"leaves {_amount(budget, axis)} for phase {phase}, less than the {_amount(cost, axis)} of one update"
            )
            raise UserError("budget", f"{total:g}", hint)
    return budgets


def _amount(value: float, axis: str) -> str:
    return f"{value:.3g} {axis.replace('_', ' ')}"


def budget_left(budgets: Sequence[float], spent: Sequence[float]) -> float:
    """What phase number len(spent) may spend: what it and those before it were to spend, less what those did spend."""
    return sum(budgets[: len(spent) + 1]) - sum(spent)
