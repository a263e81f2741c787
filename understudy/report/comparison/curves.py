"""Numbers over training: means over seeds at shared steps, with bands, against any budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from understudy.evaluation import intervals
from understudy.evaluation.intervals import Floats
from understudy.report.comparison.runs import Run
from understudy.report.text import mapping, number

_Z = 1.96  # half of a normal 95% interval, in standard errors
_DRAWS = 500  # a band is looked at, not quoted
Line = dict[str, Any]  # one evaluation line of metrics.jsonl


@dataclass(frozen=True, eq=False)
class Curve:
    """Mean over seeds at shared steps with its band; `x` per axis. All (N,)."""

    steps: Floats
    x: dict[str, Floats]
    mean: Floats
    low: Floats
    high: Floats


def _tokens(line: Line) -> float:
    ledger = mapping(line.get("ledger"))
    scored, sampled = number(ledger.get("expert_tokens_scored")), number(ledger.get("expert_tokens_sampled"))
    return (scored or 0.0) + (sampled or 0.0)


AXES: dict[str, Callable[[Line], float]] = {
    "updates": lambda line: float(line["step"]),
    "FLOPs": lambda line: number(mapping(line.get("ledger")).get("flops")) or 0.0,
    "expert tokens": _tokens,
    "seconds": lambda line: number(mapping(line.get("ledger")).get("train_seconds")) or 0.0,
}


def accuracy_curve(runs: Sequence[Run], split: str, shared: bool) -> Curve | None:
    """Sampled accuracy with a band over seeds and prompts; `shared`: all seeds have the same problems."""
    rows = _by_step(runs, split, "sampled")
    bands = [_band(lines, shared) for lines in rows.values()]
    return _curve(rows, bands) if rows else None


def series(runs: Sequence[Run], split: str, name: str) -> Curve | None:
    """Any number of an evaluation, a divergence say, with the range over seeds as its band."""
    rows = _by_step(runs, split, name)
    bands = []
    for lines in rows.values():
        values = [float(line[name]) for line in lines]
        bands.append((float(np.mean(values)), min(values), max(values)))
    return _curve(rows, bands) if rows else None


Place = tuple[float, float]
"""Phase and step in it: the phases of a route take another number of updates with each seed."""


def _by_step(runs: Sequence[Run], split: str, name: str) -> dict[Place, list[Line]]:
    """{place: the line of each run} at the places where every run has the number."""
    tables = [{_place(x): x for x in run.evaluations(split) if number(x.get(name)) is not None} for run in runs]
    places = sorted(set.intersection(*(set(table) for table in tables))) if tables else []
    return {place: [table[place] for table in tables] for place in places}


def _place(line: Line) -> Place:
    step = number(line.get("phase_step"))
    return number(line.get("phase")) or 0.0, float(line["step"]) if step is None else step


def _curve(rows: dict[Place, list[Line]], bands: list[tuple[float, float, float]]) -> Curve:
    x = {
        axis: np.array([np.mean([get(line) for line in lines]) for lines in rows.values()])
        for axis, get in AXES.items()
    }
    mean, low, high = (np.array(part) for part in zip(*bands, strict=True))
    return Curve(x["updates"], x, mean, low, high)


def _band(lines: list[Line], shared: bool) -> tuple[float, float, float]:
    """(mean, low, high) of one step.

    With "correct" (right samples of k, per prompt) in the lines: the same bootstrap as the final numbers.
    Without it the outcomes are gone, and p (1 - p) / n stands for the variance over prompts: its upper bound,
    reached when the samples of a prompt all agree.
    """
    outcomes = [np.asarray(x["correct"], dtype=np.float64) / x["k"] for x in lines if _has_outcomes(x)]
    if len(outcomes) == len(lines):
        same = shared and len({len(row) for row in outcomes}) == 1
        found = intervals.bootstrap_seeds_prompts(outcomes, same, draws=_DRAWS)
        return found.value, found.low, found.high
    p_S = np.array([float(x["sampled"]) for x in lines])
    n = min(max(number(x.get("n")) or 1.0, 1.0) for x in lines)
    over_prompts = max(float((p_S * (1 - p_S)).mean()), 0.0) / n / (1 if shared else len(p_S))
    over_seeds = float(p_S.var(ddof=1)) / len(p_S) if len(p_S) > 1 else 0.0
    half = _Z * math.sqrt(over_prompts + over_seeds)
    mean = float(p_S.mean())
    return mean, max(mean - half, 0.0), min(mean + half, 1.0)


def _has_outcomes(line: Line) -> bool:
    correct, k = line.get("correct"), number(line.get("k"))
    return isinstance(correct, list) and bool(correct) and all(number(c) is not None for c in correct) and bool(k)
