"""Which expert to choose: rules that know each candidate before training, against what training then gave.

A group is what shares student, task, training and seed and differs in the expert alone; its outcomes are those of the
calibration (records.py). The truth of a candidate is the best of no training, SFT and online training with it, or what
SFT alone gave. The forecasts are made by coefficients and known cases of other scenarios.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from understudy.calibrate.bank.rows import write_units
from understudy.calibrate.fit import fit
from understudy.calibrate.records import Record
from understudy.calibrate.scenarios import SCENARIOS
from understudy.diagnosis.candidates import ranked
from understudy.diagnosis.forecast import analogs
from understudy.diagnosis.forecast.judge import judge
from understudy.diagnosis.forecast.model import VerdictModel, load
from understudy.diagnosis.forecast.recommend import recommend
from understudy.diagnosis.types import Candidate, Estimate
from understudy.errors import UserError
from understudy.runs.read import read_lines

APART = 0.04
"""Pairs of candidates whose outcomes are nearer than this are not counted as ordered."""
Key = tuple[str, int]
"""(scenario, seed)"""
Group = Sequence["Case"]


@dataclass(frozen=True)
class Scored:
    """What the student's weights say of one candidate's text, before training."""

    scenario: str
    seed: int
    gradient: float
    """Gradient score (diagnosis/measures/gradients.py), and its interval."""
    low: float
    high: float
    nll: float
    """Mean negative log-likelihood per token under the student, of the expert's completions."""
    accuracy: float
    """Of these completions."""
    prompts: int
    samples: int


@dataclass(frozen=True)
class Case:
    """One candidate with its outcome."""

    record: Record
    candidate: Candidate
    scored: Scored | None
    outcome: float
    """Accuracy that training with it gave."""


@dataclass(frozen=True)
class Rank:
    """A rule over groups of candidates."""

    rule: str
    regret: float
    """Mean over groups: accuracy of the best candidate minus that of the chosen one."""
    worst: float
    pairs: float
    """Mean regret of choosing one of two, over all pairs in all groups."""
    worst_pair: float
    ordered: float
    """Share of the pairs with outcomes APART that the rule orders as training did; nan: there is none."""
    correlation: float
    """Mean Spearman correlation over groups of three and more; nan: there is none."""
    groups: int
    candidates: int
    compared: int
    """Pairs."""


def groups(
    records: Sequence[Record], scores: Mapping[Key, Scored] | None = None, truth: str = "best"
) -> list[list[Case]]:
    """Candidates of the same student, task, training and seed, at least two. scores: only those that have one.
    truth: best or sft."""
    forecast = _Forecast(records)
    by: dict[Any, list[Case]] = {}
    for r in records:
        s, key = SCENARIOS.get(r.scenario), (r.scenario, r.seed)
        if s is None or r.evidence is None or (scores is not None and key not in scores):
            continue
        outcome = r.outcome["sft"].value if truth == "sft" else max(r.values)
        case = Case(r, forecast.candidate(r), scores[key] if scores is not None else None, outcome)
        by.setdefault((s.task, s.student, s.updates, s.prompts_per_update, r.seed), []).append(case)
    return [group for group in by.values() if len(group) > 1]


class _Forecast:
    """What a diagnosis expects, by other scenarios."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.fitted_to = [r for r in records if r.set == "set" and r.evidence is not None]
        self._models: dict[str, VerdictModel] = {}

    def candidate(self, r: Record) -> Candidate:
        assert r.evidence is not None
        model = self._model(r.scenario)
        cases = analogs.load().without(r.scenario)
        advice = recommend(r.evidence, judge(r.evidence, model), model=model, analogs=cases)
        row = advice.of(advice.route)
        return Candidate(
            r.scenario, SCENARIOS[r.scenario].expert, accuracy=r.evidence.measures.get("expert_accuracy"),
            route=advice.route, expected=row.expected if row else None,
        )  # fmt: skip

    def _model(self, scenario: str) -> VerdictModel:
        if scenario not in self._models:
            rest = [r.case() for r in self.fitted_to if r.scenario != scenario]
            self._models[scenario] = fit(rest, load("prior")) if 0 < len(rest) < len(self.fitted_to) else load()
        return self._models[scenario]


# --- rules -------------------------------------------------------------------------------------------------

Rule = Callable[[Group], list[int]]
"""Candidates -> their numbers, the best first."""


def rules(scored: bool) -> dict[str, Rule]:
    """Name -> rule. scored: whether the gradients are known."""
    out: dict[str, Rule] = {
        "the expert's own accuracy": _by(_accuracy),
        "the forecast alone": lambda group: ranked([c.candidate for c in group], slack=0.0),
        "the forecast, then accuracy (in use)": lambda group: ranked([c.candidate for c in group]),
        "least KL(expert, student)": _by(lambda c: -_measure(c, "kl_expert_student")),
        "least KL(student, expert)": _by(lambda c: -_measure(c, "kl_student_expert")),
    }
    if scored:
        out |= {"gradient score (GRACE)": _by(lambda c: -_scored(c).gradient),
                "likeliest to the student": _by(lambda c: -_scored(c).nll)}  # fmt: skip
    return out


def _by(value: Callable[[Case], float]) -> Rule:
    return lambda group: sorted(range(len(group)), key=lambda i: -value(group[i]))


def _accuracy(c: Case) -> float:
    return c.candidate.accuracy.value if c.candidate.accuracy else -math.inf


def _measure(c: Case, name: str) -> float:
    assert c.record.evidence is not None
    measures: Mapping[str, Estimate] = c.record.evidence.measures
    return measures[name].value if name in measures else math.inf


def _scored(c: Case) -> Scored:
    assert c.scored is not None
    return c.scored


def rank(name: str, rule: Rule, cases: Sequence[Group]) -> Rank:
    """UserError: no group."""
    if not cases:
        raise UserError("rows", 0, "no two candidates share student, task, training and seed")
    lost, pairs, right, rho = [], [], [], []
    for group in cases:
        ends, order = [c.outcome for c in group], rule(group)
        lost.append(max(ends) - ends[order[0]])
        for two in itertools.combinations(range(len(group)), 2):
            chosen = two[rule([group[i] for i in two])[0]]
            pairs.append(max(ends[i] for i in two) - ends[chosen])
            if abs(ends[two[0]] - ends[two[1]]) > APART:
                right.append(pairs[-1] == 0)
        if len(group) > 2 and len(set(ends)) > 1:
            place = np.empty(len(group))
            place[order] = -np.arange(len(group))
            rho.append(float(np.corrcoef(place, rankdata(ends))[0, 1]))
    return Rank(
        name, float(np.mean(lost)), max(lost), float(np.mean(pairs)), max(pairs), _mean(right), _mean(rho),
        len(cases), sum(map(len, cases)), len(pairs),
    )  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def by_chance(cases: Sequence[Group]) -> Rank:
    """Expected of a choice at random."""
    lost = [max(ends) - float(np.mean(ends)) for ends in ([c.outcome for c in g] for g in cases)]
    pairs = [abs(a.outcome - b.outcome) / 2 for g in cases for a, b in itertools.combinations(g, 2)]
    worst = [max(c.outcome for c in g) - min(c.outcome for c in g) for g in cases]
    return Rank("at random", _mean(lost), max(worst), _mean(pairs), 2 * max(pairs), 0.5, 0.0, len(cases),
                sum(map(len, cases)), len(pairs))  # fmt: skip


# --- rows --------------------------------------------------------------------------------------------------


def read(path: Path) -> dict[Key, Scored]:
    """UserError: damaged; {}: missing."""
    out = {}
    for line in read_lines(path) if path.is_file() else []:
        try:
            row = Scored(**line)
        except TypeError as error:
            raise UserError("scores", path, f"is damaged ({error}): written by another version?") from None
        out[row.scenario, row.seed] = row
    return out


def write(path: Path, rows: Iterable[Scored]) -> None:
    """Add rows to the file, in the order of the scenarios; one of the same scenario and seed is replaced."""
    known = read(path) | {(row.scenario, row.seed): row for row in rows}
    write_units(path, {unit: {k: _short(v) for k, v in asdict(row).items()} for unit, row in known.items()},
                list(SCENARIOS))  # fmt: skip


def _short(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value
