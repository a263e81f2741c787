"""Figures of sections 3 to 6."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from understudy.theory.page.plots import (
    BAD,
    COOL,
    FAINT,
    GOOD,
    INK,
    OFFLINE,
    ONLINE,
    SOFT,
    TEAL,
    VIOLET,
    WARM,
    end_label,
    log_axes,
    note,
    panels,
)
from understudy.theory.page.typeset import greek


def figure3(d: dict[str, Any]) -> Figure:
    titles = ("Class A: mean (0, m)", "Class B: mean (a, a)", "Value and KL along each class")
    figure, (a, b, c) = panels(*titles, height=350, widths=(1.27, 1.27, 1), gap=0.17)
    grid = np.linspace(-5, 4.5, 200)
    xs, ys = np.meshgrid(grid, grid)
    for ax, ends, projection, color in (
        (a, ((0, -3.9), (0, 4.4)), (0.0, 2.0), GOOD),
        (b, ((-3.9, -3.9), (4.4, 4.4)), (0.0, 0.0), BAD),
    ):
        ax.add_patch(Rectangle((-5, 0), 9.5, 4.5, color="#edf4ee", lw=0, zorder=0))
        for mean, hue, width in (((-2, 2), INK, 1.2), (projection, color, 1.7)):
            density = np.exp(-((xs - mean[0]) ** 2 + (ys - mean[1]) ** 2) / 2)
            ax.contour(xs, ys, density, levels=[np.exp(-2), np.exp(-0.5)], colors=hue, linewidths=width)
            ax.plot(*mean, "o", color=hue, ms=6)
        ax.plot([p[0] for p in ends], [p[1] for p in ends], color=color, lw=1, ls=(0, (4, 3)))
        ax.text(-4.8, 4.02, "expert", color=INK, fontsize=11, weight="bold")
        ax.text(-4.8, -0.6, "rewarded above", color=SOFT, fontsize=10)
        ax.axhline(0, color="#b9d1bd", lw=1, zorder=0.5)
        ax.set(xlim=(-5, 4.5), ylim=(-4, 4.5), xticks=[-4, -2, 0, 2, 4], yticks=[-4, -2, 0, 2, 4])
        ax.set_aspect("equal", anchor="SW")
        ax.grid(False)
    a.text(0.4, -1.5, "projection (0, 2)", color=GOOD, fontsize=10.5)
    a.text(0.4, -2.4, "V = 0.977", color=GOOD, fontsize=15, weight="bold")
    b.text(-0.2, -2.6, "projection (0, 0)", color=BAD, fontsize=10.5)
    b.text(-0.2, -3.5, "V = 0.5", color=BAD, fontsize=15, weight="bold")
    t = d["t"]
    c.plot(t, d["A"]["V"], color=INK)
    for name, color in (("A", GOOD), ("B", BAD)):
        loss = np.asarray(d[name]["L"])
        c.plot(t, loss / 14, color=color, lw=1.6, ls=(0, (5, 2)))
        best = int(loss.argmin())
        c.plot([t[best]] * 2, [loss[best] / 14, d[name]["V"][best]], color=color, lw=0.9, ls=":")
        c.plot(t[best], d[name]["V"][best], "o", color=color, ms=8)
    c.set_ylim(0, 1.05)
    c.set_xlim(-3, 4)
    c.set_xlabel("parameter m or a")
    end_label(c, 4, 1.0, "V (both)", INK)
    end_label(c, 4, float(np.interp(4, t, np.asarray(d["A"]["L"]) / 14)), "KL / 14, A", GOOD)
    end_label(c, 3.25, 0.86, "KL / 14, B", BAD, dx=12)
    return figure


def benign(d: dict[str, Any]) -> Figure:
    figure, (a, b) = panels("Online imitation: reward lost against Delta", "SFT on the same instances", gap=0.2)
    names = {
        "generic": ("no structure", FAINT),
        "planted-noisy": ("jittered style", TEAL),
        "planted-const": ("equal style", COOL[1]),
        "planted-tau": ("students differ in the style they can fake", VIOLET),
    }
    x = np.geomspace(1e-5, 10, 200)
    for ax, which in ((a, 2), (b, 3)):
        for kind, (_, color) in names.items():
            delta, v_e = d["points"][kind][0][:600], d["points"][kind][1][:600]
            ax.plot(delta, v_e - d["points"][kind][which][:600], ".", ms=3.5, color=color, alpha=0.7)
        for name, point in d["named"].items():
            ax.plot(point[0], point[which - 1], "o", color=INK, ms=6, zorder=5)
            below = point[which - 1] == 0  # inside the cloud: name it below, with a line
            ax.annotate(
                name,
                (point[0], point[which - 1]),
                xytext=(0, -78 if below else -15 if name.startswith("Figure") else 13),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": INK, "lw": 0.8} if below else None,
                color=INK,
                fontsize=10.5,
                weight="bold",
                ha="center",
                va="center",
            )
        for sign in (1, -1):
            ax.plot(x, sign * np.sqrt(x / 2), color=INK, lw=1.4)
        log_axes(ax, y=False)
        ax.set_xlim(1e-5, 3)
        ax.set_ylim(-0.42, 0.95)
        ax.set_xlabel(greek("Delta (nats)"))
    a.set_ylabel("expert's value minus the student's")
    end_label(a, 0.05, 0.158, "proved: ±√(Delta / 2)", INK, dx=-6, dy=14, ha="right")
    note(a, 0.03, 0.93, "no dot lies outside the lines", ONLINE, weight="bold")
    note(b, 0.03, 0.93, "no such guarantee", OFFLINE, weight="bold")
    for i, (label, color) in enumerate(names.values()):
        note(b, 0.03, 0.235 - 0.062 * i, "● " + label, color)
    return figure


def asymmetry(d: dict[str, Any]) -> Figure:
    figure, (ax,) = panels("Where online imitation ends in a tilt-closed class", height=360)
    gap = d["gap"]
    for color, (v_e, values) in zip(COOL[1:], d["lines"].items()):
        ax.plot([gap[0], gap[-1]], [v_e, v_e], color=OFFLINE, lw=1.2, ls=(0, (4, 3)))
        ax.plot(gap, values, color=color)
        end_label(ax, gap[-1], v_e, f"SFT: {v_e:g}", OFFLINE)
    ax.axvline(0, color=FAINT, lw=0.8)
    ax.set_xlim(gap[0], gap[-1])
    ax.set_ylim(0, 1.03)
    ax.set_xlabel("D₁ − D₀: how much harder right answers are to phrase like the expert (nats)")
    ax.set_ylabel("value")
    note(ax, 0.385, 0.05, "online better", ONLINE, weight="bold", ha="right")
    note(ax, 0.415, 0.05, "worse", BAD, weight="bold")
    return figure


def gradient(d: dict[str, Any]) -> Figure:
    figure, (ax,) = panels("Class B of Figure 3: raw against projected alignment", height=340)
    ax.plot(d["t"], d["raw"], color=FAINT)
    ax.plot(d["t"], d["projected"], color=BAD)
    ax.axhline(0, color=INK, lw=0.8)
    ax.plot([0, 0], [0.0, np.interp(0, d["t"], d["raw"])], color=SOFT, lw=0.9, ls=":")
    ax.plot(0, 0, "o", color=BAD, ms=7)
    end_label(ax, 0, 0.80, "raw covariance: 0.80 at the projection", SOFT, dx=8, dy=6)
    end_label(ax, 0, 0, "gain of a step in the class: 0", BAD, dx=-8, dy=-12, ha="right")
    ax.set_xlabel("parameter a")
    ax.set_ylabel("dV per unit step")
    return figure


def base_policy(d: dict[str, Any]) -> Figure:
    student, expert = d["coverage"]
    figure, (a, b) = panels(
        f"Base: a student-like policy (C ≈ {student:.1f})", f"Base: the expert itself (C ≈ {expert:,.0f})"
    )
    colours = {"ips": ONLINE, "snips": TEAL, "clipped": COOL[1], "pessimistic": GOOD, "ix": VIOLET, "raw ips": OFFLINE}
    for ax, lines in ((a, d["student"]), (b, d["expert"])):
        for name, values in lines.items():
            ax.plot(d["n"], values, color=colours[name], marker="o", ms=4, ls="-" if name != "raw ips" else (0, (4, 2)))
        log_axes(ax)
        ax.set_ylim(3e-4, 30)
        ax.set_xticks(d["n"], [f"{n:,}" for n in d["n"]])
        ax.set_xlabel("rounds n")
        _spread_labels(ax, d["n"][-1], {k: v[-1] for k, v in lines.items()}, colours)
    if len(d["n"]) > 1:
        a.plot(d["n"], d["certified"], color=FAINT, lw=1.4)
        end_label(a, d["n"][0], d["certified"][0], "certified for ips (Theorem 4a)", SOFT, dx=2, dy=10)
    a.axhline(d["spread"], color=FAINT, lw=0.9, ls=":")
    end_label(a, d["n"][0], d["spread"], "spread of L over the class", SOFT, dx=2, dy=7)
    a.set_ylabel("mean excess reverse KL (nats)")
    return figure


def _spread_labels(ax: Any, x: float, ends: dict[str, float], colours: dict[str, str], gap: float = 0.062) -> None:
    """End labels at least `gap` (in log axes heights) apart."""
    low, high = np.log10(ax.get_ylim())
    order = sorted(ends, key=lambda k: ends[k])
    at = [(np.log10(max(ends[k], 1e-12)) - low) / (high - low) for k in order]
    for i in range(1, len(at)):
        at[i] = max(at[i], at[i - 1] + gap)
    for k, y in zip(order, at):
        ax.text(1.03, y, k, transform=ax.transAxes, color=colours[k], fontsize=10.5, va="center", clip_on=False)


def horizon(d: dict[str, Any]) -> Figure:
    title = f"Offline regret against horizon (l = {d['l']}, eps = {d['eps']:g}, n = {d['n']})"
    figure, (a, b) = panels(title, "Content noise: longer helps (R-shared)", widths=(1.5, 1))
    colours = {
        "R-shared": COOL[2], "R-indep": COOL[1], "M-mode-shared": OFFLINE, "M-mode-indep": WARM[3],
        "M-token-shared": WARM[1], "M-token-indep": VIOLET,
    }  # fmt: skip
    for kind, values in d["off"].items():
        a.plot(d["H"], values, color=colours[kind], ls="-" if kind.endswith("shared") else (0, (5, 2)))
    log_axes(a, y=True)
    a.set_xticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
    a.set_ylim(5e-5, 2)
    a.set_xlabel("content tokens H")
    a.set_ylabel("exact Bayes regret")
    ends = {k: v[-1] for k, v in d["off"].items()}
    _spread_labels(a, 32, ends, colours, gap=0.06)
    note(a, 0.03, 0.42, "realizable (also: every family online)", ONLINE, weight="bold")
    note(a, 0.03, 0.68, "misspecified", OFFLINE, weight="bold")
    for color, (kappa, values) in zip(COOL[1:], d["noise"].items()):
        b.plot(d["H"], values, color=color)
        end_label(b, 32, values[-1], f"kappa = {kappa:g}", color)
    log_axes(b, x=True, y=True)
    b.set_xticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
    b.set_ylim(2e-5, 0.3)
    b.set_xlabel("content tokens H")
    return figure


def falsifiers(d: dict[str, Any]) -> Figure:
    titles = ("Benign instances, unlimited data: who matches?", "Offline learners against the floor")
    figure, (a, b) = panels(*titles, left=140, gap=0.42)
    tallies = [t for t in d["tallies"] if t.dmax == 0.05]
    for i, t in enumerate(tallies):
        y = len(tallies) - i
        a.plot([t.sft_matches, t.online_matches], [y, y], color="#d9dce1", lw=3, zorder=1)
        a.plot(t.online_matches, y, "o", color=ONLINE, ms=10, clip_on=False, zorder=3)
        a.plot(t.sft_matches, y, "o", color=OFFLINE, ms=10 if t.sft_matches < 0.99 else 5, clip_on=False, zorder=4)
        for text, dy, color in ((t.kind, 7, INK), (f"{t.kept:,} of {t.instances:,}", -7, SOFT)):
            a.annotate(text, (0.5, y), xytext=(-12, dy), textcoords="offset points", ha="right", va="center",
                       fontsize=10.5, color=color, annotation_clip=False)  # fmt: skip
        if t.sft_matches < 0.985:
            a.text(t.sft_matches, y - 0.3, f"SFT {t.sft_matches:.1%}", ha="center", fontsize=10.5, color=OFFLINE)
    end_label(a, 1.0, len(tallies) + 0.45, "online 100%", ONLINE, dx=0, ha="right")
    a.set_ylim(0.5, len(tallies) + 0.65)
    a.set_xlim(0.5, 1.0)
    a.set_yticks([])
    a.grid(False)
    a.set_xticks([0.5, 0.6, 0.7, 0.8, 0.9, 1.0], ["50%", "60%", "70%", "80%", "90%", "100%"])
    a.set_xlabel("share at most √(0.05/2) = 0.16 below the expert's value")
    rounds = sorted({row.n for row in d["learners"]})
    names = list(dict.fromkeys(row.learner for row in d["learners"]))
    marks = dict(zip(names, "osD^vX"))
    for row in d["learners"]:
        x = rounds.index(row.n) + 0.12 * (names.index(row.learner) - 2.5)
        b.errorbar(x, row.regret, yerr=4 * row.standard_error, fmt=marks[row.learner], color=OFFLINE, ms=5, lw=1)
        if names.index(row.learner) == 0:
            b.plot([x - 0.1, x + 0.7], [row.bayes] * 2, color=INK, lw=1.8)
    b.set_xticks(range(len(rounds)), [f"n = {n:,}" for n in rounds])
    b.set_ylim(0, 0.56)
    b.set_ylabel("family-average regret")
    note(b, 1.02, 0.10, "exact Bayes\nregret", INK, va="center", weight="bold")
    for i, name in enumerate(names):
        symbol = dict(zip("osD^vX", "●■◆▲▼✖"))[marks[name]]
        note(b, 1.02, 0.9 - 0.065 * i, f"{symbol} {name}", OFFLINE)
    return figure


def rows(d: dict[str, Any]) -> Figure:
    figure, (a, b) = panels("The row opd on Family F", "The rows sft and opd on Example T")
    for color, (eps, values) in zip((ONLINE, COOL[1]), d["family"].items()):
        a.plot(values, color=color)
        end_label(a, len(values) - 1, values[-1], f"eps = {eps:g}", color, dy=7 if color == ONLINE else -7)
    a.plot([0, 120], [1 - d["kappa"]] * 2, color=INK, lw=1, ls=(0, (2, 2)))
    note(a, 0.98, 0.08, "dotted: the exact value, 1 − kappa", INK, ha="right")
    for method, color in (("opd", ONLINE), ("sft", OFFLINE)):
        exact, values = d["trap"][method]
        b.plot(values, color=color)
        b.plot([0, len(values) - 1], [exact, exact], color=INK, lw=1, ls=(0, (2, 2)))
        end_label(b, len(values) - 1, values[-1], method, color, weight="bold")
    note(b, 0.98, 0.55, "dotted: the exact projections", INK, ha="right")
    for ax in (a, b):
        ax.set_xlabel("update")
        ax.set_ylim(0, 1.05)
    a.set_ylim(0.45, 1.0)
    a.set_ylabel("value of the student")
    return figure
