"""Scores of verdicts against known outcomes. Needs no torch.

A row is one diagnosis with its outcome. The answer that should have been given follows from the outcome
(`verdict.truth`); a close call is an outcome that lies within its own interval of a boundary, or within the rule's
tolerance. A verdict is decided unless it says undecided, wrong if it is decided and not the truth, and clearly wrong if
it is no close call either.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from understudy.calibrate.fit import Case
from understudy.diagnosis.forecast.judge import CLASSES, judge
from understudy.diagnosis.forecast.model import VerdictModel
from understudy.diagnosis.outcome import ANSWERS, MARGIN, UNDECIDED, is_close, truth
from understudy.diagnosis.types import Estimate, Evidence, Verdict
from understudy.errors import UserError

BINS = 10


@dataclass(frozen=True)
class Row:
    """One diagnosis and its outcome, as a line of results.jsonl holds it (it may hold more)."""

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
    def from_dict(cls, data: Mapping[str, Any]) -> Row:
        try:
            outcome = {k: Estimate.from_dict(v) for k, v in data["outcome"].items()}
            share = data.get("cost_share")
            row = cls(
                str(data["scenario"]), str(data["kind"]), int(data["seed"]), outcome,
                Evidence.from_dict(data["evidence"]) if data.get("evidence") else None,
                Verdict.from_dict(data["verdict"]) if data.get("verdict") else None,
                math.nan if share is None else float(share), str(data.get("set", "")),
            )  # fmt: skip
            assert len(row.values) == 3
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            told = f"lacks or misuses {error}: written by another version?"
            raise UserError("row", data.get("scenario", "") if isinstance(data, Mapping) else "", told) from None
        return row

    @property
    def values(self) -> tuple[float, float, float]:
        """(student, sft, opd)"""
        return self.outcome["student"].value, self.outcome["sft"].value, self.outcome["opd"].value

    @property
    def truth(self) -> str:
        return truth(*self.values, MARGIN)

    @property
    def close(self) -> bool:
        """Could the outcome's own uncertainty (at least the tolerance) have put it on the other side of a boundary?"""
        student, sft, opd = self.values
        best = "sft" if sft >= opd else "opd"
        gain, lead = self._half(f"{best}_gain", best), self._half("opd_minus_sft", "sft", "opd")
        return is_close(student, sft, opd, gain, lead)

    def _half(self, paired: str, *names: str) -> float:
        """Half width of a difference: as measured, else of the accuracies it is made of."""
        found = [self.outcome[n] for n in ((paired,) if paired in self.outcome else names)]
        return math.hypot(*(max((e.high - e.low) / 2, 0.0) for e in found))

    def case(self) -> Case:
        """For `fit`."""
        if self.evidence is None:
            raise UserError("row", self.scenario, "has no evidence: it can be scored, not fitted")
        return Case(self.scenario, self.evidence, *self.values)


def read_rows(path: str | Path) -> list[Row]:
    """Rows of a JSON-lines file."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError("rows", path, f"cannot be read ({error.strerror})") from None
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append(Row.from_dict(json.loads(line)))
            except json.JSONDecodeError:
                raise UserError("rows", f"{path}:{number}", "is not JSON: one row a line") from None
    return rows


def write_rows(path: str | Path, rows: Iterable[Row]) -> None:
    Path(path).write_text("".join(json.dumps(r.to_dict()) + "\n" for r in rows), encoding="utf-8")


def rejudged(rows: Sequence[Row], model: VerdictModel | None = None) -> list[Row]:
    """The same rows, judged now by `model` (default: the one in use)."""
    return [replace(r, verdict=judge(r.evidence, model)) for r in rows if r.evidence is not None]


@dataclass(frozen=True)
class Bin:
    """Answers whose probability fell in one tenth: what was claimed, and how often it was so."""

    claimed: float
    happened: float
    n: int


@dataclass(frozen=True)
class Score:
    n: int
    decided: int
    wrong: int
    clearly_wrong: int
    close: int
    brier: float
    """Mean squared error of the four probabilities, summed over the answers (0 best, 2 worst). A close call that turns
    out as one counts as `undecided`."""
    skill: float
    """1 - brier / brier of always claiming the overall frequencies: 0 knows nothing, 1 everything."""
    confusion: dict[str, dict[str, int]]
    """truth -> answer -> count."""
    bins: tuple[Bin, ...]
    cost_share: float
    """Largest share of both trainings' cost; nan where no row says."""
    error: float = math.nan
    """Mean distance of the accuracies that were expected of both routes from those that came; nan where none was."""
    covered: float = math.nan
    """Share of the 95% intervals around them that held what came."""
    kinds: dict[str, Score] = field(default_factory=dict)

    @property
    def decided_share(self) -> float:
        return self.decided / self.n if self.n else math.nan

    def to_dict(self) -> dict[str, Any]:
        def plain(x: float) -> float | None:
            return round(x, 5) if math.isfinite(x) else None

        return {
            "n": self.n, "decided": self.decided, "wrong": self.wrong, "clearly_wrong": self.clearly_wrong,
            "close": self.close, "brier": plain(self.brier), "skill": plain(self.skill), "confusion": self.confusion,
            "bins": [{"claimed": plain(b.claimed), "happened": plain(b.happened), "n": b.n} for b in self.bins],
            "cost_share": plain(self.cost_share), "error": plain(self.error), "covered": plain(self.covered),
            "kinds": {k: s.to_dict() for k, s in self.kinds.items()},
        }  # fmt: skip


def score(rows: Sequence[Row], by_kind: bool = True) -> Score:
    """Score rows that carry a verdict."""
    judged = [(r, r.verdict, r.truth, r.close) for r in rows if r.verdict is not None]
    n = len(judged)
    if not n:
        raise UserError("rows", 0, "no row has a verdict: nothing to score")
    decided = [(v.answer, t, c) for _, v, t, c in judged if v.answer != UNDECIDED]
    wrong = [c for a, t, c in decided if a != t]
    confusion: dict[str, dict[str, int]] = {str(t): {str(a): 0 for a in ANSWERS} for t in ANSWERS if t != UNDECIDED}
    for _, v, t, _ in judged:
        confusion[t][v.answer] += 1
    happened = [UNDECIDED if c else t for _, _, t, c in judged]
    brier = sum(_brier(v.probabilities, h) for (_, v, _, _), h in zip(judged, happened)) / n
    often: dict[str, float] = {str(a): happened.count(a) / n for a in ANSWERS}
    base = sum(_brier(often, h) for h in happened) / n
    pairs = [(v.probabilities[a], a == h) for (_, v, _, _), h in zip(judged, happened) for a in ANSWERS]
    expected = [
        (v.expected[name], r.outcome[name].value)
        for r, v, _, _ in judged for name in ("sft", "opd") if name in v.expected
    ]  # fmt: skip
    inside = [e.low <= came <= e.high for e, came in expected]
    missed = [abs(e.value - came) for e, came in expected]
    shares = [r.cost_share for r, *_ in judged if math.isfinite(r.cost_share)]
    kinds = {}
    if by_kind:
        for kind in dict.fromkeys(r.kind for r, *_ in judged):
            kinds[kind] = score([r for r, *_ in judged if r.kind == kind], by_kind=False)
    return Score(
        n, len(decided), len(wrong), wrong.count(False), sum(c for *_, c in judged), brier,
        1 - brier / base if base > 0 else math.nan, confusion, _bins(pairs), max(shares, default=math.nan),
        sum(missed) / len(missed) if missed else math.nan, sum(inside) / len(inside) if inside else math.nan, kinds,
    )  # fmt: skip


def _brier(p: dict[str, float], happened: str) -> float:
    return sum((p[a] - (a == happened)) ** 2 for a in ANSWERS)


def _bins(pairs: Sequence[tuple[float, bool]]) -> tuple[Bin, ...]:
    groups: dict[int, list[tuple[float, bool]]] = {}
    for p, so in pairs:
        groups.setdefault(min(int(p * BINS), BINS - 1), []).append((p, so))
    out = []
    for _, group in sorted(groups.items()):
        k = len(group)
        out.append(Bin(sum(p for p, _ in group) / k, sum(so for _, so in group) / k, k))
    return tuple(out)


def table(found: Score) -> list[str]:
    """Markdown: one line a kind and one for all."""
    lines = [
        "| kind | n | decided | wrong | of these no close call | close calls | Brier | skill |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, s in [*found.kinds.items(), ("**all**", found)]:
        lines.append(
            f"| {name} | {s.n} | {s.decided_share:.0%} | {_of(s.wrong, s.decided)} | {s.clearly_wrong} | {s.close} | "
            f"{s.brier:.3f} | {s.skill:.2f} |"
        )
    return lines


def _of(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.1%})" if whole else "0"


def confusion_table(found: Score) -> list[str]:
    """Markdown: truth down, answer across."""
    lines = ["| truth | " + " | ".join(ANSWERS) + " |", "|---|" + "---|" * len(ANSWERS)]
    for t, answers in found.confusion.items():
        lines.append(f"| {t} | " + " | ".join(str(answers[a]) for a in ANSWERS) + " |")
    return lines


def bins_table(found: Score) -> list[str]:
    """Markdown: reliability."""
    lines = ["| probability claimed (mean) | happened | answers |", "|---|---|---|"]
    return lines + [f"| {b.claimed:.2f} | {b.happened:.2f} | {b.n} |" for b in found.bins]


@dataclass(frozen=True)
class Level:
    """What another confidence than the model's would give."""

    confidence: float
    decided: float
    wrong: float
    clearly_wrong: float


def levels(rows: Sequence[Row], at: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9)) -> list[Level]:
    """Shares of all rows decided, and of the decided wrong, if an answer needed another probability."""
    out = []
    for confidence in at:
        decided = wrong = clearly = 0
        for r in rows:
            assert r.verdict is not None
            best = max(CLASSES, key=r.verdict.probabilities.__getitem__)
            if r.verdict.probabilities[best] >= confidence:
                decided += 1
                wrong += best != r.truth
                clearly += best != r.truth and not r.close
        share = max(decided, 1)
        out.append(Level(confidence, round(decided / len(rows), 4), round(wrong / share, 4), round(clearly / share, 4)))
    return out


def levels_table(rows: Sequence[Row]) -> list[str]:
    """Markdown: `levels`."""
    lines = ["| confidence | decided | of these wrong | clearly wrong |", "|---|---|---|---|"]
    return lines + [
        f"| {x.confidence:g} | {x.decided:.0%} | {x.wrong:.1%} | {x.clearly_wrong:.1%} |" for x in levels(rows)
    ]
