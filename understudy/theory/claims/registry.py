"""The registry: every claim of the theory, in reading order (claims.toml has the texts)."""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from understudy.errors import UserError
from understudy.theory.claims import examples, finite, guard, offline, realizable, reward, routes, rows, targets
from understudy.theory.claims.claim import Claim

_FUNCTIONS = (
    realizable.realizable, realizable.scores, realizable.constant,
    offline.bottleneck, offline.truncated, offline.rate, offline.two_point, offline.logits, offline.coverage,
    offline.baseline, examples.trap, examples.gaussian,
    examples.figure3, reward.benign, reward.asymmetry, reward.alignment, reward.gradient, reward.best_of_two,
    finite.base_policy, finite.horizon, finite.falsifiers, rows.rows, routes.route, routes.warm_start,
    guard.false_alarm, guard.confirmation, targets.extrapolation, targets.privileged,
)  # fmt: skip
_RUN = {function.__name__.replace("_", "-"): function for function in _FUNCTIONS}


def _claim(options: list[str], **texts: Any) -> Claim:
    return Claim(run=_RUN[texts["name"]], options=frozenset(options), **texts)


_PARTS = tomllib.loads(Path(__file__).with_name("claims.toml").read_text(encoding="utf-8"))["part"]
PARTS = [(part["title"], part["lead"], [_claim(**claim) for claim in part["claim"]]) for part in _PARTS]
"""(title, lead, claims) of each part of the page."""
CLAIMS = [claim for _, _, claims in PARTS for claim in claims]
BY_NAME = {claim.name: claim for claim in CLAIMS}


def find(name: str) -> Claim:
    """The claim of that name. UserError names the nearest one otherwise."""
    if name in BY_NAME:
        return BY_NAME[name]
    close = get_close_matches(name, BY_NAME, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UserError("claim", name, f"{hint}one of {', '.join(BY_NAME)}; or value, falsify, list")
