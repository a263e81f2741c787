"""What the pilots say, as estimates: accuracies, divergences, and the levels read off their own training samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from understudy.diagnosis.measures import intervals
from understudy.diagnosis.measures.collect import Floats, Table
from understudy.diagnosis.measures.estimators import NATS
from understudy.diagnosis.pilots.budget import EVAL_HALF
from understudy.diagnosis.types import Estimate, PilotPoint
from understudy.runs.checkpoint import read_cached


def at_work(directory: Path) -> dict[str, Estimate]:
    """The expert's accuracy on the SFT pilot's training samples, verified as they were drawn; {} without a reward."""
    files = sorted((directory / "data").glob("fixed*.safetensors"))
    kept = [tensors["reward"].numpy() for path in files if (tensors := read_cached(path, lambda _: None))]
    return {"expert_at_work": intervals.share(np.concatenate(kept)[:, None])} if kept else {}


def online_level(rewards: Sequence[Sequence[float]], batch: int) -> dict[str, Estimate]:
    """Accuracy at the end of the online pilot and its rise per doubling of the sequences, on its own training samples.

    rewards: [sequences seen, share right among the last `batch`], each before it was trained on. A straight line
    against log2 of the sequences, least squares; the standard errors allow for the line's misfit. {} from few updates.
    """
    if len(rewards) < 8:
        return {}
    n, y = np.array(rewards, dtype=float).T
    x = np.log2(n / n[-1])
    design = np.stack([np.ones_like(x), x], 1)
    inverse = np.linalg.inv(design.T @ design)
    line = inverse @ design.T @ y
    mean = min(max(float(y.mean()), 0.5 / y.size / batch), 1 - 0.5 / y.size / batch)
    variance = max(float(np.square(y - design @ line).sum()) / (len(y) - 2), mean * (1 - mean) / batch)
    half = (1.96 * np.sqrt(variance * np.diag(inverse))).tolist()
    kinds = (("online_accuracy", "accuracy", 0.0), ("online_trend", "accuracy per doubling", -1.0))
    return {
        name: Estimate(v, max(v - h, least), min(v + h, 1.0), len(y), unit, "line through the updates")
        for (name, unit, least), v, h in zip(kinds, (min(max(float(line[0]), 0.0), 1.0), float(line[1])), half)
    }


def start(kind: Any, student: Table, expert: Table, n: int) -> PilotPoint:
    """The student before any training, on the first n held-out prompts."""
    forward, reverse = (
        divergence({"kl": t.kl, "student_logp": t.student_logp, "expert_logp": t.expert_logp}, actor)
        for t, actor in ((expert, "expert"), (student, "student"))
    )
    return PilotPoint(
        kind, 0, 0, accuracy(student.reward[:n]), nats(forward[:n:EVAL_HALF].mean(1)),
        nats(reverse[:n:EVAL_HALF].mean(1)), "start",
    )  # fmt: skip


def divergence(known: Mapping[str, Floats], actor: str) -> Floats:
    """Samples of KL(actor, other), on the actor's texts: exact token by token where the expert gives distributions."""
    if np.isfinite(known["kl"]).all():
        return known["kl"]
    sign = 1 if actor == "student" else -1
    return sign * (known["student_logp"] - known["expert_logp"])


def accuracy(reward: Floats) -> Estimate | None:
    return None if np.isnan(reward).any() else intervals.share(reward)


def nats(values: Sequence[float] | Floats) -> Estimate | None:
    return None if np.isnan(values).any() else intervals.mean(values, NATS)
