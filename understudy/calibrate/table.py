"""The committed result: docs/results/calibration.md for a person, calibration.json with every row it was made from.

`understudy calibrate table` writes both from results.jsonl, and again from calibration.json alone: the rule in use
judges the stored evidence anew, so a page never shows the verdict of another rule than it names. Rows that it was
fitted on are judged by what the other scenarios give.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from understudy.calibrate.fit import fit
from understudy.calibrate.metrics import (
    Row,
    Score,
    bins_table,
    confusion_table,
    levels_table,
    read_rows,
    rejudged,
    score,
    table,
)
from understudy.calibrate.scenarios import SCENARIOS
from understudy.diagnosis.forecast.judge import CLASSES
from understudy.diagnosis.forecast.model import load
from understudy.diagnosis.outcome import MARGIN, UNDECIDED
from understudy.diagnosis.types import Estimate
from understudy.errors import UserError
from understudy.runs.files import dumps, read_json, write_bytes

COMMAND = "understudy calibrate table"
GOALS = {"decided": 0.8, "cost": 0.10}


def read(path: str) -> list[Row]:
    """Rows of results.jsonl, or of a committed calibration.json; the set of each is what its scenario is in now."""
    if path.endswith(".json"):
        found = read_json(Path(path), "results")
        how = found.get("how", [])
        rows = [Row.from_dict(_unpacked(row, how)) for row in found.get("rows", [])]
    else:
        rows = read_rows(path)
    return [replace(r, set=SCENARIOS[r.scenario].set) if r.scenario in SCENARIOS else r for r in rows]


def write(rows: Sequence[Row], out: Path) -> Path:
    """Both files; the page's path."""
    set_ = [r for r in rows if r.set == "set" and r.evidence is not None]
    rows = [*rejudged([r for r in rows if r.set != "set"]), *left_out(set_)]
    rows = sorted(rows, key=lambda r: (r.set != "score", _order(r), r.seed))
    if not rows:
        raise UserError("results", out, "no row has evidence: run understudy calibrate run first")
    scores = {}
    for name in ("score", "set"):
        if some := [r for r in rows if r.set == name]:
            scores[name] = score(some)
    out.mkdir(parents=True, exist_ok=True)
    head: dict[str, Any] = {
        "command": COMMAND,
        "rule": load().name,
        "scores": {k: s.to_dict() for k, s in scores.items()},
    }
    # a row a line: it can be compared
    how: list[list[Any]] = []
    lines = b",\n".join(dumps(_packed(_rounded(_brief(row).to_dict()), how)).rstrip() for row in rows)
    head["how"] = how
    write_bytes(
        out / "calibration.json", dumps(head).rstrip().removesuffix(b"}") + b', "rows": [\n' + lines + b"\n]}\n"
    )
    path = out / "calibration.md"
    write_bytes(path, page(rows, scores).encode())
    return path


def left_out(rows: Sequence[Row]) -> list[Row]:
    """Every scenario judged by coefficients fitted to the others: what rows are worth that the rule was fitted on."""
    model, out = load(), []
    for scenario in dict.fromkeys(r.scenario for r in rows):
        others = [r.case() for r in rows if r.scenario != scenario]
        fitted = fit(others, load("prior")) if others else load("prior")
        some = [r for r in rows if r.scenario == scenario]
        out += rejudged(some, replace(fitted, confidence=model.confidence))
    return out


def page(rows: Sequence[Row], scores: dict[str, Score]) -> str:
    """Markdown."""
    model = load()
    parts = [
        "# Is the diagnosis right on language models?\n",
        f"Written by `{COMMAND}` from what `understudy calibrate run` kept; edit nothing here. Rule: {model.name} "
        f"({model.source}).\n",
        "Every scenario was trained to its end, offline and online, after a diagnosis had been made from a few percent "
        "of that cost. The outcome says what the answer should have been: *neither* if no way gains more than "
        f"{MARGIN:.2f}; else *go online* if online ends more than {MARGIN:.2f} above offline; else *offline suffices*. "
        "A close call is an outcome within its own interval of such a boundary. Accuracies are sampled, on held-out "
        "problems, with 95% intervals over problems; cost is in FLOPs, against both trainings.\n",
    ]
    for name, heading in (
        ("score", "Scored: scenarios that the rule has never seen"),
        ("set", "Set: scenarios that the rule was fitted on, each judged by coefficients fitted on the others"),
    ):
        if name not in scores:
            continue
        found = scores[name]
        some = [r for r in rows if r.set == name]
        parts += [f"## {heading}\n", *(f"- {line}" for line in verdict_lines(found)), "", *_rows(some), ""]
        parts += ["### By kind\n", *table(found), "", "### Truth and answer\n", *confusion_table(found), ""]
        parts += ["### Probabilities\n", *bins_table(found), ""]
        parts += ["### If an answer needed another probability\n", *levels_table(some), ""]
    parts += ["## The scenarios\n", "| scenario | set | kind | what is expected |", "|---|---|---|---|"]
    parts += [f"| {s.name} | {s.set} | {s.kind} | {s.expect} |" for s in SCENARIOS.values()]
    return "\n".join(parts) + "\n"


def verdict_lines(found: Score) -> list[str]:
    """The goals, and whether they were met."""
    told = [
        f"confident verdicts that were wrong: {found.wrong} of {found.decided}, of these no close call: "
        f"{found.clearly_wrong} (goal: none)",
        f"decided: {found.decided} of {found.n}, {found.decided_share:.0%} (goal: at least {GOALS['decided']:.0%})",
        f"Brier score {found.brier:.3f}, skill {found.skill:.2f}",
    ]
    if math.isfinite(found.error):
        told.append(
            f"expected accuracies: off by {100 * found.error:.1f} points on average; {found.covered:.0%} of their 95% "
            "intervals held what came"
        )
    if math.isfinite(found.cost_share):
        share = f"{found.cost_share:.1%} of both trainings' FLOPs at most (goal: {GOALS['cost']:.0%})"
        told.append(f"cost of the diagnosis: {share}")
    return told


def _rows(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| scenario | seed | student | sft | online | what it should have said | what it said | likeliest | cost |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        assert row.verdict is not None
        answer, p = row.verdict.answer, row.verdict.probabilities
        best = max(CLASSES, key=lambda a: p[a])
        mark = ""
        if answer not in (UNDECIDED, row.truth):
            mark = " (wrong, close call)" if row.close else " (**wrong**)"
        cost = f"{row.cost_share:.1%}" if math.isfinite(row.cost_share) else ""
        ends = " | ".join(_number(row.outcome[k]) for k in ("student", "sft", "opd"))
        truth = row.truth + (" (close)" if row.close else "")
        lines.append(
            f"| {row.scenario} | {row.seed} | {ends} | {truth} | {answer}{mark} | {best} {p[best]:.2f} | {cost} |"
        )
    return lines


def _brief(row: Row) -> Row:
    """Without the verdict's words, which come again from the evidence."""
    assert row.verdict is not None
    return replace(row, verdict=replace(row.verdict, reasons=(), would_change=()))


def _number(e: Estimate) -> str:
    return f"{e.value:.3f} ({e.low:.2f} to {e.high:.2f})"


def _order(row: Row) -> int:
    names = list(SCENARIOS)
    return names.index(row.scenario) if row.scenario in names else len(names)


_VALUE, _HOW = ("value", "low", "high", "n"), ("unit", "method", "level")


def _packed(value: Any, how: list[list[Any]]) -> Any:
    """An estimate as [value, low, high, n, where in `how` its unit, method and level are]: a tenth of the file."""
    if isinstance(value, list):
        return [_packed(v, how) for v in value]
    if not isinstance(value, dict):
        return value
    if set(value) != {*_VALUE, *_HOW}:
        return {k: _packed(v, how) for k, v in value.items()}
    told = [value[k] for k in _HOW]
    if told not in how:
        how.append(told)
    return {"e": [*(value[k] for k in _VALUE), how.index(told)]}


def _unpacked(value: Any, how: Sequence[Sequence[Any]]) -> Any:
    if isinstance(value, list):
        return [_unpacked(v, how) for v in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"e"}:
        *numbers, at = value["e"]
        return dict(zip((*_VALUE, *_HOW), (*numbers, *how[at])))
    return {k: _unpacked(v, how) for k, v in value.items()}


def _rounded(value: Any) -> Any:
    """Five digits are more than any of these numbers is worth."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return value
