"""Which phase comes next: a pure function of what is known. `auto` follows it, the bank replays it. Needs no torch.

No expert that is better than the student (with rewards: one that is worse): stop. Too little left, or nothing more to
gain: stop. The best model of all is kept.

With a verifier's rewards:
1. An expert that errs: the mixture with rewards, from the student.
2. An accurate one: offline first, for a share of the budget. Where its samples helped so soon, offline goes on; where
   not, the mixture with rewards (where they harmed: from the student).
3. Where the guard stopped the mixture, offline takes the rest: it often hurts before it helps.

Imitation alone:
1. Offline first, for a share of the budget (an expert that cannot be sampled: online at once). Where the expert is
   often wrong, samples teach no more than its accuracy and online training may pass it: online first, on trial. It goes
   on if its fresh completions soon are right as often as the expert's; else the mixture.
2. Offline did not lower the accuracy: the first online method from its model. It did: online from the student, on trial
   against the student's accuracy; else offline goes on where it was.
3. An online phase that the guard stopped: the next method in the order, from the best model so far; after the last one,
   offline goes on where it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from understudy.diagnosis.outcome import ACCURATE, OFTEN_WRONG, SOON
from understudy.methods import table
from understudy.methods.cells import Method

START, STOP = "start", "stop"
OFFLINE, REWARDED = "sft", "gkd_reward"
TRIAL = "trial"
"""Why the guard ends a phase that has not gained enough by then."""


@dataclass(frozen=True)
class Policy:
    """The numbers of the rules. Chosen on the bank: `understudy calibrate policies`."""

    offline_share: float = 0.25
    """Share of the budget of the first offline phase."""
    offline_loss: float = 0.05
    """Accuracy that it may cost; where it costs more, online training begins from the student."""
    after_offline: tuple[str, ...] = ("gkd", "opd_full")
    """Online methods from the offline model, in the order in which they are tried."""
    from_student: tuple[str, ...] = ("opd_full",)
    """Likewise where offline training did not help."""
    on_trial: str = "opd_full"
    """Online method from the student where the expert is often wrong; "" = offline first there too."""
    often_wrong: float = OFTEN_WRONG
    """Accuracy of the expert below which it is."""
    accurate: float = ACCURATE
    """Accuracy of the expert from which samples come first though there are rewards."""
    offline_gain: float = SOON
    """What offline training must have gained then to go on alone."""
    trial_share: float = 0.12
    """Share of that phase at which its rewards must have reached the expert's accuracy."""
    after_trial: str = "gkd"
    """Method after a trial that failed, from the best model so far; "sft" = offline after all, from the student."""
    trial_updates: int = 10
    """Updates after the warm-up that a trial has at least; a phase that is not twice as long has none."""
    least_share: float = 0.08
    """Share of the budget below which no further phase begins."""
    headroom: float = 0.02
    """Accuracy that the expert must have beyond the student, unless rewards teach too."""

    def trial_at(self, updates: int, warmup: int) -> float:
        """Share of a phase of so many updates at which its trial ends; 0 = it is too short for one."""
        share = max(self.trial_share, (warmup + self.trial_updates) / updates)
        return share if share <= 0.5 else 0.0


@dataclass(frozen=True)
class Value:
    """An accuracy with its 95% interval, on so many prompts."""

    mean: float
    low: float
    high: float
    prompts: int


@dataclass(frozen=True)
class Node:
    """The student before training, or a finished phase."""

    name: str
    parent: str = ""
    method: str = ""
    share: float = 0.0
    """Of the whole budget, that it took."""
    look: Value | None = None
    """On fresh training prompts; None: nothing verifies."""
    stopped: str = ""
    """Why the guard ended it: harm, futility, plateau; "" = it ran to its end."""


@dataclass(frozen=True)
class Known:
    """All that a decision rests on."""

    nodes: tuple[Node, ...]
    """`start` first."""
    expert: Value | None
    left: float
    """Share of the budget that a phase may take: what is left, without the look that follows it."""
    methods: tuple[str, ...]
    """That this expert and task allow."""
    updates: int = 1000
    """Of `on_trial`, that the whole budget is expected to buy."""
    warmup: int = 0
    """Updates of its warm-up."""

    @property
    def start(self) -> Node:
        return self.nodes[0]

    @property
    def best(self) -> Node:
        """The highest look, the later of two equals; without looks the last one."""
        return max(enumerate(self.nodes), key=lambda at: (at[1].look.mean if at[1].look else math.inf, at[0]))[1]

    def node(self, name: str) -> Node:
        return next(n for n in self.nodes if n.name == name)


@dataclass(frozen=True)
class Option:
    """A phase that could come next, and what the bank expects of it."""

    method: str
    parent: str
    share: float
    """Of the whole budget."""
    expected: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def action(self) -> str:
        return STOP if self.method == STOP else f"{self.method} from {self.parent}"


@dataclass(frozen=True)
class Choice:
    """What is done next, and why."""

    option: Option
    others: tuple[Option, ...]
    why: str
    would_change: str
    reach: float = 0.0
    """Accuracy that its rewards must have reached after the share `trial` of its updates; 0 = it is not on trial."""
    trial: float = 0.0


@dataclass(frozen=True)
class Gains:
    """Share of the distance to the expert that a phase closes, from the bank: method and start -> (mean, low, high)."""

    shares: Mapping[tuple[str, bool], tuple[float, float, float]] = field(default_factory=dict)
    units: int = 0

    def expect(
        self, method: str, parent: Node, expert: Value | None
    ) -> tuple[float | None, float | None, float | None]:
        """(expected accuracy, low, high); None where it is not known."""
        share = self.shares.get((method, parent.name != START))
        if share is None or parent.look is None or expert is None:
            return None, None, None
        low, gap = parent.look.mean, expert.mean - parent.look.mean
        a, b, c = (min(1.0, max(0.0, low + s * gap)) for s in share)
        return a, min(b, c), max(b, c)


def decide(known: Known, policy: Policy, gains: Gains) -> Choice:
    """The next phase, or stop."""
    return _Rules(known, policy, gains).decide()


@dataclass(frozen=True)
class _Rules:
    known: Known
    policy: Policy
    gains: Gains

    def decide(self) -> Choice:
        known, policy = self.known, self.policy
        start, expert, last, best = known.start, known.expert, self.last, known.best
        if last is None:
            headroom = 0.0 if self.rewarded else policy.headroom  # rewards teach what the expert does not
            if expert and start.look and expert.high <= start.look.mean + headroom:
                return self.stop(
                    f"the expert ({_p(expert.mean)}) is not better than the student ({_p(start.look.mean)})",
                    "an expert that is better on these prompts",
                )
            return self.first()
        if known.left < policy.least_share:
            return self.stop(f"{_p(known.left)} of the budget is left, too little for another phase", "a larger budget")
        if expert and best.look and last.method != OFFLINE and not last.stopped and best.look.mean >= expert.mean:
            return self.stop(
                f"the model has reached the expert ({_p(best.look.mean)} against {_p(expert.mean)})", "a better expert"
            )
        online = any(n.method != OFFLINE and n.stopped != TRIAL for n in self.tried)
        if last.method == OFFLINE and (online or last is not self.offline):
            return self.stop("the offline phase at the end has run", "a larger budget")
        if not last.stopped and last.method != OFFLINE:
            return self.stop("the online phase ran to its end", "a larger budget")
        return self.with_rewards(last) if self.rewarded else self.imitating(last)

    # -- what is known ------------------------------------------------------------------------------------------

    @property
    def methods(self) -> list[str]:
        """Online methods that this expert and task allow."""
        return [m for m in self.known.methods if m != OFFLINE]

    @property
    def can_offline(self) -> bool:
        return OFFLINE in self.known.methods

    @property
    def rewarded(self) -> bool:
        return REWARDED in self.known.methods

    @property
    def tried(self) -> list[Node]:
        return [n for n in self.known.nodes if n.method]

    @property
    def last(self) -> Node | None:
        return self.tried[-1] if self.tried else None

    @property
    def offline(self) -> Node | None:
        """The first offline phase."""
        return next((n for n in self.tried if n.method == OFFLINE), None)

    @property
    def gain(self) -> float:
        """Of the first offline phase; 0 where it is not known."""
        offline, start = self.offline, self.known.start
        return offline.look.mean - start.look.mean if offline and offline.look and start.look else 0.0

    @property
    def helped(self) -> bool:
        """Whether offline training did no harm."""
        return self.gain >= -self.policy.offline_loss

    @property
    def trial(self) -> float:
        known = self.known
        return self.policy.trial_at(max(1, round(known.left * known.updates)), known.warmup)

    # -- what may follow ----------------------------------------------------------------------------------------

    def option(self, method: str, parent: Node, share: float) -> Option:
        return Option(method, parent.name, share, *self.gains.expect(method, parent, self.known.expert))

    def choice(self, method: str, parent: Node, share: float, why: str, change: str, *trial: float) -> Choice:
        chosen = self.option(method, parent, share)
        others = [self.option(m, parent, self.known.left) for m in self.known.methods if m != method]
        return Choice(chosen, (*others, Option(STOP, self.known.best.name, 0.0)), why, change, *trial)

    def stop(self, why: str, change: str) -> Choice:
        best = self.known.best
        rest = tuple(self.option(m, best, self.known.left) for m in self.known.methods)
        return Choice(Option(STOP, best.name, 0.0), rest, why, change)

    # -- the rules ----------------------------------------------------------------------------------------------

    def first(self) -> Choice:
        known, policy, methods = self.known, self.policy, self.methods
        start, expert, trial = known.start, known.expert, self.trial
        if self.rewarded and not (self.can_offline and expert and expert.mean >= policy.accurate):
            why = "samples, scores and rewards together are best on average: rewards teach what the expert does not"
            change = f"an expert right over {_p(policy.accurate)} of the time, no verifier, or --imitate-only"
            return self.choice(REWARDED, start, known.left, why, change)
        wrong = expert and start.look and expert.mean < policy.often_wrong
        if self.can_offline and wrong and expert and policy.on_trial in methods and trial:
            right = _p(expert.mean)
            why = f"the expert is right {right} of the time and samples teach no more, online training may pass that"
            change = f"an expert right over {_p(policy.often_wrong)} of the time"
            return self.choice(policy.on_trial, start, known.left, why, change, expert.mean, trial)
        if self.can_offline:
            share = min(policy.offline_share, known.left) if methods else known.left
            why = "samples are the cheapest lesson, and every online method gains from a better start"
            return self.choice(OFFLINE, start, share, why, "an expert that cannot be sampled")
        return self.choice(methods[0], start, known.left, "this expert cannot be sampled", "an expert that can")

    def with_rewards(self, last: Node) -> Choice:
        """After a first offline phase, or a phase with rewards that the guard stopped."""
        known, policy, offline = self.known, self.policy, self.offline
        if offline is None or last is not offline:
            why = f"{last.method} was stopped ({last.stopped}): offline often hurts before it helps, and needs no guard"
            return self.choice(OFFLINE, offline or known.start, known.left, why, f"{last.method} running to its end")
        changed, enough = f"samples changed the accuracy by {_gain(offline, known.start)}", 100 * policy.offline_gain
        if self.gain >= policy.offline_gain:
            why = f"an accurate expert's {changed} so soon: offline goes on"
            return self.choice(OFFLINE, offline, known.left, why, f"less than {enough:g} points")
        parent = offline if self.helped else known.start
        return self.choice(REWARDED, parent, known.left, f"{changed}: rewards take part", f"{enough:g} points or more")

    def imitating(self, last: Node) -> Choice:
        """After a first offline phase, or an online one that the guard stopped."""
        known, policy, methods, offline, trial = self.known, self.policy, self.methods, self.offline, self.trial
        start, best = known.start, known.best
        if last.stopped == TRIAL and not offline and policy.after_trial in methods:
            failed_trial = f"{last.method} did not reach the expert's accuracy on trial"
            why = f"{failed_trial}, and half of {policy.after_trial} is samples"
            return self.choice(policy.after_trial, best, known.left, why, f"{last.method} reaching it")
        if self.can_offline and not offline and last.stopped == TRIAL:
            why = f"{last.method} did not reach the expert's accuracy on trial, so offline comes first"
            return self.choice(OFFLINE, start, policy.offline_share * known.left, why, f"{last.method} reaching it")
        helped = self.helped
        failed = {n.method for n in self.tried if n.stopped == TRIAL}
        order = list(policy.after_offline if helped else policy.from_student)
        order = [m for m in order if m in methods and (m not in failed or (offline and helped))]
        if last.stopped == TRIAL and offline:
            order = []  # neither offline nor online training helped so soon: offline often hurts before it helps
        order += [m for m in methods if m not in order and m == "opd"]  # an expert that only scores
        done = {n.method for n in self.tried if n.method != OFFLINE and n.stopped != TRIAL}
        rest = [m for m in order if m not in done]
        parent = best if done else (offline or start) if helped else start
        if rest and last.method == OFFLINE:
            where, changed = "it" if helped else "the student", _gain(offline, start)
            why = f"offline training changed the accuracy by {changed}, so online training starts from {where}"
            change = f"a loss of {'more' if helped else 'less'} than {100 * policy.offline_loss:g} points offline"
            on_trial = (start.look.mean, trial) if not helped and trial and start.look else ()
            return self.choice(rest[0], parent, known.left, why, change, *on_trial)
        if rest:
            why = f"{last.method} was stopped ({last.stopped}), and {rest[0]} has not been tried"
            return self.choice(rest[0], parent, known.left, why, f"{last.method} running to its end")
        if self.can_offline and last.method != OFFLINE:
            why = f"{last.method} was stopped ({last.stopped}), and no other online method is left: offline goes on"
            return self.choice(OFFLINE, offline or start, known.left, why, "an online method that runs to its end")
        return self.stop("no method is left to try", "a larger budget")


def _gain(node: Node | None, start: Node) -> str:
    if node is None or node.look is None or start.look is None:
        return "an unknown amount"
    return f"{100 * (node.look.mean - start.look.mean):+.1f} points"


def _p(value: float) -> str:
    return f"{100 * value:.1f}%"


def methods_for(
    capabilities: frozenset[str],
    rewards: bool = True,
    rows: Sequence[str] = (OFFLINE, "opd_full", "gkd", REWARDED, "opd"),
) -> tuple[str, ...]:
    """The methods that an expert of these capabilities serves; `opd` only without whole distributions.

    rewards: whether a verifier's rewards may be learned from.
    """
    able = []
    for name in rows:
        if name == REWARDED and not rewards:
            continue
        row = table.TABLE[name]
        cells: dict[str, Any] = row.cells
        needs = table.capabilities(replace(Method(), **cells))
        if needs <= capabilities:
            able.append(name)
    return tuple(m for m in able if m != "opd" or "opd_full" not in able)
