"""Rows of panels over training: accuracies against budgets, divergences in both directions."""

from __future__ import annotations

from typing import Any

import numpy as np

from understudy.report.comparison.summary import Arm, Summary
from understudy.report.figures import lines
from understudy.report.figures.series import AXES, Curve
from understudy.report.text import label

AXIS_WORDS = {
    "updates": "Optimizer updates.",
    "expert tokens": "Tokens the expert sampled (offline methods) or scored (online methods).",
    "seconds": "Wall time of rolling out, labelling and learning. Evaluation is not counted.",
}
DIVERGENCES = (
    ("kl_expert_student", "kl(expert, student)", "on the expert’s completions: what the student fails to cover"),
    ("kl_student_expert", "kl(student, expert)", "on the student’s completions: what the expert would not say"),
)


def _panels(s: Summary) -> list[tuple[str, list[tuple[Arm, Curve]]]]:
    found = [(e, [(arm, curve) for arm in s.of(e) if (curve := s.curve(arm))]) for e in s.experts]
    return [(expert, drawn) for expert, drawn in found if drawn]


def curve_rows(s: Summary) -> list[dict[str, Any]]:
    panels = _panels(s)
    base = s.base_accuracy()
    lows = [float(curve.low.min()) for _, drawn in panels for _, curve in drawn] + ([base.value] if base else [])
    low = max(0.0, np.floor((min(lows, default=0.0) - 0.01) * 10) / 10)
    alone = len(panels) == 1  # one expert: the three axes share a row
    size = lines.panel_width(3 if alone else len(panels))
    rows: list[dict[str, Any]] = []
    for axis in AXES:
        drawn_on = [(e, [(a, c) for a, c in drawn if c.x[axis][-1] > 0]) for e, drawn in panels]
        drawn_on = [(e, drawn) for e, drawn in drawn_on if drawn]
        root = any(_uneven([c.x[axis][-1] for _, c in drawn]) for _, drawn in drawn_on)
        figures = []
        for i, (expert, drawn) in enumerate(drawn_on):
            own = s.expert_accuracy(expert)
            marks = [("expert", own.value)] if own else []
            figures.append(
                lines.curves(
                    drawn, s, f"curve-{axis.split()[-1]}-{i}", axis,
                    *_titles(s, expert, alone, f"against {axis}"), size=size, ylim=(low, 1.012),
                    root=root, marks=marks,
                )
            )  # fmt: skip
        if figures:
            title = f"Sampled accuracy against {axis}"
            rows.append({"title": title, "words": AXIS_WORDS[axis], "figures": figures, "root": root, "log": False})
    return _one_row(rows, "Sampled accuracy") if alone else rows


def _one_row(rows: list[dict[str, Any]], title: str) -> list[dict[str, Any]]:
    """Rows of one panel each, side by side."""
    if len(rows) < 2:
        return rows
    return [
        {
            "title": title,
            "words": "",
            "figures": [figure for row in rows for figure in row["figures"]],
            "root": any(row["root"] for row in rows),
            "log": any(row["log"] for row in rows),
        }
    ]


def _titles(s: Summary, expert: str, alone: bool, what: str) -> tuple[str, str]:
    """Title and subtitle of a panel: the expert, or what is drawn where there is only one expert."""
    if alone:
        return what[:1].upper() + what[1:] if what.startswith("against") else what, label(expert, 40)
    return label(expert, 26), _reach(s, expert)


def _reach(s: Summary, expert: str) -> str:
    return {True: "within reach", False: "out of reach", None: ""}[s.realizable(expert)]


def _uneven(ends: list[float]) -> bool:
    return max(ends) > 3 * min(ends)


def divergence_rows(s: Summary) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, title, words in DIVERGENCES:
        panels = [(e, [(arm, x) for arm in s.of(e) if (x := s.series(arm, name))]) for e in s.experts]
        panels = [(e, drawn) for e, drawn in panels if drawn]
        values = [float(v) for _, drawn in panels for _, x in drawn for v in (*x.low, *x.high)]
        if not values:
            continue
        high, small = max(values), min((v for v in values if v > 0), default=1.0)
        log = min(values) > 0 and high > 30 * small
        ylim = (small * 0.75, high * 1.3) if log else (min(0.0, min(values)), high * 1.08 or 1.0)
        root = any(_uneven([x.steps[-1] for _, x in drawn if x.steps[-1]] or [1.0]) for _, drawn in panels)
        alone = len(panels) == 1
        size = lines.panel_width(2 if alone else len(panels))
        figures = [
            lines.curves(
                drawn, s, f"{name.replace('_', '-')}-{i}", "updates", *_titles(s, e, alone, title),
                size=size, ylim=ylim, unit="nats", log=log, root=root,
            )
            for i, (e, drawn) in enumerate(panels)
        ]  # fmt: skip
        said = f"In nats a sequence, {words}."
        rows.append({"title": title, "words": said, "figures": figures, "log": log, "root": root})
    alone = bool(rows) and all(len(row["figures"]) == 1 for row in rows)
    return _one_row(rows, "Nats a sequence, in both directions") if alone else rows
