"""Figures of sections 8 and 9: a claim's data -> one figure per panel. Offline is warm, online is cool."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from understudy.report.figures import svg as kit
from understudy.theory.page.plots_offline import FLOOR, panels

ROUTE = kit.VIOLET


def route(d: dict[str, Any]) -> list[Figure]:
    figures, (a, b) = panels("The same time for each", "Speed where the student is")
    colours = {"sft": kit.OFFLINE, "opd": kit.ONLINE, "sft+opd": ROUTE}
    for name, values in d["curves"].items():
        a.plot(d["t"], values, color=colours[name], lw=3 if name == "sft+opd" else 2)
    kit.end_labels(a, [(name, values[-1], colours[name]) for name, values in d["curves"].items()])
    a.set(xlabel="time (learning rate times updates)", ylabel="share p of the good answer", ylim=(0, 1))
    for name, values in d["speeds"].items():
        b.plot(d["z"], values, color=colours[name])
    b.axvline(d["switch"], color=kit.INK, lw=1, ls=kit.DOTTED)
    kit.note(b, 0.10, 0.60, "sft", kit.OFFLINE, weight="bold")
    kit.note(b, 0.86, 0.96, "opd", kit.ONLINE, weight="bold")
    kit.note(b, 0.47, 0.04, "dotted: switch\nhere", kit.INK, ha="right")
    b.set(xlabel="logit of p", ylabel="speed of the logit", xlim=(d["z"][0], d["z"][-1]), ylim=(0, None))
    return figures


def warm_start(d: dict[str, Any]) -> list[Figure]:
    figures, (a, b) = panels("Example C: the online loss", "Example H: online from two starts")
    a.plot(d["p"], d["L"], color=kit.INK)
    colours = {"base": kit.SOFT, "SFT": kit.OFFLINE, "opd": kit.ONLINE}
    for name, (p, loss) in d["marks"].items():
        a.plot(p, loss, "o", color=colours[name], ms=8, clip_on=False, zorder=3)
    labels = {"base": ("base", 8, 4), "SFT": ("SFT, and SFT then opd", -62, -14), "opd": ("opd from\nthe base", 8, 4)}
    for name, (text, dx, dy) in labels.items():
        p, loss = d["marks"][name]
        kit.end_label(a, p, loss, text, colours[name], dx=dx, dy=dy)
    a.set(xlabel="p, the student's coin", ylabel="L = KL(student || expert), nats", xlim=(0, 1), ylim=(0, 5))
    for name, values in d["lines"].items():
        b.plot(d["t"], values, color=kit.ONLINE if name == "base" else kit.OFFLINE)
    kit.note(b, 0.12, 0.80, "from the base", kit.ONLINE, weight="bold")
    kit.note(b, 0.44, 0.12, "after SFT", kit.OFFLINE, weight="bold")
    b.set(xlabel="time (learning rate times updates)", ylabel="share of plain answers", ylim=(0, 1))
    return figures


def false_alarm(d: dict[str, Any]) -> list[Figure]:
    figures, (a, b) = panels("200 updates of 64 rollouts", "5 updates of 4: every outcome")
    updates = range(1, len(d["long"]) + 1)
    a.plot(updates, d["long"], color=kit.OFFLINE)
    a.plot(updates, d["single"], color=kit.SCORED, lw=1)
    kit.note(a, 0.50, 0.70, "fixed-sample interval,\nlooked at every time", kit.OFFLINE, weight="bold")
    kit.note(a, 0.50, 0.26, "the same, one look", kit.SCORED, weight="bold")
    for values, colour in zip(d["small"], (kit.ONLINE, kit.OFFLINE)):
        b.plot(range(1, len(values) + 1), values, color=colour, marker="o", ms=4)
    kit.end_labels(b, [("the alarm", d["small"][0][-1], kit.ONLINE), ("fixed-sample", d["small"][1][-1], kit.OFFLINE)])
    for ax in (a, b):
        ax.axhline(d["alpha"], **FLOOR)
        ax.set(xlabel="update", ylabel="P(false alarm so far)", ylim=(0, None))
    b.set_xticks(range(1, len(d["small"][0]) + 1))
    kit.note(a, 0.98, 0.03, "dotted: the stated error", kit.INK, ha="right")
    return figures


def confirmation(d: dict[str, Any]) -> list[Figure]:
    figures, (a,) = panels("Keeping the best of several looks")
    for colour, (n, values) in zip(kit.WARM[1:], d["lines"].items()):
        a.plot(d["k"], values, color=colour, marker="o", ms=4)
        kit.end_label(a, d["k"][-1], values[-1], f"{n:,} samples", colour)
    a.axhline(d["alpha"], **FLOOR)
    kit.note(a, 0.98, 0.09, "dotted: the error of the confirmation", kit.INK, ha="right")
    a.set(xlabel="candidates, each worse by .02", ylabel="P(one of them is kept)", ylim=(0, 1), xlim=(0.5, 16.5))
    return figures
