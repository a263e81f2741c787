"""Which phases the bank trains, from which model, for which share of the budget.

The budget B of a scenario is what its full online training is expected to cost (FLOPs): `updates` updates of opd_full.
Every path of branches from the student costs at most B, so any two of them can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

START = ""


@dataclass(frozen=True)
class Branch:
    """One phase: `method` from the final model of the branch `parent`, for `share` of B."""

    name: str
    parent: str
    method: str
    share: float
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Other fields of its training."""


_ALL = (
    Branch("sft.25", START, "sft", 0.25),
    Branch("sft.5", START, "sft", 0.5),
    Branch("sft", START, "sft", 1.0),
    Branch("opd", START, "opd_full", 1.0),
    Branch("gkd", START, "gkd", 1.0),
    Branch("sft.25+opd", "sft.25", "opd_full", 0.75),
    Branch("sft.5+sft", "sft.5", "sft", 0.5),
    Branch("sft.5+opd", "sft.5", "opd_full", 0.5),
    Branch("sft.5+gkd", "sft.5", "gkd", 0.5),
    Branch("sft.5+mix", "sft.5", "gkd", 0.5, {"divergence": "kl_student_expert"}),
    Branch("reward", START, "gkd_reward", 1.0),
    Branch("sft.25+reward", "sft.25", "gkd_reward", 0.75),
    Branch("sft.5+slow", "sft.5", "opd_full", 0.5, {"lr": 0.25}),
)
BRANCHES: dict[str, Branch] = {b.name: b for b in _ALL}
"""Name -> branch, parents first. `lr` in `fields` is a factor of the scenario's learning rate."""


def path(name: str) -> list[Branch]:
    """The branches from the student to `name`."""
    out: list[Branch] = []
    while name != START:
        out.append(BRANCHES[name])
        name = BRANCHES[name].parent
    return out[::-1]


def cost(name: str) -> float:
    """Share of B that a route ending in this branch costs."""
    return sum(b.share for b in path(name))
