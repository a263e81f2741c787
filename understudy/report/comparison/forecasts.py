"""What the diagnosis said of each expert before the runs, next to what then happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from understudy.diagnosis.outcome import MARGIN, UNDECIDED, Answer, is_close, truth
from understudy.evaluation.numbers import percent
from understudy.report.comparison.diagnoses import ROUTES, Said
from understudy.report.comparison.load import Comparison
from understudy.report.comparison.summary import Summary, summarise
from understudy.report.text import label, listed, method_name


@dataclass(frozen=True)
class Row:
    """A verdict and its outcome. sft, opd: (expected, low, high, what then was measured), nan where not known."""

    expert: str
    seed: int
    verdict: str
    routes: dict[str, tuple[float, float, float, float]]
    happened: Answer | None
    judged: str
    """right, wrong, close call, undecided, "" (not finished)."""


def rows(s: Summary) -> list[Row]:
    """Every verdict with its outcome, in the comparison's order."""
    out = []
    for said in s.c.said:
        if said.refused:
            out.append(Row(said.expert, said.seed, f"none: {said.refused}", {}, None, ""))
        elif said.answer:
            out.append(_row(s, said))
    return out


def _row(s: Summary, said: Said) -> Row:
    then, gain_half, lead_half = _then(s, said.expert, said.seed)
    routes = {r: (*said.expected.get(r, (np.nan,) * 3), then.get(r, np.nan)) for r in ROUTES}
    verdict = f"{said.answer} ({said.likeliest if said.answer == UNDECIDED else ''}{percent(said.probability, 0)})"
    if len(then) < 3:
        return Row(said.expert, said.seed, verdict, routes, None, "")
    outcome = then["student"], then["sft"], then["opd"]
    happened = truth(*outcome)
    judged: str
    if said.answer == UNDECIDED:
        judged = UNDECIDED
    elif said.answer == happened:
        judged = "right"
    else:
        judged = "close call" if is_close(*outcome, gain_half, lead_half) else "wrong"
    return Row(said.expert, said.seed, verdict, routes, happened, judged)


def _then(s: Summary, expert: str, seed: int) -> tuple[dict[str, float], float, float]:
    """(accuracies of student, sft and opd on this seed, half widths of the better one's gain and of opd - sft)."""
    finals = {"student": s.c.base.get(seed, {}).get("test")}
    for route, method in zip(ROUTES, ("sft", s.online)):
        arm = s.arm(expert, method)
        run = next((e.run for e in arm.finished if e.seed == seed), None) if arm else None
        finals[route] = run.final.get("test") if run and run.final else None
    known = {name: float(o.sampled.mean()) for name, o in finals.items() if o is not None}
    if len(known) < 3:
        return known, 0.0, 0.0
    best = "sft" if known["sft"] >= known["opd"] else "opd"
    halves = []
    for one, other in ((best, "student"), ("opd", "sft")):
        gap = s.paired(("beforehand", expert, seed, one, other), {seed: finals[one]}, {seed: finals[other]})
        halves.append((gap.high - gap.low) / 2 if gap else 0.0)
    return known, halves[0], halves[1]


def finding(s: Summary) -> str:
    """One sentence: how often the verdicts were right."""
    judged = [row.judged for row in rows(s) if row.judged]
    if not judged:
        return ""
    cost = [said.share for said in s.c.said if said.share is not None]
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


def cells(s: Summary, row: Row) -> list[str]:
    """expert, seed, verdict, sft, opd, what then was true, judged."""
    told = []
    for route in ROUTES:
        value, low, high, then = row.routes.get(route, (np.nan,) * 4)
        said = "–" if np.isnan(value) else f"{_p(value)} [{_p(low)}, {_p(high)}]"
        told.append(f"{said} → {'–' if np.isnan(then) else _p(then)}")
    return [label(row.expert, 40), str(row.seed), row.verdict, *told, row.happened or "–", row.judged or "–"]


def headers(s: Summary) -> list[str]:
    online = method_name(s.online) if s.online else "online"
    routes = ("SFT: said → then", f"{online}: said → then")
    return ["expert", "seed", "said beforehand", *routes, "what was best", "so it was"]


def terminal(comparison: Comparison) -> Table | None:
    """The same for a terminal, without intervals; None where nothing was said."""
    s = summarise(comparison)
    found = rows(s)
    if not found:
        return None
    several = len({row.seed for row in found}) > 1
    seed = ["seed"] if several else []
    heads = ["expert", *seed, "said beforehand", "SFT", "OPD", "then was best", "so it was"]
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for name in heads:
        made.add_column(Text(name))
    for row in found:
        told = [label(row.expert, 40), *([str(row.seed)] if several else []), row.verdict.partition(" (")[0]]
        for route in ROUTES:
            value, _, _, then = row.routes.get(route, (np.nan,) * 4)
            told.append("–" if np.isnan(value + then) else f"{_p(value)}→{_p(then)}")
        made.add_row(*map(Text, [*told, row.happened or "–", row.judged or "–"]))
    return made


def section(s: Summary) -> dict[str, Any] | None:
    """What the template shows."""
    found = rows(s)
    if not found:
        return None
    return {
        "headers": headers(s),
        "rows": [{"cells": cells(s, row), "judged": row.judged.replace(" ", "-")} for row in found],
        "margin": f"{100 * MARGIN:.0f}",
    }


def _p(share: float) -> str:
    return f"{100 * share:.0f}%"
