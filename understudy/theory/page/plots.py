"""Figures of the theory page: one look, inline SVG, the same bytes every time. Sizes are CSS pixels.

Offline is warm, online is cool, grey is a bound or a reference; a line is named where it ends.
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
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from understudy.theory.page.typeset import greek

INK, SOFT, FAINT, HAIR = "#1c1d22", "#5d636c", "#9aa1ab", "#e3e6ea"
OFFLINE, ONLINE, SCORED = "#c4501b", "#1f5fa8", "#d98c2b"
GOOD, BAD, VIOLET, TEAL = "#2f7d4f", "#b3261e", "#6a51a3", "#0f8a87"
WARM = ("#f0b48f", "#dd7f45", "#c4501b", "#7d2e0c")
COOL = ("#a9c6e6", "#6e9bd1", "#1f5fa8", "#123a69")

_RC = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",  # bundled, so the layout is the same everywhere; the page sets the face
    "font.size": 11,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "text.color": INK,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "figure.dpi": 72,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib's settings for everything made inside."""
    with matplotlib.rc_context(_RC), warnings.catch_warnings():
        # a regret that has underflowed to 0 has no place on a log axis: leaving it out is right
        warnings.filterwarnings("ignore", message=".*log-scaled.*", category=UserWarning)
        yield


def panels(
    *titles: str, height: float = 380, widths: Sequence[float] | None = None, left: float = 58, gap: float = 0.36
) -> tuple[Figure, list[Axes]]:
    """A row of axes, 1060 px wide in all (700 px for a single one); room for line names on the right."""
    n = len(titles)
    width = 1060.0 if n > 1 else 700.0
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    FigureCanvasSVG(figure)
    grid = figure.add_gridspec(
        1,
        n,
        left=left / width,
        right=1 - 92 / width,
        top=1 - 40 / height,
        bottom=48 / height,
        wspace=gap,
        width_ratios=list(widths) if widths else None,
    )
    out = []
    for i, title in enumerate(titles):
        ax = figure.add_subplot(grid[0, i])
        ax.set_title(greek(title))
        for side in ("top", "right", "left"):
            ax.spines[side].set_visible(False)
        ax.grid(axis="y", color=HAIR, lw=0.8)
        ax.patch.set_visible(False)
        out.append(ax)
    return figure, out


def log_axes(ax: Axes, x: bool = True, y: bool = True) -> None:
    """Logarithmic scales with few, plain ticks."""
    if x:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(_plain))
        ax.xaxis.set_minor_formatter(NullFormatter())
    if y:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(10, numticks=7))
        ax.yaxis.set_major_formatter(FuncFormatter(_plain))
        ax.yaxis.set_minor_formatter(NullFormatter())


def _plain(value: float, _: object = None) -> str:
    if value == 0:
        return "0"
    power = int(np.floor(np.log10(abs(value)) + 1e-9))
    if -3 <= power <= 3:
        return f"{value:,.{max(0, -power)}f}"
    superscript = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    lead = round(value / 10.0**power)
    return f"10{superscript}" if lead == 1 else f"{lead}·10{superscript}"


def end_label(ax: Axes, x: float, y: float, text: str, color: str, dx: float = 5, dy: float = 0, **more: Any) -> None:
    """Name a line where it ends."""
    ax.annotate(
        greek(text),
        (x, y),
        xytext=(dx, dy),
        textcoords="offset points",
        color=color,
        fontsize=10.5,
        va="center",
        annotation_clip=False,
        **more,
    )


def note(ax: Axes, x: float, y: float, text: str, color: str = SOFT, **more: Any) -> None:
    """A remark at axes coordinates."""
    ax.text(x, y, greek(text), transform=ax.transAxes, color=color, fontsize=10.5, linespacing=1.35, **more)


def to_svg(figure: Figure, name: str, alt: str) -> str:
    """Inline SVG; every id starts with `name`, which must be unique on the page."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(
            buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    # matplotlib's style sheet would apply to the whole page, and its metadata says nothing
    svg = re.sub(r"<style.*?</style>|<metadata.*?</metadata>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r"font: ((?:\w+ )*?[\d.]+px)[^;\"]*", r"font: \1 sans-serif", svg)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", svg))
    svg = re.sub(r'\sid="([^"]*)"', lambda m: f' id="{name}-{m.group(1)}"' if m.group(1) in used else "", svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    opening = (
        f'<svg class="fig" role="img" aria-label="{html.escape(alt, quote=True)}" '
        f'viewBox="0 0 {width} {height}" style="max-width:{float(width):.0f}px">'
    )
    return re.sub(r"\n\s*", "\n", opening + svg[svg.index(">") + 1 :])
