"""Rows of panels over training: accuracies against budgets, divergences in both directions, metrics of the training.

A panel is drawn once; the page puts several in a row, so that they also fit a phone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from understudy.evaluation.intervals import Floats
from understudy.evaluation.numbers import brief, duration, large
from understudy.report.comparison.curves import AXES, Curve
from understudy.report.comparison.figures import panel_width
from understudy.report.comparison.summary import BASE, Arm, Summary
from understudy.report.figures.svg import (
    DASHED,
    EXPERT,
    FAINT,
    INK,
    SOFT,
    colour,
    panel,
    percent_axis,
    size,
    spread,
    to_svg,
)
from understudy.report.text import label

AXIS_WORDS = {
    "updates": "Optimizer updates.",
    "FLOPs": "Multiplications and additions of student and expert, prompts included; a program as expert costs none.",
    "expert tokens": "Tokens the expert sampled (offline methods) or scored (online methods).",
    "seconds": "Wall time of rolling out, labelling and learning. Evaluation is not counted.",
}
DIVERGENCES = (
    ("kl_expert_student", "kl(expert, student)", "on the expert’s completions: what the student fails to cover"),
    ("kl_student_expert", "kl(student, expert)", "on the student’s completions: what the expert would not say"),
)
Drawn = Sequence[tuple[Arm, Curve]]


@dataclass(frozen=True)
class PanelRow:
    """Panels that stand side by side. root, log: whether an axis of them has a square-root or logarithmic scale."""

    title: str
    words: str
    figures: tuple[Markup, ...]
    root: bool = False
    log: bool = False


def curve_rows(s: Summary) -> list[PanelRow]:
    """Sampled accuracy against each budget, a panel per expert. With one expert the budgets share a row."""
    panels = [(e, [(arm, curve) for arm in s.of(e) if (curve := s.curve(arm))]) for e in s.experts]
    panels = [(expert, drawn) for expert, drawn in panels if drawn]
    base = s.accuracy(BASE)
    lows = [float(curve.low.min()) for _, drawn in panels for _, curve in drawn] + ([base.value] if base else [])
    low = max(0.0, np.floor((min(lows, default=0.0) - 0.01) * 10) / 10)
    alone = len(panels) == 1
    width = panel_width(3 if alone else len(panels))
    rows = []
    for axis in AXES:
        if axis == "FLOPs" and s.c.axis != "flops":
            continue
        shown = [(e, [(a, c) for a, c in drawn if c.x[axis][-1] > 0]) for e, drawn in panels]
        shown = [(e, drawn) for e, drawn in shown if drawn]
        root = any(_uneven([c.x[axis][-1] for _, c in drawn]) for _, drawn in shown)
        figures = []
        for i, (expert, drawn) in enumerate(shown):
            own = s.accuracy(expert)
            marks = [("expert", own.value)] if own else []
            title, note = _titles(s, expert, f"Against {axis}" if alone else "")
            figures.append(curves(drawn, s, f"curve-{axis.split()[-1]}-{i}", axis, title, note, width, (low, 1.012),
                                  root=root, marks=marks))  # fmt: skip
        if figures:
            title = f"Sampled accuracy against {axis}"
            rows.append(PanelRow(title, AXIS_WORDS[axis], tuple(figures), root))
    return _one_row(rows, "Sampled accuracy") if alone else rows


def divergence_rows(s: Summary) -> list[PanelRow]:
    """Both KLs over training, a panel per expert. With one expert they share a row."""
    rows = []
    for name, title, words in DIVERGENCES:
        panels = [(e, [(arm, x) for arm in s.of(e) if (x := s.series(arm, name))]) for e in s.experts]
        panels = [(e, drawn) for e, drawn in panels if drawn]
        values = [float(v) for _, drawn in panels for _, x in drawn for v in (*x.low, *x.high)]
        if not values:
            continue
        high, small = max(values), min((v for v in values if v > 0), default=1.0)
        log = min(values) > 0 and high > 30 * small
        ylim = (small * 0.75, high * 1.3) if log else (min(0.0, min(values)), high * 1.08 or 1.0)
        root = any(_uneven([x.steps[-1] for _, x in drawn if x.steps[-1]] or [1.0]) for _, drawn in panels)
        alone = len(panels) == 1
        figures = tuple(
            curves(drawn, s, f"{name.replace('_', '-')}-{i}", "updates", *_titles(s, e, title if alone else ""),
                   panel_width(2 if alone else len(panels)), ylim, share=False, log=log, root=root)
            for i, (e, drawn) in enumerate(panels)
        )  # fmt: skip
        rows.append(PanelRow(title, f"In nats per sequence, {words}.", figures, root, log))
    alone = bool(rows) and all(len(row.figures) == 1 for row in rows)
    return _one_row(rows, "Nats per sequence, in both directions") if alone else rows


def _one_row(rows: list[PanelRow], title: str) -> list[PanelRow]:
    """Rows of one panel each, side by side."""
    if len(rows) < 2:
        return rows
    figures = tuple(figure for row in rows for figure in row.figures)
    return [replace(rows[0], title=title, words="", figures=figures, root=any(row.root for row in rows), log=False)]


def _titles(s: Summary, expert: str, what: str) -> tuple[str, str]:
    """Title and note of a panel: the expert, or `what` is drawn where there is only one expert."""
    return (what, label(expert, 40)) if what else (label(expert, 26), s.reach(expert))


def _uneven(ends: list[float]) -> bool:
    return max(ends) > 3 * min(ends)


# --- one panel ---------------------------------------------------------------------------------------------


def curves(
    drawn: Drawn, s: Summary, name: str, axis: str, title: str, note: str, width: float,
    ylim: tuple[float, float], *, root: bool = False, share: bool = True, log: bool = False,
    marks: Sequence[tuple[str, float]] = (),
) -> Markup:  # fmt: skip
    """Lines with bands over training, labelled at their ends. `marks`: horizontal lines to compare with."""
    ax = panel(width, round(0.62 * width + 56), title, note, margins=(36, 42, 52, 36))
    ax.set_ylim(*ylim)
    if share:
        percent_axis(ax)
    elif log:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    else:
        ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5]))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.grid(True, axis="y")
    far = max((c.x[axis][-1] for _, c in drawn), default=1.0) or 1.0
    if root:
        ax.set_xscale("function", functions=(lambda v: np.sqrt(np.clip(v, 0, None)), np.square))
    ax.set_xlim(0, far)
    _ticks(ax, axis, far, root, width)
    for word, value in marks:
        ax.axhline(value, color=EXPERT, lw=1.1, ls=DASHED, zorder=1.5)
        under = value > ylim[0] + 0.9 * (ylim[1] - ylim[0])
        ax.annotate(word, (0.02, value), (0, -3 if under else 3), xycoords=ax.get_yaxis_transform(),
                    textcoords="offset points", va="top" if under else "bottom", color=SOFT, size=10.5)  # fmt: skip
    for arm, curve in drawn:
        hue, x, usual = colour(arm.method, s.c.methods), curve.x[axis], arm.budget == 1
        ax.fill_between(x, curve.low, curve.high, color=hue, alpha=0.13 if usual else 0.07, lw=0)
        ax.plot(x, curve.mean, color=hue, lw=2.2 if usual else 1.6, ls="-" if usual else (0, (2.2, 1.6)))
    _names(ax, drawn, s, axis)
    ends = ", ".join(f"{a.name} ends at {c.mean[-1]:.3g}" for a, c in drawn)
    return to_svg(ax, name, f"{title}: {note} against {axis}. {ends}")


def _names(ax: Axes, drawn: Drawn, s: Summary, axis: str) -> None:
    """The method's name where its line ends: in the margin, or beside the end of a shorter line."""
    width, height = size(ax)
    to_axes = ax.transData + ax.transAxes.inverted()
    ends = [to_axes.transform((c.x[axis][-1], c.mean[-1])) * np.array([width, height]) for _, c in drawn]
    margin = [i for i, end in enumerate(ends) if width - end[0] < 34]
    heights = dict(zip(margin, spread([float(ends[i][1]) for i in margin], 13.0, 2.0, height - 2.0), strict=True))
    highest = max(range(len(drawn)), key=lambda i: float(ends[i][1]))
    for i, (arm, curve) in enumerate(drawn):
        hue = colour(arm.method, s.c.methods)
        x, y = float(ends[i][0]), float(ends[i][1])
        x, y = (width + 6, heights[i]) if i in heights else (x + 5, y + (10 if i == highest else -10))
        ax.text(x / width, y / height, arm.name, transform=ax.transAxes, clip_on=False, color=hue,
                weight="bold", size=11, ha="left", va="center")  # fmt: skip
        ax.plot(curve.x[axis][-1], curve.mean[-1], "o", ms=4.5, color=hue, clip_on=False)


def _ticks(ax: Axes, axis: str, far: float, root: bool, width: float) -> None:
    if root:  # evenly spaced on the root axis, up to rounding
        places = [0.0, _round(far / 16), _round(far / 4), _round(far)]
        apart = [(v / far) ** 0.5 for v in places]
        places = [v for i, v in enumerate(places) if i in (0, 3) or apart[i + 1] - apart[i] > 0.2]
    else:
        places = [float(v) for v in MaxNLocator(3 if width < 300 else 5, steps=[1, 2, 5]).tick_values(0, far)]
    ax.xaxis.set_major_locator(FixedLocator([v for v in places if 0 <= v <= far]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: "0" if v == 0 else _tick(v, axis)))
    ax.set_xlabel(axis + (" (square-root scale)" if root else ""))


def _tick(value: float, axis: str) -> str:
    if axis == "seconds":
        return f"{value:g} s" if value < 600 else duration(value)
    if axis == "FLOPs":
        return large(value)
    return brief(value) if value >= 10_000 else f"{value:,.0f}"


def _round(value: float) -> float:
    """The largest 1, 2 or 5 times a power of ten that is not above the value."""
    power = 10.0 ** np.floor(np.log10(value)) if value > 0 else 1.0
    return float(max(m * power for m in (1, 2, 5) if m * power <= value * 1.0001))


def trace(steps: Floats, values: Floats, name: str, title: str) -> Markup:
    """One training metric against updates, thin and grey with its running mean on top."""
    ax = panel(panel_width(4), 150, title, margins=(44, 26, 8, 22))
    window = max(1, len(values) // 20)
    ax.plot(steps, values, color=FAINT if window > 1 else INK, lw=0.8 if window > 1 else 1.8)
    if window > 1:
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        ax.plot(steps[window - 1 :], smooth, color=INK, lw=1.8)
    ax.yaxis.set_major_locator(MaxNLocator(3))
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.3g}"))
    ax.grid(True, axis="y")
    return to_svg(ax, name, f"{title} against updates, last value {values[-1]:.3g}")
