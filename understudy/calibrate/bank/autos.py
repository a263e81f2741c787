"""`understudy auto` itself on the bank's scenarios, with the budget of every route and judged on the same completions.

One line of JSON per (scenario, seed). It checks the replay (replay.py), and is not needed by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from understudy.calibrate.bank.replay import Result
from understudy.calibrate.bank.rows import Row, look_of, right, write_units
from understudy.errors import UserError
from understudy.routes.auto_page import FILE as AUTO
from understudy.routes.decisions import why_it_ended
from understudy.runs.files import read_json
from understudy.runs.read import read_final, read_lines

FILE = "bank-autos.jsonl"


@dataclass(frozen=True)
class Ran:
    """What one auto did. spent: its share of the budget."""

    scenario: str
    seed: int
    route: str
    """Its phases in order; "!" behind one that the guard stopped or gave up."""
    spent: float
    test: str
    """Right completions of `samples`, per held-out prompt."""
    samples: int

    @property
    def accuracy(self) -> float:
        return float(np.mean(right(self.test)) / self.samples)


def from_run(scenario: str, seed: int, folder: Path) -> Ran:
    """From an auto directory that has ended. UserError: it has not."""
    final, summary = read_final(folder), read_json(folder / AUTO)
    if final is None:
        raise UserError("run", folder, "has not finished: the same command resumes it")
    look = look_of(final["splits"])
    phases = [n["method"] + ("!" if why_it_ended(n) else "") for n in summary["nodes"] if n["parent"] is not None]
    spent = float(f"{summary['spent'] / summary['setting']['amount']:.4g}")
    return Ran(scenario, seed, "+".join(phases) or "nothing", spent, look.test, look.samples)


def read(path: Path) -> dict[tuple[str, int], Ran]:
    """(scenario, seed) -> what auto did there; empty where the file is missing. UserError: a damaged line."""
    known = {}
    for line in read_lines(path) if path.is_file() else []:
        try:
            ran = Ran(**line)
        except TypeError as error:
            raise UserError("autos", path, f"{error}: written by another version?") from None
        known[ran.scenario, ran.seed] = ran
    return known


def write(path: Path, autos: Iterable[Ran], order: Sequence[str] = ()) -> None:
    """Add lines to the file; one of the same scenario and seed is replaced."""
    known = read(path) | {(a.scenario, a.seed): a for a in autos}
    write_units(path, {unit: asdict(a) for unit, a in known.items()}, order)


@dataclass(frozen=True)
class AsRun:
    """The rule: what auto did when it ran."""

    known: Mapping[tuple[str, int], Ran]

    def __call__(self, row: Row, others: Sequence[Row]) -> Result:
        ran = self.known[row.scenario, row.seed]
        return Result(ran.accuracy, ran.spent, ran.route, "!" in ran.route)


def options_of(common: Mapping[str, Any]) -> tuple[str, ...]:
    """`set` of an AutoConfig, from the fields that all branches have."""
    names = ("warmup", "lr", "schedule", "prompts_per_update", "micro_batch", "eval_seed")
    return tuple(f"{name}={common[name]}" for name in names)
