"""decisions.jsonl: one line per decision, what was known, what was chosen, what would have changed it, what it cost.

The file is also the state of an `auto`: a phase is trained as its line says, so that a resume changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.routes.policy import Choice, Known, Value
from understudy.runs.files import dumps, write_bytes
from understudy.runs.read import read_lines

FILE = "decisions.jsonl"


@dataclass(frozen=True)
class Money:
    """Amounts of the budget's axis at a decision."""

    total: float
    spent: float
    evidence: float
    """What the looks since the last decision took."""
    seconds: float
    """That these lasted."""


def read_decisions(folder: Path) -> list[dict[str, Any]]:
    return read_lines(folder / FILE)


def add_decision(folder: Path, line: dict[str, Any]) -> None:
    """The file is replaced as a whole: half a line would be half a decision."""
    write_bytes(folder / FILE, b"".join(dumps(each) for each in [*read_decisions(folder), line]))


def line_of(number: int, known: Known, choice: Choice, money: Money, training: dict[str, Any] | None) -> dict[str, Any]:
    """training: the fields of the phase that follows; None: it is over."""
    options = [choice.option, *choice.others]
    return {
        "number": number, "at": known.nodes[-1].name, "spent": money.spent, "left": max(0.0, money.total - money.spent),
        "known": _known(known),
        "options": [
            {"action": o.action, "method": o.method, "parent": o.parent, "budget": o.share * money.total,
             "expected": o.expected, "low": o.low, "high": o.high, "probability": None}
            for o in options
        ],
        "chosen": choice.option.action, "why": choice.why, "would_change": choice.would_change,
        "cost": money.evidence, "seconds": money.seconds, "trial": bool(choice.reach), "training": training,
    }  # fmt: skip


def _known(known: Known) -> list[dict[str, Any]]:
    out = [_accuracy("accuracy of the expert", known.expert)] if known.expert else []
    for node in known.nodes:
        what = "the student" if not node.method else f"{node.name}"
        if node.look is not None:
            out.append(_accuracy(f"accuracy of {what}", node.look))
        if node.stopped:
            out.append({"what": f"{node.name} was stopped: {node.stopped}", "value": None, "low": None, "high": None,
                        "unit": ""})  # fmt: skip
    return [*out, {"what": "budget left", "value": known.left, "low": None, "high": None, "unit": "share"}]


def _accuracy(what: str, value: Value) -> dict[str, Any]:
    return {"what": what, "value": value.mean, "low": value.low, "high": value.high, "unit": "accuracy"}


def why_it_ended(final: Mapping[str, Any]) -> str:
    """Why the guard ended a phase, or gave up its model at the end; "": it did neither."""
    guard = final.get("guard") or {}
    stop = guard.get("stopped") or {}
    return str(stop.get("kind") or ("not confirmed" if ended_with_start(final) else ""))


def ended_with_start(final: Mapping[str, Any]) -> bool:
    """Whether the guard gave up all that a phase learned."""
    guard = final.get("guard") or {}
    return guard.get("state") == "restored" and not guard.get("step")
