"""What the template shows, section by section: figures, tables, words. Texts are plain here; it escapes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from understudy.evaluation.intervals import Interval
from understudy.evaluation.numbers import (
    MINUS,
    between,
    count,
    duration,
    percent,
    points,
    points_interval,
    with_interval,
)
from understudy.report.comparison import figures, forecasts
from understudy.report.comparison.finding import discrepancy, finding, rises
from understudy.report.comparison.flags import all_flags, limits, machines, versions
from understudy.report.comparison.load import Comparison, load
from understudy.report.comparison.panels import curve_rows, divergence_rows, trace
from understudy.report.comparison.route_table import route_table
from understudy.report.comparison.samples import keyword_rows, length_panel, side_by_side
from understudy.report.comparison.summary import LEDGER, Arm, Summary, summarise
from understudy.report.figures.svg import colour, drawing
from understudy.report.html import filled, save
from understudy.report.text import flat, label, mapping, method_name, plain_value, visible

PAGE = "report.html"
TRACES = (
    ("loss", "Loss"), ("reward", "Reward of training rollouts"), ("length", "Tokens per completion"),
    ("entropy", "Entropy of the student, nats"), ("expert_entropy", "Entropy of the expert, nats"),
    ("weight_expert", "Weight of the expert"), ("weight_reward", "Weight of the reward"),
    ("grad_norm", "Gradient norm"), ("logp_drift", "Log-prob drift, nats"), ("lr", "Learning rate"),
)  # fmt: skip


def build(paths: Sequence[Path], out: Path | None = None) -> Path:
    """Write the report on one comparison directory, or on one or more run directories; returns its path.

    out: the HTML file, by default report.html in the first directory. The file is replaced whole or not at
    all. UserError when a path is no such directory or `out` cannot be written.
    """
    comparison = load(paths)
    page = filled("page.html.j2", ("style.css",), _context(comparison), Path(__file__).parent)
    return save(page, Path(out) if out is not None else Path(paths[0]) / PAGE, PAGE)


def _context(c: Comparison) -> dict[str, Any]:
    """Everything the template needs."""
    s = summarise(c)
    lines = finding(c)
    with drawing():
        return {
            "c": c,
            "title": c.title,
            "headline": tinted(lines[0], s),
            "points": [_point(line, s) for line in lines[1:]],
            "n_seeds": len(s.seeds),
            "hero": figures.accuracies(s),
            "experts": [_expert(s, name) for name in s.experts] if not c.single else [],
            "beforehand": forecasts.section(s),
            "curve_rows": curve_rows(s),
            "table": _table(s),
            "online": method_name(s.online) if s.online else "",
            "offline": method_name(s.offline) if s.offline else "",
            "forest": _forest(s),
            "divergences": divergence_rows(s),
            "lesson": _point(discrepancy(s), s)[1],
            "nats": _nats(s),
            "looks": _looks(s),
            "samples": [(label(e, 40), rows) for e in s.experts if (rows := side_by_side(s, e))],
            "routes": [table for e in c.entries if c.single and (table := route_table(e.run))],
            "traces": _traces(s) if c.single else [],
            "budgets": _budgets(s),
            "budget_names": [name.replace("_", " ") for name in LEDGER],
            "flags": all_flags(s),
            "notes": [visible(note, 400) for note in c.notes],
            "limits": limits(s),
            "command": visible(c.command, 2000),
            "settings": flat(c.settings),
            "versions": versions(s),
            "machines": machines(s),
            "run_names": [label(e.run.name, 120) for e in c.entries],
        }


def tinted(line: str, s: Summary) -> Markup:
    """Escaped text with the methods' names in their colours."""
    names = {arm.name: colour(arm.method, s.c.methods) for arm in s.arms}
    names |= {method_name(m): colour(m, s.c.methods) for m in s.c.methods}
    if not names:
        return escape(line)
    pattern = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    out = Markup("")
    for part in re.split(rf"(?<!\w)({pattern})(?!\w)", line):
        tint = Markup('<b style="color:{}">{}</b>').format(names.get(part, ""), part)
        out += tint if part in names else escape(part)
    return out


def _point(line: str, s: Summary) -> tuple[str, Markup]:
    """What a line is about, and what it says."""
    head, colon, rest = line.partition(": ")
    text = rest if colon else line
    return (head if colon else ""), tinted(text[:1].upper() + text[1:], s)


def _expert(s: Summary, name: str) -> dict[str, Any]:
    info, own, gain = s.c.experts[name], s.accuracy(name), s.gain(name)
    ood = s.accuracy(name, "ood")
    records = [entry.run.provenance.get("expert") for arm in s.of(name) for entry in arm.entries]
    record = next((r for r in records if isinstance(r, dict)), {})
    facts = flat(mapping(record.get("provenance")))[:12]
    if isinstance(record.get("capabilities"), list):
        facts.append(("can", ", ".join(label(x) for x in sorted(map(str, record["capabilities"])))))
    if info.get("spec") and info["spec"] != name:
        facts.insert(0, ("spec", plain_value(info["spec"])))
    return {
        "name": label(name, 40),
        "reach": s.reach(name) or "reach not known",
        "mechanism": visible(s.mechanism(name) or "No mechanism was stated for this expert.", 1200),
        "own": percent(own.value) if own else "–",
        "own_interval": between(own) if own else "",
        "ood": percent(ood.value) if ood else "",
        "gain": points(gain.value) if gain else "",
        "facts": facts,
    }


def _table(s: Summary) -> list[dict[str, Any]]:
    """For each expert its own row, and one per arm with a finished run."""
    out: list[dict[str, Any]] = []
    for expert in s.experts:
        arms, online = [arm for arm in s.of(expert) if arm.finished], s.arm(expert, s.online)
        rows = [
            _cells(s, arm, online)
            | {"method": arm.name, "hue": colour(arm.method, s.c.methods), "seeds": str(len(arm.finished))}
            for arm in arms
        ]
        if arms and s.accuracy(expert):
            rows.insert(0, _cells(s, expert, None) | {"method": "the expert itself", "hue": "", "seeds": ""})
        out += [row | {"expert": label(expert, 40) if i == 0 else ""} for i, row in enumerate(rows)]
    return out


def _cells(s: Summary, who: Arm | str, online: Arm | None) -> dict[str, Any]:
    """Numbers of an arm, or of an expert; gap: the online method minus it."""
    greedy, gain = s.accuracy(who, kind="greedy"), s.gain(who)
    gap, ood_gap = (s.difference(online, who, split) if online is not who else None for split in ("test", "ood"))
    return {
        "sampled": with_interval(s.accuracy(who)),
        "greedy": percent(greedy.value if greedy else None),
        "ood": with_interval(s.accuracy(who, "ood")),
        "gain": points(gain.value) if gain else "–",
        "gap": points_interval(gap) if gap else "",
        "ood_gap": points_interval(ood_gap) if ood_gap else "",
        "sure": gap is not None and gap.excludes_zero,
        "ood_sure": ood_gap is not None and ood_gap.excludes_zero,
        "reference": isinstance(who, str),
    }


def _forest(s: Summary) -> Markup | None:
    """The online method minus every other one: a group per pair of methods and split, a row per expert."""
    groups: dict[tuple[str, str], list[tuple[str, Interval]]] = {}
    for expert in s.experts:
        online = s.arm(expert, s.online)
        for arm in s.of(expert):
            for split, note in (("test", ""), ("ood", "out of distribution")):
                gap = s.difference(online, arm, split) if arm is not online and (arm.budget == 1 or not note) else None
                if online and gap:
                    groups.setdefault((f"{online.name} {MINUS} {arm.name}", note), []).append((label(expert, 40), gap))
    return figures.differences(groups) if groups else None


def _nats(s: Summary) -> list[dict[str, str]]:
    """Where the divergence from the expert ended, what gap it would have allowed, and the gap there was."""
    return [
        {
            "expert": label(d.expert, 40), "method": d.arm.name,
            "before": f"{d.nats[0]:.2f}", "after": f"{d.nats[1]:.2f}",
            "rise": f"{percent(d.accuracy[0])} → {percent(d.accuracy[1])}",
            "allowed": f"{100 * d.allowed:.0f} points",
            "gap": f"{100 * d.gap:.1f} points".replace("-", MINUS) if d.gap is not None else "–",
        }
        for d in rises(s)
    ]  # fmt: skip


def _looks(s: Summary) -> dict[str, Any]:
    width = figures.panel_width(len(s.experts))
    lengths = [found for i, e in enumerate(s.experts) if (found := length_panel(s, e, f"lengths-{i}", width))]
    words = []
    for expert in s.experts:
        rows = keyword_rows(s, expert)
        if rows and (shown := list(rows[-1][2])[:8]):
            words.append(figures.keywords(shown, rows, label(expert, 30)))
    hues = {arm.name: colour(arm.method, s.c.methods) for arm in s.arms}
    return {"lengths": lengths, "keywords": words, "hues": hues, "dashed": [a.name for a in s.arms if a.budget != 1]}


def _traces(s: Summary) -> list[Markup]:
    run = s.c.entries[0].run
    drawn = []
    for name, title in TRACES:
        pairs = [(x["step"], x[name]) for x in run.train if isinstance(x.get(name), (int, float))]
        if len(pairs) > 1 and len({value for _, value in pairs}) > 1:
            steps, values = (np.array(part, dtype=float) for part in zip(*pairs, strict=True))
            drawn.append(trace(steps, values, f"trace-{name}", title))
    return drawn


def _budgets(s: Summary) -> list[dict[str, Any]]:
    rows = []
    for arm in s.arms:
        ledger = s.ledger(arm)
        cells = [duration(v) if name.endswith("seconds") else count(v) for name, v in ledger.items()]
        hue = colour(arm.method, s.c.methods)
        runs = f"{len(arm.finished)} of {len(arm.entries)}"
        rows.append({"expert": label(arm.expert, 40), "method": arm.name, "hue": hue, "cells": cells, "runs": runs})
    return rows
