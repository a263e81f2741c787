"""`understudy theory value QUANTITY [options]`: any closed form at any parameters, in full precision."""

from __future__ import annotations

import dataclasses
from difflib import get_close_matches
from typing import Any

from understudy.errors import UserError
from understudy.theory import values_regret, values_reward

QUANTITIES: dict[str, type[Any]] = {
    "regret": values_regret.Regret,
    "bound": values_regret.Bound,
    "samples": values_regret.Samples,
    "le-cam": values_regret.LeCam,
    "perfect-run": values_regret.PerfectRun,
    "vote-error": values_regret.VoteError,
    "misspecification": values_reward.Misspecification,
    "mle-pick": values_reward.MlePick,
    "figure3": values_reward.Figure3,
    "tilt": values_reward.Tilt,
    "kl": values_reward.Kl,
    "kl-inverse": values_reward.KlInverse,
}


def find(name: str) -> type[Any]:
    """The quantity of that name; a UserError that suggests the nearest one otherwise."""
    if name in QUANTITIES:
        return QUANTITIES[name]
    close = get_close_matches(name, QUANTITIES, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UserError("quantity", name, f"{hint}one of {', '.join(QUANTITIES)}")


def record(name: str, quantity: Any) -> dict[str, Any]:
    """What --json prints: the value in full precision (null and 'infinite' where it is), parameters and
    source.
    """
    value = float(quantity.compute())
    resolved = getattr(quantity, "resolved", None)
    parameters = resolved() if resolved else dataclasses.asdict(quantity)
    out: dict[str, Any] = {"quantity": name, "parameters": parameters, "source": quantity.source}
    if value in (float("inf"), float("-inf")):
        return out | {"value": None, "infinite": "+" if value > 0 else "-"}
    return out | {"value": value}
