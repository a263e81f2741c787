"""Every measure of THEORY.md E1 to E6 that two arrays of scored completions allow, by canonical name (`MEASURES`).

    student = Side(ls, le, r, lengths, token_kl)    completions drawn from the student
    expert = Side(ls, le, r)                        completions drawn from the expert, same prompts in the same rows
    measures(student, expert)["tv_pooled"]          -> Estimate

What cannot be computed from what is given is absent, never guessed: without rewards no alignment, without the
expert's scores no divergence. The single measures, with what each assumes, are in `divergences` and `alignment`.
numpy and scipy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from understudy.diagnosis.measures import alignment, divergences, intervals
from understudy.diagnosis.measures.alignment import (
    TiltCurve,
    asymmetry,
    auc,
    auc_length_residual,
    auc_per_token,
    best_of_2_gain,
    gap_nats,
    reward_covariance,
    tilt_ceiling,
    tilt_curve,
)
from understudy.diagnosis.measures.divergences import (
    advantage,
    bhattacharyya,
    bhattacharyya_pooled,
    forward_kl,
    kl_from_tokens,
    reverse_kl,
    reverse_kl_k3,
    reward_nuisance_split,
    top_token_overlap,
    tv_expert,
    tv_pooled,
    tv_student,
)
from understudy.diagnosis.types import Estimate
from understudy.errors import UserError

__all__ = [
    "Side", "TiltCurve", "accuracy", "advantage", "asymmetry", "auc", "auc_length_residual", "auc_per_token",
    "best_of_2_gain", "bhattacharyya", "bhattacharyya_pooled", "forward_kl", "gap_nats", "headroom",
    "kl_from_tokens", "measures", "paired", "reverse_kl", "reverse_kl_k3", "reward_covariance",
    "reward_nuisance_split", "tilt_ceiling", "tilt_curve", "top_token_overlap", "tv_expert", "tv_pooled",
    "tv_student",
]  # fmt: skip


@dataclass(frozen=True)
class Side:
    """Completions drawn from one of the two policies: arrays (P, K), prompts by samples; None where not known."""

    ls: ArrayLike | None = None
    """Log-probability of the whole completion under the student, nats."""
    le: ArrayLike | None = None
    """Under the expert."""
    r: ArrayLike | None = None
    """Rewards in [0, 1]."""
    lengths: ArrayLike | None = None
    """Tokens of the completion, at least 1."""
    token_kl: ArrayLike | None = None
    """Sum over tokens of the full-vocabulary divergence at this sample's prefixes, from the policy that drew it."""


def accuracy(r: ArrayLike) -> Estimate:
    """Mean of (P, K) rewards of 0 and 1, or of graded ones in [0, 1]."""
    return intervals.share(r)


def headroom(r_student: ArrayLike, r_expert: ArrayLike) -> Estimate:
    """Expert's minus student's accuracy on the same prompts, paired by prompt; K and J may differ."""
    return paired(r_expert, r_student)


def paired(over: ArrayLike, under: ArrayLike, unit: str = "accuracy") -> Estimate:
    """Mean over prompts of mean(over) - mean(under) of (P, K) and (P, J) rewards in [0, 1] on the same prompts."""
    over_PK, under_PJ = intervals.samples("over", over), intervals.samples("under", under)
    if len(over_PK) != len(under_PJ):
        raise UserError("prompts", f"{len(over_PK)} and {len(under_PJ)}", "a paired difference needs the same prompts")
    return intervals.mean(over_PK.mean(axis=1) - under_PJ.mean(axis=1), unit, (-1.0, 1.0), f"paired, {intervals.T}")


def measures(student: Side, expert: Side | None = None, shared_prompts: bool = True) -> dict[str, Estimate]:
    """Canonical name -> estimate, for all that the arrays allow. `shared_prompts`: row i is one prompt on both sides.

    With both sides the Bhattacharyya coefficient is the pooled one; `tilt_ceiling` is the corrected one.
    """
    expert = expert or Side()
    out: dict[str, Estimate] = {}
    if student.r is not None:
        out["student_accuracy"] = accuracy(student.r)
    if expert.r is not None:
        out["expert_accuracy"] = accuracy(expert.r)
    if student.r is not None and expert.r is not None and shared_prompts:
        out["headroom"] = headroom(student.r, expert.r)
    own = (student.ls, student.le) if student.ls is not None and student.le is not None else None
    other = (expert.ls, expert.le) if expert.ls is not None and expert.le is not None else None
    if student.token_kl is not None:
        out["kl_student_expert"] = kl_from_tokens(student.token_kl)
    elif own:
        out["kl_student_expert"] = reverse_kl(*own)
    if expert.token_kl is not None:
        out["kl_expert_student"] = kl_from_tokens(expert.token_kl)
    elif other:
        out["kl_expert_student"] = forward_kl(*other)
    if own:
        out["tv_student"] = tv_student(*own)
        out["bhattacharyya"] = bhattacharyya(*own)
    if other:
        out["tv_expert"] = tv_expert(*other)
    if own and other:
        out["tv_pooled"] = tv_pooled(own, other, shared_prompts)
        out["bhattacharyya"] = bhattacharyya_pooled(own, other, shared_prompts)
    if own and student.r is not None:
        out |= _alignment(divergences.advantage(*own), np.asarray(own[1], float), student)
    return out


def _alignment(a_PK: np.ndarray, le_PK: np.ndarray, student: Side) -> dict[str, Estimate]:
    r_PK = intervals.samples("r", student.r if student.r is not None else [])
    if r_PK.shape[1] < 2:
        return {}  # one completion a prompt has nothing to be compared with
    out = {
        "reward_advantage_cov": reward_covariance(r_PK, a_PK),
        "gap_nats": gap_nats(r_PK, a_PK),
        "auc": auc(r_PK, a_PK),
        "auc_expert": auc(r_PK, le_PK),
        "best_of_2_gain": best_of_2_gain(r_PK, a_PK),
    }
    if student.lengths is not None:
        out["auc_per_token"] = auc_per_token(r_PK, a_PK, student.lengths)
        out["auc_length_residual"] = auc_length_residual(r_PK, a_PK, student.lengths)
    if intervals.is_binary(r_PK):
        out["tilt_ceiling"] = alignment.tilt_ceiling(r_PK, a_PK)
    return out
