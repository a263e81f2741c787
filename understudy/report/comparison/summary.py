"""From runs to numbers: arms, accuracies with intervals, paired differences, curves with bands.

An arm is one expert x method x budget over its seeds. Final numbers use finished runs only.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from understudy.diagnosis.outcome import MARGIN
from understudy.errors import UserError
from understudy.evaluation import intervals
from understudy.evaluation.intervals import Floats, Interval
from understudy.report.comparison.curves import Curve, accuracy_curve, series
from understudy.report.comparison.load import Comparison, Entry
from understudy.report.comparison.runs import Outcome
from understudy.report.text import OFFLINE, ONLINE, family, goes_online, method_name, number, phases

Kind = Literal["sampled", "greedy"]
LEDGER = (
    "expert_calls", "expert_tokens_scored", "expert_tokens_sampled", "student_tokens_sampled",
    "student_tokens_trained", "flops", "updates", "train_seconds", "eval_seconds",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Arm:
    """One expert x method x budget; `entries` over seeds, `finished` those with final numbers."""

    expert: str
    method: str
    budget: float
    entries: tuple[Entry, ...]

    @property
    def name(self) -> str:
        return method_name(self.method, self.budget)

    @property
    def finished(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.run.finished)

    @property
    def drawn(self) -> tuple[Entry, ...]:
        """The runs a curve averages: finished ones, or all where none is finished."""
        return self.finished or self.entries


class Base(enum.Enum):
    """The student before training."""

    BASE = enum.auto()


BASE = Base.BASE
Who = Arm | str | Base
"""An arm, an expert by its name, or the student before training."""


@dataclass(frozen=True, eq=False)
class Contrast:
    """The online method against the offline one with one expert, on one split."""

    expert: str
    realizable: bool | None
    online: Arm
    offline: Arm
    difference: Interval

    @property
    def word(self) -> Literal["better", "none", "worse"]:
        return "better" if self.difference.low > 0 else "worse" if self.difference.high < 0 else "none"

    @property
    def small(self) -> bool:
        """Surely not zero, and less than what we call a difference."""
        return self.word != "none" and abs(self.difference.value) < MARGIN


class Summary:
    """All numbers of a comparison, computed once. Use `summarise`, which remembers."""

    def __init__(self, comparison: Comparison) -> None:
        self.c = comparison
        order = {method: i for i, method in enumerate(comparison.methods)}
        groups: dict[tuple[str, str, float], list[Entry]] = {}
        for entry in comparison.entries:
            groups.setdefault((entry.expert, entry.method, entry.budget), []).append(entry)
        experts = [name for name in comparison.experts if any(key[0] == name for key in groups)]
        keys = sorted(groups, key=lambda key: (experts.index(key[0]), order.get(key[1], 99), key[2]))
        self.arms = [Arm(*key, tuple(sorted(groups[key], key=lambda e: e.seed))) for key in keys]
        self.experts = experts
        self.offline = self._reference(OFFLINE)
        self.seeds = sorted({entry.seed for entry in comparison.entries})
        self._intervals: dict[Any, Interval | None] = {}
        self._curves: dict[Any, Curve | None] = {}
        self.online_row = self._reference(ONLINE)
        self.routes = any(phases(m) for m in comparison.methods)
        self.online = self._best_online() if self.routes else self.online_row

    def _reference(self, names: tuple[str, ...]) -> str | None:
        """The method that stands for its family: the first in the comparison's order."""
        return next((m for m in self.c.methods if family(m) in names), None)

    def _best_online(self) -> str | None:
        """Of the routes with an online phase the one with the best mean over the experts; without numbers the first."""
        online = [m for m in self.c.methods if goes_online(m)]
        means = {}
        for method in online:
            arms = [self.arm(expert, method) for expert in self.experts]
            known = [found.value for arm in arms if arm and arm.finished and (found := self.accuracy(arm))]
            if len(known) == len(self.experts):
                means[method] = float(np.mean(known))
        return max(means, key=lambda m: means[m]) if means else next(iter(online), None)

    def of(self, expert: str) -> list[Arm]:
        return [arm for arm in self.arms if arm.expert == expert]

    def arm(self, expert: str, method: str | None, budget: float = 1) -> Arm | None:
        found = (a for a in self.of(expert) if a.method == method and a.budget == budget)
        return next(found, None)

    def mechanism(self, expert: str) -> str:
        return str(self.c.experts[expert].get("mechanism") or "")

    def realizable(self, expert: str) -> bool | None:
        value = self.c.experts[expert].get("realizable")
        return value if isinstance(value, bool) else None

    def reach(self, expert: str) -> str:
        """Whether the student can represent the expert, in words; "" where it is not known."""
        return {True: "within reach", False: "out of reach", None: ""}[self.realizable(expert)]

    # --- final numbers ---------------------------------------------------------------

    def outcomes(self, who: Who, split: str) -> dict[int, Outcome]:
        """By seed. Every run of a seed evaluates the same expert: it counts once."""
        if isinstance(who, Arm):
            found = [(e.seed, e.run.final.get(split)) for e in who.finished if e.run.final]
        elif isinstance(who, str):
            found = [(e.seed, e.run.expert.get(split)) for arm in self.of(who) for e in arm.finished]
        else:
            found = [(seed, splits.get(split)) for seed, splits in self.c.base.items()]
        known = {seed: outcome for seed, outcome in reversed(found) if outcome is not None}
        return {seed: known[seed] for seed in sorted(known)}

    def accuracy(self, who: Who, split: str = "test", kind: Kind = "sampled") -> Interval | None:
        """With its interval over seeds and prompts. BASE without outcomes: the evaluations at step 0, no interval."""
        key = (who, split, kind)
        if key not in self._intervals:
            found = _accuracy(self.outcomes(who, split), kind)
            self._intervals[key] = self._at_start(split, kind) if who is BASE and found is None else found
        return self._intervals[key]

    def _at_start(self, split: str, kind: Kind) -> Interval | None:
        by_seed: dict[int, float] = {}
        for entry in self.c.entries:
            for line in entry.run.evaluations(split):
                if line["step"] == 0 and isinstance(line.get(kind), (int, float)):
                    by_seed.setdefault(entry.seed, float(line[kind]))
        if not by_seed:
            return None
        value = float(np.mean(list(by_seed.values())))
        return Interval(value, value, value, 0, len(by_seed))

    def difference(self, a: Who | None, b: Who | None, split: str = "test", kind: Kind = "sampled") -> Interval | None:
        """Paired a - b over the seeds and prompts both have; None where they share none."""
        if a is None or b is None:
            return None
        key = (a, b, split, kind)
        if key not in self._intervals:
            self._intervals[key] = paired(self.outcomes(a, split), self.outcomes(b, split), kind)
        return self._intervals[key]

    def gain(self, who: Arm | str, split: str = "test", kind: Kind = "sampled") -> Interval | None:
        """By how much an arm or an expert is above the student before training."""
        difference = self.difference(who, BASE, split, kind)
        after, before = self.accuracy(who, split, kind), self.accuracy(BASE, split, kind)
        if difference or after is None or before is None:
            return difference
        gap = after.value - before.value  # no outcomes of the base: a value without an interval
        return Interval(gap, gap, gap, after.n_prompts, after.n_seeds)

    def contrasts(self, split: str = "test") -> list[Contrast]:
        """One for each expert that has the online and the offline reference at equal budgets."""
        found = []
        for expert in self.experts:
            online, offline = self.arm(expert, self.online), self.arm(expert, self.offline)
            gap = self.difference(online, offline, split)
            if online and offline and gap:
                found.append(Contrast(expert, self.realizable(expert), online, offline, gap))
        return found

    # --- over training ---------------------------------------------------------------

    def curve(self, arm: Arm, split: str = "test") -> Curve | None:
        """Sampled accuracy with its band, over the steps that every drawn seed has."""
        key = (arm, "curve", split)
        if key not in self._curves:
            runs = [entry.run for entry in arm.drawn]
            self._curves[key] = accuracy_curve(runs, split, self._shared_prompts(arm, split))
        return self._curves[key]

    def series(self, arm: Arm, name: str, split: str = "test") -> Curve | None:
        """A divergence, say, with its range over seeds."""
        return series([entry.run for entry in arm.drawn], split, name)

    def final_divergence(self, arm: Arm, name: str) -> Interval | None:
        """Nats per sequence at the end, with its interval over seeds and prompts."""
        values = [e.run.divergences[name] for e in arm.finished if name in e.run.divergences]
        if not values:
            return None
        shared = self._shared_prompts(arm, "test") and len({len(v) for v in values}) == 1
        return intervals.bootstrap_seeds_prompts(values, shared)

    def ledger(self, arm: Arm) -> dict[str, float | None]:
        """Mean over seeds of each column of the ledger."""
        out: dict[str, float | None] = {}
        for name in LEDGER:
            values = [v for e in arm.drawn if (v := number(e.run.ledger.get(name))) is not None]
            out[name] = float(np.mean(values)) if values else None
        return out

    def lengths(self, who: Arm | str, split: str = "test") -> Floats:
        """Tokens of each completion, of all seeds."""
        parts = [outcome.lengths for outcome in self.outcomes(who, split).values()]
        return np.concatenate(parts) if parts else np.array([])

    def _shared_prompts(self, arm: Arm, split: str) -> bool:
        return _shared([outcome.keys for outcome in self.outcomes(arm, split).values()])


@functools.lru_cache(maxsize=8)
def summarise(comparison: Comparison) -> Summary:
    return Summary(comparison)


def _accuracy(outcomes: dict[int, Outcome], kind: Kind) -> Interval | None:
    known = [(o.keys, values) for o in outcomes.values() if (values := _values(o, kind)) is not None]
    if not known:
        return None
    found = intervals.bootstrap_seeds_prompts([values for _, values in known], _shared([keys for keys, _ in known]))
    # few seeds that differ much give a band wider than an accuracy can be
    return dataclasses.replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def paired(left: dict[int, Outcome], right: dict[int, Outcome], kind: Kind = "sampled") -> Interval | None:
    """Left minus right, over the seeds and prompts both have; None where they share none."""
    pairs, keys = [], []
    for seed in sorted(set(left) & set(right)):
        a, b = left[seed], right[seed]
        x, y = _values(a, kind), _values(b, kind)
        if x is None or y is None:
            continue
        try:
            i, j = intervals.align(a.keys, b.keys)
        except UserError:  # evaluated on different problems: there is no pair
            continue
        pairs.append((x[i], y[j]))
        keys.append(tuple(a.keys[at] for at in i))
    return intervals.paired_difference([x for x, _ in pairs], [y for _, y in pairs], _shared(keys)) if pairs else None


def _shared(keys: list[tuple[str, ...]]) -> bool:
    return len(keys) > 1 and len(set(keys)) == 1


def _values(outcome: Outcome, kind: Kind) -> Floats | None:
    if kind == "greedy":
        return outcome.greedy
    return None if outcome.sampled is None else outcome.sampled.mean(axis=1)
