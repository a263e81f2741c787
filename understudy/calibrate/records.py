"""Diagnoses with their outcome: the lines of results.jsonl, and the rows of the committed calibration.json."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from understudy.calibrate.fit import Case
from understudy.calibrate.scenarios import SCENARIOS
from understudy.diagnosis.outcome import MARGIN, is_close, truth
from understudy.diagnosis.types import Estimate, Evidence, Verdict
from understudy.errors import UserError, check_file
from understudy.runs.files import read_json


@dataclass(frozen=True)
class Record:
    """One diagnosis and its outcome, as a line of results.jsonl holds it (the line may hold more)."""

    scenario: str
    kind: str
    seed: int
    outcome: dict[str, Estimate]
    """Accuracy of "student", "sft", "opd" at the full budget; their paired differences "opd_minus_sft", "sft_gain",
    "opd_gain" where they were measured on the same prompts."""
    evidence: Evidence | None = None
    verdict: Verdict | None = None
    cost_share: float = math.nan
    """FLOPs of the diagnosis over those of both full trainings; nan where they are not known."""
    set: str = ""
    """"set": the rule was fitted on it; "score": it was kept for scoring."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario, "kind": self.kind, "seed": self.seed, "set": self.set,
            "outcome": {k: v.to_dict() for k, v in self.outcome.items()},
            "cost_share": self.cost_share if math.isfinite(self.cost_share) else None,
            "evidence": self.evidence.to_dict() if self.evidence else None,
            "verdict": self.verdict.to_dict() if self.verdict else None,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Record:
        try:
            outcome = {k: Estimate.from_dict(v) for k, v in data["outcome"].items()}
            share = data.get("cost_share")
            record = cls(
                str(data["scenario"]), str(data["kind"]), int(data["seed"]), outcome,
                Evidence.from_dict(data["evidence"]) if data.get("evidence") else None,
                Verdict.from_dict(data["verdict"]) if data.get("verdict") else None,
                math.nan if share is None else float(share), str(data.get("set", "")),
            )  # fmt: skip
            _ = record.values
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            name = data.get("scenario", "") if isinstance(data, Mapping) else ""
            raise UserError("row", name, f"lacks or misuses {error}: written by another version?") from None
        return record

    @property
    def values(self) -> tuple[float, float, float]:
        """(student, sft, opd)"""
        return self.outcome["student"].value, self.outcome["sft"].value, self.outcome["opd"].value

    @property
    def truth(self) -> str:
        """The answer that the outcome makes right."""
        return truth(*self.values, MARGIN)

    @property
    def close(self) -> bool:
        """Could the outcome's own uncertainty (at least the tolerance) have put it on the other side of a boundary?"""
        student, sft, opd = self.values
        best = "sft" if sft >= opd else "opd"
        gain, lead = self._half(f"{best}_gain", best), self._half("opd_minus_sft", "sft", "opd")
        return is_close(student, sft, opd, gain, lead)

    def _half(self, paired: str, *names: str) -> float:
        """Half width of a difference: as measured, else of the accuracies that it is the difference of."""
        estimates = [self.outcome[n] for n in ((paired,) if paired in self.outcome else names)]
        return math.hypot(*(max((e.high - e.low) / 2, 0.0) for e in estimates))

    def case(self) -> Case:
        """For `fit`."""
        if self.evidence is None:
            raise UserError("row", self.scenario, "has no evidence: it can be scored, not fitted")
        return Case(self.scenario, self.evidence, *self.values)


def read(path: str | Path) -> list[Record]:
    """Records of a JSON-lines file or of a committed calibration.json. Each is in the set its scenario is in now."""
    path = Path(path)
    if path.suffix == ".json":
        data = read_json(path, "results")
        try:
            rows = [unpacked(row, data.get("how", [])) for row in data.get("rows", [])]
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            raise UserError("rows", path, f"is damaged ({type(error).__name__}): restore the file") from None
        records = [Record.from_dict(row) for row in rows]
    else:
        records = [Record.from_dict(line) for line in _lines(path)]
    return [replace(r, set=SCENARIOS[r.scenario].set) if r.scenario in SCENARIOS else r for r in records]


def _lines(path: Path) -> Iterable[Any]:
    check_file(path, "rows")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("rows", path, f"cannot be read ({error})") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                raise UserError("rows", f"{path}:{number}", "is not JSON: one row per line") from None


def write(path: str | Path, records: Iterable[Record]) -> None:
    """As JSON lines."""
    Path(path).write_text("".join(json.dumps(r.to_dict()) + "\n" for r in records), encoding="utf-8")


# --- rows of calibration.json, a tenth of their size as lines ---------------------------------------------------

_VALUE, _HOW = ("value", "low", "high", "n"), ("unit", "method", "level")


def packed(value: Any, how: list[list[Any]]) -> Any:
    """Floats with five digits; an estimate as {"e": [value, low, high, n, index in `how` of its unit, method and
    level]}. `how` grows."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, list):
        return [packed(v, how) for v in value]
    if not isinstance(value, dict):
        return value
    value = {k: packed(v, how) for k, v in value.items()}
    if set(value) != {*_VALUE, *_HOW}:
        return value
    measured = [value[k] for k in _HOW]
    if measured not in how:
        how.append(measured)
    return {"e": [*(value[k] for k in _VALUE), how.index(measured)]}


def unpacked(value: Any, how: Sequence[Sequence[Any]]) -> Any:
    if isinstance(value, list):
        return [unpacked(v, how) for v in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"e"}:
        *numbers, index = value["e"]
        return dict(zip((*_VALUE, *_HOW), (*numbers, *how[index])))
    return {k: unpacked(v, how) for k, v in value.items()}
