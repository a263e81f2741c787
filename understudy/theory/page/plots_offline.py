"""Figures of sections 1 and 2."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from understudy.theory.information import Info
from understudy.theory.page.plots import (
    COOL,
    FAINT,
    INK,
    OFFLINE,
    ONLINE,
    SCORED,
    SOFT,
    VIOLET,
    WARM,
    end_label,
    log_axes,
    note,
    panels,
)
from understudy.theory.page.typeset import greek


def realizable(d: dict[str, Any]) -> Figure:
    figure, (ax,) = panels("Error of maximum likelihood, realizable expert, K = 64", height=360)
    ax.plot(d["n"], d["bound"], color=FAINT, lw=1.5)
    end_label(ax, d["n"][-1], d["bound"][-1], "2(log K+1)/n", SOFT)
    means = d["means"]
    for color, values in zip(COOL, means.values()):
        ax.plot(d["n"], values, color=color, marker="o", ms=4)
    log_axes(ax)
    lowest = min(v[-1] for v in means.values())
    ax.set_ylim(max(lowest, 1e-7) / 3, max(d["bound"]) * 1.5)
    for i, (color, h) in enumerate(zip(COOL, means)):
        note(ax, 0.04, 0.30 - 0.075 * i, f"H = {h}", color, weight="bold")
    ax.set_xlabel("expert samples n")
    ax.set_ylabel("mean squared Hellinger distance")
    return figure


def constant(d: dict[str, Any]) -> Figure:
    figure, (ax,) = panels(f"Deterministic realizable expert, l = {d['l']}", height=360)
    n = d["n"]
    ax.fill_between(n, d["lower"], d["upper"], color=ONLINE, alpha=0.06, lw=0)
    ax.plot(n, d["upper"], color=OFFLINE)
    ax.plot(n, d["exact"], color=ONLINE, lw=3)
    ax.plot(n, d["lower"], color=INK, lw=1, ls=(0, (2, 2)))
    log_axes(ax)
    ax.set_ylim(d["lower"][-1] / 3, max(d["upper"]) * 1.6)
    end_label(ax, n[-1], d["upper"][-1], "proved for\noffline", OFFLINE)
    end_label(ax, n[-1], d["exact"][-1], "exact, best\nlearner", ONLINE)
    note(ax, 0.03, 0.06, "dotted: floor for every online learner, (l − 1) / (2e(n + 1))", INK)
    ax.set_xlabel("rounds n")
    ax.set_ylabel("worst-case regret")
    return figure


def scores(d: dict[str, Any]) -> Figure:
    figure, (ax,) = panels("Random realizable expert (R-stoch): regret against n", height=360)
    for color, cool, (g, lines) in zip(WARM[1:], COOL[1:], d["curves"].items()):
        ax.plot(d["n"], lines[Info.OFF_S], color=color)
        ax.plot(d["n"], lines[Info.OFF_G], color=cool, ls=(0, (5, 2)))
        where = int(np.argmax(np.asarray(lines[Info.OFF_S]) < 3e-4)) or len(d["n"]) - 1
        end_label(ax, d["n"][where], max(lines[Info.OFF_S][where], 3e-4), f"g = {g:g}", color, dx=4, dy=8)
    log_axes(ax)
    ax.set_ylim(1e-4, 0.5)
    note(ax, 0.03, 0.24, "samples alone (OFF-S)", OFFLINE, weight="bold")
    note(ax, 0.03, 0.16, "with scores: OFF-G and ON-G, identical", ONLINE, weight="bold")
    ax.set_xlabel("rounds n")
    ax.set_ylabel("exact Bayes regret")
    return figure


def bottleneck(d: dict[str, Any]) -> Figure:
    n = d["n"]
    main = (0.01, 0.1) if (0.01, 0.1) in d["off_s"] else next(iter(d["off_s"]))
    eps = main[0]
    setting = f"l = {d['l']}, eps = {eps:g}, kappa = {main[1]:g}"
    figure, (a, b) = panels(f"Who needs how many rounds ({setting})", "Offline, as the expert moves out of reach")
    a.plot(n, d["off_s"][main], color=OFFLINE)
    a.plot(n, d["off_g"][eps], color=SCORED, ls=(0, (5, 2)))
    a.plot(n, d["on_g"], color=ONLINE)
    log_axes(a)
    a.set_ylim(1e-4, 1.2)
    _mark(a, n, d["on_g"], "online: scores of\nown actions (ON-G)", ONLINE, 3e-3, ha="right", dx=-8)
    _mark(a, n, d["off_s"][main], "offline: expert\nsamples (OFF-S)", OFFLINE, 4e-3, dx=8)
    _mark(a, n, d["off_g"][eps], "samples with\nscores (OFF-G)", SCORED, 6e-4, ha="right", dx=-7)
    a.set_xlabel("rounds n")
    a.set_ylabel("exact Bayes regret")
    colours = dict(zip(sorted({e for e, _ in d["off_s"]}, reverse=True), WARM[1:]))
    for (e, kappa), values in d["off_s"].items():
        noisy = kappa > 0
        b.plot(n, values, color=colours[e], ls=(0, (4, 2)) if noisy else "-", lw=1.6 if noisy else 2)
        b.annotate(greek(f"eps = {e:g}"), (d["l"] / e, 0.72), color=colours[e], fontsize=10.5, ha="center", va="center")
    b.axhline(0.5, color=FAINT, lw=1, ls=":")
    end_label(b, n[-1], 0.5, "gap / 2", SOFT)
    log_axes(b)
    b.set_ylim(1e-4, 1.2)
    b.set_xlabel("expert samples n")
    note(b, 0.02, 0.04, "solid: kappa = 0\ndashed: kappa = 0.1")
    return figure


def _mark(ax: Any, x: list[int], y: list[float], text: str, color: str, level: float, **more: Any) -> None:
    """Name a falling line where it crosses `level`."""
    below = np.flatnonzero(np.asarray(y) < level)
    i = int(below[0]) if len(below) else len(x) - 1
    end_label(ax, x[i], max(y[i], level * 0.6), text, color, **more)


def rate(d: dict[str, Any]) -> Figure:
    figure, (ax,) = panels(f"The floor log|Pi| / n, eps = {d['eps']:g}", height=360)
    for color, (size, exact) in zip(WARM, d["exact"].items()):
        n = d["n"][size]
        if not n:
            continue
        ax.plot(n, exact, color=color, lw=2.4)
        ax.plot(n, d["lower"][size], color=INK, lw=1, ls=(0, (2, 2)))
        end_label(ax, n[-1], exact[-1], f"log₂|Π| = {size}", color)
    log_axes(ax)
    ax.set_xlabel("expert samples n")
    ax.set_ylabel("exact Bayes regret")
    note(ax, 0.03, 0.05, "dotted: (l − 1) / (2e·eps·(n + 1))")
    return figure


def baseline(d: dict[str, Any]) -> Figure:
    figure, (ax,) = panels("Importance weighting needs a baseline", height=360)
    n = d["n"]
    ax.plot(n, d["off"], color=OFFLINE, lw=1.5, ls=(0, (4, 2)))
    colours = {"midrange": ONLINE, "group": COOL[1], "none": VIOLET}
    for name, values in d["lines"].items():
        ax.plot(n, values, color=colours[name])
    log_axes(ax)
    ax.set_ylim(1e-4, 0.9)
    end_label(ax, n[-1], d["off"][-1], "offline", OFFLINE)
    _mark(ax, n, d["lines"]["none"], "no baseline", VIOLET, 2e-2, dx=7)
    _mark(ax, n, d["lines"]["group"], "group mean", COOL[1], 3e-3, dx=7)
    _mark(ax, n, d["lines"]["midrange"], "midrange\n(optimal)", ONLINE, 1e-3, dx=-7, ha="right")
    ax.set_xlabel("rounds n")
    ax.set_ylabel("exact regret")
    return figure


def trap(d: dict[str, Any]) -> Figure:
    figure, (a, b) = panels("What each loss charges (nats)", "Along mixtures of the two students", widths=(1, 1.25))
    parts = d["parts"]
    position = {("L", 0): 0.0, ("L", 1): 1.0, ("F", 0): 2.6, ("F", 1): 3.6}
    for k in (0, 1):
        a.bar(position["L", k], parts.nuisance[k], color=COOL[0], width=0.8)
        a.bar(position["L", k], parts.relevant[k], bottom=parts.nuisance[k], color=ONLINE, width=0.8)
        a.bar(position["F", k], parts.forward[k], color=WARM[1], width=0.8)
        for kind, total in (("L", parts.reverse[k]), ("F", parts.forward[k])):
            a.text(position[kind, k], total + 0.3, f"{total:.2f}", ha="center", fontsize=10.5, color=SOFT)
    a.set_xticks(list(position.values()), ["good", "bad", "good", "bad"])
    a.set_yticks([0, 5, 10, 15, 20])
    a.set_ylim(0, 21.5)
    for x, text, color in ((0.5, "reverse KL (online)", ONLINE), (3.1, "forward KL (SFT)", OFFLINE)):
        a.annotate(text, (x, 0), xytext=(0, -36), textcoords="offset points", color=color, fontsize=11,
                   weight="bold", ha="center", va="center", annotation_clip=False)  # fmt: skip
    a.text(-0.4, 7.2, "dark: what the reward sees", color=ONLINE, fontsize=10.5)
    w = d["w"]
    b.plot(w, d["V"], color=INK, lw=1.4)
    b.plot(w, d["L"] / d["L"].max(), color=ONLINE)
    scaled = d["F"] / np.max(d["F"])
    b.plot(w, scaled, color=OFFLINE)
    b.set_ylim(0, 1.12)
    low, high = int(np.argmin(d["L"])), int(np.argmin(d["F"]))
    b.plot(w[low], d["V"][low], "o", color=ONLINE, ms=9, clip_on=False)
    b.plot(w[high], d["V"][high], "o", color=OFFLINE, ms=9, clip_on=False)
    end_label(b, w[low], d["V"][low], f"online ends here: V = {d['V'][low]:.2f}", ONLINE, dx=12, dy=9)
    end_label(b, w[high], d["V"][high], f"SFT ends here: V = {d['V'][high]:.2f}", OFFLINE, dx=-10, dy=-14, ha="right")
    end_label(b, 1.0, d["L"][-1] / d["L"].max(), "reverse KL", ONLINE)
    end_label(b, 1.0, scaled[-1], "forward KL", OFFLINE)
    end_label(b, 0.62, float(np.interp(0.62, w, d["V"])), "value V", INK, dy=-12, dx=-50)
    b.set_xlabel("weight of the bad student")
    return figure


def gaussian(d: dict[str, Any]) -> Figure:
    figure, (ax,) = panels("Gaussian bottleneck: exact Bayes regret", height=360)
    n = d["n"]
    for color, (distance, values) in zip(WARM, d["lines"].items()):
        ax.plot(n, values, color=color)
        ax.plot(n, d["bounds"][distance], color=INK, lw=1, ls=(0, (2, 2)))
        _mark(ax, n, values, f"M = {distance:g}", color, 6e-3, dx=6)
    ax.plot(n, d["online"], color=ONLINE)
    log_axes(ax)
    ax.set_ylim(1e-3, 1.2)
    end_label(ax, 1.25, 3e-3, "online, M = 4", ONLINE, dx=6)
    ax.set_xlabel("samples n")
    ax.set_ylabel("regret")
    note(ax, 0.62, 0.92, "dotted: closed lower bound", INK)
    return figure
