"""Lines over training, one panel each: the page lays panels out, so that they also fit a phone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from understudy.evaluation.intervals import Floats
from understudy.evaluation.numbers import count, duration
from understudy.report.comparison.summary import Arm, Summary
from understudy.report.figures.series import Curve
from understudy.report.figures.svg import EXPERT, FAINT, HAIR, INK, SOFT, axes, colour, figure, spread, to_svg


def panel_width(n: int) -> float:
    """Pixels of one panel when n of them stand in a row of the page."""
    return {1: 510, 2: 510, 3: 340}.get(n, 252)


def curves(
    drawn: Sequence[tuple[Arm, Curve]], s: Summary, name: str, axis: str, title: str, note: str, *,
    size: float, ylim: tuple[float, float], root: bool = False, unit: str = "share", log: bool = False,
    marks: Sequence[tuple[str, float]] = (),
) -> Markup:  # fmt: skip
    """Lines with bands over training, labelled at their ends. `marks`: horizontal lines to compare with."""
    width, height = size, round(0.62 * size + 66) if size < 400 else 300
    fig = figure(width, height)
    ax = axes(fig, 36, 42, 52, 36)
    fig.text(0, 1 - 15 / height, title, weight="bold", size=13)
    fig.text(0, 1 - 30 / height, note, color=SOFT, size=11)
    ax.set_ylim(*ylim)
    if log:
        ax.set_yscale("log")
    far = max((c.x[axis][-1] for _, c in drawn), default=1.0) or 1.0
    if root:
        ax.set_xscale("function", functions=(lambda v: np.sqrt(np.clip(v, 0, None)), np.square))
    ax.set_xlim(0, far)
    _ticks(ax, axis, far, root, width)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f}%" if unit == "share" else f"{v:g}"))
    if not log:
        ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.grid(axis="y", color=HAIR, lw=1)
    for word, value in marks:
        ax.axhline(value, color=EXPERT, lw=1.1, ls=(0, (4, 3)), zorder=1.5)
        under = value > ylim[0] + 0.9 * (ylim[1] - ylim[0])
        ax.annotate(word, (0.02, value), (0, -3 if under else 3), xycoords=ax.get_yaxis_transform(),
                    textcoords="offset points", va="top" if under else "bottom",
                    color=SOFT, size=10.5)  # fmt: skip
    for arm, curve in drawn:
        hue, x = colour(arm.method, s.c.methods), curve.x[axis]
        ax.fill_between(x, curve.low, curve.high, color=hue, alpha=0.13 if arm.budget == 1 else 0.07, lw=0)
        ax.plot(x, curve.mean, color=hue, lw=2.2 if arm.budget == 1 else 1.6, solid_capstyle="round",
                ls="-" if arm.budget == 1 else (0, (2.2, 1.6)))  # fmt: skip
    _end_labels(ax, drawn, s, axis, (width - 88, height - 78))
    told = ", ".join(f"{a.name} ends at {c.mean[-1]:.3g}" for a, c in drawn)
    return to_svg(fig, name, f"{title}: {note} against {axis}. {told}")


def _end_labels(
    ax: Axes, drawn: Sequence[tuple[Arm, Curve]], s: Summary, axis: str, pixels: tuple[float, float]
) -> None:
    """The method's name where its line ends: in the margin, or beside the end of a shorter line.

    pixels: width and height of the axes.
    """
    to_axes = ax.transData + ax.transAxes.inverted()
    ends = [to_axes.transform((c.x[axis][-1], c.mean[-1])) * np.array(pixels) for _, c in drawn]
    margin = [i for i, end in enumerate(ends) if pixels[0] - end[0] < 34]
    heights = dict(zip(margin, spread([float(ends[i][1]) for i in margin], 13.0, 2.0, pixels[1] - 2.0), strict=True))
    highest = max(range(len(drawn)), key=lambda i: float(ends[i][1]))
    for i, (arm, curve) in enumerate(drawn):
        hue = colour(arm.method, s.c.methods)
        x, y = float(ends[i][0]), float(ends[i][1])
        x, y = (pixels[0] + 6, heights[i]) if i in heights else (x + 5, y + (10 if i == highest else -10))
        ax.text(x / pixels[0], y / pixels[1], arm.name, transform=ax.transAxes, clip_on=False, color=hue,
                weight="bold", size=11, ha="left", va="center")  # fmt: skip
        ax.plot(curve.x[axis][-1], curve.mean[-1], "o", ms=4.5, color=hue, clip_on=False)


def _ticks(ax: Axes, axis: str, far: float, root: bool, width: float) -> None:
    show = duration if axis == "seconds" else count
    if root:  # evenly spaced on the root axis, up to rounding
        wanted = [0.0, _round(far / 16), _round(far / 4), _round(far)]
        apart = [(v / far) ** 0.5 for v in wanted]
        wanted = [v for i, v in enumerate(wanted) if i in (0, 3) or apart[i + 1] - apart[i] > 0.2]
    else:
        wanted = [float(v) for v in MaxNLocator(3 if width < 300 else 5, steps=[1, 2, 5]).tick_values(0, far)]
    ax.xaxis.set_major_locator(FixedLocator([v for v in wanted if 0 <= v <= far]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: "0" if v == 0 else _brief(show(v), v, axis)))
    ax.set_xlabel(axis + (" (square-root scale)" if root else ""), size=10.5, labelpad=3)


def _brief(text: str, value: float, axis: str) -> str:
    if axis == "seconds":
        return f"{value:g} s" if value < 600 else text
    return f"{value / 1000:g}k" if 10_000 <= value < 1e6 else text.replace(".00M", "M")


def _round(value: float) -> float:
    """The largest 1, 2 or 5 times a power of ten that is not above the value."""
    power = 10.0 ** np.floor(np.log10(value)) if value > 0 else 1.0
    return float(max(m * power for m in (1, 2, 5) if m * power <= value * 1.0001))


def trace(steps: Floats, values: Floats, name: str, title: str, size: float = 252) -> Markup:
    """One training metric against updates, thin and grey with its running mean on top."""
    height = 150
    fig = figure(size, height)
    ax = axes(fig, 44, 26, 8, 22)
    fig.text(0, 1 - 14 / height, title, weight="bold", size=12)
    window = max(1, len(values) // 20)
    ax.plot(steps, values, color=FAINT if window > 1 else INK, lw=0.8 if window > 1 else 1.8)
    if window > 1:
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        ax.plot(steps[window - 1 :], smooth, color=INK, lw=1.8)
    ax.yaxis.set_major_locator(MaxNLocator(3))
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.3g}"))
    ax.grid(axis="y", color=HAIR, lw=1)
    return to_svg(fig, name, f"{title} against updates, last value {values[-1]:.3g}")
