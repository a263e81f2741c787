"""Figures of a diagnosis: the dial, what each route is expected to reach, and how the completions rank and look.

Each returns inline SVG. Filled dots are measured, hollow ones forecast; nothing is shown by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.patches import Polygon, Wedge
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from understudy.diagnosis.forecast.explain import chance
from understudy.diagnosis.outcome import NEITHER, OFFLINE, ONLINE, UNDECIDED
from understudy.diagnosis.types import Estimate
from understudy.evaluation.intervals import Floats
from understudy.evaluation.numbers import percent
from understudy.report.diagnosis.curves import PANEL
from understudy.report.figures import svg
from understudy.report.figures.dots import Dot, Group, Row, chart
from understudy.report.figures.svg import EXPERT, FAINT, INK, SOFT, STUDENT, axes, end_labels, figure, panel, to_svg

HUES = {"student": STUDENT, "sft": svg.OFFLINE, "opd": svg.ONLINE, "expert": EXPERT}
_FILLS: dict[str, tuple[str, str, str]] = {
    OFFLINE: (svg.OFFLINE, svg.OFFLINE, ""),
    NEITHER: ("#c6cbd3", "#c6cbd3", ""),
    UNDECIDED: ("#ffffff", "#aab0b8", "////"),
    ONLINE: ("#9fc0e8", svg.ONLINE, "\\\\\\\\"),
}
"""Fill, line of the pattern, pattern: as different in grey. style.css has the same for the list beside the dial."""


def dial(p: Mapping[str, float], answer: str) -> Markup:
    """Half a ring, cut in proportion to the answers' probabilities; the answer's piece stands out and is pointed at."""
    width, radius, ring, centre = 392.0, 150.0, 46.0, np.array([196.0, 22.0])
    fig = figure(width, radius + 58)
    ax = axes(fig, 0, 0, 0, 0)
    ax.set_axis_off()
    ax.set_xlim(0, width)
    ax.set_ylim(0, radius + 58)
    at = 180.0
    with matplotlib.rc_context({"hatch.linewidth": 1.4}):
        for who, share in p.items():
            if share <= 0:
                continue
            end, chosen = at - 180 * share, who == answer
            more = 8 if chosen else 0
            face, line, hatch = _FILLS[who]
            edge: dict[str, Any] = (
                {"ec": INK, "lw": 2.0, "zorder": 3} if chosen else {"ec": FAINT, "lw": 1.0, "zorder": 2}
            )
            place = ((centre[0], centre[1]), radius + more, end, at)
            ax.add_patch(Wedge(*place, width=ring + more, fc=face, ec=line, lw=0, hatch=hatch))
            ax.add_patch(Wedge(*place, width=ring + more, fc="none", **edge))
            middle = np.radians((at + end) / 2)
            along = np.array([np.cos(middle), np.sin(middle)])
            if share >= 0.05:
                x, y = centre + (radius + (30 if chosen else 18)) * along
                ax.text(x, y, chance(share), size=11.5, va="center", ha="center", color=INK if chosen else SOFT,
                        weight="bold" if chosen else "normal")  # fmt: skip
            if chosen:
                tip, base, across = centre + 109 * along, centre + 89 * along, np.array([-along[1], along[0]])
                ax.add_patch(Polygon([tip, base + 8 * across, base - 8 * across], fc=INK, lw=0, zorder=4))
            at = end
    centred: dict[str, Any] = {"ha": "center", "va": "center"}
    best = max(p, key=lambda who: p[who])
    if answer == UNDECIDED:
        ax.text(centre[0], centre[1] + 26, answer, size=15.5, weight="bold", **centred)
        if best != answer:
            ax.text(centre[0], centre[1] + 6, f"{best}: {chance(p[best])}", size=11.5, color=SOFT, **centred)
    else:
        ax.text(centre[0], centre[1] + 34, answer, size=15.5, weight="bold", **centred)
        ax.text(centre[0], centre[1] + 8, chance(p[answer]), size=21, weight="bold", **centred)
    words = ", ".join(f"{who} {chance(share)}" for who, share in p.items())
    return to_svg(fig, "dial", f"Dial of the verdict, {answer}. Probabilities: {words}")


def who(route: str) -> str:
    """Which of HUES a route has: that of its last phase's kind."""
    return "student" if route == "nothing" else "sft" if route == "sft" else "opd"


def routes(rows: Sequence[tuple[str, str, Estimate, bool]]) -> Markup:
    """Accuracy of (which of HUES, label, estimate, whether it is a forecast), a dot with its interval per row."""
    lines, words = [], []
    for who, name, e, forecast in rows:
        low, value, high = (min(max(x, 0.0), 1.0) for x in (e.low, e.value, e.high))
        between = f"[{100 * low:.1f}, {100 * high:.1f}]"
        dot = Dot(value, HUES[who], low, high, hollow=forecast)
        lines.append(Row(name, [dot], percent(value), between, HUES[who]))
        words.append(f"{name} {percent(value)} {between}")
    aria = f"Accuracy of each route. {'; '.join(words)}"
    return chart([Group(lines)], (0.0, 1.0), aria, lambda v: percent(v, 0))


# --- completions ---------------------------------------------------------------------------------------------------


def scatter(points: Sequence[tuple[float, ...]]) -> tuple[Markup, dict[str, int]]:
    """A minus its prompt's mean against reward, of (prompt, A, reward); (figure, counts: prompts, mixed, outside).

    Prompts whose answers all got the same reward say nothing about ranking: they are drawn small and grey.
    """
    prompt, a, reward = (np.array(column) for column in zip(*points))
    centred, mixed = np.zeros(len(a)), np.zeros(len(a), dtype=bool)
    for which in np.unique(prompt):
        same = prompt == which
        centred[same] = a[same] - a[same].mean()
        mixed[same] = np.ptp(reward[same]) > 0
    ax = panel(*PANEL, "Score against reward, within prompts", margins=(66, 30, 14, 40))
    low, high = (float(x) for x in np.percentile(centred, [1, 99]))
    pad = max(0.06 * (high - low), 0.5)
    ax.set_xlim(low - pad, high + pad)
    span = float(np.ptp(reward)) or 1.0
    # the golden ratio spreads points evenly, the same every time
    jitter = ((np.arange(len(a)) * 0.6180339887) % 1 - 0.5) * 0.42 * span
    shown = np.clip(centred, low - 0.6 * pad, high + 0.6 * pad)
    for which, hue, dots, strong in ((~mixed, FAINT, 3.0, 0.35), (mixed, STUDENT, 5.0, 0.6)):
        ax.plot(shown[which], (reward + jitter)[which], "o", ms=dots, mfc=hue, mec="none", alpha=strong)
    ax.axvline(0, color=INK, lw=1, zorder=1.5)
    levels = sorted({float(r) for r in reward})
    for level in levels if len(levels) <= 4 else []:
        which = mixed & (reward == level)
        if which.any():
            mean = float(np.clip(centred[which].mean(), low - pad, high + pad))
            ax.plot([mean] * 2, [level - 0.27 * span, level + 0.27 * span], color=INK, lw=2.4, zorder=4)
    ax.set_ylim(float(reward.min()) - 0.34 * span, float(reward.max()) + 0.34 * span)
    names = {0.0: "wrong", 1.0: "right"} if set(levels) <= {0.0, 1.0} else {}
    ax.yaxis.set_major_locator(FixedLocator(levels) if len(levels) <= 4 else MaxNLocator(4))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: names.get(float(v), f"{v:.2g}")))
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.grid(axis="x")
    ax.set_xlabel("A minus its mean over the prompt’s answers, nats")
    seen = {
        "prompts": len(np.unique(prompt)), "mixed": len(np.unique(prompt[mixed])),
        "outside": int((centred != shown).sum()),
    }  # fmt: skip
    words = f"{len(a)} answers, {seen['mixed']} of {seen['prompts']} prompts with right and wrong ones"
    aria = f"How much the expert prefers an answer against its reward, within prompts: {words}"
    return to_svg(ax, "scatter", aria), seen


def tilt(curve: Sequence[tuple[float, ...]], ceiling: Estimate | None, expert: Estimate | None) -> Markup:
    """Accuracy under weights e^(tA) on the student's own answers, of (t, value, low, high); the ceiling as a line."""
    t, value, low, high = (np.array(column) for column in zip(*curve))
    ax = panel(*PANEL, "Leaning toward the expert", margins=(42, 30, 66, 40))
    ax.set_xlim(float(t.min()), float(t.max()) or 1.0)
    ax.fill_between(t, np.clip(low, 0, 1), np.clip(high, 0, 1), color=STUDENT, alpha=0.14, lw=0)
    ax.plot(t, np.clip(value, 0, 1), color=STUDENT, lw=2.2, marker="o", ms=4.5, clip_on=False)
    ends = [("tilted", float(np.clip(value[-1], 0, 1)), STUDENT)]
    for word, e, style in (("ceiling", ceiling, svg.DASHED), ("expert", expert, svg.DOTTED)):
        if e is not None:
            at = float(np.clip(e.value, 0, 1))
            ax.axhline(at, color=EXPERT, lw=1.2, ls=style, zorder=1.5)
            ends.append((word, at, INK))
    svg.percent_axis(ax, [*low, *high, *(end for _, end, _ in ends)])
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_xlabel("t: weight of an answer is exp(t · A)")
    end_labels(ax, ends)
    return to_svg(ax, "tilt", f"Accuracy of the student's own answers re-weighed toward the expert: {value[0]:.2f} at "
                              f"t = {t[0]:g}, {value[-1]:.2f} at t = {t[-1]:g}")  # fmt: skip


def lengths(student: Floats, expert: Floats) -> Markup:
    """Histograms of completion lengths from counts by number of tokens: the expert an area, the student a line."""
    longest = max(len(student), len(expert))
    width = max(1, -(-longest // 26))
    bins = np.arange(0.0, longest + width, width)
    ax = panel(PANEL[0], 220, "Lengths", margins=(8, 30, 8, 40))
    for counts, filled in ((expert, True), (student, False)):
        if counts.sum() > 0:
            heights, edges = np.histogram(np.arange(len(counts)), bins, weights=counts)
            hue = svg.AREA if filled else STUDENT
            ax.stairs(heights / counts.sum(), edges, fill=filled, color=hue, lw=0 if filled else 2.0)
    ax.set_ylim(0, ax.get_ylim()[1] * 1.06)
    ax.yaxis.set_major_locator(NullLocator())
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_xlabel("tokens per completion")
    means = [float(np.arange(len(c)) @ c / c.sum()) if c.sum() > 0 else 0.0 for c in (student, expert)]
    aria = f"Completion lengths: student {means[0]:.1f} tokens on average, expert {means[1]:.1f}"
    return to_svg(ax, "lengths", aria)
