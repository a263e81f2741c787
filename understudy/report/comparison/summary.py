"""From runs to numbers: arms, accuracies with intervals, paired differences, curves with bands.

An arm is one expert x method x budget over its seeds. Final numbers use finished runs only.
"""

from __future__ import annotations

import dataclasses
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
from understudy.report.comparison.runs import Outcome, Run
from understudy.report.text import OFFLINE, ONLINE, family, method_name, number

Kind = Literal["sampled", "greedy"]
LEDGER = (
    "expert_calls", "expert_tokens_scored", "expert_tokens_sampled", "student_tokens_sampled",
    "student_tokens_trained", "updates", "train_seconds", "eval_seconds",
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
        self.online = self._reference(ONLINE)
        self.seeds = sorted({entry.seed for entry in comparison.entries})
        self._accuracies: dict[Any, Interval | None] = {}
        self._curves: dict[Any, Curve | None] = {}

    def _reference(self, names: tuple[str, ...]) -> str | None:
        """The method that stands for its family: the first in the comparison's order."""
        return next((m for m in self.c.methods if family(m) in names), None)

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

    def accuracy(self, arm: Arm, split: str = "test", kind: Kind = "sampled") -> Interval | None:
        outcomes = [entry.run.final.get(split) for entry in arm.finished if entry.run.final]
        return self._interval((arm, split, kind), outcomes, kind)

    def expert_accuracy(self, expert: str, split: str = "test", kind: Kind = "sampled") -> Interval | None:
        """The expert's own accuracy, once for each seed (every run of a seed evaluates the same expert)."""
        by_seed: dict[int, Outcome] = {}
        for arm in self.of(expert):
            for entry in arm.finished:
                if split in entry.run.expert:
                    by_seed.setdefault(entry.seed, entry.run.expert[split])
        return self._interval((expert, split, kind), list(by_seed.values()), kind)

    def base_accuracy(self, split: str = "test", kind: Kind = "sampled") -> Interval | None:
        """The student before training: its own outcomes, or else the evaluations at step 0 (no interval)."""
        outcomes = [splits.get(split) for splits in self.c.base.values()]
        if any(outcomes):
            return self._interval(("base", split, kind), outcomes, kind)
        by_seed: dict[int, float] = {}
        for entry in self.c.entries:
            for line in entry.run.evaluations(split):
                if line["step"] == 0 and isinstance(line.get(kind), (int, float)):
                    by_seed.setdefault(entry.seed, float(line[kind]))
        if not by_seed:
            return None
        value = float(np.mean(list(by_seed.values())))
        return Interval(value, value, value, 0, len(by_seed))

    def _interval(self, key: Any, outcomes: list[Outcome | None], kind: Kind) -> Interval | None:
        if key not in self._accuracies:
            rows = [(o.keys, _values(o, kind)) for o in outcomes if o is not None]
            known = [(keys, values) for keys, values in rows if values is not None]
            found = None
            if known:
                found = intervals.bootstrap_seeds_prompts([v for _, v in known], _shared([k for k, _ in known]))
                # few seeds that differ much give a band wider than an accuracy can be
                found = dataclasses.replace(found, low=max(0.0, found.low), high=min(1.0, found.high))
            self._accuracies[key] = found
        return self._accuracies[key]

    def difference(self, a: Arm | None, b: Arm | None, split: str = "test", kind: Kind = "sampled") -> Interval | None:
        """Paired a - b over the seeds and prompts both have; None where they share none."""
        if a is None or b is None:
            return None
        left = {entry.seed: _outcome(entry.run, split) for entry in a.finished}
        right = {entry.seed: _outcome(entry.run, split) for entry in b.finished}
        return self.paired((a, b, split, kind), left, right, kind)

    def minus_expert(self, arm: Arm | None, split: str = "test") -> Interval | None:
        """Paired: an arm minus its expert, both evaluated on the same problems within a seed."""
        if arm is None:
            return None
        left = {entry.seed: _outcome(entry.run, split) for entry in arm.finished}
        right = {entry.seed: entry.run.expert.get(split) for entry in arm.finished}
        return self.paired((arm, "minus expert", split), left, right)

    def gain(self, arm: Arm, split: str = "test", kind: Kind = "sampled") -> Interval | None:
        """What training added to the base."""
        left = {entry.seed: _outcome(entry.run, split) for entry in arm.finished}
        return self._over_base((arm, "gain", split, kind), left, self.accuracy(arm, split, kind), split, kind)

    def expert_gain(self, expert: str, split: str = "test", kind: Kind = "sampled") -> Interval | None:
        """How far the expert is above the student's base."""
        left = {entry.seed: entry.run.expert.get(split) for arm in self.of(expert) for entry in arm.finished}
        own = self.expert_accuracy(expert, split, kind)
        return self._over_base((expert, "gain", split, kind), left, own, split, kind)

    def _over_base(
        self, key: Any, left: dict[int, Outcome | None], own: Interval | None, split: str, kind: Kind
    ) -> Interval | None:
        right = {seed: splits.get(split) for seed, splits in self.c.base.items()}
        paired = self.paired(key, left, right, kind)
        base = self.base_accuracy(split, kind)
        if paired or own is None or base is None:
            return paired
        gap = own.value - base.value  # no outcomes of the base: a value without an interval
        return Interval(gap, gap, gap, own.n_prompts, own.n_seeds)

    def paired(
        self, key: Any, left: dict[int, Outcome | None], right: dict[int, Outcome | None], kind: Kind = "sampled"
    ) -> Interval | None:
        """Left minus right, over the seeds and prompts both have; remembered under `key`."""
        if key in self._accuracies:
            return self._accuracies[key]
        pairs, keys = [], []
        for seed in sorted(set(left) & set(right)):
            a, b = left[seed], right[seed]
            x, y = (_values(o, kind) if o else None for o in (a, b))
            if a is None or b is None or x is None or y is None:
                continue
            try:
                i, j = intervals.align(a.keys, b.keys)
            except UserError:  # evaluated on different problems: there is no pair
                continue
            pairs.append((x[i], y[j]))
            keys.append(tuple(a.keys[at] for at in i))
        self._accuracies[key] = (
            intervals.paired_difference([p[0] for p in pairs], [p[1] for p in pairs], _shared(keys)) if pairs else None
        )
        return self._accuracies[key]

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

    def lengths(self, arm: Arm, split: str = "test") -> Floats:
        parts = [o.lengths for e in arm.finished if (o := _outcome(e.run, split))]
        return np.concatenate(parts) if parts else np.array([])

    def expert_lengths(self, expert: str, split: str = "test") -> Floats:
        by_seed = {
            e.seed: e.run.expert[split].lengths
            for arm in self.of(expert)
            for e in arm.finished
            if split in e.run.expert
        }
        return np.concatenate(list(by_seed.values())) if by_seed else np.array([])

    def _shared_prompts(self, arm: Arm, split: str) -> bool:
        outcomes = [o for e in arm.finished if (o := _outcome(e.run, split))]
        return _shared([o.keys for o in outcomes])


@functools.lru_cache(maxsize=8)
def summarise(comparison: Comparison) -> Summary:
    return Summary(comparison)


def _shared(keys: list[tuple[str, ...]]) -> bool:
    return len(keys) > 1 and len(set(keys)) == 1


def _outcome(run: Run, split: str) -> Outcome | None:
    return run.final.get(split) if run.final else None


def _values(outcome: Outcome, kind: Kind) -> Floats | None:
    return outcome.sampled.mean(axis=1) if kind == "sampled" else outcome.greedy
