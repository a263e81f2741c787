"""Diagnoses that were made before a comparison's runs, read as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from understudy.diagnosis.outcome import ANSWERS, UNDECIDED
from understudy.report.runs import mapping, number, read_json
from understudy.report.text import label, visible

ROUTES = ("sft", "opd")


@dataclass(frozen=True, eq=False)
class Said:
    """One diagnosis, as its directory tells it. answer: "" where there is none (not finished, or `refused`)."""

    expert: str
    seed: int
    answer: str = ""
    probability: float = 0.0
    """Of the answer; where it is undecided, of the likeliest other one."""
    likeliest: str = ""
    """That one, followed by a blank."""
    expected: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """sft, opd -> accuracy (value, low, high)."""
    share: float | None = None
    """What it cost, of what both trainings were foreseen to cost (FLOPs)."""
    refused: str = ""


def read(root: Path, raw: Any, notes: list[str]) -> list[Said]:
    """The diagnoses that compare.json lists."""
    found = []
    for item in raw if isinstance(raw, list) else []:
        if not isinstance(item, dict) or not isinstance(item.get("path"), str):
            notes.append("compare.json: a diagnosis without a path was skipped")
            continue
        place = root / item["path"]
        who = str(item.get("expert", "")), int(number(item.get("seed")) or 0)
        told = read_json(place / "diagnosis.json", notes, required=False)
        if not told:
            refused = read_json(place / "refused.json", notes, required=False).get("error", "")
            found.append(Said(*who, refused=visible(refused, 400)))
            continue
        verdict, costs = mapping(told.get("verdict")), mapping(told.get("costs"))
        answer = str(verdict.get("answer", ""))
        if answer not in ANSWERS:
            notes.append(f"{label(item['path'], 200)}/diagnosis.json holds no verdict and was skipped")
            continue
        flops = {name: number(mapping(cost).get("flops")) or 0.0 for name, cost in costs.items()}
        both = flops.get("sft", 0.0) + flops.get("opd", 0.0)
        chances = {a: number(mapping(verdict.get("probabilities")).get(a)) or 0.0 for a in ANSWERS}
        others = [a for a in ANSWERS if a != UNDECIDED]
        best = max(others, key=chances.__getitem__) if answer == UNDECIDED else answer
        expected = {r: e for r in ROUTES if (e := _estimate(mapping(verdict.get("expected")).get(r)))}
        share = flops.get("diagnosis", 0.0) / both if both else None
        found.append(Said(*who, answer, chances[best], f"{best} ", expected, share))
    return found


def _estimate(raw: Any) -> tuple[float, float, float] | None:
    value, low, high = (number(mapping(raw).get(name)) for name in ("value", "low", "high"))
    return None if value is None or low is None or high is None else (value, low, high)
