"""Scores of verdicts against known outcomes. Needs no torch.

The right answer follows from the outcome (`Record.truth`). A close call is an outcome that lies within its own
interval, or the rule's tolerance, of a boundary. A verdict is decided unless it says undecided, wrong if it is decided
and not the right answer, and clearly wrong if it is wrong and the outcome is no close call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from understudy.calibrate.records import Record
from understudy.diagnosis.forecast.judge import CLASSES, judge
from understudy.diagnosis.forecast.model import VerdictModel
from understudy.diagnosis.outcome import ANSWERS, MARGIN, NEITHER, OFFLINE, ONLINE, UNDECIDED
from understudy.diagnosis.types import Verdict
from understudy.errors import UserError

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Answers whose probability fell in one tenth: the mean claimed probability, and how often they were right."""

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
    """Mean squared error of the four probabilities, summed over the answers (0 best, 2 worst). The right answer of a
    close call is `undecided`."""
    skill: float
    """1 - brier / brier of always claiming the overall frequencies: 0 knows nothing, 1 everything."""
    confusion: dict[str, dict[str, int]]
    """truth -> answer -> count."""
    bins: tuple[Bin, ...]
    cost_share: float
    """Largest share of both trainings' cost; nan where no record states it."""
    error: float = math.nan
    """Mean distance of the expected accuracies of both routes from the measured ones; nan where none was expected."""
    covered: float = math.nan
    """Share of their 95% intervals that hold the measured accuracy."""
    kinds: dict[str, Score] = field(default_factory=dict)

    @property
    def decided_share(self) -> float:
        return self.decided / self.n if self.n else math.nan

    def to_dict(self) -> dict[str, Any]:
        return dict(_plain(asdict(self)))


def _plain(value: Any) -> Any:
    """Floats with five decimals, None for nan."""
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def rejudged(records: Sequence[Record], model: VerdictModel | None = None) -> list[Record]:
    """The records with evidence, judged now by `model` (default: the one in use)."""
    return [replace(r, verdict=judge(r.evidence, model)) for r in records if r.evidence is not None]


def score(records: Sequence[Record], by_kind: bool = True) -> Score:
    """Score the records that carry a verdict."""
    judged = [(r, r.verdict, UNDECIDED if r.close else r.truth) for r in records if r.verdict is not None]
    n = len(judged)
    if not n:
        raise UserError("rows", 0, "no row has a verdict: nothing to score")
    decided = [(r, v) for r, v, _ in judged if v.answer != UNDECIDED]
    wrong = [r for r, v in decided if v.answer != r.truth]
    confusion: dict[str, dict[str, int]] = {str(t): {str(a): 0 for a in ANSWERS} for t in ANSWERS if t != UNDECIDED}
    for r, v, _ in judged:
        confusion[r.truth][v.answer] += 1
    right = [answer for *_, answer in judged]
    often: dict[str, float] = {str(a): right.count(a) / n for a in ANSWERS}
    brier = sum(_brier(v.probabilities, answer) for _, v, answer in judged) / n
    base = sum(_brier(often, answer) for answer in right) / n
    expected = [(v.expected[k], r.outcome[k].value) for r, v, _ in judged for k in ("sft", "opd") if k in v.expected]
    kinds = {}
    if by_kind:
        for kind in dict.fromkeys(r.kind for r, *_ in judged):
            kinds[kind] = score([r for r, *_ in judged if r.kind == kind], by_kind=False)
    return Score(
        n, len(decided), len(wrong), sum(not r.close for r in wrong), sum(r.close for r, *_ in judged),
        brier, 1 - brier / base if base > 0 else math.nan, confusion,
        _bins([(v.probabilities[a], a == answer) for _, v, answer in judged for a in ANSWERS]),
        max((r.cost_share for r, *_ in judged if math.isfinite(r.cost_share)), default=math.nan),
        sum(abs(e.value - measured) for e, measured in expected) / len(expected) if expected else math.nan,
        sum(e.low <= measured <= e.high for e, measured in expected) / len(expected) if expected else math.nan,
        kinds,
    )  # fmt: skip


def _brier(p: dict[str, float], answer: str) -> float:
    return sum((p[a] - (a == answer)) ** 2 for a in ANSWERS)


def _bins(pairs: Sequence[tuple[float, bool]]) -> tuple[Bin, ...]:
    groups: dict[int, list[tuple[float, bool]]] = {}
    for p, right in pairs:
        groups.setdefault(min(int(p * BINS), BINS - 1), []).append((p, right))
    return tuple(
        Bin(sum(p for p, _ in group) / len(group), sum(right for _, right in group) / len(group), len(group))
        for _, group in sorted(groups.items())
    )


class Regret(NamedTuple):
    """Accuracy lost against the best of no training, SFT and online training: mean, worst, share above the margin."""

    mean: float
    worst: float
    above: float


def regrets(records: Sequence[Record]) -> dict[str, Regret]:
    """Of each fixed choice, of the likeliest answer, and of the larger expected accuracy (of SFT and online training,
    and of no training too); over the records with a verdict that expects something."""
    rules: dict[str, Callable[[Verdict], str]] = {
        "no training": lambda v: "student", "always SFT": lambda v: "sft", "always OPD": lambda v: "opd",
        "the likeliest answer": lambda v: _ROUTE[max(CLASSES, key=lambda a: v.probabilities[a])],
        "the better forecast (SFT, OPD)": lambda v: max(("sft", "opd"), key=lambda k: v.expected[k].value),
        "the best forecast (no training too)": lambda v: max(_ROUTE.values(), key=lambda k: v.expected[k].value),
    }  # fmt: skip
    known = [(r, r.verdict) for r in records if r.verdict and {"student", "sft", "opd"} <= set(r.verdict.expected)]
    out = {}
    for name, rule in rules.items():
        lost = [max(r.values) - r.outcome[rule(v)].value for r, v in known]
        if lost:
            out[name] = Regret(sum(lost) / len(lost), max(lost), sum(x > MARGIN for x in lost) / len(lost))
    return out


_ROUTE = {NEITHER: "student", OFFLINE: "sft", ONLINE: "opd"}


class Level(NamedTuple):
    """What another confidence than the model's would give: the share decided, and of these the shares that are wrong
    and clearly wrong."""

    confidence: float
    decided: float
    wrong: float
    clearly_wrong: float


def levels(records: Sequence[Record], at: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9)) -> list[Level]:
    """Every record must carry a verdict."""
    judged = [(r, r.verdict.probabilities) for r in records if r.verdict is not None]
    best = [(r, p, max(CLASSES, key=p.__getitem__)) for r, p in judged]
    out = []
    for confidence in at:
        decided = [(r, answer) for r, p, answer in best if p[answer] >= confidence]
        wrong = [r for r, answer in decided if answer != r.truth]
        share = max(len(decided), 1)
        counts = (len(decided) / len(records), len(wrong) / share, sum(not r.close for r in wrong) / share)
        out.append(Level(confidence, *(round(x, 4) for x in counts)))
    return out
