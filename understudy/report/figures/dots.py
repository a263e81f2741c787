"""Charts of one line per row: a label, dots with their intervals on a common horizontal axis, the number in words.

The SVG is written here, not by matplotlib: positions are in percent of the width and sizes of text and dots in pixels,
so the same figure fills a wide page and a phone, and its text has the same size on both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from understudy.report.figures.svg import HAIR, INK, SOFT
from understudy.report.text import visible

_NEAR = 0.26  # of the axis: two words closer than this would touch on a phone
_STEP, _TALL, _FOOT = 26, 44, 26  # pixels: a row, a row with its label above the dots, the axis


@dataclass(frozen=True)
class Dot:
    """One number; low, high: its interval. Hollow: not like the others (a forecast, a larger budget)."""

    value: float
    colour: str
    low: float | None = None
    high: float | None = None
    hollow: bool = False


@dataclass(frozen=True)
class Row:
    """A labelled line of dots. text: the number, at the right; detail: what stands beside it where there is room."""

    label: str
    dots: Sequence[Dot]
    text: str = ""
    detail: str = ""
    colour: str = INK


@dataclass(frozen=True)
class Mark:
    """A vertical line through the rows of a group, named above them."""

    word: str
    value: float
    colour: str
    dashed: bool = False


@dataclass(frozen=True)
class Group:
    """Rows under a title, with lines to compare them with."""

    rows: Sequence[Row]
    title: str = ""
    note: str = ""
    marks: Sequence[Mark] = ()


def chart(
    groups: Sequence[Group], span: tuple[float, float], aria: str, ticks: Callable[[float], str], axis: str = "",
    zero: bool = False,
) -> Markup:  # fmt: skip
    """Inline SVG of the groups on an axis over `span`.

    ticks: how a number of the axis is written; axis: what the axis shows; zero: a strong line at 0; aria: what the
    figure shows, for those who cannot see it.
    """
    rows = [row for group in groups for row in group.rows]
    tall = max((len(row.label) for row in rows), default=0) > 13  # too long for the margin of a phone
    right = 18 if any(row.text for row in rows) else 4
    left = 1 if tall else 22
    step = _TALL if tall else _STEP + 4 * any(len(row.dots) > 1 for row in rows)
    places = [v for v in MaxNLocator(5, steps=[1, 2, 2.5, 5]).tick_values(*span) if span[0] <= v <= span[1] + 1e-9]

    def x(value: float) -> str:
        return f"{100 * (value - span[0]) / (span[1] - span[0]):.2f}%"

    track: list[Markup] = []  # on the axis, between the margins
    words: list[Markup] = []
    y = 0.0
    for number, group in enumerate(groups):
        if group.title:
            if number > 0:
                words.append(_line("0", "100%", y + 8, y + 8, HAIR))
            y += 32
            words.append(_heading(group, y))
            y += 8
        y += 20 if group.marks else 6
        n = len(group.rows)
        bands = [(y + 20 + i * step, y + (i + 1) * step) for i in range(n)] if tall else [(y, y + n * step)]
        for top, bottom in bands:
            track += [_line(x(v), x(v), top, bottom, HAIR) for v in places]
            track += [_line(x(0), x(0), top, bottom, INK, 1.4)] if zero else []
            track += [_line(x(m.value), x(m.value), top, bottom, m.colour, 1.6, m.dashed) for m in group.marks]
        for mark, anchor in zip(group.marks, _anchors(group.marks, span)):
            track.append(_text(x(mark.value), y - 6, mark.word, 10.5, SOFT, anchor=anchor))
        for row in group.rows:
            middle = y + (step - 14 if tall else step / 2)
            words.append(_text("0", y + 14 if tall else middle + 4, row.label, 12.5, row.colour, bold=True))
            if row.text:
                words.append(_text(f"{100 - right}%", middle + 4, row.text, 12.5, INK, bold=True, dx=14))
                words.append(_text(f"{100 - right}%", middle + 4, row.detail, 12, SOFT, dx=64, name="detail"))
            track += _dots(row.dots, middle, x)
            y += step
    foot = y + 16
    track += [_text(x(v), foot, ticks(v), 10.5, SOFT, anchor="middle") for v in places]
    if axis:
        track.append(_text("50%", foot + 18, axis, 10.5, SOFT, anchor="middle"))
    height = y + _FOOT + (16 if axis else 0)
    opening = Markup('<svg class="fig dots" role="img" aria-label="{}" style="height:{:g}px">\n')
    inner = Markup('<svg x="{}%" width="{}%" height="{:g}" overflow="visible">\n')
    parts = [opening.format(visible(aria), height), *words, inner.format(left, 100 - left - right, height), *track]
    return Markup("").join([*parts, Markup("</svg>\n</svg>")])


def _heading(group: Group, y: float) -> Markup:
    inside = Markup('<tspan font-weight="bold">{}</tspan> <tspan fill="{}" font-size="12" dx="6">{}</tspan>')
    words = inside.format(visible(group.title), SOFT, visible(group.note))
    return Markup('<text x="0" y="{:g}" fill="{}" font-size="14">{}</text>\n').format(y, INK, words)


def _anchors(marks: Sequence[Mark], span: tuple[float, float]) -> list[str]:
    """Where words stand over their lines: centred, or away from each other where two lines are close."""
    values = [mark.value for mark in marks]
    if len(values) == 2 and abs(values[0] - values[1]) < _NEAR * (span[1] - span[0]):
        return ["end", "start"] if values[0] <= values[1] else ["start", "end"]
    return ["middle"] * len(values)


def _dots(dots: Sequence[Dot], y: float, x: Callable[[float], str]) -> list[Markup]:
    out = []
    several = len(dots) > 1
    if several:
        values = [dot.value for dot in dots]
        out.append(_line(x(min(values)), x(max(values)), y, y, HAIR, 4))
    for i, dot in enumerate(dots):  # a little apart, so that equal numbers stay visible
        at = y + 6 * (i - (len(dots) - 1) / 2)
        if dot.low is not None and dot.high is not None:
            out.append(_line(x(dot.low), x(dot.high), at, at, dot.colour, 3, opacity=0.4))
        circle = Markup('<circle cx="{}" cy="{:g}" r="4.75" fill="{}" stroke="{}" stroke-width="{}"/>\n')
        fill = "#fff" if dot.hollow else dot.colour
        apart = several and not dot.hollow
        out.append(circle.format(x(dot.value), at, fill, "#fff" if apart else dot.colour, "1" if apart else "2"))
    return out


def _line(
    x1: str, x2: str, y1: float, y2: float, colour: str, width: float = 1, dashed: bool = False, opacity: float = 1
) -> Markup:
    more = Markup(' stroke-dasharray="2.4 3.2"') if dashed else Markup("")
    more += Markup(' opacity="{:g}"').format(opacity) if opacity < 1 else ""
    line = Markup('<line x1="{}" x2="{}" y1="{:g}" y2="{:g}" stroke="{}" stroke-width="{:g}"{}/>\n')
    return line.format(x1, x2, y1, y2, colour, width, more)


def _text(
    x: str, y: float, text: str, size: float, colour: str, anchor: str = "start", bold: bool = False, dx: float = 0,
    name: str = "",
) -> Markup:  # fmt: skip
    if not text:
        return Markup("")
    more = Markup(' class="{}"').format(name) if name else Markup("")
    more += Markup(' dx="{:g}"').format(dx) if dx else ""
    more += Markup(' text-anchor="{}"').format(anchor) if anchor != "start" else ""
    more += Markup(' font-weight="bold"') if bold else ""
    element = Markup('<text x="{}" y="{:g}" font-size="{:g}" fill="{}"{}>{}</text>\n')
    return element.format(x, y, size, colour, more, visible(text))
