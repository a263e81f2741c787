"""From rows of the bank to what a recommendation rests on (diagnosis/forecast/analogs.py), and how good that is.

Every number is leave-one-scenario-out: a case is judged by the cases of other scenarios, its forecast by coefficients
fitted to other scenarios. Needs no torch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from understudy.calibrate.bank.rows import Row, Trained
from understudy.calibrate.fit import fit
from understudy.calibrate.records import Record
from understudy.diagnosis.forecast.analogs import (
    FIRST,
    HARM,
    ROUTES,
    SHIFTED,
    Analogs,
    Case,
    Floats,
    favourite,
    mean_best,
)
from understudy.diagnosis.forecast.features import features
from understudy.diagnosis.forecast.judge import draws
from understudy.diagnosis.forecast.model import VerdictModel, load
from understudy.diagnosis.outcome import MARGIN
from understudy.errors import UserError
from understudy.methods.cells import Method
from understudy.methods.price import Lengths, Sizes, flops_per_update
from understudy.methods.table import TABLE

BRANCH = {
    FIRST: "sft.5", "sft": "sft", "gkd": "gkd", "sft+opd": "sft.5+opd", "sft+gkd": "sft.5+gkd", "gkd_reward": "reward",
}  # fmt: skip
"""Where the bank has what is forecast."""
SECOND = {"sft+opd": "sft.5+opd", "sft+gkd": "sft.5+gkd"}
WIDTHS, EVENS, NOISES = (0.08, 0.15, 0.3), (0.15, 0.3, 0.6), (0.02, 0.04, 0.08)
"""What `fitted` chooses from."""
LEAST_CASES = 8
"""With fewer cases nothing is chosen: the values of `Analogs` stay."""
LEVELS, WIDEST = (0.025, 0.975), 2.0
WINDOW = 5  # updates whose rewards are averaged
SURE = 0.85
"""Share of second phases of which the reward must have told whether they gain."""


def case(row: Row) -> Case:
    """Accuracies on the test prompts. SFT with as many updates as `opd` lies between the SFT branches of the row. A row
    of an earlier version lacks branches: nan."""
    trained = row.branches
    ends = {name: trained[b].end.accuracy if b in trained else math.nan for name, b in BRANCH.items()}
    return Case(
        row.scenario, row.seed, row.start.accuracy, row.expert.accuracy, _equal_updates(row),
        row.branches["opd"].end.accuracy, ends, "bank",
    )  # fmt: skip


def _equal_updates(row: Row) -> float:
    """By the share of the budget that so many updates of SFT cost, straight between the branches on both sides."""
    shares = [0.0, 0.25, 0.5, 1.0]
    ends = [row.start, *(row.branches[name].end for name in ("sft.25", "sft.5", "sft"))]
    return float(np.interp(sft_price(row), shares, [look.accuracy for look in ends]))


def joined(rows: Iterable[Row], notes: Sequence[Case]) -> tuple[Case, ...]:
    """Cases of the rows, and the older ones of scenarios that the bank has not reached."""
    cases = [case(row) for row in rows]
    reached = {c.scenario for c in cases}
    return (*cases, *(c for c in notes if c.source != "bank" and c.scenario not in reached))


def sft_price(row: Row) -> float:
    """FLOPs of an update of SFT over those of one of online training."""
    lengths, sizes = Lengths(*row.lengths), Sizes(*row.weights)
    sft, opd = (
        flops_per_update(Method(**TABLE[name].cells), lengths, sizes)  # type: ignore[arg-type]
        for name in ("sft", "opd_full")
    )
    return sft / opd


# --- fitting ---------------------------------------------------------------------------------------------


def fitted(cases: tuple[Case, ...], rows: Sequence[Row], source: str, start: Analogs | None = None) -> Analogs:
    """width, even and noise with the least mean CRPS of the routes' accuracies, S and O known, each scenario left out.

    UserError: no case.
    """
    if not cases:
        raise UserError("rows", 0, "no cases: nothing to fit")
    base = replace(start or Analogs(cases), cases=cases, source=source, visible=visible(rows))
    if len({c.scenario for c in cases}) < LEAST_CASES:
        return base
    grid = [replace(base, width=w, even=e, noise=n) for w, e, n in itertools.product(WIDTHS, EVENS, NOISES)]
    return min(grid, key=_loss)


def _loss(analogs: Analogs, points: int = 256) -> float:
    """Mean CRPS over the known accuracies of SHIFTED; S and O as they were."""
    losses = []
    for c in analogs.cases:
        others = analogs.without(c.scenario)
        if not others.cases:
            continue
        seen = others.draw(c.student, c.expert, np.full(points, c.sft), np.full(points, c.opd))
        losses += [_crps(seen[name], c.ends[name]) for name in SHIFTED if math.isfinite(c.ends.get(name, math.nan))]
    return float(np.mean(losses))


def _crps(draws: Floats, truth: float) -> float:
    """E|X - y| - E|X - X'| / 2, of a sample."""
    x = np.sort(draws)
    n = len(x)
    spread = float((x * (2 * np.arange(1, n + 1) - n - 1)).sum()) * 2 / n**2
    return float(np.abs(x - truth).mean()) - spread / 2


def visible(rows: Sequence[Row], usual: int = 1280) -> int:
    """Rollouts of a second phase after which the rise of its reward agrees with whether it gained, in SURE of them.

    usual: what is said where the bank has fewer than LEAST_CASES such phases (20 updates of 64).
    """
    seen = [(row, row.branches[b], row.branches["sft.5"]) for row in rows for b in SECOND.values()]
    if len(seen) < LEAST_CASES:
        return usual
    for updates in range(WINDOW, 101, WINDOW):
        right = [_rises(phase, updates) == (phase.end.accuracy > before.end.accuracy) for _, phase, before in seen]
        if sum(right) >= SURE * len(right):
            return updates * max(row.rollouts for row, *_ in seen)
    return 100 * max(row.rollouts for row, *_ in seen)


def _rises(phase: Trained, updates: int) -> bool:
    rewards = [r for r in phase.reward[: updates + WINDOW] if r is not None]
    return float(np.mean(rewards[-WINDOW:])) > float(np.mean(rewards[:WINDOW])) if rewards else False


# --- scoring ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """One case with its forecast by other scenarios."""

    case: Case
    seen: Mapping[str, Floats]
    """Draws of ROUTES and of FIRST."""

    def choose(self, names: Sequence[str] = ROUTES) -> str:
        """The route that a diagnosis recommends among those that were trained."""
        known = self.case.reached()
        return favourite({n: float(self.seen[n].mean()) for n in names if math.isfinite(known[n])})


def judged(analogs: Analogs, records: Sequence[Record], fit_again: bool = True) -> list[Judged]:
    """The cases that were diagnosed too, each by everything but its own scenario.

    fit_again: with False by the coefficients in use, which a scenario of the set has shaped.
    """
    by_unit = {(r.scenario, r.seed): r for r in records if r.evidence is not None}
    training = [r for r in by_unit.values() if r.set == "set"]
    models: dict[str, VerdictModel] = {}
    out = []
    for c in analogs.cases:
        record, others = by_unit.get((c.scenario, c.seed)), analogs.without(c.scenario)
        if record is None or record.evidence is None or not others.cases:
            continue
        quantities = features(record.evidence)
        if quantities is None:
            continue
        if c.scenario not in models:
            own = fit_again and any(r.scenario == c.scenario for r in training)
            rest = [r.case() for r in training if r.scenario != c.scenario]
            models[c.scenario] = fit(rest, load("prior")) if own else load()
        model = models[c.scenario]
        start = min(max(quantities.student.value, 0.0), 1.0)
        sft, opd = draws(model.forecast(quantities), start, model.freedom)
        expert = quantities.expert.value if quantities.expert else math.nan
        out.append(Judged(c, others.draw(start, expert, sft, opd)))
    return out


def score(cases: Sequence[Judged]) -> dict[str, Any]:
    """Regret of the advice and of each fixed route (mean, worst, share above MARGIN), coverage, Brier skills.

    Regret: against the best of the routes that were trained. Each scenario counts once, however many seeds it has.
    """
    weight = _weights([j.case.scenario for j in cases])

    def regret(choose: Any) -> dict[str, float]:
        lost = []
        for j in cases:
            known = {n: x for n, x in j.case.reached().items() if math.isfinite(x)}
            name = choose(j)
            lost.append(max(known.values()) - known[name] if name in known else math.nan)
        x = np.array(lost)
        w = np.where(np.isfinite(x), weight, 0.0)
        if not w.sum():
            return {}
        w, x = w / w.sum(), np.nan_to_num(x)
        return {"mean": float(w @ x), "worst": float(x.max()), "above": float(w @ (x > MARGIN)),
                "cases": int((w > 0).sum())}  # fmt: skip

    rules: dict[str, Any] = {"advice": lambda j: j.choose()}
    rules["better forecast of SFT and OPD"] = lambda j: j.choose(("sft", "opd"))
    rules |= {f"always {name}" if name != "nothing" else name: (lambda j, n=name: n) for name in ROUTES}
    factors, held = stretches(cases), []
    for scenario, far in factors:
        others = [x for name, x in factors if name != scenario]
        held.append(far <= _stretch(others))
    widths = [float(np.diff(np.quantile(j.seen[n], LEVELS))[0]) for j in cases for n in ROUTES if n != "nothing"]
    return {
        "cases": len(cases), "scenarios": len({j.case.scenario for j in cases}),
        "regret": {name: regret(rule) for name, rule in rules.items()},
        "stated": _stated_regret(cases, weight),
        "covered": float(np.mean([far <= 1 for _, far in factors])) if factors else math.nan,
        "stretched": float(np.mean(held)) if held else math.nan,
        "stretch": _stretch([far for _, far in factors]),
        "width": float(np.mean(widths)) if widths else math.nan,
        "skill": {text: _skill(cases, weight, event) for text, event in EVENTS.items()},
    }  # fmt: skip


def stretches(cases: Sequence[Judged]) -> list[tuple[str, float]]:
    """(scenario, distance of an outcome from the median over that of the interval's end on its side), per route that
    was trained: at most 1 where the interval held."""
    out = []
    for j in cases:
        for name, value in j.case.reached().items():
            if name != "nothing" and math.isfinite(value):
                low, middle, high = np.quantile(j.seen[name], [LEVELS[0], 0.5, LEVELS[1]])
                far, room = (value - middle, high - middle) if value > middle else (middle - value, middle - low)
                out.append((j.case.scenario, float(far / max(room, 1e-3))))
    return out


def _stretch(factors: Sequence[float]) -> float:
    """The factor with which 95% of the intervals would have held, within [1, WIDEST]."""
    return float(np.clip(np.quantile(factors, 0.95), 1.0, WIDEST)) if len(factors) else 1.0


def _stated_regret(cases: Sequence[Judged], weight: Floats) -> float:
    """Mean regret that the advice was said to have, against the same routes as `regret`."""
    said = []
    for j in cases:
        names = [n for n, x in j.case.reached().items() if math.isfinite(x)]
        said.append(float((mean_best(j.seen, names) - j.seen[j.choose()]).mean()))
    return float(weight @ np.array(said))


Event = tuple[str, str, float, bool]
"""(route, against, margin, whether above): accuracy of the one minus the other is above (else below) the margin."""
EVENTS: dict[str, Event] = {
    "OPD after SFT adds more than 5 points": ("sft+opd", FIRST, MARGIN, True),
    "GKD after SFT adds more than 5 points": ("sft+gkd", FIRST, MARGIN, True),
    "GKD + reward adds more than 5 points": ("gkd_reward", "nothing", MARGIN, True),
    "OPD ends more than 5 points above SFT": ("opd", "sft", MARGIN, True),
    "OPD harms": ("opd", "nothing", -HARM, False),
    "SFT harms": ("sft", "nothing", -HARM, False),
}
"""What is said with a probability."""


def probability(seen: Mapping[str, Floats], event: Event) -> float:
    route, against, margin, above = event
    difference = seen[route] - seen[against]
    return float((difference > margin if above else difference < margin).mean())


def _skill(cases: Sequence[Judged], weight: Floats, event: Event) -> dict[str, float]:
    """Brier score of the stated probabilities against that of always stating the frequency among other scenarios."""
    route, against, margin, above = event
    stated, happened, of, kept = [], [], [], []
    for j, w in zip(cases, weight):
        known = j.case.reached() | {FIRST: j.case.ends.get(FIRST, math.nan)}
        difference = known[route] - known[against]
        if math.isfinite(difference):
            stated.append(probability(j.seen, event))
            happened.append(float(difference > margin if above else difference < margin))
            of.append(j.case.scenario)
            kept.append(w)
    if len(set(of)) < 2:
        return {"cases": len(of)}
    y, p, w = np.array(happened), np.array(stated), np.array(kept)
    often = []
    for scenario in of:
        other = np.array([name != scenario for name in of])
        often.append((w * y)[other].sum() / w[other].sum())
    ours, base = float(w @ (p - y) ** 2), float(w @ (np.array(often) - y) ** 2)
    skill = 1 - ours / base if base > 0 else math.nan
    return {"cases": len(of), "happened": float(w @ y / w.sum()), "stated": float(w @ p / w.sum()), "skill": skill}


def _weights(scenarios: Sequence[str]) -> Floats:
    w = np.array([1 / scenarios.count(name) for name in scenarios])
    return w / w.sum()
