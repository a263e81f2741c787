"""The part of an auto's budget that is not for training: its looks, and the guard's confirmation. Needs no torch.

Everything that is measured comes out of the budget. A phase is given what is left after the look that follows it and
one update (a training ends after the update that reaches its budget); of an online phase, the guard's part is kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from understudy.routes.budget import Budget
from understudy.routes.policy import START

GUARD, PAIRS, MOST = 0.06, 128, 0.3
"""Share of an online phase that its guard's confirmation may take; at least the price of so many pairs of completions
and one update, but never more than the last number."""


@dataclasses.dataclass(frozen=True)
class Reserve:
    """Amounts of the budget's axis."""

    look: float
    """A look at a phase's model; 0 where nothing verifies."""
    update: float
    """The dearest update; 0 where a phase ends at an exact number of updates."""
    completion: float
    """One completion of the student, as the guard draws them."""

    @property
    def after(self) -> float:
        """What a phase must leave."""
        return self.look + self.update

    def guard(self, amount: float) -> float:
        """Share of an online phase of this amount that is kept for its confirmation."""
        return min(MOST, max(GUARD, (2 * PAIRS * self.completion + self.update) / amount))


def reserve_of(budget: Budget, seen: Mapping[str, Any], dearest: float) -> Reserve:
    """seen: look.json; dearest: the price of the dearest update.

    A student that has imitated the expert is taken to write as long as the expert, if that is longer.
    """
    look = seen["looks"].get(START) or {}
    lengths = seen["measured"]["lengths"]
    longer = max(1.0, (lengths["prompt"] + lengths["expert"]) / (lengths["prompt"] + lengths["student"]))
    price = longer * budget.spent(look["ledger"]) if look else 0.0
    exact = budget.limit(budget.amount)[0] in ("", "updates")
    each = price / len(look["rewards"]) if look else 0.0
    return Reserve(price, 0.0 if exact else dearest, each)


def first_looks(budget: Budget, seen: Mapping[str, Any]) -> float:
    """What everything before the first phase took."""
    ledgers = [seen["measured"]["ledger"], *(entry["ledger"] for entry in seen["looks"].values() if entry)]
    return sum(budget.spent(ledger) for ledger in ledgers)
