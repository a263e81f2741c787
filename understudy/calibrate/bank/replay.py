"""`auto` on a row of the bank: the same decisions and the same guard, on recorded phases. Needs no torch.

What is approximate: a phase that is shorter than its branch ends where the branch was at that share of its budget (it
had not lowered its rate yet, so it is a little worse than the real one); a look is a draw from the recorded outcomes;
a phase from a model that no branch has begins at the nearest one that a branch has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from understudy.calibrate.bank.branches import BRANCHES
from understudy.calibrate.bank.rows import Look, Row, right
from understudy.evaluation.intervals import Floats
from understudy.experiments import demo
from understudy.randomness import generator
from understudy.routes.auto_config import RECIPE
from understudy.routes.policy import OFFLINE, REWARDED, START, STOP, Gains, Known, Node, Policy, Value, decide
from understudy.routes.reserve import Reserve
from understudy.training.guard import Guard, Rules, reference_prompts
from understudy.training.monitor import Seen

METHODS = (OFFLINE, "opd_full", "gkd", REWARDED)
"""Without REWARDED on rows of an earlier version, which lack its branches."""
WARMUP = int(demo.IMITATE["warmup"])
"""Updates, of every branch."""
SAVE_EVERY = int(RECIPE["save_every"])
LOOK_SHARE = 0.01
"""Of the budget, that a look at a model takes."""


@dataclass
class State:
    """A model on the way."""

    test: float
    """Accuracy by which outcomes are scored."""
    fresh: Floats
    """Chance of a right completion, per fresh prompt."""
    branch: str
    """The last whole branch on its path; "" = the student."""


@dataclass(frozen=True)
class Result:
    """What following a rule gave."""

    accuracy: float
    cost: float
    """Share of the budget."""
    route: str
    online_lost: bool = False
    """Whether an online phase was stopped."""


@dataclass
class Replay:
    """One row, one policy."""

    row: Row
    policy: Policy
    gains: Gains = field(default_factory=Gains)
    guard: bool = True
    margin: float = 0.02
    methods: tuple[str, ...] = METHODS

    def run(self) -> Result:
        """Decide and train until the decision is to stop."""
        row = self.row
        states = {START: State(row.start.accuracy, row.start.shares("fresh"), "")}
        expert = self.look("expert", row.expert.shares("fresh"))
        nodes = [Node(START, look=self.look(START, states[START].fresh))]
        left, lost = 1.0 - 2 * LOOK_SHARE, False
        methods = tuple(m for m in self.methods if m != REWARDED or {"reward", "sft.25+reward"} <= set(row.branches))
        route: list[str] = []
        while True:
            known = Known(
                tuple(nodes), expert, max(0.0, left - LOOK_SHARE), methods, row.branches["opd"].updates, WARMUP
            )
            choice = decide(known, self.policy, self.gains)
            method = choice.option.method
            if method == STOP:
                best = states[known.best.name]
                return Result(best.test, 1.0 - left, "+".join(route) or "nothing", lost)
            share = min(choice.option.share, known.left)
            name = f"{len(route)}-{method}"
            rules = Rules(1, self.margin, trial=choice.trial, reach=choice.reach)
            state, used, stopped = self.phase(method, states[choice.option.parent], share, rules)
            lost = lost or bool(stopped)
            states[name] = state
            route.append(method + ("!" if stopped else ""))
            left -= used + LOOK_SHARE
            nodes.append(Node(name, choice.option.parent, method, used, self.look(name, state.fresh), stopped))

    def look(self, name: str, chances: Floats) -> Value:
        """One completion per prompt, as `auto` looks."""
        draws = generator("replay", self.row.seed, f"{self.row.scenario}/{name}").random(len(chances)) < chances
        mean, n = float(draws.mean()), len(draws)
        half = 1.96 * (max(mean * (1 - mean), 0.25 / n) / n) ** 0.5
        return Value(mean, max(0.0, mean - half), min(1.0, mean + half), n)

    def phase(self, method: str, parent: State, share: float, rules: Rules) -> tuple[State, float, str]:
        """(the model it ends with, the share of the budget that it took, why the guard stopped it)."""
        name = nearest(method, parent.branch, share)
        branch, trained = BRANCHES[name], self.row.branches[name]
        guarded = self.guard and method != OFFLINE
        reference, confirmation = self.guard_costs(share, trained.updates) if guarded else (0.0, 0.0)
        train = max(0.0, share - reference - confirmation)
        end = min(1.0, train / branch.share)
        updates = max(1, round(end * trained.updates))
        stop, at, kept = "", updates, updates
        if guarded and len(trained.reward) >= 10:
            stop, at, kept = self.watch(trained.reward[:updates], replace(rules, updates=updates), parent)
        used = min(share, reference + train * at / updates + (confirmation if kept else 0.0))
        if not kept:
            return parent, used, stop
        state = at_share(self.row, name, end * kept / updates)
        if guarded and state.fresh.mean() < parent.fresh.mean():
            return parent, used, stop or "not confirmed"
        return state, used, stop

    def guard_costs(self, share: float, updates: int) -> tuple[float, float]:
        """Shares of the budget: the look at the start of a phase of `share`, and what is kept for its confirmation."""
        prompt, student, expert = self.row.lengths
        each = 2 * self.row.weights[0] * (prompt + max(student, expert)) / self.row.budget
        reserve = Reserve(0.0, 1 / self.row.branches["opd"].updates, each)
        return each * reference_prompts(updates, self.row.rollouts), share * reserve.guard(share)

    def watch(self, rewards: list[float | None], rules: Rules, parent: State) -> tuple[str, int, int]:
        """(why the guard stops these rewards, after how many updates, whose model it keeps; 0 = none)."""
        n, guard = self.row.rollouts, Guard(rules)
        guard.reference = Seen(256, float(parent.fresh.mean() * 256), 0.0)
        at = 0
        for step, reward in enumerate(rewards):
            if step and step % SAVE_EVERY == 0:
                guard.checkpoint(step)
            at = step + 1
            if guard.observe(at, None if reward is None else Seen(n, reward * n, 0.0)) is not None:
                break
        return guard.stop.kind if guard.stop else "", at, guard.candidate(at)


def nearest(method: str, parent: str, share: float) -> str:
    """The branch that is most like a phase of `method` from the model at the end of branch `parent`."""
    kind = {"opd_full": "opd", "gkd_reward": "reward"}.get(method, method)
    if not parent.startswith("sft"):  # also from a model of a trial: no branch goes on from one
        return {"sft": "sft.25" if share < 0.3 else "sft.5" if share < 0.75 else "sft"}.get(kind, kind)
    if kind == "reward" or (parent == "sft.25" and kind == "opd"):
        return f"sft.25+{kind}"
    return f"sft.5+{kind}"


def at_share(row: Row, name: str, share: float) -> State:
    """The model at this share of a branch: its end, or the look nearest to it."""
    trained = row.branches[name]
    if share > 0.97 or not trained.looks:
        return State(trained.end.accuracy, trained.end.shares("fresh"), name)
    step = share * trained.updates
    fresh = trained.end.shares("fresh")
    near = [right(d).mean() for at, d in trained.looks if abs(at - step) <= 0.15 * trained.updates]
    if not near:
        near = [right(min(trained.looks, key=lambda look: abs(look[0] - step))[1]).mean()]
    # Looks are at training prompts, one sample each: they say how far the end is, not what the test prompts give, and
    # little about a single prompt.
    behind = float(np.mean(near)) - float(fresh.mean())
    return State(min(1.0, max(0.0, trained.end.accuracy + behind)), np.clip(fresh + behind, 0.0, 1.0), name)


def fixed(row: Row, route: str) -> float:
    """Accuracy of a fixed route at the whole budget; "" = no training; nan: the row lacks its branch."""
    if route and route not in row.branches:
        return math.nan
    end: Look = row.branches[route].end if route else row.start
    return end.accuracy
