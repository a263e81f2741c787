"""What the pilots say, as estimates: accuracies and divergences of each, and the offline curve drawn out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from understudy.diagnosis.measures import intervals
from understudy.diagnosis.measures.collect import Floats, Table
from understudy.diagnosis.measures.estimators import NATS
from understudy.diagnosis.pilots.budget import EVAL_HALF
from understudy.diagnosis.pilots.learning_curve import extrapolate, fit_floor
from understudy.diagnosis.types import Estimate, Floor, PilotPoint
from understudy.runs.checkpoint import read_cached


def at_work(folder: Path) -> dict[str, Estimate]:
    """The expert's accuracy on what the SFT pilot in `folder` learnt from: verified as it was sampled; {} without."""
    kept = read_cached(folder / "data" / "fixed.safetensors", lambda _: None)
    return {"expert_at_work": intervals.share(kept["reward"][:, None].numpy())} if kept else {}


def online_level(rewards: Sequence[Sequence[float]], batch: int) -> dict[str, Estimate]:
    """Accuracy at the end of the online pilot, and its rise a doubling of the sequences, from what it was trained on.

    rewards: [sequences seen, share right among the last `batch`], each before it was learnt from. A straight line
    against log2 of the sequences, least squares; the standard errors allow for the line's misfit. {} from few updates.
    """
    if len(rewards) < 8:
        return {}
    n, y = np.array(rewards, dtype=float).T
    x = np.log2(n / n[-1])
    design = np.stack([np.ones_like(x), x], 1)
    inverse = np.linalg.inv(design.T @ design)
    found = inverse @ design.T @ y
    mean = min(max(float(y.mean()), 0.5 / y.size / batch), 1 - 0.5 / y.size / batch)
    variance = max(float(np.square(y - design @ found).sum()) / (len(y) - 2), mean * (1 - mean) / batch)
    half = (1.96 * np.sqrt(variance * np.diag(inverse))).tolist()
    told = (("online_accuracy", "accuracy", 0.0), ("online_trend", "accuracy a doubling", -1.0))
    return {
        name: Estimate(v, max(v - h, least), min(v + h, 1.0), len(y), unit, "line through the updates")
        for (name, unit, least), v, h in zip(told, (min(max(float(found[0]), 0.0), 1.0), float(found[1])), half)
    }


def start(kind: Any, student: Table, expert: Table, n: int) -> PilotPoint:
    """The student before any training, on the first n held-out prompts."""
    return PilotPoint(
        kind, 0, 0, accuracy(student.reward[:n]), nats(expert_side(expert)[:n:EVAL_HALF].mean(1)),
        nats(student_side(student)[:n:EVAL_HALF].mean(1)), "start",
    )  # fmt: skip


def floor(points: Sequence[PilotPoint]) -> Floor | None:
    """The floor of the offline curve's held-out KL(expert, student); None where no pilot measured it."""
    n, y, se = _losses(points)
    return fit_floor(n, y, se) if n else None


def ahead(points: Sequence[PilotPoint], at: float, steps: int = 16) -> dict[str, list[float]]:
    """{n, value, low, high}: `floor`'s curve with its interval from the largest pilot to `at` sequences; or {}."""
    n, y, se = _losses(points)
    if len(set(n)) < 3 or at <= max(n):
        return {}
    ns = [float(max(n)), *np.geomspace(max(n), at, steps).tolist()[1:-1], float(at)]
    found = [extrapolate(n, y, se, x) for x in ns]
    return {"n": ns} | {name: [float(getattr(e, name)) for e in found] for name in ("value", "low", "high")}


def _losses(points: Sequence[PilotPoint]) -> tuple[list[int], list[float], list[float]]:
    """Sequences, KL(expert, student) and its standard error, of the offline curve."""
    seen = [(p.samples, p.kl_expert_student) for p in points if (p.kind, p.label) == ("sft", "curve")]
    known = [(n, e) for n, e in seen if e and math.isfinite(e.value) and e.high > e.low]
    return [n for n, _ in known], [e.value for _, e in known], [(e.high - e.low) / 4 for _, e in known]


def student_side(table: Table) -> Floats:
    """(P, K) samples of KL(student, expert): exact token by token where the expert gives distributions."""
    return table.kl if np.isfinite(table.kl).all() else table.student_logp - table.expert_logp


def expert_side(table: Table) -> Floats:
    """(P, K) samples of KL(expert, student)."""
    return table.kl if np.isfinite(table.kl).all() else table.expert_logp - table.student_logp


def divergence(known: dict[str, Floats], actor: str) -> Floats:
    if np.isfinite(known["kl"]).all():
        return known["kl"]
    sign = 1 if actor == "student" else -1
    return sign * (known["student_logp"] - known["expert_logp"])


def accuracy(reward: Floats) -> Estimate | None:
    return None if np.isnan(reward).any() else intervals.share(reward)


def nats(values: Sequence[float] | Floats) -> Estimate | None:
    return None if np.isnan(values).any() else intervals.mean(values, NATS)
