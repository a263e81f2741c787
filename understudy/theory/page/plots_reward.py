"""Figures of sections 3 to 7: a claim's data -> one figure per panel."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from understudy.report.figures import svg as kit
from understudy.theory.page.plots_offline import FLOOR, logarithmic, panels


def figure3(d: dict[str, Any]) -> list[Figure]:
    titles = ("Class A: mean (0, m)", "Class B: mean (a, a)", "Value and KL along each class")
    figures, (a, b, c) = panels(*titles, height=370, left=30, right=24)
    _contours(a, ((0, -3.9), (0, 4.4)), (0.0, 2.0), kit.GOOD)
    _contours(b, ((-3.9, -3.9), (4.4, 4.4)), (0.0, 0.0), kit.BAD)
    a.text(0.4, -1.5, "projection (0, 2)", color=kit.GOOD, size=10.5)
    a.text(0.4, -2.4, "V = 0.977", color=kit.GOOD, size=15, weight="bold")
    b.text(-0.2, -2.6, "projection (0, 0)", color=kit.BAD, size=10.5)
    b.text(-0.2, -3.5, "V = 0.5", color=kit.BAD, size=15, weight="bold")
    t = d["t"]
    c.plot(t, d["A"]["V"], color=kit.INK)
    for name, color in (("A", kit.GOOD), ("B", kit.BAD)):
        loss, value = np.asarray(d[name]["L"]), d[name]["V"]
        c.plot(t, loss / 14, color=color, lw=1.6, ls=(0, (5, 2)))
        best = int(loss.argmin())
        c.plot([t[best]] * 2, [loss[best] / 14, value[best]], color=color, lw=0.9, ls=":")
        c.plot(t[best], value[best], "o", color=color, ms=8)
    c.set(ylim=(0, 1.05), xlim=(-3, 4), xlabel="parameter m or a")
    kit.end_label(c, 4, 1.0, "V (both)", kit.INK, dx=-2, dy=8, ha="right")
    kit.end_label(
        c, 4, float(np.interp(4, t, np.asarray(d["A"]["L"]) / 14)), "KL / 14, A", kit.GOOD, dx=-14, dy=-4, ha="right"
    )
    kit.end_label(c, 2.6, 0.72, "KL / 14, B", kit.BAD, dx=-10, ha="right")
    return figures


def _contours(ax: Axes, line: Any, projection: tuple[float, float], color: str) -> None:
    """Expert and projection as contours, the class as a line, the rewarded half-plane."""
    xs, ys = np.meshgrid(np.linspace(-5, 4.5, 200), np.linspace(-5, 4.5, 200))
    ax.add_patch(Rectangle((-5, 0), 9.5, 4.5, color="#edf4ee", lw=0, zorder=0))
    for mean, hue, width in (((-2, 2), kit.INK, 1.2), (projection, color, 1.7)):
        density = np.exp(-((xs - mean[0]) ** 2 + (ys - mean[1]) ** 2) / 2)
        ax.contour(xs, ys, density, levels=[np.exp(-2), np.exp(-0.5)], colors=hue, linewidths=width)
        ax.plot(*mean, "o", color=hue, ms=6)
    ax.plot(*zip(*line), color=color, lw=1, ls=kit.DASHED)
    ax.text(-4.8, 4.02, "expert", color=kit.INK, size=11, weight="bold")
    ax.text(-4.8, -0.6, "rewarded above", color=kit.SOFT, size=10)
    ax.axhline(0, color="#b9d1bd", lw=1, zorder=0.5)
    ax.set(xlim=(-5, 4.5), ylim=(-4, 4.5), xticks=[-4, -2, 0, 2, 4], yticks=[-4, -2, 0, 2, 4])
    ax.set_aspect("equal", anchor="SW")
    ax.grid(False)


def benign(d: dict[str, Any]) -> list[Figure]:
    figures, (a, b) = panels(
        "Online imitation: reward lost against Delta", "SFT on the same instances", height=400, right=24
    )
    names = {
        "generic": ("no structure", kit.FAINT),
        "planted-noisy": ("jittered style", kit.TEAL),
        "planted-const": ("equal style", kit.COOL[1]),
        "planted-tau": ("students differ in the style they can fake", kit.VIOLET),
    }
    x = np.geomspace(1e-5, 10, 200)
    for ax, which in ((a, 2), (b, 3)):
        for kind, (_, color) in names.items():
            delta, v_e, value = (d["points"][kind][i][:600] for i in (0, 1, which))
            ax.plot(delta, v_e - value, ".", ms=3.5, color=color, alpha=0.7)
        for name, point in d["named"].items():
            at = (point[0], point[which - 1])
            ax.plot(*at, "o", color=kit.INK, ms=6, zorder=5)
            below = at[1] == 0  # inside the cloud: name it below, with a line
            arrow = {"arrowstyle": "-", "color": kit.INK, "lw": 0.8} if below else None
            dy = -78 if below else -15 if name.startswith("Figure") else 13
            kit.end_label(ax, *at, name, kit.INK, dx=0, dy=dy, weight="bold", ha="center", arrowprops=arrow)
        for sign in (1, -1):
            ax.plot(x, sign * np.sqrt(x / 2), color=kit.INK, lw=1.4)
        kit.log_axes(ax, y=False)
        ax.set(xlim=(1e-5, 3), ylim=(-0.42, 0.95), xlabel="Delta (nats)")
    a.set_ylabel("expert's value minus the student's")
    kit.end_label(a, 0.05, 0.158, "proved: ±√(Delta / 2)", kit.INK, dx=-6, dy=14, ha="right")
    kit.note(a, 0.03, 0.93, "no dot lies outside the lines", kit.ONLINE, weight="bold")
    kit.note(b, 0.03, 0.93, "no such guarantee", kit.OFFLINE, weight="bold")
    for i, (label, color) in enumerate(names.values()):
        kit.note(b, 0.03, 0.235 - 0.062 * i, "● " + label, color)
    return figures


def asymmetry(d: dict[str, Any]) -> list[Figure]:
    figures, (ax,) = panels("Where online imitation ends in a tilt-closed class", height=360)
    gap = d["gap"]
    for color, (v_e, values) in zip(kit.COOL[1:], d["lines"].items()):
        ax.plot([gap[0], gap[-1]], [v_e, v_e], color=kit.OFFLINE, lw=1.2, ls=kit.DASHED)
        ax.plot(gap, values, color=color)
        kit.end_label(ax, gap[-1], v_e, f"SFT: {v_e:g}", kit.OFFLINE)
    ax.axvline(0, color=kit.FAINT, lw=0.8)
    ax.set(xlim=(gap[0], gap[-1]), ylim=(0, 1.03), ylabel="value")
    ax.set_xlabel("D₁ − D₀ (nats): how much harder it is to phrase right answers")
    kit.note(ax, 0.385, 0.05, "online better", kit.ONLINE, weight="bold", ha="right")
    kit.note(ax, 0.415, 0.05, "worse", kit.BAD, weight="bold")
    return figures


def gradient(d: dict[str, Any]) -> list[Figure]:
    figures, (ax,) = panels("Class B of Figure 3: raw against projected alignment")
    ax.plot(d["t"], d["raw"], color=kit.FAINT)
    ax.plot(d["t"], d["projected"], color=kit.BAD)
    ax.axhline(0, color=kit.INK, lw=0.8)
    ax.plot([0, 0], [0.0, np.interp(0, d["t"], d["raw"])], color=kit.SOFT, lw=0.9, ls=":")
    ax.plot(0, 0, "o", color=kit.BAD, ms=7)
    kit.end_label(ax, 0, 0.80, "raw covariance: 0.80 at the projection", kit.SOFT, dx=8, dy=6)
    kit.end_label(ax, 0, 0, "gain of a step in the class: 0", kit.BAD, dx=-8, dy=-12, ha="right")
    ax.set(xlabel="parameter a", ylabel="dV per unit step")
    return figures


def base_policy(d: dict[str, Any]) -> list[Figure]:
    n, (student, expert) = d["n"], d["coverage"]
    titles = (f"Base: a student-like policy (C ≈ {student:.1f})", f"Base: the expert itself (C ≈ {expert:,.0f})")
    figures, (a, b) = panels(*titles, height=380)
    colours = {
        "ips": kit.ONLINE,
        "snips": kit.TEAL,
        "clipped": kit.COOL[1],
        "pessimistic": kit.GOOD,
        "ix": kit.VIOLET,
        "raw ips": kit.OFFLINE,
    }
    for ax, lines in ((a, d["student"]), (b, d["expert"])):
        for name, values in lines.items():
            ax.plot(n, values, color=colours[name], marker="o", ms=4, ls=kit.DASHED if name == "raw ips" else "-")
        logarithmic(ax, "rounds n", "", (3e-4, 30))
        ax.set_xticks(n, [f"{rounds:,}" for rounds in n])
        kit.end_labels(ax, [(name, values[-1], colours[name]) for name, values in lines.items()])
    if len(n) > 1:
        a.plot(n, d["certified"], color=kit.FAINT, lw=1.4)
        kit.end_label(a, n[0], d["certified"][0], "certified for ips (Theorem 4a)", kit.SOFT, dx=2, dy=10)
    a.axhline(d["spread"], color=kit.FAINT, lw=0.9, ls=":")
    kit.end_label(a, n[0], d["spread"], "spread of L over the class", kit.SOFT, dx=2, dy=7)
    a.set_ylabel("mean excess reverse KL (nats)")
    return figures


def horizon(d: dict[str, Any]) -> list[Figure]:
    title = f"Offline regret against horizon (l = {d['l']}, eps = {d['eps']:g}, n = {d['n']})"
    figures, (a, b) = panels(title, "Content noise: longer helps (R-shared)", height=380, right=112)
    colours = {
        "R-shared": kit.COOL[2], "R-indep": kit.COOL[1], "M-mode-shared": kit.OFFLINE, "M-mode-indep": kit.WARM[3],
        "M-token-shared": kit.WARM[1], "M-token-indep": kit.VIOLET,
    }  # fmt: skip
    for kind, values in d["off"].items():
        a.plot(d["H"], values, color=colours[kind], ls="-" if kind.endswith("shared") else (0, (5, 2)))
    for ax, ylim in ((a, (5e-5, 2)), (b, (2e-5, 0.3))):
        logarithmic(ax, "content tokens H", "", ylim)
        ax.set_xticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
    a.set_ylabel("exact Bayes regret")
    kit.end_labels(a, [(kind, values[-1], colours[kind]) for kind, values in d["off"].items()])
    kit.note(a, 0.03, 0.42, "realizable (also: every family online)", kit.ONLINE, weight="bold")
    kit.note(a, 0.03, 0.68, "misspecified", kit.OFFLINE, weight="bold")
    for color, (kappa, values) in zip(kit.COOL[1:], d["noise"].items()):
        b.plot(d["H"], values, color=color)
        kit.end_label(b, 32, values[-1], f"kappa = {kappa:g}", color)
    return figures


def falsifiers(d: dict[str, Any]) -> list[Figure]:
    titles = ("Benign instances, unlimited data: who matches?", "Offline learners against the floor")
    figures, (a, b) = panels(*titles, height=380, left=112)
    tallies = [t for t in d["tallies"] if t.dmax == 0.05]
    for y, t in zip(range(len(tallies), 0, -1), tallies):
        a.plot([t.sft_matches, t.online_matches], [y, y], color=kit.AREA, lw=3, zorder=1)
        a.plot(t.online_matches, y, "o", color=kit.ONLINE, ms=10, clip_on=False, zorder=3)
        a.plot(t.sft_matches, y, "o", color=kit.OFFLINE, ms=10 if t.sft_matches < 0.99 else 5, clip_on=False, zorder=4)
        for text, dy, color in ((t.kind, 7, kit.INK), (f"{t.kept:,} of {t.instances:,}", -7, kit.SOFT)):
            kit.end_label(a, 0.5, y, text, color, dx=-12, dy=dy, ha="right")
        if t.sft_matches < 0.985:
            a.text(t.sft_matches, y - 0.3, f"SFT {t.sft_matches:.1%}", ha="center", size=10.5, color=kit.OFFLINE)
    kit.end_label(a, 1.0, len(tallies) + 0.45, "online 100%", kit.ONLINE, dx=0, ha="right")
    a.set(ylim=(0.5, len(tallies) + 0.65), xlim=(0.5, 1.0), yticks=[])
    a.set_xticks([0.5, 0.6, 0.7, 0.8, 0.9, 1.0], ["50%", "60%", "70%", "80%", "90%", "100%"])
    a.set_xlabel("share at most √(0.05/2) = 0.16 below the expert's value")
    rounds = sorted({row.n for row in d["learners"]})
    names = list(dict.fromkeys(row.learner for row in d["learners"]))
    marks = dict(zip(names, zip("osD^vX", "●■◆▲▼✖")))
    for row in d["learners"]:
        x = rounds.index(row.n) + 0.12 * (names.index(row.learner) - 2.5)
        b.errorbar(x, row.regret, yerr=4 * row.standard_error, fmt=marks[row.learner][0], color=kit.OFFLINE, ms=5, lw=1)
        if names.index(row.learner) == 0:
            b.plot([x - 0.1, x + 0.7], [row.bayes] * 2, color=kit.INK, lw=1.8)
    b.set_xticks(range(len(rounds)), [f"n = {n:,}" for n in rounds])
    b.set(ylim=(0, 0.56), ylabel="family-average regret")
    kit.note(b, 1.02, 0.10, "exact Bayes\nregret", kit.INK, va="center", weight="bold")
    for i, name in enumerate(names):
        kit.note(b, 1.02, 0.9 - 0.065 * i, f"{marks[name][1]} {name}", kit.OFFLINE)
    return figures


def rows(d: dict[str, Any]) -> list[Figure]:
    figures, (a, b) = panels("The row opd on Family F", "The rows sft and opd on Example T")
    a.set(xlabel="update", ylim=(0.45, 1.0), ylabel="value of the student")
    for color, values in zip((kit.ONLINE, kit.COOL[1]), d["family"].values()):
        a.plot(values, color=color)
    ends = zip(d["family"].items(), (kit.ONLINE, kit.COOL[1]))
    kit.end_labels(a, [(f"eps = {eps:g}", values[-1], color) for (eps, values), color in ends])
    a.plot([0, 120], [1 - d["kappa"]] * 2, **FLOOR)
    kit.note(a, 0.98, 0.08, "dotted: the exact value, 1 − kappa", kit.INK, ha="right")
    for method, color in (("opd", kit.ONLINE), ("sft", kit.OFFLINE)):
        exact, values = d["trap"][method]
        b.plot(values, color=color)
        b.plot([0, len(values) - 1], [exact, exact], **FLOOR)
        kit.end_label(b, len(values) - 1, values[-1], method, color, weight="bold")
    kit.note(b, 0.98, 0.55, "dotted: the exact projections", kit.INK, ha="right")
    b.set(xlabel="update", ylim=(0, 1.05))
    return figures
