"""The phases of a route: what each was to spend, what it did spend, and which model was the best at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from understudy.evaluation.numbers import count, duration, large, percent
from understudy.report.comparison.runs import Run
from understudy.report.text import label, mapping, number

START = "start"


@dataclass(frozen=True)
class PhaseRow:
    name: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class RouteTable:
    title: str
    chosen: str
    rows: tuple[PhaseRow, ...]


def route_table(run: Run) -> RouteTable | None:
    """Of a run that is a route; None of another."""
    phases = [p for p in run.route.get("phases") or [] if isinstance(p, dict)]
    if not phases:
        return None
    selection = mapping(run.route.get("selection"))
    seen = {str(c.get("name")): c for c in selection.get("candidates") or [] if isinstance(c, dict)}
    rows = [PhaseRow("the student before training", ("", "", "", _accuracy(seen.get(START))))]
    rows += [_row(phase, seen) for phase in phases]
    rows += [
        PhaseRow(name, ("", _flops(ledger), _seconds(ledger), ""))
        for name, ledger in (
            ("first look at the models", mapping(mapping(run.route.get("measured")).get("ledger"))),
            ("choice of the best", mapping(run.route.get("selection_ledger"))),
        )
        if ledger
    ]
    return RouteTable(f"The route {label(run.route.get('route', ''), 80)}", chosen(run), tuple(rows))


def chosen(run: Run) -> str:
    """Which model the route ended with, in words; "" while it runs."""
    selection = mapping(run.route.get("selection"))
    best = selection.get("best")
    if best is None:
        return ""
    if not selection.get("prompts"):
        return "The last phase's model is the result: no other was tried."
    which = "The student before training" if best == START else f"The model after phase {label(best, 40)}"
    return f"{which} was the best on {count(selection['prompts'])} fresh training prompts: it is the result."


def spent_by_phases(run: Run, column: str) -> float | None:
    """What the phases of a route have spent: its budget limits that, not the looks before and after; None: no route."""
    ledgers = [mapping(mapping(p).get("spent")) for p in run.route.get("phases") or []]
    return sum(number(ledger.get(column)) or 0.0 for ledger in ledgers) if ledgers else None


def _row(phase: dict[str, Any], seen: dict[str, Any]) -> PhaseRow:
    spent = mapping(phase.get("spent"))
    updates = count(spent["updates"]) if "updates" in spent else f"about {count(phase.get('expected_updates'))} planned"
    folder = str(phase.get("folder", ""))
    return PhaseRow(
        label(phase.get("name", ""), 60), (updates, _flops(spent), _seconds(spent), _accuracy(seen.get(folder)))
    )


def _flops(ledger: dict[str, Any]) -> str:
    return large(ledger["flops"]) if number(ledger.get("flops")) is not None else ""


def _seconds(ledger: dict[str, Any]) -> str:
    seconds = (number(ledger.get("train_seconds")) or 0.0) + (number(ledger.get("eval_seconds")) or 0.0)
    return duration(number(ledger.get("train_seconds")) or seconds) if ledger else ""


def _accuracy(candidate: Any) -> str:
    c = mapping(candidate)
    mean, low, high = (number(c.get(name)) for name in ("mean", "low", "high"))
    return "" if mean is None or low is None or high is None else f"{percent(mean)} [{percent(low)}, {percent(high)}]"
