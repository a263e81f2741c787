"""understudy calibrate policies: every decision rule on every row of the bank, in seconds.

All rules have the same FLOPs. Whatever is fitted to rows is fitted to those of other scenarios (leave one out), and the
numbers of our own rule are chosen on scenarios of the group "set" alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from understudy.calibrate.bank.autos import AsRun, Ran
from understudy.calibrate.bank.branches import BRANCHES
from understudy.calibrate.bank.diagnoses import Follow, Known, can_follow
from understudy.calibrate.bank.replay import Replay, Result, State, fixed
from understudy.calibrate.bank.rows import Row, right
from understudy.calibrate.records import Record
from understudy.randomness import generator
from understudy.routes.policy import Gains, Policy
from understudy.training.guard import Rules

ROUTES = {
    "nothing": "", "sft": "sft", "opd": "opd", "gkd": "gkd", "sft+opd": "sft.5+opd", "sft+gkd": "sft.5+gkd",
}  # fmt: skip
"""Route -> the branch at whose end it is: what a rule is compared with."""
MORE = {"sft+mix": "sft.5+mix", "sft+slow opd": "sft.5+slow", "sft, then sft": "sft.5+sft", "sft.25+opd": "sft.25+opd",
        "gkd_reward": "reward", "sft.25+gkd_reward": "sft.25+reward"}  # fmt: skip
"""Further fixed routes."""
HARM, BAD = 0.02, 0.05
"""Accuracy below the student that counts as harm; below the best route that counts as a bad case."""
GRID: dict[str, Sequence[Any]] = {
    "offline_loss": (0.0, 0.05), "accurate": (0.9, 0.95, 2.0), "offline_gain": (0.05, 0.1, 0.2),
}  # fmt: skip
"""Numbers of our rule that are tried on the group "set"."""
Rule = Callable[[Row, Sequence[Row]], Result]
"""(row, rows of other scenarios) -> what following the rule on the row gives."""


@dataclass(frozen=True)
class Score:
    """A rule over rows; each is (mean, low, high) over scenarios. nan: no row has what the rule takes."""

    rule: str
    accuracy: tuple[float, float, float]
    regret: tuple[float, float, float]
    worst: float
    bad: float
    """Share of rows more than BAD below the best route."""
    harm: float
    """Share of rows more than HARM below the student."""
    cost: float
    """Share of the budget spent."""
    rows: int


def best_route(row: Row) -> float:
    """The highest accuracy of ROUTES, by hindsight (partly luck: each has a standard error of about .02)."""
    return max(fixed(row, branch) for branch in ROUTES.values())


def fixed_rule(branch: str) -> Rule:
    return lambda row, others: Result(fixed(row, branch), 1.0 if branch else 0.0, branch or "nothing")


def oracle(row: Row, others: Sequence[Row]) -> Result:
    """The best route, known afterwards."""
    route = max(ROUTES.values(), key=lambda branch: fixed(row, branch))
    return Result(fixed(row, route), 1.0, route)


def better_pilot(row: Row, others: Sequence[Row]) -> Result:
    """SFT or OPD, whichever was ahead after a tenth of both."""
    ahead = max(("sft", "opd"), key=lambda b: _look_at(row, b, 0.1))
    return Result(fixed(row, ahead), 1.1, ahead)


def initial_gap(row: Row, others: Sequence[Row]) -> Result:
    """The route of the largest gain by a line in the initial gap to the expert (after arXiv 2605.30070), per route."""

    def gap(r: Row) -> float:
        return r.expert.accuracy - r.start.accuracy

    def foreseen(branch: str) -> float:
        if not branch or len(others) < 3:
            return 0.0
        gains = [fixed(r, branch) - r.start.accuracy for r in others]
        return float(np.polyval(np.polyfit([gap(r) for r in others], gains, 1), gap(row)))

    route = max(ROUTES.values(), key=foreseen)
    return Result(fixed(row, route), 1.0 if route else 0.0, route or "nothing")


def successive_halving(row: Row, others: Sequence[Row]) -> Result:
    """SFT, OPD and GKD from the student: an eighth each, the better two another eighth, the best what is left."""
    arms = sorted(("sft", "opd", "gkd"), key=lambda b: -_look_at(row, b, 1 / 8))[:2]
    best = max(arms, key=lambda b: _look_at(row, b, 1 / 4))
    return Result(_look_at(row, best, 5 / 8), 1.0, best)  # a quarter so far, and the 3/8 that are left


def _look_at(row: Row, branch: str, share: float) -> float:
    """Accuracy on fresh prompts at a share of a branch: one look, as a rule would take it."""
    trained = row.branches[branch]
    looks = [*trained.looks, (trained.updates, "")]
    _, digits = min(looks, key=lambda look: abs(look[0] - share * trained.updates))
    return float(right(digits).mean()) if digits else float(trained.end.shares("fresh").mean())


def guarded(method: str) -> Rule:
    """The whole budget on one online method under the guard, as `understudy train` does."""

    def rule(row: Row, others: Sequence[Row]) -> Result:
        start = State(row.start.accuracy, row.start.shares("fresh"), "")
        state, used, stopped = Replay(row, Policy()).phase(method, start, 1.0, Rules(1))
        return Result(state.test, used, method + ("!" if stopped else ""), bool(stopped))

    return rule


def auto_rule(policy: Policy, guard: bool = True) -> Rule:
    return lambda row, others: Replay(row, policy, gains_of(others), guard).run()


def candidates() -> list[Policy]:
    """The default numbers, then every combination of GRID."""
    default = Policy()
    return [default, *(replace(default, **dict(zip(GRID, v))) for v in itertools.product(*GRID.values()))]


def regrets(policy: Policy, rows: Sequence[Row]) -> dict[str, float]:
    """Of our rule with these numbers: scenario -> mean over its rows."""
    of: dict[str, list[float]] = {}
    for row in rows:
        of.setdefault(row.scenario, []).append(best_route(row) - Replay(row, policy).run().accuracy)
    return {scenario: float(np.mean(values)) for scenario, values in of.items()}


def auto_chosen_elsewhere(rows: Sequence[Row]) -> Rule:
    """Our rule, with the numbers of the least mean regret on the other scenarios of the group "set"."""
    tried = [(policy, regrets(policy, [r for r in rows if r.set == "set"])) for policy in candidates()]

    def rule(row: Row, others: Sequence[Row]) -> Result:
        def mean(of: Mapping[str, float]) -> float:
            values = [value for scenario, value in of.items() if scenario != row.scenario]
            return round(float(np.mean(values)), 4) if values else 0.0

        policy, _ = min(tried, key=lambda t: mean(t[1]))  # the default numbers among equals
        return Replay(row, policy, gains_of(others)).run()

    return rule


def gains_of(rows: Sequence[Row]) -> Gains:
    """Shares of the distance to the expert that the phases closed: mean, and 5% and 95% of scenarios."""
    shares: dict[tuple[str, bool], list[float]] = {}
    for row in rows:
        for name, trained in row.branches.items():
            branch = BRANCHES[name]
            if branch.fields or name in ("sft.25+opd", "sft.25", "sft"):
                continue
            parent = row.branches[branch.parent].end if branch.parent else row.start
            gap = row.expert.accuracy - parent.accuracy
            if gap > 0.05:
                closed = (trained.end.accuracy - parent.accuracy) / gap
                shares.setdefault((branch.method, bool(branch.parent)), []).append(max(-1.0, min(1.5, closed)))
    out = {}
    for key, values in shares.items():
        if len(values) >= 3:
            low, high = np.quantile(values, [0.05, 0.95])
            out[key] = (float(np.mean(values)), float(low), float(high))
    return Gains(out, len(rows))


def rules(
    rows: Sequence[Row], diagnoses: Known | None = None, records: Sequence[Record] = (),
    autos: Mapping[tuple[str, int], Ran] | None = None,
) -> dict[str, Rule]:  # fmt: skip
    """Name -> rule: fixed routes, other rules, ours, the oracle.

    diagnoses: of rows; records: to which the forecast's coefficients are fitted; autos: that ran on rows.
    """
    out = {f"always {name}" if name != "nothing" else name: fixed_rule(b) for name, b in (ROUTES | MORE).items()}
    out |= {"the better pilot": better_pilot, "the initial gap's line": initial_gap,
            "successive halving": successive_halving, "always opd, guarded": guarded("opd_full"),
            "always gkd, guarded": guarded("gkd")}  # fmt: skip
    diagnosed = len(can_follow(rows, diagnoses or {}))
    if diagnoses and diagnosed:
        name = "what diagnose recommends"
        out[name if diagnosed == len(rows) else f"{name} ({diagnosed} rows)"] = Follow(diagnoses, records)
    if autos and (n := sum((r.scenario, r.seed) in autos for r in rows)):
        out["auto, as it ran" if n == len(rows) else f"auto, as it ran ({n} rows)"] = AsRun(autos)
    out |= {"auto, default numbers": auto_rule(Policy()), "auto without its guard": auto_rule(Policy(), guard=False)}
    return out | {"auto, numbers chosen on other scenarios": auto_chosen_elsewhere(rows), "oracle": oracle}


def score(name: str, rule: Rule, rows: Sequence[Row], fitted_on: Sequence[Row]) -> Score:
    """A rule on these rows, judged leave-one-scenario-out; what follows diagnoses or runs, on those that have one. Rows
    of an earlier version that lack the branch that the rule takes do not count."""
    if isinstance(rule, Follow):
        rows = can_follow(rows, rule.known)
    elif isinstance(rule, AsRun):
        rows = [row for row in rows if (row.scenario, row.seed) in rule.known]
    results: dict[str, list[tuple[float, float, float, float]]] = {}
    for row in rows:
        result = rule(row, [r for r in fitted_on if r.scenario != row.scenario])
        if math.isnan(result.accuracy):
            continue
        regret = best_route(row) - result.accuracy
        lost = row.start.accuracy - result.accuracy
        results.setdefault(row.scenario, []).append((result.accuracy, regret, lost, result.cost))
    if not results:
        return Score(name, (math.nan,) * 3, (math.nan,) * 3, *(math.nan,) * 4, 0)
    flat = np.array([x for values in results.values() for x in values])
    means = np.array([np.mean(values, axis=0) for values in results.values()])
    return Score(
        name, _interval(means[:, 0]), _interval(means[:, 1]), float(flat[:, 1].max()), float((flat[:, 1] > BAD).mean()),
        float((flat[:, 2] > HARM).mean()), float(flat[:, 3].mean()), len(flat),
    )  # fmt: skip


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean with its 95% bootstrap interval over scenarios."""
    draws = generator("policies", 0, len(values)).integers(0, len(values), (2000, len(values)))
    low, high = np.quantile(values[draws].mean(1), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def scores(rows: Sequence[Row]) -> list[Score]:
    """All rules."""
    return [score(name, rule, rows, rows) for name, rule in rules(rows).items()]


def by_row(rows: Iterable[Row]) -> list[Mapping[str, object]]:
    """What happened on every row, for a table."""
    out: list[Mapping[str, object]] = []
    for row in rows:
        result = Replay(row, Policy()).run()
        ends = {name: fixed(row, branch) for name, branch in (ROUTES | MORE).items()}
        out.append({"scenario": row.scenario, "seed": row.seed, "set": row.set, **ends, "expert": row.expert.accuracy,
                    "auto": result.accuracy, "route": result.route, "cost": result.cost})  # fmt: skip
    return out


def leads(rows: Sequence[Row], autos: Mapping[tuple[str, int], Ran]) -> dict[str, tuple[float, float, float]]:
    """Fixed route -> (mean, low, high) of the accuracy of auto, as it ran, minus that of the route on the same rows."""
    ran = [r for r in rows if (r.scenario, r.seed) in autos]
    of: dict[str, dict[str, list[float]]] = {name: {} for name in ROUTES | MORE}
    for name, branch in (ROUTES | MORE).items():
        for r in ran:
            if not branch or branch in r.branches:
                lead = autos[r.scenario, r.seed].accuracy - fixed(r, branch)
                of[name].setdefault(r.scenario, []).append(lead)
    return {name: _interval(np.array([np.mean(x) for x in by.values()])) for name, by in of.items() if by}


def lines_of_leads(found: Mapping[str, tuple[float, float, float]]) -> list[str]:
    """The least lead first."""
    ordered = sorted(found.items(), key=lambda item: item[1][0])
    return [f"auto minus always {name:<14} {m:+.3f} [{low:+.3f}, {high:+.3f}]" for name, (m, low, high) in ordered]


def lines(scores: Iterable[Score]) -> list[str]:
    """A table as text, the least regret first."""
    out = [f"{'rule':<40} accuracy  regret                worst  > 5 short  harm  spent"]
    for s in sorted((s for s in scores if s.rows), key=lambda s: s.regret[0]):
        regret = f"{s.regret[0]:.3f} [{s.regret[1]:.3f}, {s.regret[2]:.3f}]"
        out.append(
            f"{s.rule:<40} {s.accuracy[0]:>8.3f}  {regret:<21} {s.worst:.3f} {s.bad:>9.0%} {s.harm:>6.0%}"
            f" {s.cost:>6.0%}"
        )
    return out


def lines_by_row(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """One row of the bank per line."""
    if not rows:
        return []
    names = [name for name in rows[0] if name not in ("scenario", "seed", "set", "route")]
    out = [f"{'scenario':<22} " + " ".join(f"{name[:8]:>8}" for name in names) + "  auto's route"]
    for row in rows:
        values = " ".join(f"{row[name]:>8.3f}" for name in names)
        out.append(f"{row['scenario']!s:<18} {row['seed']!s:>3} {values}  {row['route']}")
    return out
