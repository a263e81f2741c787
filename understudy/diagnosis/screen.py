"""A diagnosis on one screen: the verdict first, then the evidence in plain words, then what each route costs."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from understudy.diagnosis.glossary import MEANINGS
from understudy.diagnosis.outcome import UNDECIDED
from understudy.diagnosis.types import Cost, Diagnosis, Verdict
from understudy.evaluation.numbers import duration, large, percent, with_bounds

SHORT = (
    "student_accuracy", "expert_accuracy", "headroom", "kl_expert_student", "kl_student_expert",
    "gap_nats", "auc", "tilt_ceiling", "takeover_gain",
)  # fmt: skip
"""Measures on the screen; all of them are in diagnosis.json and on the page."""
REASONS = 4
HEADLINES = {
    "offline suffices": "OFFLINE SUFFICES: fine-tune on the expert's samples (SFT)",
    "go online": "GO ONLINE: let the student act and the expert score (OPD)",
    "neither": "NEITHER: training toward this expert is not expected to help",
    "undecided": "UNDECIDED: the evidence does not say",
}
COLOURS = {"offline suffices": "green", "go online": "cyan", "neither": "yellow", "undecided": "magenta"}
ROUTES = {"student": "as it is", "sft": "offline (SFT)", "opd": "online (OPD), an estimate", "expert": "the expert"}


def show(found: Diagnosis, console: Console) -> None:
    console.print(Group(*_parts(found)))


def _parts(found: Diagnosis) -> Iterator[RenderableType]:
    v, s = found.verdict, found.setting
    chances = ", ".join(f"{name} {p:.0%}" for name, p in v.probabilities.items() if p >= 0.005)
    yield Text(_headline(v), style=f"bold {COLOURS[v.answer]}")
    yield Text(f"{s['student']} -> {s['expert']} on {s['task']}", style="dim")
    yield Text(f"chances: {chances}; rule: {v.rule}", style="dim")
    if s.get("stopped"):
        yield Text(f"- stopped before any training: {s['stopped']}")
    shown = v.reasons if len(v.reasons) <= REASONS else (*v.reasons[: REASONS - 1], v.reasons[-1])
    for reason in shown:
        yield Text(f"- {reason}")
    yield _evidence(found)
    yield from _pilots(found)
    yield _routes(found)
    for reason in v.would_change[:2]:
        yield Text(f"would change it: {reason}", style="dim")


def _headline(v: Verdict) -> str:
    """The answer; an open one says which is likeliest, where that is known."""
    chances = {a: p for a, p in v.probabilities.items() if a != UNDECIDED}
    best = max(chances, key=lambda a: chances[a], default=UNDECIDED)
    if v.answer != UNDECIDED or chances.get(best, 0.0) < 0.5:
        return HEADLINES[v.answer]
    return f"UNDECIDED: {best} is likeliest ({chances[best]:.0%}), but the evidence does not carry it"


def _table(*headings: str) -> Table:
    """Columns that wrap between words where the screen is narrow: no number is cut."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for h in headings:
        table.add_column(h, overflow="fold")
    return table


def _routes(found: Diagnosis) -> Table:
    """Each route: accuracy expected, and what it costs."""
    table = _table("route", "accuracy expected", "expert\ntokens", "student\ntokens", "FLOPs", "time")
    for name, label in ROUTES.items():
        if name == "opd" and found.setting.get("online", name) is None:
            continue  # an expert that gives no scores: there is no such route
        expected = found.verdict.expected.get(name)
        measured = found.evidence.measures.get(f"{name}_accuracy")
        cost = found.costs.get(name)
        if expected or measured or cost:
            table.add_row(label, with_bounds(expected or measured, lambda x: percent(x, 0)), *_cost(cost))
    table.add_row("this diagnosis", _of_both(found), *_cost(found.costs["diagnosis"]))
    return table


def _of_both(found: Diagnosis) -> str:
    both = sum(found.costs[name].flops for name in ("sft", "opd") if name in found.costs)
    return f"{found.costs['diagnosis'].flops / both:.1%} of both" if both else "-"


def _cost(cost: Cost | None) -> tuple[str, ...]:
    if cost is None:
        return ("", "", "", "")
    expert = cost.expert_tokens_sampled + cost.expert_tokens_scored
    student = cost.student_tokens_sampled + cost.student_tokens_trained
    return large(expert), large(student), large(cost.flops), duration(cost.seconds, 0)


def _evidence(found: Diagnosis) -> Table:
    table = _table("evidence", "", "what it means")
    for name in SHORT:
        if name in found.evidence.measures:
            label, meaning = MEANINGS[name]
            table.add_row(label, with_bounds(found.evidence.measures[name]), Text(meaning, style="dim"))
    return table


def _pilots(found: Diagnosis) -> Iterator[RenderableType]:
    points = [p for p in found.evidence.pilots if p.label in ("start", "curve")]
    if points:
        table = _table("pilot", "accuracy", "KL(expert, student)", "KL(student, expert)")
        for p in points:
            name = f"{p.kind} on {p.samples}" if p.samples else f"before {p.kind}"
            table.add_row(
                name, with_bounds(p.accuracy), with_bounds(p.kl_expert_student), with_bounds(p.kl_student_expert)
            )
        yield table
    else:
        yield Text("no pilots were trained" + ("" if found.setting.get("stopped") else ": they do not fit --budget"))
    for name, control in found.evidence.checks.items():
        yield Text(f"{name.replace('_', ' ')}: {control.told}", style="dim")
