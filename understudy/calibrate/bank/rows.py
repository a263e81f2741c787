"""Rows of the bank: one per (scenario, seed), compact JSON. Written from run directories, read by the policies.

A row holds counts, not averages, wherever prompts may be drawn again: `test` and `fresh` are strings with one digit per
prompt, the number of right completions of `samples`. `test` is what an outcome is scored by; `fresh` are training
prompts that no training saw, which a decision may look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from understudy.errors import UserError
from understudy.evaluation.intervals import Floats
from understudy.runs.files import dumps, write_bytes
from understudy.runs.read import read_final, read_ledger, read_lines, read_metrics

FILE = "bank.jsonl"


@dataclass(frozen=True)
class Look:
    """A model on held-out test prompts and on fresh training prompts, `samples` completions of each."""

    test: str
    fresh: str
    samples: int

    @property
    def accuracy(self) -> float:
        """On the test prompts."""
        return float(np.mean(right(self.test)) / self.samples)

    def shares(self, split: str) -> Floats:
        """Share of right completions per prompt of "test" or "fresh"."""
        return right(getattr(self, split)) / self.samples


@dataclass(frozen=True)
class Trained:
    """One branch. Lists have one entry per update, `looks` one per look."""

    end: Look
    flops: float
    seconds: float
    updates: int
    reward: list[float | None]
    """Mean verified reward of the rollouts that the student wrote; None where the expert wrote them."""
    length: list[float]
    """Mean tokens of the rollouts."""
    looks: list[tuple[int, str]] = field(default_factory=list)
    """(update, right completions per fresh prompt, one sample each), while it trained."""


@dataclass(frozen=True)
class Row:
    scenario: str
    kind: str
    set: str
    seed: int
    budget: float
    """FLOPs: B of branches.py."""
    rollouts: int
    """Per update."""
    weights: tuple[float, float]
    """Of student and expert."""
    lengths: tuple[float, float, float]
    """Mean tokens of a prompt, of the student's completions before training and of the expert's."""
    room: int
    """Longest completion, in tokens."""
    start: Look
    expert: Look
    branches: dict[str, Trained]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Row:
        try:
            values = {name: data[name] for name in cls.__dataclass_fields__}
            branches = {
                name: Trained(**{**b, "end": Look(**b["end"]), "looks": [(int(n), str(t)) for n, t in b["looks"]]})
                for name, b in values["branches"].items()
            }
            pairs = {name: tuple(values[name]) for name in ("weights", "lengths")}
            looks = {name: Look(**values[name]) for name in ("start", "expert")}
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            name = data.get("scenario", "") if isinstance(data, Mapping) else ""
            raise UserError("rows", name, f"lacks or misuses {error}: written by another version?") from None
        return cls(**{**values, **pairs, **looks, "branches": branches})


def right(digits: str) -> Floats:
    """Right completions per prompt."""
    return np.frombuffer(digits.encode(), np.uint8).astype(float) - ord("0")


def read(path: Path) -> list[Row]:
    """UserError: missing or damaged."""
    if not path.is_file():
        raise UserError("rows", path, "no such file: give a bank.jsonl (understudy calibrate bank writes one)")
    return [Row.from_dict(line) for line in read_lines(path)]


def write(path: Path, rows: Iterable[Row], order: Sequence[str] = ()) -> None:
    """Add rows to the file; a row of the same scenario and seed is replaced."""
    known = read(path) if path.exists() else []
    write_units(path, {(r.scenario, r.seed): r.to_dict() for r in [*known, *rows]}, order)


def write_units(path: Path, lines: Mapping[tuple[str, int], Mapping[str, Any]], order: Sequence[str]) -> None:
    """A file of one line per (scenario, seed), in the order of the scenarios."""
    place = {name: i for i, name in enumerate(order)}
    units = sorted(lines, key=lambda unit: (place.get(unit[0], len(place)), unit))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, b"".join(dumps(lines[unit]) for unit in units))


def look_of(outcomes: Mapping[str, Mapping[str, Any]]) -> Look:
    """From {split: outcome} as in final.json."""
    digits = {split: "".join(str(sum(map(int, row))) for row in o["sampled"]) for split, o in outcomes.items()}
    samples = len(outcomes["test"]["sampled"][0])
    return Look(digits["test"], digits.get("train", ""), samples)


def trained(run: Path) -> Trained:
    """From a finished run directory."""
    final = read_final(run)
    if final is None:
        raise UserError("run", run, "has not finished: the same command resumes it")
    ledger, records = read_ledger(run), read_metrics(run)
    updates = [r for r in records if r["kind"] == "train"]
    looks = [r for r in records if r["kind"] == "eval" and r["split"] == "train" and r["step"] < ledger["updates"]]
    return Trained(
        look_of(final["splits"]), float(f"{ledger['flops']:.6g}"), round(ledger["train_seconds"], 1), len(updates),
        [None if r["actor"] == "expert" else _short(r["reward"]) for r in updates],
        [round(r["length"], 1) for r in updates],
        [(r["step"], "".join(map(str, r["correct"]))) for r in looks],
    )  # fmt: skip


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
