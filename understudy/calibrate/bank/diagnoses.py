"""Diagnoses of the bank's scenarios, by which policies.py replays "do what `understudy diagnose` recommends".

One line of JSON per (scenario, seed), with the evidence alone: the recommendation is made again from it, by
coefficients and known cases of other scenarios. calibration.json has diagnoses of older scenarios with the same seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.calibrate import records
from understudy.calibrate.bank import routes
from understudy.calibrate.bank.replay import Result, fixed
from understudy.calibrate.bank.rows import Row, write_units
from understudy.calibrate.fit import fit
from understudy.calibrate.records import Record, packed, unpacked
from understudy.diagnosis.forecast import analogs
from understudy.diagnosis.forecast.judge import judge
from understudy.diagnosis.forecast.model import VerdictModel, load
from understudy.diagnosis.forecast.recommend import recommend
from understudy.diagnosis.types import Evidence
from understudy.errors import UserError
from understudy.runs.files import read_json
from understudy.runs.read import read_lines

FILE = "bank-diagnoses.jsonl"
BRANCH = {
    "nothing": "", "sft": "sft", "opd_full": "opd", "gkd": "gkd", "gkd_reward": "reward", "sft+opd_full": "sft.5+opd",
    "sft+gkd": "sft.5+gkd",
}  # fmt: skip
"""Recommended route -> the branch at whose end it is."""


@dataclass(frozen=True)
class Diagnosed:
    """What a diagnosis measured. share: its FLOPs over those of both full trainings."""

    scenario: str
    seed: int
    share: float
    evidence: Evidence

    def to_dict(self) -> dict[str, Any]:
        how: list[list[Any]] = []
        evidence = packed(self.evidence.to_dict(), how)
        return {"scenario": self.scenario, "seed": self.seed, "share": self.share, "how": how, "evidence": evidence}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Diagnosed:
        try:
            evidence = Evidence.from_dict(unpacked(data["evidence"], data["how"]))
            return cls(str(data["scenario"]), int(data["seed"]), float(data["share"]), evidence)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            name = data.get("scenario", "") if isinstance(data, Mapping) else ""
            raise UserError("diagnoses", name, f"lacks or misuses {error}: written by another version?") from None


Known = Mapping[tuple[str, int], Diagnosed]


def from_run(scenario: str, seed: int, file: Path) -> Diagnosed:
    """From the diagnosis.json of a diagnosis that has ended."""
    data = read_json(file, "diagnosis")
    both = sum(data["costs"][name]["flops"] for name in ("sft", "opd"))
    share = data["costs"]["diagnosis"]["flops"] / both
    return Diagnosed(scenario, seed, float(f"{share:.4g}"), Evidence.from_dict(data["evidence"]))


def read(path: Path, older: Iterable[Record] = ()) -> dict[tuple[str, int], Diagnosed]:
    """(scenario, seed) -> its diagnosis, of the file (which may be missing) and of older records."""
    known = {(r.scenario, r.seed): Diagnosed(r.scenario, r.seed, r.cost_share, r.evidence) for r in older if r.evidence}
    lines = (Diagnosed.from_dict(line) for line in (read_lines(path) if path.is_file() else []))
    return known | {(d.scenario, d.seed): d for d in lines}


def write(path: Path, diagnosed: Iterable[Diagnosed], order: Sequence[str] = ()) -> None:
    """Add lines to the file; one of the same scenario and seed is replaced."""
    known = read(path) | {(d.scenario, d.seed): d for d in diagnosed}
    write_units(path, {unit: d.to_dict() for unit, d in known.items()}, order)


def can_follow(rows: Iterable[Row], known: Known) -> list[Row]:
    """Those that were diagnosed and have every route that may be recommended, whichever it is."""
    return [r for r in rows if (r.scenario, r.seed) in known and {b for b in BRANCH.values() if b} <= set(r.branches)]


class Follow:
    """The rule: the route that the diagnosis recommends, by the rows and records of other scenarios."""

    def __init__(self, known: Known, fitted_to: Sequence[Record]) -> None:
        """fitted_to: diagnoses with outcomes, to which the forecast's coefficients are fitted."""
        self.known, self.records = known, [r for r in fitted_to if r.evidence is not None and r.set == "set"]
        self._models: dict[str, VerdictModel] = {}

    def __call__(self, row: Row, others: Sequence[Row]) -> Result:
        diagnosed = self.known[row.scenario, row.seed]
        notes = [c for c in analogs.load().cases if c.scenario != row.scenario]
        cases = routes.fitted(routes.joined(others, notes), others, "")
        model = self._model(row.scenario)
        advice = recommend(diagnosed.evidence, judge(diagnosed.evidence, model), model=model, analogs=cases)
        branch = BRANCH[advice.route]
        cost = diagnosed.share * (1 + routes.sft_price(row)) + (1.0 if branch else 0.0)
        return Result(fixed(row, branch), cost, advice.route)

    def _model(self, scenario: str) -> VerdictModel:
        """The coefficients in use, or those fitted to the other scenarios where this one has shaped them."""
        if scenario not in self._models:
            rest = [r.case() for r in self.records if r.scenario != scenario]
            own = len(rest) < len(self.records)
            self._models[scenario] = fit(rest, load("prior")) if own else load()
        return self._models[scenario]


def older(path: Path) -> list[Record]:
    """Diagnoses of a calibration.json; none where the file is missing."""
    return records.read(path) if path.is_file() else []
