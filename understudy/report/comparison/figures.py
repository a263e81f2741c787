"""Figures of final numbers and of completions. Each returns inline SVG; the page lays them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator, NullLocator

from understudy.evaluation.intervals import Floats, Interval
from understudy.evaluation.numbers import between, percent, points
from understudy.report.comparison.summary import BASE, Arm, Summary
from understudy.report.figures.dots import Dot, Group, Mark, Row, chart
from understudy.report.figures.svg import AREA, EXPERT, FAINT, INK, colour, panel, to_svg
from understudy.report.text import label, visible


def panel_width(n: int) -> float:
    """Pixels of one panel when n of them stand in a row of the page."""
    return {1: 400, 2: 400, 3: 340}.get(n, 252)


def accuracies(s: Summary, split: str = "test") -> Markup | None:
    """Dots with intervals for each expert x method; lines: the expert, and the student before training."""
    groups: list[Group] = []
    values: list[float] = []
    words = []
    base = s.accuracy(BASE, split)
    for expert in s.experts:
        arms = [(arm, found) for arm in s.of(expert) if (found := s.accuracy(arm, split))]
        if not arms:
            continue
        own = s.accuracy(expert, split)
        rows = []
        for arm, found in arms:
            hue = colour(arm.method, s.c.methods)
            dot = Dot(found.value, hue, found.low, found.high, hollow=arm.budget != 1)
            rows.append(Row(arm.name, [dot], percent(found.value), between(found), hue))
        marks = [Mark("base", base.value, FAINT, dashed=True)] if base else []
        marks += [Mark("expert", own.value, EXPERT)] if own else []
        groups.append(Group(rows, label(expert, 40), s.reach(expert), marks))
        values += [found.low for _, found in arms] + [mark.value for mark in marks]
        words.append(f"{expert}: " + ", ".join(f"{row.label} {row.text} {row.detail}" for row in rows))
    if not groups:
        return None
    low = max(0.0, np.floor((min(values) - 0.03) * 10) / 10)
    aria = f"Final sampled accuracy on {split} problems. {'; '.join(words)}"
    return chart(groups, (low, 1.0), aria, lambda v: percent(v, 0))


def differences(groups: Mapping[tuple[str, str], Sequence[tuple[str, Interval]]]) -> Markup:
    """Paired differences in points: {(what, note): [(expert, difference)]}."""
    drawn, words = [], []
    for (what, note), found in groups.items():
        rows = []
        for expert, gap in found:
            hue = INK if gap.excludes_zero else FAINT
            interval = f"[{points(gap.low)}, {points(gap.high)}]"
            dot = Dot(gap.value, hue, gap.low, gap.high, hollow=not gap.excludes_zero)
            rows.append(Row(expert, [dot], points(gap.value), interval))
            words.append(f"{expert}, {what} {note}: {points(gap.value)} {interval}")
        drawn.append(Group(rows, what, note))
    values = [v for found in groups.values() for _, gap in found for v in (gap.low, gap.high)]
    reach = 0.15 * max(0.01, *map(abs, values))
    span = (min(1.1 * min(values), -reach), max(1.1 * max(values), reach))
    aria = f"Paired differences of sampled accuracy in points. {'; '.join(words)}"
    return chart(drawn, span, aria, lambda v: points(v, 0).replace("±", ""), zero=True)


def keywords(words: Sequence[str], rows: Sequence[tuple[str, str, Mapping[str, float]]], title: str) -> Markup:
    """Mean count per completion of each keyword; rows are (who, colour, {word: mean count})."""
    most = max((counts[w] for _, _, counts in rows for w in words if w in counts), default=1.0) or 1.0
    lines = [
        Row(f"“{visible(word)[:9]}”", [Dot(counts[word], hue) for _, hue, counts in rows if word in counts])
        for word in words
    ]
    listing = "; ".join(f"{who}: " + ", ".join(f"{w} {v:.2f}" for w, v in counts.items()) for who, _, counts in rows)
    aria = f"{title}: keyword frequency. {listing}"
    return chart([Group(lines, title)], (-0.03 * most, 1.05 * most), aria, lambda v: f"{v:g}", "times per completion")


def lengths(
    bins: Floats, expert: Floats, arms: Sequence[tuple[Arm, Floats]], s: Summary, name: str, title: str, width: float
) -> Markup:
    """Histograms of completion lengths as shares per bin: the expert as an area, students as outlines."""
    ax = panel(width, 176, title, margins=(8, 28, 8, 36))
    if expert.sum():
        ax.stairs(expert / expert.sum(), bins, fill=True, color=AREA)
    for arm, counts in arms:
        ax.stairs(counts / max(counts.sum(), 1), bins, color=colour(arm.method, s.c.methods), lw=1.9,
                  ls="-" if arm.budget == 1 else (0, (2, 1.5)))  # fmt: skip
    ax.set_ylim(0, ax.get_ylim()[1] * 1.12)
    ax.yaxis.set_major_locator(NullLocator())
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.set_xlabel("tokens per completion")
    names = ", ".join(arm.name for arm, _ in arms)
    return to_svg(ax, name, f"{title}: distribution of completion lengths of the expert and {names}")
