"""The choice among several experts in words, the same for the terminal and for the page. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence

from understudy.diagnosis.forecast.advice import headline, name
from understudy.diagnosis.outcome import MARGIN
from understudy.diagnosis.types import Candidate, Diagnosis
from understudy.evaluation.numbers import duration, large, percent, with_bounds

HEADINGS = ("expert", "its accuracy", "gradient score", "route", "expected", "FLOPs", "time")


def best(d: Diagnosis) -> str:
    """One line: the expert and its route. d: with candidates and a recommendation."""
    assert d.recommendation is not None
    if d.recommendation.route == "nothing" and not _others(d.candidates):
        return headline(d.recommendation).replace("toward this expert", "toward any of these experts")
    return f"Imitate {d.candidates[0].name}: {headline(d.recommendation)}"


def _others(candidates: Sequence[Candidate]) -> bool:
    return any(c.route not in ("nothing", "") for c in candidates)


def why(candidates: Sequence[Candidate]) -> str:
    """What the order rests on: one or two sentences."""
    first, *rest = [c for c in candidates if not c.left_out]
    if not rest:
        return f"{first.name} is the only expert here that can be imitated."
    if first.expected is None:
        return "No reward is known here: the order is that of the gradient score, which says least of the three."
    top = max(rest, key=lambda c: c.expected.value if c.expected else -1.0)
    if top.expected is None:
        return f"{first.name} alone has a forecast."
    lead = first.expected.value - top.expected.value
    points = f"{100 * abs(lead):.1f} points"
    if lead > MARGIN:
        return f"{first.name} is expected to end {points} above {top.name}, the next one."
    near = f"The forecasts of {first.name} and {top.name} are {points} apart, too near to choose by"
    if first.accuracy is None or top.accuracy is None or first.accuracy.value <= top.accuracy.value:
        return f"{near}."
    return f"{near}: {first.name} is right more often itself ({_share(first)} against {_share(top)})."


def _share(c: Candidate) -> str:
    return "-" if c.accuracy is None else percent(c.accuracy.value, 0)


def cells(c: Candidate) -> tuple[str, ...]:
    """By HEADINGS; of one that is left out only its name."""
    if c.left_out:
        return (c.name, *[""] * (len(HEADINGS) - 1))
    work = ("", "") if c.cost is None or not c.cost.flops else (large(c.cost.flops), duration(c.cost.seconds, 0))
    route = name(c.route) if c.route else ""
    score = "" if c.gradient is None else f"{c.gradient.value:.3g}"
    accuracy, expected = (with_bounds(e, lambda x: percent(x, 0)) for e in (c.accuracy, c.expected))
    return c.name, accuracy, score, route, expected, *work
