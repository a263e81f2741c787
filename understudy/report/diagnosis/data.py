"""diagnosis.json as the page reads it: plain data, any part of which may be absent, damaged or of the wrong kind.

The page of a diagnosis must come out whatever is missing, so nothing here raises but for a file that holds no verdict
at all. Schema: understudy/diagnosis/types.py, which a report may not import.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.errors import UserError
from understudy.report.runs import mapping
from understudy.runs.files import read_json

FILE = "diagnosis.json"
VERSION = 1
"""The newest schema that this page reads aright."""
ANSWERS = ("offline suffices", "neither", "undecided", "go online")
"""In the order in which the dial shows them."""
_LARGEST = 1e30  # no measure is larger; a plot of one that is would be about that alone


@dataclass(frozen=True)
class Number:
    """An estimate with its interval; `low` and `high` are finite too."""

    value: float
    low: float
    high: float
    n: int = 0
    unit: str = ""
    method: str = ""


@dataclass(frozen=True)
class Pilot:
    """One short training, measured. samples: training sequences."""

    kind: str
    label: str
    samples: float
    accuracy: Number | None
    forward: Number | None
    reverse: Number | None


@dataclass(frozen=True)
class Floor:
    """y(n) = a + b n^-c."""

    a: Number
    b: float
    c: float
    rejects_zero: bool

    def at(self, n: float) -> float:
        return float(self.a.value + self.b * n**-self.c)


@dataclass(frozen=True)
class Data:
    """One diagnosis. What is absent is empty or None."""

    path: Path
    setting: dict[str, Any]
    answer: str
    chances: dict[str, float]
    expected: dict[str, Number]
    reasons: list[str]
    would_change: list[str]
    rule: str
    measures: dict[str, Number]
    pilots: list[Pilot]
    floor: Floor | None
    checks: dict[str, dict[str, Any]]
    full: float
    """Training sequences of the full training; 0 where it is not known."""
    verified: bool
    capabilities: list[str]
    costs: dict[str, dict[str, Any]]
    series: dict[str, Any]
    preflight: list[dict[str, Any]]
    assumptions: list[str]

    @property
    def stopped(self) -> str:
        return str(self.setting.get("stopped") or "")

    @property
    def scored(self) -> bool:
        """Whether the expert gives scores of tokens; without them there is no online route and no distance."""
        return not self.capabilities or bool({"score", "distribution"} & set(self.capabilities))

    def curve(self, kind: str) -> list[Pilot]:
        """The pilots of one kind by growing data, without the start and without the controls."""
        some = [p for p in self.pilots if p.kind == kind and p.label == "curve" and p.samples > 0]
        return sorted(some, key=lambda p: p.samples)

    def start(self, kind: str) -> Pilot | None:
        return next((p for p in self.pilots if p.kind == kind and p.label == "start"), None)


def load(path: Path) -> Data:
    """UserError when the file is missing, damaged, of a newer version, or holds no verdict."""
    return understood(read_json(path / FILE, "diagnosis"), path)


def understood(raw: dict[str, Any], path: Path) -> Data:
    """`load` of what is already parsed."""
    version = number(raw.get("version"))
    if version is not None and version > VERSION:
        told = f"is of version {version:g}, newer than this understudy reads ({VERSION}): upgrade it"
        raise UserError("diagnosis", path / FILE, told)
    verdict = mapping(raw.get("verdict"))
    if verdict.get("answer") not in ANSWERS:
        raise UserError("diagnosis", path / FILE, "holds no verdict: run `understudy diagnose` again")
    evidence, budget = mapping(raw.get("evidence")), mapping(mapping(raw.get("evidence")).get("budget"))
    full = (number(budget.get("updates")) or 0.0) * (number(budget.get("sequences")) or 0.0)
    return Data(
        path=path,
        setting=mapping(raw.get("setting")),
        answer=str(verdict["answer"]),
        chances=_chances(verdict.get("probabilities")),
        expected=_numbers(verdict.get("expected")),
        reasons=_texts(verdict.get("reasons")),
        would_change=_texts(verdict.get("would_change")),
        rule=str(verdict.get("rule") or ""),
        measures=_numbers(evidence.get("measures")),
        pilots=[p for item in _list(evidence.get("pilots")) if (p := _pilot(item)) is not None],
        floor=_floor(evidence.get("floor")),
        checks={str(k): v for k, v in mapping(evidence.get("checks")).items() if isinstance(v, dict)},
        full=full,
        verified=evidence.get("has_verifier") is not False,
        capabilities=_texts(evidence.get("capabilities")),
        costs={str(k): v for k, v in mapping(raw.get("costs")).items() if isinstance(v, dict)},
        series=mapping(raw.get("series")),
        preflight=[c for c in _list(raw.get("preflight")) if isinstance(c, dict)],
        assumptions=_texts(raw.get("assumptions")),
    )


def number(value: Any) -> float | None:
    """A finite float of no absurd size, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) and abs(found) <= _LARGEST else None


def estimate(raw: Any) -> Number | None:
    """None where there is no number; an end of the interval that is none falls on the value."""
    item = mapping(raw)
    value = number(item.get("value"))
    if value is None:
        return None
    low, high = number(item.get("low")), number(item.get("high"))
    low = value if low is None else min(low, value)
    high = value if high is None else max(high, value)
    count = int(number(item.get("n")) or 0)
    return Number(value, low, high, count, str(item.get("unit") or ""), str(item.get("method") or ""))


def rows(raw: Any, width: int) -> list[tuple[float, ...]]:
    """The rows of a list of lists whose first `width` entries are numbers; others are left out."""
    found = []
    for item in _list(raw):
        values = [number(x) for x in item[:width]] if isinstance(item, list) else []
        if len(values) == width and None not in values:
            found.append(tuple(v for v in values if v is not None))
    return found


def columns(raw: Any, *names: str) -> list[tuple[float, ...]]:
    """Lists of equal length in an object, as rows: {"t": [..], "value": [..]} -> [(t, value), ...]."""
    lists = [_list(mapping(raw).get(name)) for name in names]
    return rows([list(row) for row in zip(*lists)], len(names))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    return [x for x in _list(value) if isinstance(x, str) and x.strip()]


def _numbers(raw: Any) -> dict[str, Number]:
    found = {str(name): estimate(item) for name, item in mapping(raw).items()}
    return {name: e for name, e in found.items() if e is not None}


def _chances(raw: Any) -> dict[str, float]:
    """Of each of the four answers, in the dial's order, as shares of their sum; empty where none is above 0."""
    found = {name: max(0.0, number(mapping(raw).get(name)) or 0.0) for name in ANSWERS}
    total = sum(found.values())
    return {name: p / total for name, p in found.items()} if total > 0 else {}


def _pilot(raw: Any) -> Pilot | None:
    item = mapping(raw)
    samples = number(item.get("samples"))
    if samples is None or item.get("kind") not in ("sft", "opd"):
        return None
    nats = [estimate(item.get(name)) for name in ("kl_expert_student", "kl_student_expert")]
    label = str(item.get("label") or "")
    return Pilot(str(item["kind"]), label, samples, estimate(item.get("accuracy")), nats[0], nats[1])


def _floor(raw: Any) -> Floor | None:
    item = mapping(raw)
    a, b, c = estimate(item.get("a")), number(item.get("b")), number(item.get("c"))
    if a is None or b is None or c is None or not 0 <= c <= 10:
        return None
    return Floor(a, max(b, 0.0), c, item.get("rejects_zero") is True)
