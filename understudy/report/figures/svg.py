"""The drawing kit: one style for all figures, text that stays text, ids that cannot collide, the same bytes every time.

    with drawing():
        ax = panel(400, 270, "Accuracy", margins=(46, 34, 66, 42))
        ax.plot(x, y, color=ONLINE)
        end_labels(ax, [("OPD", y[-1], ONLINE)])
        svg = to_svg(ax, "accuracy", "Accuracy against updates")

Sizes are in CSS pixels: a figure has 72 dots per inch, so a font of size 11 is 11 px on the page. A figure is drawn
once, about as wide as it is shown on a phone or a little wider; a page puts several side by side where it has room.
Charts of one dot per row, which have to fill a wide page, are in `dots.py`.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from understudy.report.text import family, phases, visible

INK, SOFT, FAINT, HAIR = "#1c1d22", "#5d636c", "#8d949e", "#e3e6ea"
AREA = "#d9dce1"  # of a filled histogram
EXPERT = INK
# offline methods are warm, online ones cool; distinguishable in the common forms of colour blindness and in print
OFFLINE, ONLINE, SCORED, STUDENT = "#c4501b", "#1f5fa8", "#d98c2b", "#6a51a3"
GOOD, BAD, VIOLET, TEAL = "#2f7d4f", "#b3261e", "#6a51a3", "#0f8a87"
WARM = ("#f0b48f", "#dd7f45", "#c4501b", "#7d2e0c")
COOL = ("#a9c6e6", "#6e9bd1", "#1f5fa8", "#123a69")
_COLOURS = {
    "sft": OFFLINE,
    "seq_kd": "#d98c2b",
    "word_kd": "#8f5a00",
    "opd": ONLINE,
    "opd_full": "#0f8a87",
    "gkd": "#6a51a3",
    "dagger": "#3f7f3f",
    "base_opd": "#6e9bd1",
    "exopd": "#146b8c",
    "grpo": "#8a1c60",
    "opd_reward": "#5c4b8a",
    "opd_full_reward": "#3b7a57",
    "gkd_reward": "#8c3f9e",
    "rft": "#7a6a3a",
    "sft+opd_full": ONLINE,
    "sft+opd": "#123a69",
    "sft+gkd": "#a23b72",
}
_SPARE = ("#4d4d4d", "#a23b72", "#2e7d6b", "#b58900", "#5566aa")
DOTTED, DASHED = (0, (1.5, 2)), (0, (4, 3))

_RC = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",  # bundled: the same layout everywhere; the page sets the face
    "font.size": 11,
    "axes.edgecolor": HAIR,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 10.5,
    "axes.labelpad": 3,
    "axes.linewidth": 1.0,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": HAIR,
    "grid.linewidth": 1.0,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "text.color": INK,
    "figure.dpi": 72,
    "path.simplify": True,
}


def colour(method: str, methods: Sequence[str] = ()) -> str:
    """The colour of a method: one per method on the whole page."""
    row = "+".join(phases(method)) or family(method)
    known = _COLOURS.get(row)
    same = [m for m in methods if ("+".join(phases(m)) or family(m)) == row]
    if known and (not same or same[0] == method):
        return known
    others = [m for m in methods if m not in _COLOURS]
    return _SPARE[others.index(method) % len(_SPARE)] if method in others else _SPARE[0]


# --- figures and axes --------------------------------------------------------------------------------------


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib's settings for everything drawn inside; nothing global is left behind."""
    with matplotlib.rc_context(_RC), warnings.catch_warnings():
        # a value that has underflowed to 0 has no place on a log axis: leaving it out is right
        warnings.filterwarnings("ignore", message=".*log-scaled.*", category=UserWarning)
        yield


def figure(width: float, height: float) -> Figure:
    fig = Figure(figsize=(width / 72, height / 72), dpi=72)
    FigureCanvasSVG(fig)
    return fig


def axes(fig: Figure, left: float, top: float, right: float, bottom: float) -> Axes:
    """Axes with margins in pixels: nothing depends on how wide some font renders."""
    width, height = fig.get_figwidth() * 72, fig.get_figheight() * 72
    box = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    ax = fig.add_axes(box)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.tick_params(length=0, pad=5)
    ax.patch.set_visible(False)
    return ax


def panel(
    width: float, height: float, title: str, note: str = "", *,
    margins: tuple[float, float, float, float] = (46, 34, 66, 42),
) -> Axes:  # fmt: skip
    """A figure of one pair of axes with a title and a note above them.

    margins: left, top, right, bottom of the axes, in pixels.
    """
    fig = figure(width, height)
    ax = axes(fig, *margins)
    fig.text(0, 1 - 15 / height, title, weight="bold", size=13)
    if note:
        fig.text(0, 1 - 30 / height, note, color=SOFT, size=11)
    return ax


def panels(
    *titles: str, height: float = 340, width: float = 0, left: float = 58, right: float = 92
) -> tuple[list[Figure], list[Axes]]:
    """One figure per title, for a page to lay out: side by side on a screen, one below the other on a phone."""
    width = width or {1: 640.0, 2: 520.0}.get(len(titles), 350.0)
    drawn = [panel(width, height, title, margins=(left, 36, right, 46)) for title in titles]
    for ax in drawn:
        ax.grid(True, axis="y")
    return [figure_of(ax) for ax in drawn], drawn


def figure_of(ax: Axes) -> Figure:
    fig = ax.get_figure(root=True)
    assert fig is not None
    return fig


def size(ax: Axes) -> tuple[float, float]:
    """Width and height of the axes in pixels."""
    fig = figure_of(ax)
    box = ax.get_position()
    return 72 * fig.get_figwidth() * box.width, 72 * fig.get_figheight() * box.height


# --- axes' scales ------------------------------------------------------------------------------------------


def percent_axis(ax: Axes, values: Sequence[float] | None = None) -> None:
    """A vertical axis in percent with grid lines. values: what it has to hold, from 0 where they come near it."""
    if values is not None:
        low = max(0.0, np.floor((min(values, default=0.0) - 0.02) * 10) / 10)
        ax.set_ylim(low if low > 0.25 else 0.0, 1.012)
    ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f}%"))
    ax.grid(True, axis="y")


def log_axes(ax: Axes, x: bool = True, y: bool = True) -> None:
    """Logarithmic scales with few, plain ticks."""
    for on, axis, scale in ((x, ax.xaxis, ax.set_xscale), (y, ax.yaxis, ax.set_yscale)):
        if on:
            scale("log")
            axis.set_major_locator(LogLocator(10, numticks=7))
            axis.set_major_formatter(FuncFormatter(_power))
            axis.set_minor_formatter(NullFormatter())


def _power(value: float, _: object = None) -> str:
    if value == 0:
        return "0"
    power = int(np.floor(np.log10(abs(value)) + 1e-9))
    if -3 <= power <= 3:
        return f"{value:,.{max(0, -power)}f}"
    superscript = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    lead = round(value / 10.0**power)
    return f"10{superscript}" if lead == 1 else f"{lead}·10{superscript}"


# --- text in figures ---------------------------------------------------------------------------------------


def end_label(ax: Axes, x: float, y: float, text: str, color: str, dx: float = 5, dy: float = 0, **more: Any) -> None:
    """Name a line where it ends: dx, dy pixels away from (x, y) in data."""
    style: dict[str, Any] = {"color": color, "size": 10.5, "va": "center", "annotation_clip": False} | more
    ax.annotate(text, (x, y), xytext=(dx, dy), textcoords="offset points", **style)


def end_labels(ax: Axes, ends: Sequence[tuple[str, float, str]]) -> None:
    """(word, height in data, colour) in the right margin, moved apart where they would touch."""
    width, height = size(ax)
    to_axes = ax.transData + ax.transAxes.inverted()
    wanted = [float(to_axes.transform((ax.get_xlim()[1], y))[1]) * height for _, y, _ in ends]
    for (word, _, hue), at in zip(ends, spread(wanted, 13.5, 2.0, height - 2.0)):
        ax.text(1 + 7 / width, at / height, word, transform=ax.transAxes, clip_on=False, color=hue,
                weight="bold" if hue not in (INK, SOFT) else "normal", size=11, va="center")  # fmt: skip


def note(ax: Axes, x: float, y: float, text: str, color: str = SOFT, **more: Any) -> None:
    """A remark at axes coordinates."""
    style: dict[str, Any] = {"color": color, "size": 10.5, "linespacing": 1.35} | more
    ax.text(x, y, text, transform=ax.transAxes, **style)


def spread(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Positions nearest to the wanted ones, at least `gap` apart and within [low, high]; order is kept.

    With i gaps taken off the i-th position the task is a monotone fit: pool neighbours that are out of order.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    pools: list[list[float]] = []
    for rank, i in enumerate(order):
        pools.append([wanted[i] - rank * gap])
        while len(pools) > 1 and np.mean(pools[-2]) >= np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    flat = [float(np.mean(pool)) for pool in pools for _ in pool]
    top = high - gap * (len(wanted) - 1)
    out = [0.0] * len(wanted)
    for rank, i in enumerate(order):
        out[i] = min(max(flat[rank], low), max(top, low)) + rank * gap
    return out


# --- SVG ---------------------------------------------------------------------------------------------------


def to_svg(drawn: Figure | Axes, name: str, aria: str) -> Markup:
    """Inline SVG of a figure. `name` must be unique on the page: every id in it starts with it.

    aria: what the figure shows, for those who cannot see it.
    """
    fig = drawn if isinstance(drawn, Figure) else figure_of(drawn)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        fig.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    # its style sheet would apply to the whole page, its metadata says nothing
    svg = re.sub(r"<style.*?</style>|<metadata.*?</metadata>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r"<defs>\s*</defs>", "", svg)
    svg = re.sub(r"font: ((?:\w+ )*?[\d.]+px)[^;\"]*", r"font: \1 sans-serif", svg)
    svg = _own_ids(svg, name)
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    opening = (
        f'<svg class="fig" role="img" aria-label="{html.escape(visible(aria), quote=True)}" '
        f'viewBox="0 0 {width} {height}" style="max-width:{float(width) * 1.25:.0f}px">'
    )
    svg = opening + svg[svg.index(">") + 1 :]
    return Markup(re.sub(r"\n\s*", "\n", svg))


def _own_ids(svg: str, name: str) -> str:
    """Prefix the ids that something refers to and drop the others."""
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", svg))

    def renamed(match: re.Match[str]) -> str:
        return f' id="{name}-{match.group(1)}"' if match.group(1) in used else ""

    svg = re.sub(r'\sid="([^"]*)"', renamed, svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    return re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', svg)


def standalone(svg: str) -> str:
    """An inline SVG as a file of its own: with a name space, a size and a font."""
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    width, height = (box[1], box[2]) if box else ("760", "")
    area = f' width="{width}"' + (f' height="{height}"' if height else "")
    return svg.replace("<svg ", f'<svg xmlns="http://www.w3.org/2000/svg"{area} font-family="sans-serif" ', 1)
