"""Figures of sections 1 and 2: a claim's data -> one figure per panel. Offline is warm, online is cool."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from understudy.report.figures import svg as kit
from understudy.theory.information import Info

FLOOR: dict[str, Any] = {"color": kit.INK, "lw": 1, "ls": kit.DOTTED}


def panels(*titles: str, height: float = 340, left: float = 58, right: float = 92) -> tuple[list[Figure], list[Axes]]:
    """Panels of the drawing kit, narrow enough that their text can be read on a phone."""
    return kit.panels(*titles, height=height, width={1: 480, 2: 460}.get(len(titles), 350), left=left, right=right)


def chart(
    title: str, x: str, y: str, ylim: tuple[float, float] | None = None, height: float = 360
) -> tuple[list[Figure], Axes]:
    """One panel with logarithmic axes."""
    figures, (ax,) = panels(title, height=height)
    logarithmic(ax, x, y, ylim)
    return figures, ax


def logarithmic(ax: Axes, x: str, y: str = "", ylim: tuple[float, float] | None = None) -> None:
    kit.log_axes(ax)
    ax.set(xlabel=x, ylabel=y)
    if ylim:
        ax.set_ylim(ylim)


def cross(ax: Axes, x: list[int], y: list[float], text: str, color: str, level: float, **more: Any) -> None:
    """Name a falling line where it crosses `level`."""
    below = np.flatnonzero(np.asarray(y) < level)
    i = int(below[0]) if len(below) else len(x) - 1
    kit.end_label(ax, x[i], max(y[i], level * 0.6), text, color, **more)


def realizable(d: dict[str, Any]) -> list[Figure]:
    means = d["means"]
    lowest = max(min(v[-1] for v in means.values()), 1e-7)
    title, y = "Error of maximum likelihood, realizable expert, K = 64", "mean squared Hellinger distance"
    figures, ax = chart(title, "expert samples n", y, (lowest / 3, max(d["bound"]) * 1.5))
    ax.plot(d["n"], d["bound"], color=kit.FAINT, lw=1.5)
    kit.end_label(ax, d["n"][-1], d["bound"][-1], "2(log K+1)/n", kit.SOFT)
    for i, (color, h) in enumerate(zip(kit.COOL, means)):
        ax.plot(d["n"], means[h], color=color, marker="o", ms=4)
        kit.note(ax, 0.04, 0.30 - 0.075 * i, f"H = {h}", color, weight="bold")
    return figures


def constant(d: dict[str, Any]) -> list[Figure]:
    n, ylim = d["n"], (d["lower"][-1] / 3, max(d["upper"]) * 1.6)
    figures, ax = chart(f"Deterministic realizable expert, l = {d['l']}", "rounds n", "worst-case regret", ylim)
    ax.fill_between(n, d["lower"], d["upper"], color=kit.ONLINE, alpha=0.06, lw=0)
    ax.plot(n, d["upper"], color=kit.OFFLINE)
    ax.plot(n, d["exact"], color=kit.ONLINE, lw=3)
    ax.plot(n, d["lower"], **FLOOR)
    kit.end_label(ax, n[-1], d["upper"][-1], "proved for\noffline", kit.OFFLINE)
    kit.end_label(ax, n[-1], d["exact"][-1], "exact, best\nlearner", kit.ONLINE)
    kit.note(ax, 0.03, 0.06, "dotted: floor for every online learner, (l − 1) / (2e(n + 1))", kit.INK)
    return figures


def scores(d: dict[str, Any]) -> list[Figure]:
    title = "Random realizable expert (R-stoch): regret against n"
    figures, ax = chart(title, "rounds n", "exact Bayes regret", (1e-4, 0.5))
    for warm, cool, (g, lines) in zip(kit.WARM[1:], kit.COOL[1:], d["curves"].items()):
        ax.plot(d["n"], lines[Info.OFF_S], color=warm)
        ax.plot(d["n"], lines[Info.OFF_G], color=cool, ls=(0, (5, 2)))
        where = int(np.argmax(np.asarray(lines[Info.OFF_S]) < 3e-4)) or len(d["n"]) - 1
        kit.end_label(ax, d["n"][where], max(lines[Info.OFF_S][where], 3e-4), f"g = {g:g}", warm, dx=4, dy=8)
    kit.note(ax, 0.03, 0.24, "samples alone\n(OFF-S)", kit.OFFLINE, weight="bold")
    kit.note(ax, 0.03, 0.08, "with scores: OFF-G\nand ON-G, identical", kit.ONLINE, weight="bold")
    return figures


def bottleneck(d: dict[str, Any]) -> list[Figure]:
    n, off_s = d["n"], d["off_s"]
    main = (0.01, 0.1) if (0.01, 0.1) in off_s else next(iter(off_s))
    title = f"Who needs how many rounds (l = {d['l']}, eps = {main[0]:g}, kappa = {main[1]:g})"
    figures, (a, b) = panels(title, "Offline, as the expert moves out of reach", height=380)
    logarithmic(a, "rounds n", "exact Bayes regret", (1e-4, 1.2))
    logarithmic(b, "expert samples n", "", (1e-4, 1.2))
    a.plot(n, off_s[main], color=kit.OFFLINE)
    a.plot(n, d["off_g"][main[0]], color=kit.SCORED, ls=(0, (5, 2)))
    a.plot(n, d["on_g"], color=kit.ONLINE)
    cross(a, n, d["on_g"], "online: scores of\nown actions (ON-G)", kit.ONLINE, 3e-3, ha="right", dx=-8)
    cross(a, n, off_s[main], "offline: expert\nsamples (OFF-S)", kit.OFFLINE, 4e-3, dx=8)
    cross(a, n, d["off_g"][main[0]], "samples with\nscores (OFF-G)", kit.SCORED, 6e-4, ha="right", dx=-7)
    colours = dict(zip(sorted({e for e, _ in off_s}, reverse=True), kit.WARM[1:]))
    for (e, kappa), values in off_s.items():
        b.plot(n, values, color=colours[e], ls=kit.DASHED if kappa > 0 else "-", lw=1.6 if kappa > 0 else 2)
        kit.end_label(b, d["l"] / e, 0.72, f"eps = {e:g}", colours[e], dx=0, ha="center")
    b.axhline(0.5, color=kit.FAINT, lw=1, ls=":")
    kit.end_label(b, n[-1], 0.5, "gap / 2", kit.SOFT)
    kit.note(b, 0.02, 0.04, "solid: kappa = 0\ndashed: kappa = 0.1")
    return figures


def rate(d: dict[str, Any]) -> list[Figure]:
    title = f"The floor log|Pi| / n, eps = {d['eps']:g}"
    figures, ax = chart(title, "expert samples n", "exact Bayes regret")
    for color, (size, exact) in zip(kit.WARM, d["exact"].items()):
        if n := d["n"][size]:
            ax.plot(n, exact, color=color, lw=2.4)
            ax.plot(n, d["lower"][size], **FLOOR)
            kit.end_label(ax, n[-1], exact[-1], f"log₂|Π| = {size}", color)
    kit.note(ax, 0.03, 0.05, "dotted: (l − 1) / (2e·eps·(n + 1))")
    return figures


def baseline(d: dict[str, Any]) -> list[Figure]:
    figures, ax = chart("Importance weighting needs a baseline", "rounds n", "exact regret", (1e-4, 0.9))
    n, lines = d["n"], d["lines"]
    ax.plot(n, d["off"], color=kit.OFFLINE, lw=1.5, ls=kit.DASHED)
    kit.end_label(ax, n[-1], d["off"][-1], "offline", kit.OFFLINE)
    for name, text, color, level, place in (
        ("none", "no baseline", kit.VIOLET, 2e-2, {"dx": 7}),
        ("group", "group mean", kit.COOL[1], 3e-3, {"dx": 7}),
        ("midrange", "midrange\n(optimal)", kit.ONLINE, 1e-3, {"dx": -7, "ha": "right"}),
    ):
        ax.plot(n, lines[name], color=color)
        cross(ax, n, lines[name], text, color, level, **place)
    return figures


def trap(d: dict[str, Any]) -> list[Figure]:
    figures, (a, b) = panels("What each loss charges (nats)", "Along mixtures of the two students", height=380)
    parts = d["parts"]
    for k in (0, 1):
        a.bar(k, parts.nuisance[k], color=kit.COOL[0], width=0.8)
        a.bar(k, parts.relevant[k], bottom=parts.nuisance[k], color=kit.ONLINE, width=0.8)
        a.bar(2.6 + k, parts.forward[k], color=kit.WARM[1], width=0.8)
        for x, total in ((k, parts.reverse[k]), (2.6 + k, parts.forward[k])):
            a.text(x, total + 0.3, f"{total:.2f}", ha="center", size=10.5, color=kit.SOFT)
    a.set_xticks([0, 1, 2.6, 3.6], ["good", "bad", "good", "bad"])
    a.set(yticks=[0, 5, 10, 15, 20], ylim=(0, 21.5))
    for x, text, color in ((0.5, "reverse KL (online)", kit.ONLINE), (3.1, "forward KL (SFT)", kit.OFFLINE)):
        kit.end_label(a, x, 0, text, color, dx=0, dy=-36, size=11, weight="bold", ha="center")
    a.text(-0.4, 7.2, "dark: what the reward sees", color=kit.ONLINE, size=10.5)
    w, value, reverse, forward = d["w"], d["V"], d["L"] / d["L"].max(), d["F"] / np.max(d["F"])
    b.plot(w, value, color=kit.INK, lw=1.4)
    b.plot(w, reverse, color=kit.ONLINE)
    b.plot(w, forward, color=kit.OFFLINE)
    b.set(ylim=(0, 1.12), xlabel="weight of the bad student")
    low, high = int(np.argmin(d["L"])), int(np.argmin(d["F"]))
    b.plot(w[low], value[low], "o", color=kit.ONLINE, ms=9, clip_on=False)
    b.plot(w[high], value[high], "o", color=kit.OFFLINE, ms=9, clip_on=False)
    kit.end_label(b, w[low], value[low], f"online ends here: V = {value[low]:.2f}", kit.ONLINE, dx=12, dy=9)
    kit.end_label(
        b, w[high], value[high], f"SFT ends here: V = {value[high]:.2f}", kit.OFFLINE, dx=-10, dy=-14, ha="right"
    )
    kit.end_label(b, 1.0, reverse[-1], "reverse KL", kit.ONLINE)
    kit.end_label(b, 1.0, forward[-1], "forward KL", kit.OFFLINE)
    kit.end_label(b, 0.62, float(np.interp(0.62, w, value)), "value V", kit.INK, dy=-12, dx=-50)
    return figures


def gaussian(d: dict[str, Any]) -> list[Figure]:
    figures, ax = chart("Gaussian bottleneck: exact Bayes regret", "samples n", "regret", (1e-3, 1.2))
    n = d["n"]
    for color, (distance, values) in zip(kit.WARM, d["lines"].items()):
        ax.plot(n, values, color=color)
        ax.plot(n, d["bounds"][distance], **FLOOR)
        cross(ax, n, values, f"M = {distance:g}", color, 6e-3, dx=6)
    ax.plot(n, d["online"], color=kit.ONLINE)
    kit.end_label(ax, 1.25, 3e-3, "online, M = 4", kit.ONLINE, dx=6)
    kit.note(ax, 0.62, 0.92, "dotted: closed lower bound", kit.INK)
    return figures
