"""Budgets: every form in its unit, every mistake in one line, prices by hand."""

from __future__ import annotations

import pytest

from understudy.errors import UserError
from understudy.routes.budget import parse_budget

LEDGER = {"train_seconds": 3000.0, "eval_seconds": 600.0, "flops": 5e12, "updates": 70,
          "expert_tokens_sampled": 1e6, "expert_tokens_scored": 2e6, "expert_prompt_tokens": 5e5}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "axis", "amount", "spent"),
    [
        ("2h", "seconds", 7200, 3600),
        ("30m", "seconds", 1800, 3600),
        ("90 s", "seconds", 90, 3600),
        ("3e15", "flops", 3e15, 5e12),
        ("3e12 FLOPs", "flops", 3e12, 5e12),
        ("updates=300", "updates", 300, 70),
        ("expert_tokens_scored=2.5e6", "expert_tokens_scored", 2.5e6, 2e6),
        ("$40", "money", 40, 1.0 * 2.5 + 3.5 * 0.8),
    ],
)
def test_forms(text: str, axis: str, amount: float, spent: float) -> None:
    budget = parse_budget(text, per_hour=2.5, per_million=0.8)
    assert (budget.axis, budget.amount) == (axis, amount)
    assert budget.spent(LEDGER) == pytest.approx(spent)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "missing"),
        ("2 weeks", "unknown unit"),
        ("€40", "unknown currency"),
        ("40 EUR", "unknown unit"),
        ("$40", "price"),
        ("0h", "above 0"),
        ("-3h", "no amount"),
        ("nan", "no amount"),
        ("epochs=3", "unknown"),
        ("updates=many", "is no number"),
        ("1e999", "finite"),
    ],
)
def test_mistakes(text: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint) as error:
        parse_budget(text)
    assert error.value.field == "budget"
    assert "\n" not in str(error.value)


def test_money_is_a_limit_of_time_where_only_the_machine_is_paid() -> None:
    assert parse_budget("$5", per_hour=2.5).limit(5) == ("train_seconds", 7200)
    assert parse_budget("$5", per_hour=2.5, per_million=1).limit(5) == ("", 0.0)
    assert parse_budget("3e12").limit(1e12) == ("flops", 1e12)
