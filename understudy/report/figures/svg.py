"""Figures as inline SVG: one style, text that stays text, ids that cannot collide, the same bytes every time.

Sizes are in CSS pixels: the figure has 72 dots an inch, so a font of size 11 is 11 px on the page.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from understudy.report.text import family, visible

INK, SOFT, FAINT, HAIR = "#1c1d22", "#5d636c", "#8d949e", "#e3e6ea"
EXPERT = "#1c1d22"
BASE = "#8d949e"
# offline methods are warm, online ones cool; told apart in the common forms of colour blindness and in print
_COLOURS = {
    "sft": "#c4501b",
    "seq_kd": "#d98c2b",
    "word_kd": "#8f5a00",
    "opd": "#1f5fa8",
    "opd_full": "#0f8a87",
    "gkd": "#6a51a3",
    "dagger": "#3f7f3f",
    "base_opd": "#6e9bd1",
    "grpo": "#8a1c60",
    "rft": "#7a6a3a",
}
_SPARE = ("#4d4d4d", "#a23b72", "#2e7d6b", "#b58900", "#5566aa")

_RC = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",  # bundled: the same layout everywhere; the page sets the face
    "font.size": 11,
    "axes.edgecolor": HAIR,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 1.0,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "text.color": INK,
    "figure.dpi": 72,
    "path.simplify": True,
}


def colour(method: str, methods: list[str]) -> str:
    """One colour a method on the whole page."""
    known = _COLOURS.get(family(method))
    same = [m for m in methods if family(m) == family(method)]
    if known and (not same or same[0] == method):
        return known
    others = [m for m in methods if m not in _COLOURS]
    return _SPARE[others.index(method) % len(_SPARE)] if method in others else _SPARE[0]


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib's settings for everything made inside; nothing global is left behind."""
    with matplotlib.rc_context(_RC):
        yield


def figure(width: float, height: float) -> Figure:
    made = Figure(figsize=(width / 72, height / 72), dpi=72)
    FigureCanvasSVG(made)
    return made


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


def to_svg(fig: Figure, name: str, aria: str) -> Markup:
    """Inline SVG of a figure. `name` must be unique on the page: every id in it starts with it."""
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
