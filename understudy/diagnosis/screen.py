"""A diagnosis on one screen: what to do, how sure that is, the evidence in plain words, what each route costs."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from understudy.diagnosis.codec import finite
from understudy.diagnosis.forecast import choice
from understudy.diagnosis.forecast.advice import advice, cells, headings, spent
from understudy.diagnosis.forecast.explain import ROUTES, explain
from understudy.diagnosis.glossary import MEANINGS
from understudy.diagnosis.types import Cost, Diagnosis
from understudy.evaluation.numbers import duration, large, percent, with_bounds

SHORT = (
    "student_accuracy", "expert_accuracy", "headroom", "kl_expert_student", "kl_student_expert",
    "gap_nats", "auc", "tilt_ceiling", "takeover_gain",
)  # fmt: skip
"""Measures on the screen; all of them are in diagnosis.json and on the page."""
REASONS = 4
COLOURS = {"offline suffices": "green", "go online": "cyan", "neither": "yellow", "undecided": "magenta"}


def show(d: Diagnosis, console: Console) -> None:
    console.print(Group(*_parts(d)))


def _parts(d: Diagnosis) -> Iterator[RenderableType]:
    v, s, explained = d.verdict, d.setting, explain(d)
    p = ", ".join(f"{name} {p:.0%}" for name, p in v.probabilities.items() if p >= 0.005)
    advised = advice(d)
    if advised is None:
        yield Text(f"{explained.title.upper()}: {explained.action}", style=f"bold {COLOURS[v.answer]}")
    else:
        yield Text(choice.best(d) if d.candidates else advised.headline, style="bold green")
        if d.candidates:
            yield from _candidates(d)
        yield Text(advised.certainty)
    yield Text(f"{s['student']} -> {s['expert']} on {s['task']}", style="dim")
    yield Text(f"chances: {p}; rule: {v.rule}", style="dim")
    if d.stopped:
        yield Text(f"- stopped before any training: {d.stopped}")
    if advised is not None:
        yield _recommended(d)
        yield Text(f"{advised.rests} {advised.auto}", style="dim")
    reasons, most = explained.reasons, REASONS - (advised is not None)
    for reason in reasons if len(reasons) <= most else (*reasons[: most - 1], reasons[-1]):
        yield Text(f"- {reason}")
    yield _evidence(d)
    yield from _pilots(d)
    yield _routes(d)
    if planned := _planned(d):
        yield Text(planned, style="dim")
    for reason in explained.would_change[:2] if advised is None else ():
        yield Text(f"would change it: {reason}", style="dim")


def _table(*headings: str) -> Table:
    """Columns that wrap between words where the screen is narrow: no number is cut."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for h in headings:
        table.add_column(h, overflow="fold")
    return table


def _candidates(d: Diagnosis) -> Iterator[RenderableType]:
    """Every expert, the best first; why; and who is left out."""
    yield Text(choice.why(d.candidates))
    table = _table(*choice.HEADINGS)
    for i, c in enumerate(c for c in d.candidates if not c.left_out):
        table.add_row(*choice.cells(c), style="bold" if i == 0 else "")
    yield table
    for c in d.candidates:
        if c.left_out:
            yield Text(f"- {c.name} is left out: {c.left_out}")


def _recommended(d: Diagnosis) -> Table:
    """Every route at the same FLOPs; the advised one is marked."""
    table = _table(*headings(d))
    assert d.recommendation is not None
    for row in d.recommendation.routes:
        name, *rest = cells(d, row)
        chosen = row.route == d.recommendation.route
        table.add_row(f"> {name}" if chosen else f"  {name}", *rest, style="bold" if chosen else "")
    return table


def _routes(d: Diagnosis) -> Table:
    """Each route: accuracy expected, and what it costs."""
    priced = ("money",) if spent(d, None) else ()
    table = _table("route", "accuracy expected", "expert\ntokens", "student\ntokens", "FLOPs", "time", *priced)
    for name, label in ROUTES.items():
        if name == "opd" and not d.has_online_route:
            continue
        expected = d.verdict.expected.get(name) or d.evidence.measures.get(f"{name}_accuracy")
        if expected or name in d.costs:
            table.add_row(label, with_bounds(expected, lambda x: percent(x, 0)), *_cost(d, d.costs.get(name)))
    share = "-" if d.cost_share is None else f"{d.cost_share:.1%} of both"
    table.add_row("this diagnosis", share, *_cost(d, d.costs["diagnosis"]))
    return table


def _planned(d: Diagnosis) -> str:
    """What was planned beside what was spent; "" in diagnoses of earlier versions."""
    plan = d.setting.get("plan")
    if not isinstance(plan, dict) or not finite(plan.get("flops")) or "diagnosis" not in d.costs:
        return ""
    cost, pace = d.costs["diagnosis"], finite(plan.get("seconds"))
    time = f" in {duration(pace, 0)}" if pace else ""
    return f"planned: {large(plan['flops'])} FLOPs{time}; spent: {large(cost.flops)} in {duration(cost.seconds, 0)}"


def _cost(d: Diagnosis, cost: Cost | None) -> tuple[str, ...]:
    if cost is None:
        return ("", "", "", "", *spent(d, None))
    expert = cost.expert_tokens_sampled + cost.expert_tokens_scored
    student = cost.student_tokens_sampled + cost.student_tokens_trained
    return large(expert), large(student), large(cost.flops), duration(cost.seconds, 0), *spent(d, cost)


def _evidence(d: Diagnosis) -> Table:
    table = _table("evidence", "", "what it means")
    for name in SHORT:
        if name in d.evidence.measures:
            label, meaning = MEANINGS[name]
            table.add_row(label, with_bounds(d.evidence.measures[name]), Text(meaning, style="dim"))
    return table


def _pilots(d: Diagnosis) -> Iterator[RenderableType]:
    points = [p for p in d.evidence.pilots if p.label in ("start", "curve")]
    if points:
        table = _table("pilot", "accuracy", "KL(expert, student)", "KL(student, expert)")
        for p in points:
            name = f"{p.kind} on {p.samples}" if p.samples else f"before {p.kind}"
            table.add_row(
                name, with_bounds(p.accuracy), with_bounds(p.kl_expert_student), with_bounds(p.kl_student_expert)
            )
        yield table
    else:
        yield Text("no pilots were trained" + ("" if d.stopped else ": they do not fit --budget"))
    for name, control in d.evidence.checks.items():
        yield Text(f"{name.replace('_', ' ')}: {control.told}", style="dim")
