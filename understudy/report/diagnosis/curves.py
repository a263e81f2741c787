"""Learning curves of the pilots, and how they are thought to go on to the full training.

Left of the shaded part is measured; inside it is extrapolated. The axis of training sequences is logarithmic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from understudy.diagnosis.types import Diagnosis, Estimate
from understudy.evaluation.numbers import brief
from understudy.report.diagnosis.series import columns, rows
from understudy.report.figures.svg import (
    DASHED,
    DOTTED,
    EXPERT,
    FAINT,
    INK,
    OFFLINE,
    ONLINE,
    SOFT,
    STUDENT,
    end_labels,
    panel,
    percent_axis,
    size,
    to_svg,
)

PANEL = (420.0, 270.0)
"""Width and height of a panel in pixels; a page shows two side by side."""
ROUTES = (("sft", "SFT", OFFLINE), ("opd", "OPD", ONLINE))
Points = Sequence[tuple[float, Estimate]]
"""(training sequences, measured there)."""


def forward(d: Diagnosis) -> Markup | None:
    """Held-out KL(expert, student) of the SFT pilots with the fitted floor, drawn out to the full training."""
    e = d.evidence
    points = [(float(p.samples), p.kl_expert_student) for p in e.curve("sft") if p.kl_expert_student]
    if not points:
        return None
    ax = panel(*PANEL, "SFT: distance to the expert’s texts")
    far = _samples_axis(ax, [n for n, _ in points], e.full_sequences)
    start = e.start("sft")
    before = start.kl_expert_student if start else None
    top = max([y.high for _, y in points] + ([before.high] if before else []))
    ends: list[tuple[str, float, str]] = []
    if e.floor is not None and (e.floor.b > 0 or e.floor.a.value > 0):
        n = np.geomspace(points[0][0], far, 80)
        fit = np.array([e.floor.at(float(x)) for x in n])
        inside = n <= points[-1][0] * 1.0001
        ax.plot(n[inside], fit[inside], color=OFFLINE, lw=1.6)
        if not inside.all():
            ax.plot(n[~inside], fit[~inside], color=OFFLINE, lw=1.6, ls=DASHED)
            top = max(top, float(fit.max()))
            ends.append(("fit", float(fit[-1]), OFFLINE))
    band = [row for row in columns(d.series.get("floor_curve"), "n", "value", "low", "high") if row[0] > 0]
    if band:
        x, _, low, high = (np.array(column) for column in zip(*band))
        ax.fill_between(x, np.maximum(low, 0), high, color=OFFLINE, alpha=0.16, lw=0)
        top = max(top, min(float(high.max()), 1.6 * top))
    _intervals(ax, points, OFFLINE)
    _level(ax, ends, "before", before, STUDENT)
    _nats_axis(ax, top)
    end_labels(ax, ends)
    return to_svg(ax, "curve-forward", f"Held-out KL(expert, student) of the SFT pilots, nats: {_words(points)}")


def accuracy(d: Diagnosis) -> Markup | None:
    """Accuracy of the pilots, and what the verdict expects at the full training, with its interval."""
    e, full = d.evidence, d.evidence.full_sequences
    lines = {kind: [(float(p.samples), p.accuracy) for p in e.curve(kind) if p.accuracy] for kind, _, _ in ROUTES}
    if not any(lines.values()):
        return None
    ax = panel(*PANEL, "Accuracy, and where it is expected to end")
    seen = [n for points in lines.values() for n, _ in points]
    aside = (_samples_axis(ax, seen, full) / min(seen)) ** 0.011  # side by side where both have as many sequences
    ends: list[tuple[str, float, str]] = []
    levels = []
    _level(ax, ends, "expert", e.measures.get("expert_accuracy"), EXPERT, DASHED)
    starts = [p.accuracy for kind in lines if (p := e.start(kind)) and p.accuracy]
    _level(ax, ends, "before", starts[0] if starts else e.measures.get("student_accuracy"), STUDENT)
    for kind, word, hue in ROUTES:
        points = [(n * (1.0 if kind == "sft" else aside), y) for n, y in lines[kind]]
        if not points:
            continue
        _line(ax, points, hue)
        final = d.verdict.expected.get(kind) if kind == "sft" or d.has_online_route else None
        end = points[-1][1].value
        if final is not None and full > points[-1][0]:
            at = full / aside if kind == "sft" else full * aside
            ax.plot([points[-1][0], at], [end, final.value], color=hue, lw=1.4, ls=DASHED)
            _intervals(ax, [(at, final)], hue, hollow=True)
            levels += [final.low, final.high]
            end = final.value
        levels += [y for _, e in points for y in (e.low, e.high)]
        ends.append((word, end, hue))
    percent_axis(ax, levels + [y for _, y, _ in ends])
    end_labels(ax, ends)
    words = "; ".join(f"{word}: {_words(lines[kind])}" for kind, word, _ in ROUTES if lines[kind])
    return to_svg(ax, "curve-accuracy", f"Accuracy of the pilots against training sequences. {words}")


def reverse(d: Diagnosis) -> Markup | None:
    """KL(student, expert) on the student's own texts after each pilot."""
    e = d.evidence
    lines = {
        kind: [(float(p.samples), p.kl_student_expert) for p in e.curve(kind) if p.kl_student_expert]
        for kind, _, _ in ROUTES
    }
    if not any(lines.values()):
        return None
    ax = panel(*PANEL, "Distance of the student’s own texts")
    _samples_axis(ax, [n for points in lines.values() for n, _ in points], 0)
    ends: list[tuple[str, float, str]] = []
    starts = [p.kl_student_expert for kind in lines if (p := e.start(kind)) and p.kl_student_expert]
    _level(ax, ends, "before", starts[0] if starts else None, STUDENT)
    top = starts[0].high if starts else 0.0
    for i, (kind, word, hue) in enumerate(ROUTES):
        points = [(n * (1 + 0.03 * i), y) for n, y in lines[kind]]
        if points:
            _line(ax, points, hue)
            top = max([top] + [y.high for _, y in points])
            ends.append((word, points[-1][1].value, hue))
    _nats_axis(ax, top)
    end_labels(ax, ends)
    words = "; ".join(f"{word}: {_words(lines[kind])}" for kind, word, _ in ROUTES if lines[kind])
    return to_svg(ax, "curve-reverse", f"KL(student, expert) after the pilots, nats. {words}")


def online_reward(d: Diagnosis) -> Markup | None:
    """Share right in each update of the online pilot: fresh prompts, not yet trained on."""
    seen = rows(d.series.get("online_reward"), 2)
    if len(seen) < 2:
        return None
    n, reward = (np.array(column) for column in zip(*seen))
    ax = panel(*PANEL, "OPD: reward while it trains")
    ax.set_xlim(0, float(n.max()))
    window = max(1, min(len(n) // 4, 20))
    ax.plot(n, reward, color=FAINT if window > 1 else ONLINE, lw=1.0)
    smooth = np.convolve(reward, np.ones(window) / window, mode="valid")
    if window > 1:
        ax.plot(n[window - 1 :], smooth, color=ONLINE, lw=2.2)
    ends = [("OPD", float(smooth[-1]), ONLINE)]
    start = d.evidence.start("opd")
    _level(ax, ends, "before", start.accuracy if start else None, STUDENT)
    percent_axis(ax, [*reward.tolist(), *(y for _, y, _ in ends)])
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: brief(v)))
    ax.set_xlabel("sequences")
    end_labels(ax, ends)
    return to_svg(ax, "curve-reward", f"Reward of the online pilot, {len(n)} updates: from {reward[0]:.2f}, running "
                                      f"mean at the end {smooth[-1]:.2f}")  # fmt: skip


# --- what the panels share -----------------------------------------------------------------------------------------


def _samples_axis(ax: Axes, seen: Sequence[float], full: float) -> float:
    """Logarithmic, from the smallest pilot to the full training; what lies beyond the pilots is shaded."""
    last = max(seen)
    far = max(last, full)
    ax.set_xscale("log")
    room = (far / min(seen)) ** 0.05 if far > min(seen) else 1.5
    ax.set_xlim(min(seen) / room, far * room)
    if far > last:
        ax.axvspan(last * 1.001, far * room, color="#f4f5f7", lw=0, zorder=0)
    span = math.log(far * room**2 / min(seen))
    ticks: list[float] = []
    for n in sorted({far, last, *seen}, reverse=True):  # the largest first: they matter most
        if all(abs(math.log(n / other)) / span * size(ax)[0] > 38 for other in ticks):
            ticks.append(n)
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: brief(v)))
    ax.set_xlabel("training sequences (logarithmic)")
    return far


def _nats_axis(ax: Axes, top: float) -> None:
    ax.set_ylim(0, 1.06 * top if top > 0 else 1.0)
    ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.grid(axis="y")
    ax.set_title("nats per sequence", loc="left", size=10.5, color=SOFT, pad=3)


def _level(
    ax: Axes, ends: list[tuple[str, float, str]], word: str, e: Estimate | None, hue: str,
    style: tuple[float, tuple[float, ...]] = DOTTED,
) -> None:  # fmt: skip
    """A horizontal line at e, named in `ends`."""
    if e is not None:
        ax.axhline(e.value, color=hue, lw=1.4, ls=style, zorder=1.5)
        ends.append((word, e.value, INK if hue == EXPERT else hue))


def _line(ax: Axes, points: Points, hue: str) -> None:
    if len(points) > 1:
        ax.plot([n for n, _ in points], [e.value for _, e in points], color=hue, lw=1.6)
    _intervals(ax, points, hue)


def _intervals(ax: Axes, points: Points, hue: str, hollow: bool = False) -> None:
    for n, e in points:
        ax.plot([n, n], [e.low, e.high], color=hue, lw=3, alpha=0.35, solid_capstyle="butt", zorder=2)
        ax.plot([n], [e.value], "o", ms=7.5, mfc="white" if hollow else hue, mec=hue, mew=2, zorder=3, clip_on=False)


def _words(points: Points) -> str:
    return ", ".join(f"{e.value:.2f} at {n:,.0f}" for n, e in points)
