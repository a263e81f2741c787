"""The guard of an on-policy phase: numbers in, decisions out. Needs no torch, so that recorded phases can be replayed.

*Harm*: an alarm for a fall (evaluation.sequential.FallAlarm) on the rewards of the student's fresh completions, against
COLLAPSE times the lower bound of the start's accuracy, and at least `margin` below that bound. Half of `error` is spent
on the bound, half on the alarm: P(alarm | the accuracy never falls below that) <= error.
Why so low: of 36 recorded phases (200 updates of 64; docs of the calibration) a fall to a quarter stopped 10, all lost,
saved 23% of all updates and cost no accuracy. A fall to a half cost .001, to .8 of the start .007, and "the bound less
.02" .011 in the mean and .17 in the worst case: many phases dip by a third and end above their start. What a phase that
fell less has done is decided by the confirmation at its end.
*Futility* and *plateau*, with `gain` > 0: half-way or later, the recent rewards exclude that the phase adds `gain`; or
they have not risen for a third of the phase and less than `gain` is left to reach. Off by default: on the same phases
futility from half-way saved 20% of the updates and cost .004, from a quarter 28% and .010; plateau saved 2% and cost
.0005 (.05 left to reach).
*Run-away*, where no verifier says what is right: the same alarm on the share of completions that end, and the reverse
KL or the entropy beyond a factor of what they were in the first update.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from understudy.evaluation.sequential import FallAlarm, share_high, share_low
from understudy.training.monitor import WINDOW, Seen

COLLAPSE = 0.25
LEAST_UPDATES, LEAST_PROMPTS = 10, 640  # of a phase; a shorter one ends before anything can be decided
FIRST = 5  # updates that stand for the start where no reference was taken
REFERENCE_SHARE, REFERENCE = 0.05, (64, 256)
"""Prompts of the reference look: this share of the phase's, within these bounds."""
CONFIRM_SHARE, CONFIRM = 0.2, (128, 2048)
"""Most prompts of the confirmation, likewise, of the updates that were made."""
LOOKS = (0.5, 0.6, 0.72, 0.86)
"""Where in the phase futility and plateau are tested, geometrically spaced."""
RUNAWAY = {"kl": (4.0, 0.1), "entropy": (3.0, 0.5)}
"""Beyond this factor of the first update, and by so many nats more, the mean of WINDOW updates has run away."""


@dataclass(frozen=True)
class Rules:
    """What a guard may do. updates: the most that the phase makes."""

    updates: int
    margin: float = 0.02
    error: float = 0.05
    gain: float = 0.0
    trial: float = 0.0
    """Share of the phase at which it stops if the rewards exclude an accuracy of `reach`; 0 = no trial."""
    reach: float = 0.0
    collapse: float = COLLAPSE


@dataclass(frozen=True)
class Stop:
    """Why a phase ends before its time. since: the update (from 1) at which it began, as far as that can be seen."""

    kind: str
    reason: str
    step: int
    since: int


class Guard:
    """Watches one phase. Its whole state is `as_dict`."""

    def __init__(self, rules: Rules, state: Mapping[str, Any] | None = None) -> None:
        state = state or {}
        self.rules = rules
        self.reference = Seen(**state["reference"]) if state.get("reference") else None
        """The start on prompts of its own."""
        self.seen: list[tuple[int, Seen]] = [(step, Seen(**entry)) for step, entry in state.get("seen", [])]
        self.nats: list[list[float | None]] = [list(entry) for entry in state.get("nats", [])]  # [kl, entropy]
        self.levels: dict[int, float] = {int(k): v for k, v in state.get("levels", {}).items()}
        """Checkpoint -> mean reward of the updates just before it."""
        self.stop = Stop(**state["stop"]) if state.get("stop") else None
        self.price = float(state.get("price", 0.0))
        """What one of the guard's own completions took of the budget, the last time."""
        self.progress = float(state.get("progress", 0.0))
        """Share of the phase that is over."""
        self._alarm = state.get("alarm")
        self._watching: FallAlarm | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "reference": asdict(self.reference) if self.reference else None,
            "seen": [[step, asdict(entry)] for step, entry in self.seen],
            "nats": self.nats,
            "levels": {str(k): v for k, v in self.levels.items()},
            "stop": asdict(self.stop) if self.stop else None,
            "progress": self.progress,
            "price": self.price,
            "alarm": self._watching.as_dict() if self._watching else self._alarm,
        }

    # ------------------------------------------------------------ while it runs

    @property
    def start(self) -> Seen | None:
        """What the start is taken to be: the reference, or the first updates."""
        if self.reference is not None:
            return self.reference
        first = [entry for _, entry in self.seen[:FIRST]]
        if len(first) < FIRST:
            return None
        reward = None if first[0].reward is None else sum(entry.reward or 0.0 for entry in first)
        return Seen(sum(entry.n for entry in first), reward, sum(entry.at_limit for entry in first))

    def observe(
        self, step: int, now: Seen | None, kl: float | None = None, entropy: float | None = None,
        progress: float | None = None,
    ) -> Stop | None:  # fmt: skip
        """What update `step` (from 1) has shown, measured before its weights changed; the reason to stop, if any."""
        was, self.progress = self.progress, step / self.rules.updates if progress is None else progress
        if self.stop is not None:
            return self.stop
        if now is None:
            start = self.start
            self.stop = self._no_gain(step, was, start) if start is not None else None
            return self.stop
        learning = self.reference is None and len(self.seen) < FIRST
        self.seen.append((step, now))
        start = self.start
        if now.reward is None:
            self.nats.append([kl, entropy])
        if start is not None and not learning:
            self.stop = self._harm(step, now, start) or self._runaway(step, now) or self._no_gain(step, was, start)
        return self.stop

    def _harm(self, step: int, now: Seen, start: Seen) -> Stop | None:
        blind = now.reward is None
        if self._watching is None:
            r = self.rules
            hits = start.n - start.at_limit if blind else start.reward or 0.0
            low = share_low(hits, start.n, r.error / 2)
            self._watching = FallAlarm(min(r.collapse * low, low - r.margin), r.updates, r.error / 2, self._alarm)
        alarm = self._watching
        if not alarm.add(now.n - now.at_limit if blind else now.reward or 0.0, now.n):
            return None
        since = self.seen[max(0, len(self.seen) - 1 - (alarm.batches - alarm.since))][0]
        if blind:
            return Stop("runaway", f"completions stopped ending from about update {since} on", step, since)
        text = f"the accuracy of fresh completions fell below {alarm.bound:.2f} from about update {since} on"
        return Stop("harm", text, step, since)

    def _runaway(self, step: int, now: Seen) -> Stop | None:
        if now.reward is not None:
            return None
        for which, (name, (factor, more)) in enumerate(RUNAWAY.items()):
            values = [entry[which] for entry in self.nats]
            known = [v for v in values if v is not None]
            if len(known) < len(values) or len(known) <= WINDOW:
                continue
            before, after = known[0], sum(known[-WINDOW:]) / WINDOW
            if after > factor * before and after > before + more:
                since = self.seen[max(0, len(self.seen) - WINDOW)][0]
                text = f"{'reverse KL' if name == 'kl' else name} ran away: {before:.2f} to {after:.2f} nats per token"
                return Stop("runaway", text, step, since)
        return None

    def _no_gain(self, step: int, was: float, start: Seen) -> Stop | None:
        r = self.rules
        if start.reward is None or not self.seen:
            return None
        recent, n = self._sum(max(WINDOW, len(self.seen) // 4))
        if was < r.trial <= self.progress and (high := share_high(recent, n, r.error)) < r.reach:
            text = f"fresh completions are right {recent / n:.2f} of the time, at most {high:.2f} and not {r.reach:.2f}"
            return Stop("trial", text, step, step)
        if r.gain <= 0 or not any(was < share <= self.progress for share in LOOKS):
            return None
        base = start.reward / start.n
        high = share_high(recent, n, r.error / len(LOOKS))
        if high < base + r.gain:
            text = (
                f"fresh completions are right {recent / n:.2f} of the time, at most {high:.2f}: less than the start's"
            )
            return Stop("futility", f"{text} {base:.2f} and {r.gain:g} more", step, step)
        third = len(self.seen) // 3
        (last, m), (both, k) = self._sum(third), self._sum(2 * third)
        before, after = (both - last) / max(1, k - m), last / max(1, m)
        spread = (after * (1 - after) / max(1, m) + before * (1 - before) / max(1, k - m)) ** 0.5
        if after - before <= spread and 1 - after < r.gain:
            text = f"the accuracy of fresh completions has stayed at {after:.2f}"
            return Stop("plateau", text, step, step)
        return None

    def _sum(self, updates: int) -> tuple[float, int]:
        """(sum, number) of the rewards of the last updates."""
        last = [entry for _, entry in self.seen[-updates:]]
        return sum(entry.reward or 0.0 for entry in last), sum(entry.n for entry in last)

    # ------------------------------------------------------------ which model to keep

    def checkpoint(self, step: int) -> None:
        """A checkpoint stands before update `step`, counted from 0."""
        if self.seen and self.seen[-1][1].reward is not None:
            total, n = self._sum(WINDOW)
            self.levels[step] = total / n
        else:
            self.levels[step] = 0.0

    @property
    def kept(self) -> frozenset[int]:
        """Checkpoints that must stay: the start, the two best, the newest."""
        best = sorted(self.levels, key=lambda step: (self.levels[step], step))[-2:]
        return frozenset({0, *best, *([max(self.levels)] if self.levels else [])})

    def candidate(self, end: int) -> int:
        """The checkpoint to keep, if it is confirmed; 0 = the start. `end`: that after the last update.

        After harm: the best from before the fall, if it is above the start. Else the end, unless an earlier one was
        better by more than the noise of two means.
        """
        start = self.start
        level = None if start is None or start.reward is None else start.reward / start.n
        if self.stop is not None and self.stop.kind in ("harm", "runaway", "trial"):
            before = [s for s in self.kept if 0 < s < self.stop.since]
            if level is None:
                return max(before, default=0)
            good = [s for s in before if self.levels[s] > level]
            return max(good, key=lambda s: self.levels[s], default=0)
        total, n = self._sum(WINDOW)
        if not n or level is None:
            return end
        mean = total / n
        noise = 2 * (2 * mean * (1 - mean) / n) ** 0.5
        better = [s for s in self.kept if 0 < s < end and self.levels[s] > mean + noise]
        return max(better, key=lambda s: self.levels[s], default=end)


def sentence(facts: Mapping[str, Any]) -> str:
    """What the guard did, for people: of "guard" in final.json."""
    return f"The guard was off: {facts['reason']}." if facts["state"] == "off" else f"Guard: {facts['reason']}."


def reference_prompts(updates: int, completions: int) -> int:
    """How many prompts the start completes before the first update. completions: of an update."""
    return _within(REFERENCE_SHARE * updates * completions, REFERENCE)


def confirmation_prompts(updates: int, completions: int) -> int:
    """How many prompts candidate and start complete at most."""
    return _within(CONFIRM_SHARE * updates * completions, CONFIRM)


def _within(value: float, bounds: Sequence[int]) -> int:
    return round(min(max(value, bounds[0]), bounds[1]))
