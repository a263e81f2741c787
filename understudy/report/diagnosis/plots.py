"""Figures of a diagnosis: the dial, what each route is expected to reach, and what the completions look like.

Each returns inline SVG. Filled dots are measured, hollow ones forecast; nothing is told by colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import Polygon, Rectangle, Wedge
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from understudy.diagnosis.forecast.explain import chance
from understudy.diagnosis.types import Estimate
from understudy.evaluation.intervals import Floats, Interval
from understudy.evaluation.numbers import percent
from understudy.report.figures.plots import dot, put_left, put_right
from understudy.report.figures.svg import EXPERT, FAINT, HAIR, INK, SOFT, axes, colour, figure, spread, to_svg

PANEL = (420.0, 270.0)
"""Pixels of a panel, two of which stand side by side."""
STUDENT = "#6a51a3"
SFT, OPD = colour("sft", []), colour("opd", [])
HUES = {"student": STUDENT, "sft": SFT, "opd": OPD, "expert": EXPERT}
_FILLS = {  # fill, line of the pattern, pattern: as different in grey, also where a printer smears the pattern
    "offline suffices": (SFT, SFT, ""),
    "neither": ("#c6cbd3", "#c6cbd3", ""),
    "undecided": ("#ffffff", "#aab0b8", "////"),
    "go online": ("#9fc0e8", OPD, "\\\\\\\\"),
}
_SAYS = {
    "offline suffices": "SFT gains, and OPD does not end clearly higher",
    "neither": "no route ends clearly above the student now",
    "undecided": "too close to call, or the evidence does not reach",
    "go online": "OPD ends clearly higher than SFT",
}


# --- the dial ------------------------------------------------------------------------------------------------------


def dial(chances: dict[str, float], answer: str, name: str, width: float) -> Markup:
    """Half a ring, cut in proportion to the answers' probabilities; the answer's piece stands out and is pointed at."""
    wide = width > 600
    radius, ring = (150.0, 46.0) if wide else (128.0, 40.0)
    cx = 196.0 if wide else width / 2
    foot = 14.0 if wide else 14.0 + 30 * len(chances) + 14
    height = radius + 44 + foot
    cy = foot + 8
    fig = figure(width, height)
    ax = axes(fig, 0, 0, 0, 0)
    ax.set_axis_off()
    ax.set_xlim(0, width)
    ax.set_ylim(0, height)
    with matplotlib.rc_context({"hatch.linewidth": 1.4}):
        at = 180.0
        for who, p in chances.items():
            if p <= 0:
                continue
            end, chosen = at - 180 * p, who == answer
            middle = np.radians((at + end) / 2)
            _piece(ax, (cx, cy), radius + (8 if chosen else 0), ring + (8 if chosen else 0), end, at, who, chosen)
            if p >= 0.05:
                reach = radius + (30 if chosen else 18)
                ax.text(cx + reach * np.cos(middle), cy + reach * np.sin(middle), chance(p), size=11.5, va="center",
                        ha="center", color=INK if chosen else SOFT, weight="bold" if chosen else "normal")  # fmt: skip
            if chosen:
                _pointer(ax, (cx, cy), radius - ring, middle)
            at = end
        _middle(ax, (cx, cy), answer, chances)
        _rows(ax, chances, answer, (430.0, cy + 128) if wide else (26.0, foot - 22), wide)
    told = ", ".join(f"{who} {chance(p)}" for who, p in chances.items())
    return to_svg(fig, name, f"Dial of the verdict, {answer}. Probabilities: {told}")


def _piece(
    ax: Axes, centre: tuple[float, float], radius: float, ring: float, start: float, end: float, who: str, chosen: bool
) -> None:
    face, line, hatch = _FILLS[who]
    ax.add_patch(Wedge(centre, radius, start, end, width=ring, fc=face, ec=line, lw=0, hatch=hatch))
    ax.add_patch(Wedge(centre, radius, start, end, width=ring, fc="none", ec=INK if chosen else FAINT,
                       lw=2.0 if chosen else 1.0, zorder=3 if chosen else 2))  # fmt: skip


def _pointer(ax: Axes, centre: tuple[float, float], inner: float, angle: float) -> None:
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    tip, base = np.array(centre) + (inner + 5) * along, np.array(centre) + (inner - 15) * along
    ax.add_patch(Polygon([tip, base + 8 * across, base - 8 * across], closed=True, fc=INK, lw=0, zorder=4))


def _middle(ax: Axes, centre: tuple[float, float], answer: str, chances: dict[str, float]) -> None:
    x, y = centre
    best = max(chances, key=lambda who: chances[who])
    ax.text(x, y + (34 if answer != "undecided" else 26), answer, size=15.5, weight="bold", ha="center", va="center")
    if answer == "undecided":
        said = "" if best == answer else f"{best}: {chance(chances[best])}"
        ax.text(x, y + 6, said, size=11.5, color=SOFT, ha="center", va="center")
    else:
        ax.text(x, y + 8, chance(chances[answer]), size=21, weight="bold", ha="center", va="center")


def _rows(ax: Axes, chances: dict[str, float], answer: str, top: tuple[float, float], wide: bool) -> None:
    left, y = top
    for who, p in chances.items():
        face, line, hatch = _FILLS[who]
        weight, hue = ("bold", INK) if who == answer else ("normal", SOFT)
        ax.add_patch(Rectangle((left, y - 8), 26, 16, fc=face, ec=line, lw=0, hatch=hatch))
        ax.add_patch(Rectangle((left, y - 8), 26, 16, fc="none", ec=FAINT, lw=1))
        ax.text(left + 38, y, who, size=13.5, weight=weight, va="center")
        ax.text(left + (216 if wide else 290), y, chance(p), size=13.5, weight=weight, va="center", ha="right")
        if wide:
            ax.text(left + 240, y, _SAYS[who], size=12.5, color=hue, va="center")
        y -= 34 if wide else 30


# --- routes --------------------------------------------------------------------------------------------------------


def routes(rows: Sequence[tuple[str, str, Estimate, bool]], name: str, width: float) -> Markup:
    """Accuracy of (which of HUES, label, number, whether it is forecast), a dot with its interval a row."""
    wide = width > 600
    step, foot = (36.0, 34.0) if wide else (52.0, 34.0)
    left, right = (250.0, 176.0) if wide else (6.0, 12.0)
    height = step * len(rows) + foot + 4
    fig = figure(width, height)
    ax = axes(fig, left, 4, right, foot)
    ax.set_xlim(0, 1)
    ax.set_ylim(step * len(rows), 0)
    ax.spines["bottom"].set_visible(False)
    ax.yaxis.set_major_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f}%"))
    ax.xaxis.set_major_locator(FixedLocator([0, 0.2, 0.4, 0.6, 0.8, 1] if wide else [0, 0.25, 0.5, 0.75, 1]))
    ax.grid(axis="x", color=HAIR, lw=1)
    for i, (who, told, found, forecast) in enumerate(rows):
        y = step * (i + 0.5) + (0 if wide else 10)
        clipped = _shares(found)
        dot(ax, clipped, y, HUES[who], hollow=forecast)
        between = "[{:.{n}f}, {:.{n}f}]".format(100 * clipped.low, 100 * clipped.high, n=1 if wide else 0)
        if wide:
            put_left(ax, -left, y + 5, told, color=HUES[who], weight="bold", size=13)
            put_left(ax, width - left - right + 22, y + 5, percent(clipped.value), weight="bold", size=13)
            put_left(ax, width - left - right + 84, y + 5, between, color=SOFT, size=12)
        else:
            put_left(ax, -left, y - 14, told, color=HUES[who], weight="bold", size=11.5)
            put_right(ax, right, y - 14, f"{percent(clipped.value, 0)}  {between}", size=11.5)
    told = "; ".join(f"{t} {percent(e.value)} [{percent(e.low)}, {percent(e.high)}]" for _, t, e, _ in rows)
    return to_svg(fig, name, f"Accuracy of each route. {told}")


def _shares(e: Estimate) -> Interval:
    low, value, high = (min(max(x, 0.0), 1.0) for x in (e.low, e.value, e.high))
    return Interval(value, low, high, e.n, 1)


# --- completions ---------------------------------------------------------------------------------------------------


def scatter(points: Sequence[tuple[float, ...]], name: str, size: float) -> tuple[Markup, dict[str, float]]:
    """A minus its prompt's mean against reward, of (prompt, A, reward); (figure, what was seen).

    Prompts whose answers all got the same reward say nothing about ranking: they are drawn small and grey.
    """
    prompt, a, reward = (np.array(column) for column in zip(*points))
    centred, mixed = np.zeros(len(a)), np.zeros(len(a), dtype=bool)
    for which in np.unique(prompt):
        own = prompt == which
        centred[own] = a[own] - a[own].mean()
        mixed[own] = np.ptp(reward[own]) > 0
    height = PANEL[1]
    fig = figure(size, height)
    ax = axes(fig, 66, 30, 14, 40)
    fig.text(0, 1 - 15 / height, "Score against reward, within prompts", weight="bold", size=13)
    low, high = (float(x) for x in np.percentile(centred, [1, 99]))
    pad = max(0.06 * (high - low), 0.5)
    ax.set_xlim(low - pad, high + pad)
    span = float(np.ptp(reward)) or 1.0
    # the golden ratio spreads points evenly, the same every time
    jitter = ((np.arange(len(a)) * 0.6180339887) % 1 - 0.5) * 0.42 * span
    shown = np.clip(centred, low - 0.6 * pad, high + 0.6 * pad)
    for some, hue, dots, strong in ((~mixed, FAINT, 3.0, 0.35), (mixed, STUDENT, 5.0, 0.6)):
        ax.plot(shown[some], (reward + jitter)[some], "o", ms=dots, mfc=hue, mec="none", alpha=strong)
    ax.axvline(0, color=INK, lw=1, zorder=1.5)
    levels = sorted({float(r) for r in reward})
    for level in levels if len(levels) <= 4 else []:
        some = mixed & (reward == level)
        if some.any():
            mean = float(np.clip(centred[some].mean(), low - pad, high + pad))
            ax.plot([mean] * 2, [level - 0.27 * span, level + 0.27 * span], color=INK, lw=2.4, zorder=4)
    ax.set_ylim(float(reward.min()) - 0.34 * span, float(reward.max()) + 0.34 * span)
    names = {0.0: "wrong", 1.0: "right"} if set(levels) <= {0.0, 1.0} else {}
    ax.yaxis.set_major_locator(FixedLocator(levels) if len(levels) <= 4 else MaxNLocator(4))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: names.get(float(v), f"{v:.2g}")))
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.grid(axis="x", color=HAIR, lw=1)
    ax.set_xlabel("A minus its mean over the prompt’s answers, nats", size=10.5, labelpad=3)
    seen = {
        "prompts": float(len(np.unique(prompt))),
        "mixed": float(len(np.unique(prompt[mixed]))),
        "outside": float((centred != shown).sum()),
    }
    told = f"{len(a)} answers, {seen['mixed']:.0f} of {seen['prompts']:.0f} prompts with right and wrong ones"
    return to_svg(fig, name, f"How much the expert prefers an answer against its reward, within prompts: {told}"), seen


def tilt(
    curve: Sequence[tuple[float, ...]], ceiling: Estimate | None, expert: Estimate | None, name: str, size: float
) -> Markup:
    """Accuracy under weights e^(tA) on the student's own answers, of (t, value, low, high); the ceiling as a line."""
    t, value, low, high = (np.array(column) for column in zip(*curve))
    height = PANEL[1]
    fig = figure(size, height)
    ax = axes(fig, 42, 30, 66, 40)
    fig.text(0, 1 - 15 / height, "Leaning toward the expert", weight="bold", size=13)
    ax.set_xlim(float(t.min()), float(t.max()) or 1.0)
    ax.fill_between(t, np.clip(low, 0, 1), np.clip(high, 0, 1), color=STUDENT, alpha=0.14, lw=0)
    ax.plot(t, np.clip(value, 0, 1), color=STUDENT, lw=2.2, marker="o", ms=4.5, clip_on=False)
    ends = [("tilted", float(np.clip(value[-1], 0, 1)), STUDENT)]
    for word, found, style in (("ceiling", ceiling, (0, (4, 3))), ("expert", expert, (0, (1.5, 2)))):
        if found is not None:
            at = float(np.clip(found.value, 0, 1))
            ax.axhline(at, color=EXPERT, lw=1.2, ls=style, zorder=1.5)
            ends.append((word, at, INK))
    share_axis(ax, [*low, *high, *(end for _, end, _ in ends)])
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_xlabel("t: weight of an answer is exp(t · A)", size=10.5, labelpad=3)
    end_labels(ax, ends, (size - 108, height - 70))
    return to_svg(fig, name, f"Accuracy of the student's own answers re-weighed toward the expert: {value[0]:.2f} at "
                             f"t = {t[0]:g}, {value[-1]:.2f} at t = {t[-1]:g}")  # fmt: skip


def lengths(student: Floats, expert: Floats, name: str, size: float) -> Markup:
    """Histograms of completion lengths from counts by number of tokens: the expert an area, the student a line."""
    longest = max(len(student), len(expert))
    width = max(1, -(-longest // 26))
    bins = np.arange(0.0, longest + width, width)
    height = 220.0
    fig = figure(size, height)
    ax = axes(fig, 8, 30, 8, 40)
    fig.text(0, 1 - 15 / height, "Lengths", weight="bold", size=13)
    for counts, filled in ((expert, True), (student, False)):
        if counts.sum() > 0:
            heights, edges = np.histogram(np.arange(len(counts)), bins, weights=counts)
            shares = heights / counts.sum()
            ax.stairs(shares, edges, fill=filled, color="#cfd3d9" if filled else STUDENT, lw=0 if filled else 2.0)
    ax.set_ylim(0, ax.get_ylim()[1] * 1.06)
    ax.yaxis.set_major_locator(NullLocator())
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_xlabel("tokens per completion", size=10.5, labelpad=3)
    means = [float(np.arange(len(c)) @ c / c.sum()) if c.sum() > 0 else 0.0 for c in (student, expert)]
    return to_svg(fig, name, f"Completion lengths: student {means[0]:.1f} tokens on average, expert {means[1]:.1f}")


# --- what panels share ---------------------------------------------------------------------------------------------


def share_axis(ax: Axes, values: Sequence[float]) -> None:
    """A vertical axis in percent that holds `values`, from 0 where they come near it."""
    low = max(0.0, np.floor((min(values, default=0.0) - 0.02) * 10) / 10)
    ax.set_ylim(low if low > 0.25 else 0.0, 1.012)
    ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f}%"))
    ax.grid(axis="y", color=HAIR, lw=1)


def end_labels(ax: Axes, ends: Sequence[tuple[str, float, str]], pixels: tuple[float, float]) -> None:
    """(word, height in data, colour) in the right margin, moved apart where they would touch."""
    to_axes = ax.transData + ax.transAxes.inverted()
    wanted = [float(to_axes.transform((ax.get_xlim()[1], y))[1]) * pixels[1] for _, y, _ in ends]
    for (word, _, hue), at in zip(ends, spread(wanted, 13.5, 2.0, pixels[1] - 2.0)):
        ax.text(1 + 7 / pixels[0], at / pixels[1], word, transform=ax.transAxes, clip_on=False, color=hue,
                weight="bold" if hue not in (INK, SOFT) else "normal", size=11, va="center")  # fmt: skip
