"""Figures of final numbers and of completions. Each returns inline SVG; the page lays them out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from understudy.evaluation.intervals import Floats, Interval
from understudy.evaluation.numbers import between, percent, points
from understudy.report.comparison.summary import Arm, Summary
from understudy.report.figures.svg import BASE, EXPERT, FAINT, HAIR, INK, SOFT, axes, colour, figure, to_svg
from understudy.report.text import label, visible

WIDE, NARROW = 1060, 372


# --- final accuracies ----------------------------------------------------------------


def accuracies(s: Summary, name: str, width: float, split: str = "test") -> Markup:
    """Dots with intervals for each expert x method; the expert and the base as marks to compare with."""
    wide = width > 600
    groups = [(e, [a for a in s.of(e) if s.accuracy(a, split)]) for e in s.experts]
    groups = [(e, arms) for e, arms in groups if arms]
    base = s.base_accuracy(split)
    step, head, foot = 25.0, (28.0 if wide else 46.0), 17.0
    height = sum(head + foot + step * len(arms) for _, arms in groups) + 30
    fig = figure(width, height)
    left, right = (300.0, 176.0) if wide else (62.0, 44.0)
    ax = axes(fig, left, 0, right, 30)
    ax.set_ylim(height - 30, 0)
    own = {e: s.expert_accuracy(e, split) for e, _ in groups}
    values = [i.low for _, arms in groups for a in arms if (i := s.accuracy(a, split))]
    values += [i.value for i in [base, *own.values()] if i]
    low = max(0.0, np.floor((min(values, default=0.0) - 0.03) * 10) / 10)
    ax.set_xlim(low, 1.0)
    ax.spines["bottom"].set_visible(False)
    ax.yaxis.set_major_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f}%"))
    ax.xaxis.set_major_locator(MaxNLocator(7 if wide else 4, steps=[1, 2, 2.5, 5]))
    ax.grid(axis="x", color=HAIR, lw=1)
    scale = (width - left - right) / (1 - low)
    y = 0.0
    for number, (expert, arms) in enumerate(groups):
        if number:
            ax.plot([-left / (width - left - right), width], [y, y], color=HAIR, lw=1, clip_on=False,
                    transform=ax.get_yaxis_transform())  # fmt: skip
        top, bottom = y + head, y + head + step * len(arms)
        reach = {True: "within reach", False: "out of reach", None: ""}[s.realizable(expert)]
        put_left(
            ax, 0 - left, y + (head + 10 if wide else 18), label(expert, 24 if wide else 40), weight="bold", size=15
        )
        if wide:
            put_left(ax, 0 - left, y + head + 29, reach, color=SOFT, size=12)
        elif reach:
            put_right(ax, right, y + 18, reach, color=SOFT, size=11)
        _reference(ax, base, own[expert], top, bottom, scale)
        for row, arm in enumerate(arms):
            at = top + step * (row + 0.5)
            found = s.accuracy(arm, split)
            assert found is not None
            hue = colour(arm.method, s.c.methods)
            dot(ax, found, at, hue, hollow=arm.budget != 1)
            put_left(ax, -96 if wide else -left, at + 4, arm.name, color=hue, weight="bold", size=13 if wide else 11.5)
            if wide:
                put_left(ax, width - left - right + 20, at + 4, percent(found.value), weight="bold", size=13)
                put_left(ax, width - left - right + 80, at + 4, between(found), color=SOFT, size=12)
            else:
                put_right(ax, right, at + 4, percent(found.value, 0), weight="bold", size=12)
        y = bottom + foot
    told = [f"{e}: " + ", ".join(f"{a.name} {percent(i.value)} {between(i)}" for a in arms
            if (i := s.accuracy(a, split))) for e, arms in groups]  # fmt: skip
    return to_svg(fig, name, f"Final sampled accuracy on {split} problems. " + "; ".join(told))


def _reference(ax: Axes, base: Interval | None, own: Interval | None, top: float, bottom: float, scale: float) -> None:
    near = base is not None and own is not None and abs(own.value - base.value) * scale < 52
    flip = near and base is not None and own is not None and own.value < base.value
    for found, word, hue, style in ((base, "base", BASE, (0, (1.5, 2))), (own, "expert", EXPERT, "-")):
        if found is None:
            continue
        ax.plot([found.value] * 2, [top, bottom], color=hue, lw=1.6, ls=style, zorder=1.5)
        away = ("right" if (word == "base") != flip else "left") if near else "center"
        ax.text(found.value, top - 5, word, color=SOFT if word == "base" else INK, size=10.5, ha=away)


def dot(ax: Axes, found: Interval, y: float, hue: str, hollow: bool = False) -> None:
    ax.plot([found.low, found.high], [y, y], color=hue, lw=3, alpha=0.4, solid_capstyle="butt", zorder=2)
    face = "white" if hollow else hue
    ax.plot([found.value], [y], "o", ms=9.5, mfc=face, mec=hue, mew=2, zorder=3, clip_on=False)


def put_left(ax: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Text that starts x pixels to the right of the axes' left edge, at data height y."""
    ax.annotate(text, (0, y), (x, 0), xycoords=ax.get_yaxis_transform(), textcoords="offset points",
                annotation_clip=False, **style)  # fmt: skip


def put_right(ax: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Text that ends x pixels to the right of the axes' right edge."""
    ax.annotate(text, (1, y), (x, 0), xycoords=ax.get_yaxis_transform(), textcoords="offset points",
                ha="right", annotation_clip=False, **style)  # fmt: skip


def differences(rows: Sequence[tuple[str, str, Interval]], name: str, width: float) -> Markup:
    """Paired differences in points, one line each: (expert, what, interval)."""
    wide = width > 600
    left, right, step = (356.0, 176.0, 30.0) if wide else (0.0, 8.0, 44.0)
    height = step * len(rows) + 40
    fig = figure(width, height)
    ax = axes(fig, left or 8, 6, right, 34)
    ax.set_ylim(step * len(rows), 0)
    reach = max(0.01, *(max(abs(i.low), abs(i.high)) for _, _, i in rows)) * 1.1
    low = min(min(i.low for _, _, i in rows) * 1.15, -0.15 * reach)
    ax.set_xlim(low, max(max(i.high for _, _, i in rows) * 1.08, 0.15 * reach))
    ax.spines["bottom"].set_visible(False)
    ax.yaxis.set_major_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: points(v, 0).replace("±", "")))
    ax.grid(axis="x", color=HAIR, lw=1)
    ax.axvline(0, color=INK, lw=1.4, zorder=1.5)
    before = ""
    for i, (expert, what, found) in enumerate(rows):
        y = step * (i + 0.5) + (0 if wide else 8)
        hue = INK if found.excludes_zero else FAINT
        dot(ax, found, y, hue, hollow=not found.excludes_zero)
        if wide:
            if expert != before:
                put_left(ax, -left, y + 4, label(expert, 24), weight="bold", size=13)
            put_left(ax, -left + 176, y + 4, what, color=SOFT, size=12)
            put_left(ax, width - left - right + 20, y + 4, points(found.value), weight="bold", size=12)
            told = f"[{points(found.low)}, {points(found.high)}]"
            put_left(ax, width - left - right + 66, y + 4, told, color=SOFT, size=11.5)
        else:
            put_left(ax, -8, step * i + 15, label(expert, 16), weight="bold", size=12)
            put_right(ax, right, step * i + 15, f"{what}  {points(found.value)}", color=SOFT, size=11)
        before = expert
    told = "; ".join(f"{e}, {w}: {points(i.value)} [{points(i.low)}, {points(i.high)}]" for e, w, i in rows)
    return to_svg(fig, name, f"Paired differences of sampled accuracy in points. {told}")


# --- how the completions look --------------------------------------------------------


def lengths(
    bins: Floats, expert: Floats, arms: Sequence[tuple[Arm, Floats]], s: Summary, name: str, title: str, size: float
) -> Markup:
    """Histograms of completion lengths: the expert as an area, students as outlines. Shares a bin."""
    height = 176
    fig = figure(size, height)
    ax = axes(fig, 8, 28, 8, 36)
    fig.text(0, 1 - 14 / height, title, weight="bold", size=13)
    if expert.sum():
        ax.stairs(expert / expert.sum(), bins, fill=True, color="#d9dce1")
    for arm, counts in arms:
        ax.stairs(counts / max(counts.sum(), 1), bins, color=colour(arm.method, s.c.methods), lw=1.9,
                  ls="-" if arm.budget == 1 else (0, (2, 1.5)))  # fmt: skip
    ax.set_ylim(0, ax.get_ylim()[1] * 1.12)
    ax.yaxis.set_major_locator(NullLocator())
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.set_xlabel("tokens a completion", size=10.5, labelpad=3)
    told = ", ".join(a.name for a, _ in arms)
    return to_svg(fig, name, f"{title}: distribution of completion lengths of the expert and {told}")


def keywords(
    words: Sequence[str], rows: Sequence[tuple[str, str, dict[str, float]]], name: str, title: str, size: float
) -> Markup:
    """Mean count per completion of each keyword; rows are (who, colour, {word: mean count})."""
    height = 34 + 30 * len(words) + 30
    fig = figure(size, height)
    ax = axes(fig, 70, 30, 14, 32)
    fig.text(0, 1 - 14 / height, title, weight="bold", size=13)
    ax.set_ylim(len(words) - 0.4, -0.6)
    most = max((v for _, _, counts in rows for v in counts.values()), default=1.0) or 1.0
    ax.set_xlim(-0.03 * most, most * 1.05)
    for i, word in enumerate(words):
        values = [(counts[word], hue, who) for who, hue, counts in rows if word in counts]
        if values:
            ax.plot([min(v for v, _, _ in values), max(v for v, _, _ in values)], [i, i], color=HAIR, lw=4, zorder=1)
        for at, (value, hue, _) in enumerate(values):  # a little apart, so that equal counts stay visible
            shift = (at - (len(values) - 1) / 2) * 0.2
            ax.plot([value], [i + shift], "o", ms=8, mfc=hue, mec="white", mew=1.2, zorder=3)
    ax.yaxis.set_major_locator(FixedLocator(range(len(words))))
    ax.set_yticklabels([f"“{visible(word)[:9]}”" for word in words], color=INK, size=11)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.set_xlabel("times a completion", size=10.5, labelpad=3)
    told = "; ".join(f"{who}: " + ", ".join(f"{w} {v:.2f}" for w, v in c.items()) for who, _, c in rows)
    return to_svg(fig, name, f"{title}: keyword frequency. {told}")
