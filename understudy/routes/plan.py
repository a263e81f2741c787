"""What a route costs before it runs: the budget of every phase and the updates that fit into it. Needs no torch."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from understudy.errors import UserError
from understudy.methods import table
from understudy.methods.cells import Method
from understudy.methods.price import SECONDS, Lengths, Sizes, flops_per_update, price
from understudy.routes.route import Phase

SLACK = 2.0
"""A phase may have so many times the updates that its budget is expected to buy: completions become shorter."""


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
