"""The committed result: docs/results/calibration.md for a person, calibration.json with every row behind it.

`understudy calibrate table` writes both from results.jsonl, or again from calibration.json alone: the rule in use
judges the stored evidence anew, so a page never shows the verdict of another rule than it names. Rows that the rule was
fitted on are judged by coefficients fitted to the other scenarios.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from understudy.calibrate.fit import fit
from understudy.calibrate.metrics import Regret, Score, levels, rejudged, score
from understudy.calibrate.records import Record, packed
from understudy.calibrate.scenarios import CALIBRATED
from understudy.diagnosis.forecast.judge import CLASSES
from understudy.diagnosis.forecast.model import load
from understudy.diagnosis.outcome import ANSWERS, MARGIN, UNDECIDED
from understudy.diagnosis.types import Estimate
from understudy.errors import UserError
from understudy.runs.files import dumps, write_bytes

COMMAND = "understudy calibrate table"
GOALS = {"decided": 0.8, "cost": 0.10}
HEADINGS = {
    "score": "Scored: scenarios that the rule has never seen",
    "set": "Set: scenarios that the rule was fitted on, each judged by coefficients fitted on the others",
}


def write(records: Sequence[Record], out: Path) -> Path:
    """Both files; the page's path."""
    fitted_on = [r for r in records if r.set == "set" and r.evidence is not None]
    records = [*rejudged([r for r in records if r.set != "set"]), *left_out(fitted_on)]
    order = {name: i for i, name in enumerate(CALIBRATED)}
    records.sort(key=lambda r: (r.set != "score", order.get(r.scenario, len(order)), r.seed))
    if not records:
        raise UserError("results", out, "no row has evidence: run understudy calibrate run first")
    groups = {name: [r for r in records if r.set == name] for name in HEADINGS}
    scores = {name: score(group) for name, group in groups.items() if group}
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(out / "calibration.json", _json(records, scores))
    path = out / "calibration.md"
    write_bytes(path, page(groups, scores).encode())
    return path


def left_out(records: Sequence[Record]) -> list[Record]:
    """Every scenario judged by coefficients fitted to the others."""
    model, out = load(), []
    cases = [r.case() for r in records]
    for scenario in dict.fromkeys(r.scenario for r in records):
        others = [c for c in cases if c.scenario != scenario]
        fitted = fit(others, load("prior")) if others else load("prior")
        same = [r for r in records if r.scenario == scenario]
        out += rejudged(same, replace(fitted, confidence=model.confidence))
    return out


def _json(records: Sequence[Record], scores: dict[str, Score]) -> bytes:
    """One line per row, so that versions can be compared. The verdicts' sentences follow from the evidence again."""
    how: list[list[Any]] = []
    lines = []
    for r in records:
        assert r.verdict is not None
        brief = replace(r, verdict=replace(r.verdict, reasons=(), would_change=()))
        lines.append(dumps(packed(brief.to_dict(), how)).rstrip())
    head = {"command": COMMAND, "rule": load().name, "scores": {k: s.to_dict() for k, s in scores.items()}, "how": how}
    return dumps(head).rstrip().removesuffix(b"}") + b', "rows": [\n' + b",\n".join(lines) + b"\n]}\n"


# --- Markdown ----------------------------------------------------------------------------------------------------


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A table."""
    lines = [list(head), ["---"] * len(head), *rows]
    table = ["| " + " | ".join(map(str, line)) + " |" for line in lines]
    return [table[0], table[1].replace(" ", ""), *table[2:]]


def page(groups: dict[str, list[Record]], scores: dict[str, Score]) -> str:
    """calibration.md"""
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
    for name, s in scores.items():
        parts += [f"## {HEADINGS[name]}\n", *(f"- {line}" for line in summary(s)), "", *_table(groups[name]), ""]
        parts += ["### By kind\n", *kinds_table(s), "", "### Truth and answer\n", *confusion_table(s), ""]
        head = ("probability claimed (mean)", "happened", "answers")
        bins = markdown(head, ((f"{b.claimed:.2f}", f"{b.happened:.2f}", b.n) for b in s.bins))
        parts += ["### Probabilities\n", *bins, ""]
        other = ((f"{x.confidence:g}", f"{x.decided:.0%}", f"{x.wrong:.1%}", f"{x.clearly_wrong:.1%}")
                 for x in levels(groups[name]))  # fmt: skip
        head4 = ("confidence", "decided", "of these wrong", "clearly wrong")
        parts += ["### If an answer needed another probability\n", *markdown(head4, other), ""]
    listed = ((s.name, s.set, s.kind, s.expect) for s in CALIBRATED.values())
    parts += ["## The scenarios\n", *markdown(("scenario", "set", "kind", "what is expected"), listed)]
    return "\n".join(parts) + "\n"


def summary(s: Score) -> list[str]:
    """The goals, and whether they were met."""
    lines = [
        f"confident verdicts that were wrong: {s.wrong} of {s.decided}, of these no close call: "
        f"{s.clearly_wrong} (goal: none)",
        f"decided: {s.decided} of {s.n}, {s.decided_share:.0%} (goal: at least {GOALS['decided']:.0%})",
        f"Brier score {s.brier:.3f}, skill {s.skill:.2f}",
    ]
    if math.isfinite(s.error):
        lines.append(
            f"expected accuracies: off by {100 * s.error:.1f} points on average; {s.covered:.0%} of their 95% "
            "intervals held what came"
        )
    if math.isfinite(s.cost_share):
        share = f"{s.cost_share:.1%} of both trainings' FLOPs at most (goal: {GOALS['cost']:.0%})"
        lines.append(f"cost of the diagnosis: {share}")
    return lines


def kinds_table(s: Score) -> list[str]:
    """One line per kind and one for all."""
    head = ("kind", "n", "decided", "wrong", "of these no close call", "close calls", "Brier", "skill")
    rows = []
    for name, k in [*s.kinds.items(), ("**all**", s)]:
        wrong = f"{k.wrong} ({k.wrong / k.decided:.1%})" if k.decided else "0"
        rows.append((name, k.n, f"{k.decided_share:.0%}", wrong, k.clearly_wrong, k.close, f"{k.brier:.3f}",
                     f"{k.skill:.2f}"))  # fmt: skip
    return markdown(head, rows)


def confusion_table(s: Score) -> list[str]:
    """Truth down, answer across."""
    return markdown(("truth", *ANSWERS), ((t, *(row[a] for a in ANSWERS)) for t, row in s.confusion.items()))


def regret_table(regrets: Mapping[str, Regret]) -> list[str]:
    """One line per rule."""
    head = ("rule", "mean regret", "worst", f"above {100 * MARGIN:g} points")
    return markdown(head, ((name, f"{r.mean:.3f}", f"{r.worst:.2f}", f"{r.above:.0%}") for name, r in regrets.items()))


def _table(records: Sequence[Record]) -> list[str]:
    head = ("scenario", "seed", "student", "sft", "online", "what it should have said", "what it said", "likeliest",
            "cost")  # fmt: skip
    rows = []
    for r in records:
        assert r.verdict is not None
        answer, p = str(r.verdict.answer), r.verdict.probabilities
        best = max(CLASSES, key=lambda a: p[a])
        if answer not in (UNDECIDED, r.truth):
            answer += " (wrong, close call)" if r.close else " (**wrong**)"
        rows.append((
            r.scenario, r.seed, *(_number(r.outcome[k]) for k in ("student", "sft", "opd")),
            r.truth + (" (close)" if r.close else ""), answer, f"{best} {p[best]:.2f}",
            f"{r.cost_share:.1%}" if math.isfinite(r.cost_share) else "",
        ))  # fmt: skip
    return markdown(head, rows)


def _number(e: Estimate) -> str:
    return f"{e.value:.3f} ({e.low:.2f} to {e.high:.2f})"
