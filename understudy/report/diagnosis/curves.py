"""Learning curves of the pilots, and how they are thought to go on to the full training.

Left of the shaded part is measured; inside it is extrapolated. The axis of training sequences is logarithmic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from understudy.diagnosis.types import Diagnosis, Estimate
from understudy.evaluation.numbers import brief
from understudy.report.diagnosis.plots import OPD, PANEL, SFT, STUDENT, end_labels, share_axis
from understudy.report.diagnosis.series import columns, rows
from understudy.report.figures.svg import EXPERT, FAINT, HAIR, INK, SOFT, axes, figure, to_svg

SIZE, HEIGHT = PANEL
_MARGINS = (46.0, 34.0, 66.0, 42.0)  # left, top, right, bottom
_INSIDE = (SIZE - _MARGINS[0] - _MARGINS[2], HEIGHT - _MARGINS[1] - _MARGINS[3])
_START = (0, (1.5, 2))


def forward(d: Diagnosis) -> Markup | None:
    """Held-out KL(expert, student) of the SFT pilots with the fitted floor, drawn out to the full training."""
    points = [(p.samples, p.kl_expert_student) for p in d.evidence.curve("sft") if p.kl_expert_student]
    if not points:
        return None
    fig, ax = _panel("SFT: distance to the expert’s texts")
    far = _samples_axis(ax, [n for n, _ in points], d.evidence.full_sequences)
    begin = d.evidence.start("sft")
    before = begin.kl_expert_student if begin else None
    top = max([e.high for _, e in points] + ([before.high] if before else []))
    band = [row for row in columns(d.series.get("floor_curve"), "n", "value", "low", "high") if row[0] > 0]
    ends: list[tuple[str, float, str]] = []
    if d.evidence.floor is not None and (d.evidence.floor.b > 0 or d.evidence.floor.a.value > 0):
        n = np.geomspace(points[0][0], far, 80)
        fit = np.array([d.evidence.floor.at(float(x)) for x in n])
        inside = n <= points[-1][0] * 1.0001
        ax.plot(n[inside], fit[inside], color=SFT, lw=1.6)
        if not inside.all():
            ax.plot(n[~inside], fit[~inside], color=SFT, lw=1.6, ls=(0, (4, 2.5)))
            top = max(top, float(fit.max()))
            ends.append(("fit", float(fit[-1]), SFT))
    if band:
        x, _, low, high = (np.array(column) for column in zip(*band))
        ax.fill_between(x, np.maximum(low, 0), high, color=SFT, alpha=0.16, lw=0)
        top = max(top, min(float(high.max()), 1.6 * top))
    _intervals(ax, points, SFT)
    if before:
        ax.axhline(before.value, color=STUDENT, lw=1.4, ls=_START, zorder=1.5)
        ends.append(("before", before.value, STUDENT))
    _nats_axis(ax, top)
    end_labels(ax, ends, _INSIDE)
    told = ", ".join(f"{e.value:.2f} at {n:,.0f}" for n, e in points)
    return to_svg(fig, "curve-forward", f"Held-out KL(expert, student) of the SFT pilots, nats: {told}")


def accuracy(d: Diagnosis) -> Markup | None:
    """Accuracy of the pilots, and what the verdict expects at the full training, with its interval."""
    lines = []
    for kind, word, hue in (("sft", "SFT", SFT), ("opd", "OPD", OPD)):
        points = [(float(p.samples), p.accuracy) for p in d.evidence.curve(kind) if p.accuracy]
        if points:
            lines.append((kind, word, hue, points))
    if not lines:
        return None
    fig, ax = _panel("Accuracy, and where it is expected to end")
    seen = [n for *_, points in lines for n, _ in points]
    full = d.evidence.full_sequences
    aside = (_samples_axis(ax, seen, full) / min(seen)) ** 0.011  # side by side where both have as many sequences
    ends, levels = [], []
    begin = next((p.accuracy for kind in ("sft", "opd") if (p := d.evidence.start(kind)) and p.accuracy), None)
    begin = begin or d.evidence.measures.get("student_accuracy")
    for word, found, hue, style in (
        ("expert", d.evidence.measures.get("expert_accuracy"), INK, (0, (4, 3))), ("before", begin, STUDENT, _START),
    ):  # fmt: skip
        if found is not None:
            ax.axhline(found.value, color=EXPERT if word == "expert" else hue, lw=1.3, ls=style, zorder=1.5)
            ends.append((word, found.value, hue))
    for kind, word, hue, points in lines:
        points = [(n * (1.0 if kind == "sft" else aside), e) for n, e in points]
        if len(points) > 1:
            ax.plot([n for n, _ in points], [e.value for _, e in points], color=hue, lw=1.6)
        _intervals(ax, points, hue)
        levels += [x for _, e in points for x in (e.low, e.high)]
        final = d.verdict.expected.get(kind) if kind == "sft" or d.has_online_route else None
        end = points[-1][1].value
        if final is not None and full > points[-1][0]:
            at = full / aside if kind == "sft" else full * aside
            ax.plot([points[-1][0], at], [end, final.value], color=hue, lw=1.4, ls=(0, (4, 2.5)))
            _intervals(ax, [(at, final)], hue, hollow=True)
            levels += [final.low, final.high]
            end = final.value
        ends.append((word, end, hue))
    share_axis(ax, levels + [y for _, y, _ in ends])
    end_labels(ax, ends, _INSIDE)
    told = "; ".join(f"{w}: " + ", ".join(f"{e.value:.2f} at {n:,.0f}" for n, e in p) for _, w, _, p in lines)
    return to_svg(fig, "curve-accuracy", f"Accuracy of the pilots against training sequences. {told}")


def reverse(d: Diagnosis) -> Markup | None:
    """KL(student, expert) on the student's own texts after each pilot."""
    lines = [
        (word, hue, points)
        for kind, word, hue in (("sft", "SFT", SFT), ("opd", "OPD", OPD))
        if (points := [(p.samples, p.kl_student_expert) for p in d.evidence.curve(kind) if p.kl_student_expert])
    ]
    if not lines:
        return None
    fig, ax = _panel("Distance of the student’s own texts")
    _samples_axis(ax, [n for *_, points in lines for n, _ in points], 0)
    ends: list[tuple[str, float, str]] = []
    begin = next(
        (p.kl_student_expert for kind in ("sft", "opd") if (p := d.evidence.start(kind)) and p.kl_student_expert), None
    )
    top = begin.high if begin else 0.0
    if begin:
        ax.axhline(begin.value, color=STUDENT, lw=1.4, ls=_START, zorder=1.5)
        ends.append(("before", begin.value, STUDENT))
    for i, (word, hue, points) in enumerate(lines):
        shifted = [(n * (1 + 0.03 * i), e) for n, e in points]
        if len(shifted) > 1:
            ax.plot([n for n, _ in shifted], [e.value for _, e in shifted], color=hue, lw=1.6)
        _intervals(ax, shifted, hue)
        top = max([top] + [e.high for _, e in points])
        ends.append((word, points[-1][1].value, hue))
    _nats_axis(ax, top)
    end_labels(ax, ends, _INSIDE)
    told = "; ".join(f"{w}: " + ", ".join(f"{e.value:.2f} at {n:,.0f}" for n, e in p) for w, _, p in lines)
    return to_svg(fig, "curve-reverse", f"KL(student, expert) after the pilots, nats. {told}")


def online_reward(d: Diagnosis) -> Markup | None:
    """Share right in each update of the online pilot: fresh prompts, not yet trained on."""
    seen = rows(d.series.get("online_reward"), 2)
    if len(seen) < 2:
        return None
    n, reward = (np.array(column) for column in zip(*seen))
    fig, ax = _panel("OPD: reward while it trains")
    ax.set_xlim(0, float(n.max()))
    window = max(1, min(len(n) // 4, 20))
    ax.plot(n, reward, color=FAINT if window > 1 else OPD, lw=1.0)
    smooth, at = reward, n
    if window > 1:
        smooth = np.convolve(reward, np.ones(window) / window, mode="valid")
        at = n[window - 1 :]
        ax.plot(at, smooth, color=OPD, lw=2.2)
    ends = [("OPD", float(smooth[-1]), OPD)]
    begin = d.evidence.start("opd")
    if begin and begin.accuracy:
        ax.axhline(begin.accuracy.value, color=STUDENT, lw=1.4, ls=_START, zorder=1.5)
        ends.append(("before", begin.accuracy.value, STUDENT))
    share_axis(ax, [*reward.tolist(), *(y for _, y, _ in ends)])
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: brief(v)))
    ax.set_xlabel("sequences", size=10.5, labelpad=3)
    end_labels(ax, ends, _INSIDE)
    return to_svg(fig, "curve-reward", f"Reward of the online pilot, {len(n)} updates: from {reward[0]:.2f}, running "
                                       f"mean at the end {smooth[-1]:.2f}")  # fmt: skip


# --- what the panels share -----------------------------------------------------------------------------------------


def _panel(title: str) -> tuple[Figure, Axes]:
    fig = figure(SIZE, HEIGHT)
    ax = axes(fig, *_MARGINS)
    fig.text(0, 1 - 15 / HEIGHT, title, weight="bold", size=13)
    return fig, ax


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
        if all(abs(math.log(n / other)) / span * _INSIDE[0] > 38 for other in ticks):
            ticks.append(n)
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: brief(v)))
    ax.set_xlabel("training sequences (logarithmic)", size=10.5, labelpad=3)
    return far


def _nats_axis(ax: Axes, top: float) -> None:
    ax.set_ylim(0, 1.06 * top if top > 0 else 1.0)
    ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.grid(axis="y", color=HAIR, lw=1)
    ax.set_title("nats per sequence", loc="left", size=10.5, color=SOFT, pad=3)


def _intervals(ax: Axes, points: Sequence[tuple[float, Estimate]], hue: str, hollow: bool = False) -> None:
    for n, e in points:
        ax.plot([n, n], [e.low, e.high], color=hue, lw=3, alpha=0.35, solid_capstyle="butt", zorder=2)
        ax.plot([n], [e.value], "o", ms=7.5, mfc="white" if hollow else hue, mec=hue, mew=2, zorder=3, clip_on=False)
