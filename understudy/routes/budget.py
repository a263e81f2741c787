"""What a user may spend: 2h, 30m, 3e15, $40, updates=300, expert_tokens_scored=2e6, opd_full:200. Needs no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from understudy.errors import UserError
from understudy.methods import table
from understudy.specs import unknown
from understudy.types import LEDGER_AXES

SECONDS, MONEY = "seconds", "money"
_UNITS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FORMS = (
    "write a time (2h, 30m), FLOPs (3e15), money ($40), a column of the ledger (updates=300), or so many updates of a "
    "method in FLOPs (opd_full:200)"
)
SERVED = ("expert_tokens_sampled", "expert_tokens_scored", "expert_prompt_tokens")
"""Columns of the ledger that a server charges for."""


@dataclass(frozen=True)
class Budget:
    """An amount on one axis: `seconds` (of training and looking), `money`, or a column of the ledger."""

    text: str
    axis: str
    amount: float
    per_hour: float = 0.0
    """Money per hour of this machine."""
    per_million: float = 0.0
    """Money per million tokens of a server."""
    method: str = ""
    """amount is a number of updates of this method, whose expected FLOPs are the budget: see `in_flops`."""

    def in_flops(self, per_update: float) -> Budget:
        """The same in FLOPs, an update of `method` costing so many."""
        return replace(self, method="", axis="flops", amount=self.amount * per_update)

    def money(self, ledger: Mapping[str, Any]) -> float:
        """What a ledger's work cost, by the two prices."""
        tokens = sum(float(ledger.get(name) or 0) for name in SERVED)
        return seconds_of(ledger) / 3600 * self.per_hour + tokens / 1e6 * self.per_million

    def spent(self, ledger: Mapping[str, Any]) -> float:
        """How much of this axis a ledger's work took."""
        if self.axis == MONEY:
            return self.money(ledger)
        return seconds_of(ledger) if self.axis == SECONDS else float(ledger.get(self.axis) or 0)

    def per_update(self, tokens: Mapping[str, float], flops: float, pace: float) -> float:
        """What an update takes that is expected to add `tokens` to the ledger and to last `pace` seconds."""
        return self.spent({**tokens, "flops": flops, "train_seconds": 0.0 if math.isnan(pace) else pace})

    def limit(self, amount: float) -> tuple[str, float]:
        """(column, value) that stops a training after so much of this axis; ("", 0) where no one column does."""
        if self.axis == SECONDS:
            return "train_seconds", amount
        if self.axis != MONEY:
            return self.axis, amount
        return ("", 0.0) if self.per_million else ("train_seconds", amount / self.per_hour * 3600)

    def shown(self, amount: float) -> str:
        """An amount in words: $3.20, 1 h 20 min, 3e+12 FLOPs."""
        if self.axis == MONEY:
            return f"${amount:,.2f}"
        if self.axis != SECONDS:
            return f"{amount:.3g} {'FLOPs' if self.axis == 'flops' else self.axis.replace('_', ' ')}"
        if amount < 120:
            return f"{amount:.0f} s"
        minutes = round(amount / 60)
        return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def seconds_of(ledger: Mapping[str, Any]) -> float:
    """Training and evaluating."""
    return float(ledger.get("train_seconds") or 0) + float(ledger.get("eval_seconds") or 0)


def parse_budget(text: str, per_hour: float = 0.0, per_million: float = 0.0) -> Budget:
    """UserError: no amount, an unknown unit or currency, money without a price."""
    for name, price in (("price_per_hour", per_hour), ("price_per_million", per_million)):
        if price < 0:
            raise UserError(name, price, "must be at least 0")
    plain = text.strip().replace(" ", "")
    if not plain:
        raise UserError("budget", text, f"missing: {_FORMS}")
    name, equals, number = plain.partition("=")
    if equals:
        if name not in LEDGER_AXES:
            raise UserError("budget", text, f"{name!r} is {unknown(name, LEDGER_AXES)}")
        return Budget(text, name, _amount(number, text), per_hour, per_million)
    method, colon, number = plain.partition(":")
    if colon:
        if method not in table.TABLE:
            raise UserError("budget", text, f"method {method!r} is {unknown(method, table.TABLE)}")
        return Budget(text, "flops", _amount(number, text), per_hour, per_million, method)
    if plain[0] == "$":
        if not per_hour and not per_million:
            hint = "money needs a price: --price-per-hour of this machine, --price-per-million tokens of a server"
            raise UserError("budget", text, hint)
        return Budget(text, MONEY, _amount(plain[1:], text), per_hour, per_million)
    timed = re.fullmatch(r"(?P<number>[\d.]+(e[+-]?\d+)?)(?P<unit>[^\d.e+-].*)?", plain)
    if timed is None:
        what = "unknown currency" if re.search(r"[^\w.+-]", plain) else "no amount"
        raise UserError("budget", text, f"{what}: {_FORMS}; money is in $, whatever the currency")
    unit = timed["unit"] or ""
    if unit.upper() == "FLOPS":
        unit = ""
    if unit and unit not in _UNITS:
        raise UserError("budget", text, f"unknown unit {unit!r}: {_FORMS}")
    amount = _amount(timed["number"], text)
    axis = SECONDS if unit else "flops"
    return Budget(text, axis, amount * _UNITS.get(unit, 1.0), per_hour, per_million)


def _amount(number: str, text: str) -> float:
    try:
        value = float(number)
    except ValueError:
        raise UserError("budget", text, f"{number!r} is no number: {_FORMS}") from None
    if not 0 < value < math.inf:
        raise UserError("budget", text, "must be above 0 and finite")
    return value
