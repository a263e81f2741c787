"""Reads one run directory as it is on disk, finished or not. No torch, no models.

Tolerant by design, because a report on a dead run is when one needs it: a missing final.json is an unfinished
run, a half-written line is skipped, and `notes` says what was skipped. Schema: docs/run-directory.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from understudy.errors import UserError
from understudy.evaluation.intervals import Floats
from understudy.report.text import label, mapping, number
from understudy.runs.read import is_route, read_log, read_or_note, read_status, route_file


@dataclass(frozen=True, eq=False)
class Outcome:
    """Completions of one split, per prompt: sampled (P, K), greedy (P,), lengths flat in tokens.

    sampled: None where the task does not grade.
    """

    keys: tuple[str, ...]
    sampled: Floats | None
    greedy: Floats | None
    lengths: Floats


@dataclass(frozen=True, eq=False)
class Run:
    """One run directory. `final` is None while the run is unfinished."""

    name: str
    config: dict[str, Any]
    provenance: dict[str, Any]
    status: dict[str, Any]
    train: list[dict[str, Any]]
    evals: list[dict[str, Any]]
    ledger: dict[str, Any]
    samples: list[dict[str, Any]]
    final: dict[str, Outcome] | None
    expert: dict[str, Outcome]
    divergences: dict[str, Floats]
    notes: list[str]
    route: dict[str, Any]
    """What route.json holds; {} of a run that is no route."""

    @property
    def finished(self) -> bool:
        return bool(self.final)

    def evaluations(self, split: str) -> list[dict[str, Any]]:
        return [line for line in self.evals if line["split"] == split]


def load_run(path: Path, name: str) -> Run:
    """One run directory, whatever state it is in."""
    notes: list[str] = []
    lines = read_log(path, "metrics.jsonl", notes)
    train = _last_of([x for x in lines if x.get("kind") == "train"], ("step",))
    evals = [x for x in lines if x.get("kind") == "eval" and isinstance(x.get("split"), str)]
    evals = _last_of([x for x in evals if _is_evaluation(x)], ("step", "split"))
    final = read_or_note(path / "final.json", notes, required=False)
    ledger = read_or_note(path / "ledger.json", notes, required=False)
    for line in reversed(lines):
        ledger = ledger or mapping(line.get("ledger"))
    final_outcomes = outcomes(final.get("splits"), "final.json", notes)
    status = _status(path, notes)
    if not final_outcomes:
        state = label(status.get("state") or "unknown")
        reason = label(status.get("reason") or "no final.json", 160)
        at = label(status.get("step", evals[-1]["step"] if evals else 0))
        notes.append(f"unfinished at step {at} ({state}: {reason}); left out of the final numbers")
    return Run(
        name=name,
        config=read_or_note(path / "config.json", notes),
        provenance=read_or_note(path / "provenance.json", notes, required=False),
        status=status,
        train=train,
        evals=evals,
        ledger=ledger,
        samples=[x for x in read_log(path, "samples.jsonl", notes) if isinstance(x.get("completion"), str)],
        final=final_outcomes or None,
        expert=outcomes(final.get("expert"), "final.json", notes),
        divergences=_divergences(final.get("divergences")),
        route=read_or_note(route_file(path), notes) if is_route(path) else {},
        notes=[f"{name}: {note}" for note in notes],
    )


def _is_evaluation(line: dict[str, Any]) -> bool:
    """Null stands for an accuracy that was not measured."""
    return "sampled" in line and (line["sampled"] is None or number(line["sampled"]) is not None)


def _status(path: Path, notes: list[str]) -> dict[str, Any]:
    try:
        return read_status(path)  # knows that a run nobody writes any more is not running
    except UserError:
        return read_or_note(path / "status.json", notes, required=False)


def outcomes(raw: Any, where: str, notes: list[str]) -> dict[str, Outcome]:
    found = {}
    for split, item in mapping(raw).items():
        try:
            if item["sampled"] is None:
                keys = tuple(str(key) for key in item["keys"])
                found[str(split)] = Outcome(keys, None, None, _lengths(item))
                continue
            sampled = np.asarray(item["sampled"], dtype=np.float64)
            sampled = sampled[:, None] if sampled.ndim == 1 else sampled
            keys = tuple(str(key) for key in item.get("keys") or range(len(sampled)))
            greedy = None if item.get("greedy") is None else np.asarray(item["greedy"], dtype=np.float64)
            lengths = _lengths(item)
            whole = sampled.ndim == 2 and sampled.size > 0 and len(keys) == len(sampled)
            if not whole or not np.isfinite(sampled).all() or (greedy is not None and len(greedy) != len(keys)):
                raise ValueError("shapes do not fit")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            notes.append(f"{where}: the outcomes of split {label(split)} are malformed ({label(error)})")
            continue
        found[str(split)] = Outcome(keys, sampled, greedy, lengths)
    return found


def _lengths(item: Any) -> Floats:
    return np.array([float(x) for row in item.get("lengths") or [] for x in np.atleast_1d(row)])


def _divergences(raw: Any) -> dict[str, Floats]:
    found = {}
    for name, item in mapping(raw).items():
        values = [float(x) for x in mapping(item).get("per_prompt") or [] if number(x) is not None]
        if values:
            found[str(name)] = np.array(values)
    return found


def _last_of(lines: Iterable[dict[str, Any]], fields: tuple[str, ...]) -> list[dict[str, Any]]:
    """In order of steps; of lines with the same step (written again after a resume) the last one."""
    last = {tuple(line.get(name) for name in fields): line for line in lines if number(line.get("step")) is not None}
    return sorted(last.values(), key=lambda line: float(line["step"]))
