"""What the diagnosis of each expert forecast before the runs, next to what then happened."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from understudy.diagnosis.forecast.explain import likeliest
from understudy.diagnosis.outcome import MARGIN, UNDECIDED, Answer, is_close, truth
from understudy.diagnosis.types import Diagnosis, Estimate
from understudy.evaluation.numbers import percent, with_bounds
from understudy.report.comparison.load import Comparison
from understudy.report.comparison.summary import BASE, Summary, paired, summarise
from understudy.report.text import label, listed, method_name

ROUTES = ("sft", "opd")


@dataclass(frozen=True)
class Judged:
    """A verdict and its outcome. routes: of sft and opd, (expected or None, accuracy then measured or nan)."""

    expert: str
    seed: int
    verdict: str
    routes: dict[str, tuple[Estimate | None, float]]
    happened: Answer | None
    judged: str
    """right, wrong, close call, undecided, "" (not finished)."""


def rows(s: Summary) -> list[Judged]:
    """Every verdict with its outcome, in the comparison's order."""
    out = []
    for item in s.c.diagnoses:
        if item.diagnosis is not None:
            out.append(_judged(s, item.expert, item.seed, item.diagnosis))
        elif item.refused:
            out.append(Judged(item.expert, item.seed, f"none: {item.refused}", {}, None, ""))
    return out


def _judged(s: Summary, expert: str, seed: int, d: Diagnosis) -> Judged:
    then, gain_half, lead_half = _then(s, expert, seed)
    routes = {r: (d.verdict.expected.get(r), then.get(r, math.nan)) for r in ROUTES}
    answer, p = d.verdict.answer, d.verdict.probabilities
    named, best = (likeliest(p), f"{likeliest(p)} ") if answer == UNDECIDED else (answer, "")
    verdict = f"{answer} ({best}{percent(p[named], 0)})" if named in p else str(answer)
    if len(then) < 3:
        return Judged(expert, seed, verdict, routes, None, "")
    outcome = then["student"], then["sft"], then["opd"]
    happened = truth(*outcome)
    judged: str
    if answer == UNDECIDED:
        judged = UNDECIDED
    elif answer == happened:
        judged = "right"
    else:
        judged = "close call" if is_close(*outcome, gain_half, lead_half) else "wrong"
    return Judged(expert, seed, verdict, routes, happened, judged)


def _then(s: Summary, expert: str, seed: int) -> tuple[dict[str, float], float, float]:
    """(accuracies of student, sft and opd on this seed, half widths of the better one's gain and of opd - sft)."""
    found = {"student": s.outcomes(BASE, "test").get(seed)}
    for route, method in zip(ROUTES, ("sft", s.online_row)):
        arm = s.arm(expert, method)
        found[route] = s.outcomes(arm, "test").get(seed) if arm else None
    finals = {name: outcome for name, outcome in found.items() if outcome is not None}
    known = {name: float(outcome.sampled.mean()) for name, outcome in finals.items() if outcome.sampled is not None}
    if len(known) < 3:
        return known, 0.0, 0.0
    best = "sft" if known["sft"] >= known["opd"] else "opd"
    halves = []
    for one, other in ((best, "student"), ("opd", "sft")):
        gap = paired({seed: finals[one]}, {seed: finals[other]})
        halves.append((gap.high - gap.low) / 2 if gap else 0.0)
    return known, halves[0], halves[1]


def finding(s: Summary) -> str:
    """One sentence: how often the verdicts were right."""
    judged = [row.judged for row in rows(s) if row.judged]
    if not judged:
        return ""
    shares = [item.diagnosis.cost_share for item in s.c.diagnoses if item.diagnosis is not None]
    cost = [share for share in shares if share is not None]
    price = f" (at most {percent(max(cost))} of what both trainings were foreseen to cost)" if cost else ""
    counts = {word: judged.count(word) for word in ("right", "close call", "wrong", UNDECIDED)}
    decided = len(judged) - counts[UNDECIDED]
    if not decided:
        return f"Said beforehand: the diagnosis{price} could not decide."
    parts = [f"right {counts['right']} of {decided} times"]
    parts += ["wrong on a close call " + str(counts["close call"])] if counts["close call"] else []
    parts += [f"wrong {counts['wrong']}"] if counts["wrong"] else []
    parts += [f"undecided {counts[UNDECIDED]}"] if counts[UNDECIDED] else []
    return f"Said beforehand: the diagnosis{price} was {listed(parts)}."


def cells(s: Summary, row: Judged) -> list[str]:
    """expert, seed, verdict, sft, opd, what then was true, judged."""
    routes = []
    for route in ROUTES:
        expected, then = row.routes.get(route, (None, math.nan))
        routes.append(f"{with_bounds(expected, _p)} → {_p(then)}")
    return [label(row.expert, 40), str(row.seed), row.verdict, *routes, row.happened or "–", row.judged or "–"]


def headers(s: Summary) -> list[str]:
    online = method_name(s.online_row) if s.online_row else "online"
    routes = ("SFT: forecast → then", f"{online}: forecast → then")
    return ["expert", "seed", "verdict beforehand", *routes, "what was best", "so it was"]


def terminal_beforehand(comparison: Comparison) -> Table | None:
    """`rows` for a terminal, without intervals; None where there was no diagnosis."""
    s = summarise(comparison)
    judged = rows(s)
    if not judged:
        return None
    several = len({row.seed for row in judged}) > 1
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    seed = ["seed"] if several else []
    for name in ("expert", *seed, "verdict beforehand", "SFT", "OPD", "then was best", "so it was"):
        table.add_column(Text(name))
    for row in judged:
        line = [label(row.expert, 40), *([str(row.seed)] if several else []), row.verdict.partition(" (")[0]]
        for route in ROUTES:
            expected, then = row.routes.get(route, (None, math.nan))
            line.append("–" if expected is None or math.isnan(then) else f"{_p(expected.value)}→{_p(then)}")
        table.add_row(*map(Text, [*line, row.happened or "–", row.judged or "–"]))
    return table


def section(s: Summary) -> dict[str, Any] | None:
    """What the template shows."""
    judged = rows(s)
    if not judged:
        return None
    return {
        "headers": headers(s),
        "rows": [{"cells": cells(s, row), "judged": row.judged.replace(" ", "-")} for row in judged],
        "margin": f"{100 * MARGIN:.0f}",
    }


def _p(share: float) -> str:
    return percent(share, 0)
