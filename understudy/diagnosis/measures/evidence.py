"""From the collected completions to the measures by their canonical names, and to the series that the page draws."""

from __future__ import annotations

from typing import Any

import numpy as np

from understudy.diagnosis.measures import estimators, intervals
from understudy.diagnosis.measures.collect import Floats, Table
from understudy.diagnosis.types import MEASURES, Estimate
from understudy.protocols import Task

TILTS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
SHOWN = 6  # prompts whose completions are kept for the page
POINTS = 600  # completions in the scatter


def measures(student: Table, expert: Table, takeover: dict[int, tuple[Floats, Floats]]) -> dict[str, Estimate]:
    """Canonical name -> estimate, in the canonical order; what cannot be measured is absent.

    takeover: depth -> (rewards of the expert's continuations, of the student's), both (P,).
    """
    out = estimators.measures(side(student), side(expert))
    if takeover:
        gains = [expert_P - student_P for expert_P, student_P in takeover.values()]
        out["takeover_gain"] = intervals.mean(np.mean(gains, axis=0), "accuracy", (-1.0, 1.0))
    return {name: out[name] for name in MEASURES if name in out}


def side(table: Table) -> estimators.Side:
    """What is known of a table, as the estimators take it."""

    def known(values: Floats) -> Floats | None:
        return None if np.isnan(values).any() else values

    return estimators.Side(known(table.student_logp), known(table.expert_logp), known(table.reward), known(table.kl))


def series(task: Task, student: Table, expert: Table) -> dict[str, Any]:
    """What the page draws, as plain values.

    scatter: [prompt, A in nats, reward, log expert, tokens] of student completions. tilt: {"t", "value", "low",
    "high"}. lengths: counts by tokens. keywords: mean count per completion. samples: completions side by side.
    """
    out: dict[str, Any] = {
        "lengths": {name: np.bincount(t.length.ravel().astype(int)).tolist() for name, t in _both(student, expert)},
        "keywords": {
            w: {name: float(np.mean([r.text.count(w) for r in t.rollouts])) for name, t in _both(student, expert)}
            for w in task.keywords
        },
        "samples": _samples(student, expert),
    }
    known = side(student)
    if known.ls is not None and known.le is not None:
        a, r, le = student.expert_logp - student.student_logp, student.reward, student.expert_logp
        rows = [(i, k) for i in range(a.shape[0]) for k in range(a.shape[1])][:POINTS]
        out["scatter"] = [
            [i, float(a[i, k]), float(r[i, k]), float(le[i, k]), int(student.length[i, k])] for i, k in rows
        ]
        if known.r is not None:
            curve = estimators.tilt_curve(r, a, TILTS)
            out["tilt"] = {"t": list(curve.t), "effective": list(curve.effective)} | {
                name: [float(getattr(v, name)) for v in curve.value] for name in ("value", "low", "high")
            }
    return out


def _both(student: Table, expert: Table) -> list[tuple[str, Table]]:
    return [("student", student), ("expert", expert)]


def _samples(student: Table, expert: Table) -> list[dict[str, Any]]:
    rows = []
    for i in range(min(SHOWN, len(student.reward))):
        student_row, expert_row = student.rollouts[i * student.samples], expert.rollouts[i * expert.samples]
        rows.append({
            "prompt": student_row.prompt.text, "student": student_row.text, "student_reward": student_row.reward,
            "expert": expert_row.text, "expert_reward": expert_row.reward,
        })  # fmt: skip
    return rows
