"""Figures of final numbers and of completions. Each returns inline SVG; the page lays them out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator

from understudy.evaluation.intervals import Interval
from understudy.report.figures.svg import HAIR, INK, axes, figure, to_svg
from understudy.report.text import visible

WIDE, NARROW = 1060, 372


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
