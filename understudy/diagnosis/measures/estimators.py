"""Measures from arrays of scored completions, as `Estimate`s: accuracies, divergences, and how the expert's scores rank
the student's answers. numpy and scipy only.

Arrays are (P, K): K completions for each of P prompts. `ls`, `le`: natural log-probabilities of whole completions under
student and expert; `r`: rewards in [0, 1]. A = le - ls is the expert's advantage in nats. Completions are compared
only with completions of the same prompt; a prompt whose completions all have one reward is *unmixed*: there is nothing
to learn from it, and it is never dropped.

Everything refers to the policies that the completions were drawn from: completions drawn with top-p or another
temperature, but scored without, belong to no divergence. A policy gives its own draws a finite log-probability; the
other one may give -inf. -inf scores are fine for ranks, tilts and ceilings; a gap in nats is then infinite or
undefined, and is returned as such. Estimates are unbiased unless the function states a bias.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from understudy.diagnosis.measures import intervals
from understudy.diagnosis.measures.intervals import Floats
from understudy.diagnosis.types import Estimate
from understudy.errors import UserError
from understudy.randomness import generator

ACCURACY, NATS = "accuracy", "nats per sequence"
UNIT = (0.0, 1.0)
UNMIXED = "no prompt had completions of different reward"
SUBSETS = 128  # half samples per prompt at most, in the bias correction
_CHUNK = 1_000_000  # numbers held at once


@dataclass(frozen=True)
class Side:
    """Completions drawn from one of the two policies: arrays (P, K); None where not known."""

    ls: ArrayLike | None = None
    le: ArrayLike | None = None
    r: ArrayLike | None = None
    token_kl: ArrayLike | None = None
    """Sum over tokens of the full-vocabulary divergence at this sample's prefixes, from the policy that drew it."""


def measures(student: Side, expert: Side | None = None) -> dict[str, Estimate]:
    """Canonical name -> estimate, for all that the arrays allow; row i of both sides is the same prompt.

    Without rewards there is no accuracy and no ranking, without the expert's scores no divergence.
    """
    expert = expert or Side()
    out: dict[str, Estimate] = {}
    if student.r is not None:
        out["student_accuracy"] = accuracy(student.r)
    if expert.r is not None:
        out["expert_accuracy"] = accuracy(expert.r)
    if student.r is not None and expert.r is not None:
        out["headroom"] = headroom(student.r, expert.r)
    if student.token_kl is not None:
        out["kl_student_expert"] = kl_from_tokens(student.token_kl)
    elif student.ls is not None and student.le is not None:
        out["kl_student_expert"] = reverse_kl(student.ls, student.le)
    if expert.token_kl is not None:
        out["kl_expert_student"] = kl_from_tokens(expert.token_kl)
    elif expert.ls is not None and expert.le is not None:
        out["kl_expert_student"] = forward_kl(expert.ls, expert.le)
    if student.ls is not None and student.le is not None and student.r is not None:
        r_PK, a_PK = intervals.samples("r", student.r), advantage(student.ls, student.le)
        if r_PK.shape[1] > 1:  # one completion per prompt has nothing to be compared with
            out["gap_nats"], out["auc"] = gap_nats(r_PK, a_PK), auc(r_PK, a_PK)
            if intervals.is_binary(r_PK):
                out["tilt_ceiling"] = tilt_ceiling(r_PK, a_PK)
    return out


# --- accuracies -------------------------------------------------------------------------------------


def accuracy(r: ArrayLike) -> Estimate:
    """Mean of (P, K) rewards of 0 and 1, or of graded ones in [0, 1]."""
    return intervals.share(r)


def headroom(r_student: ArrayLike, r_expert: ArrayLike) -> Estimate:
    """Expert's minus student's accuracy on the same prompts, paired by prompt; the numbers of samples may differ."""
    over_PK, under_PJ = intervals.samples("r_expert", r_expert), intervals.samples("r_student", r_student)
    if len(over_PK) != len(under_PJ):
        raise UserError("prompts", f"{len(over_PK)} and {len(under_PJ)}", "a paired difference needs the same prompts")
    gap_P = over_PK.mean(axis=1) - under_PJ.mean(axis=1)
    return intervals.mean(gap_P, ACCURACY, (-1.0, 1.0), f"paired, {intervals.T}")


# --- divergences ------------------------------------------------------------------------------------


def advantage(ls: ArrayLike, le: ArrayLike, drawn_by: str = "student") -> Floats:
    """(P, K) A = le - ls; -inf where the expert rules a student's draw out, +inf the other way round.

    UserError for nan, +inf, and for a draw that the policy which drew it gives probability 0.
    """
    student_PK, expert_PK = intervals.samples("ls", ls), intervals.samples("le", le)
    intervals.same_shape(ls=student_PK, le=expert_PK)
    drawn_PK = student_PK if drawn_by == "student" else expert_PK
    if not np.isfinite(drawn_PK).all() or np.isposinf(student_PK).any() or np.isposinf(expert_PK).any():
        message = f"a draw of the {drawn_by} must have a finite log-probability under the {drawn_by}"
        raise UserError("ls" if drawn_by == "student" else "le", "infinite", message)
    return expert_PK - student_PK


def reverse_kl(ls: ArrayLike, le: ArrayLike) -> Estimate:
    """KL(student || expert) as the mean of -A over student samples; a sample of it may be negative."""
    return intervals.mean(-advantage(ls, le).mean(axis=1), NATS)


def forward_kl(ls: ArrayLike, le: ArrayLike) -> Estimate:
    """KL(expert || student) as the mean of A over expert samples: what SFT lowers, less the expert's entropy."""
    return intervals.mean(advantage(ls, le, "expert").mean(axis=1), NATS)


def kl_from_tokens(token_kl_sums: ArrayLike) -> Estimate:
    """Either KL from (P, K) sums over tokens of the full-vocabulary divergence at the prefixes of each sample.

    KL(student || expert) at student prefixes is the reverse KL, KL(expert || student) at expert prefixes the
    forward KL: by the chain rule the mean is the same as from sampled scores, with a smaller variance
    (Rao-Blackwell). Sums from a top-k bucket are a lower bound.
    """
    sums_PK = intervals.samples("token_kl_sums", token_kl_sums)
    if sums_PK.min() < -1e-6 * max(1.0, float(np.abs(sums_PK).max())):
        raise UserError("token_kl_sums", f"{sums_PK.min():.3g}", "a sum of divergences cannot be negative")
    return intervals.mean(sums_PK.mean(axis=1), NATS, method=f"full distributions, {intervals.T}")


# --- does the score rank right above wrong? -----------------------------------------------------------


def gap_nats(r: ArrayLike, score: ArrayLike) -> Estimate:
    """Sum of covariances over sum of reward variances: by how many nats the score prefers right completions.

    The regression slope of score on reward within prompts; for 0/1 rewards a mean of E[A | 1] - E[A | 0] over
    prompts, weighted by v (1 - v).
    """
    r_PK, s_PK = _checked(r, score)
    covariance_P = _covariance(r_PK, s_PK)
    bad = int(np.isnan(covariance_P).sum())
    if bad:  # inf - inf
        method = f"no number: the expert rules out right and wrong completions of {bad} prompts"
        return Estimate(math.nan, -math.inf, math.inf, len(r_PK), "nats", method)
    return intervals.ratio(covariance_P, r_PK.var(axis=1, ddof=1), "nats", empty=UNMIXED)


def auc(r: ArrayLike, score: ArrayLike) -> Estimate:
    """Share of same-prompt pairs of different reward which the score puts in the right order, ties one half.

    Weighted by pairs: its expectation does not depend on K, unlike the mean of AUCs of mixed prompts.
    """
    r_PK, s_PK = _checked(r, score)
    i, j = np.triu_indices(r_PK.shape[1], 1)
    right, different = [], []
    step = max(1, _CHUNK // len(i))
    for start in range(0, len(r_PK), step):
        r_pK, s_pK = r_PK[start : start + step], s_PK[start : start + step]
        order = (s_pK[:, i] > s_pK[:, j]).astype(np.float64) - (s_pK[:, i] < s_pK[:, j])  # -inf ties with -inf
        better = np.sign(r_pK[:, i] - r_pK[:, j])
        different.append((better != 0).sum(axis=1).astype(np.float64))
        right.append((0.5 * (better != 0) + 0.5 * better * order).sum(axis=1))
    return intervals.ratio(np.concatenate(right), np.concatenate(different), "probability", UNIT, UNMIXED)


# --- the student tilted toward the expert ------------------------------------------------------------


@dataclass(frozen=True)
class TiltCurve:
    """Value of the student tilted toward the expert, student^(1-t) expert^t, along t."""

    t: tuple[float, ...]
    value: tuple[Estimate, ...]
    effective: tuple[float, ...]
    """Share of the K samples that the weights leave, mean over prompts. Near 1/K: one sample decides a prompt."""


def tilt_curve(r: ArrayLike, advantage: ArrayLike, ts: ArrayLike, corrected: bool = True) -> TiltCurve:
    """V(t): mean over prompts of the reward under weights e^(tA) on its own K samples. Unmixed: unchanged.

    t = 1 is the expert restricted to what the student can say. V(0) is the student's accuracy, and the slope there
    is the covariance of reward and A. Self-normalised weights are biased by about 1/K toward the unweighted mean;
    `corrected` takes that out to first order by half samples (`tilt_ceiling`), which makes the slope at 0 exactly the
    unbiased covariance. Beyond where `effective` falls to a few samples, no correction helps.
    """
    r_PK, a_PK = _checked(r, advantage)
    values, effective = [], []
    for t in intervals.per_prompt("t", ts):
        values.append(_corrected_mean(r_PK, a_PK, _tilted(float(t)), corrected))
        w_PK = _weights(a_PK, float(t))
        total_P = w_PK.sum(axis=1)
        share_P = np.divide(total_P**2, (w_PK**2).sum(axis=1), out=np.ones(len(w_PK)), where=total_P > 0)
        effective.append(float(share_P.mean()) / r_PK.shape[1])
    return TiltCurve(tuple(np.asarray(ts, float).tolist()), tuple(values), tuple(effective))


def tilt_ceiling(r: ArrayLike, advantage: ArrayLike, corrected: bool = True) -> Estimate:
    """Value where online imitation ends if the student can reweigh right against wrong on each prompt, and only that.

    Mean over prompts of sigma(logit v + gap), gap = E[A | right] - E[A | wrong]; unmixed prompts unchanged. Exact for
    classes closed under that tilt; other students may end above or below it. 0/1 rewards.

    The plug-in (`corrected=False`) is too low at small K, because a prompt that looks unmixed by chance gets
    nothing: about -c/K, .04 of .53 at K = 4. `corrected` removes the 1/K term by half samples:
    (K V_K - m V_m) / (K - m), m = K // 2, V_m the mean plug-in over subsets of m samples. It costs variance: about a
    tenth more standard error at K = 4 to 8, less above.
    """
    r_PK, a_PK = _checked(r, advantage, binary=True)
    return _corrected_mean(r_PK, a_PK, _ceiling, corrected)


def _weights(a_PK: Floats, t: float) -> Floats:
    """e^(tA), scaled so that the largest is 1; 0 for -inf unless t = 0. A prompt of nothing but -inf: all 0."""
    if t == 0:
        return np.ones_like(a_PK)
    top = a_PK.max(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(np.isfinite(top), np.exp(t * (a_PK - np.where(np.isfinite(top), top, 0.0))), 0.0)


def _tilted(t: float) -> Callable[[Floats, Floats], Floats]:
    def value(r: Floats, a: Floats) -> Floats:
        w = _weights(a, t)
        total = w.sum(axis=-1)
        return np.where(total > 0, (w * r).sum(axis=-1) / np.where(total > 0, total, 1.0), r.mean(axis=-1))

    return value


def _ceiling(r: Floats, a: Floats) -> Floats:
    """(...,) plug-in ceilings from (..., K); where both kinds of answer are ruled out: unchanged."""
    k = r.shape[-1]
    right = r.sum(axis=-1)
    v, mixed = right / k, (right > 0) & (right < k)
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.where(r == 1, a, 0.0).sum(axis=-1) / right - np.where(r == 0, a, 0.0).sum(axis=-1) / (k - right)
        lifted = expit(logit(v) + gap)
    return np.where(mixed & ~np.isnan(lifted), lifted, v)


def _corrected_mean(
    r_PK: Floats, a_PK: Floats, plug_in: Callable[[Floats, Floats], Floats], corrected: bool
) -> Estimate:
    value_P = plug_in(r_PK, a_PK)
    if not corrected:
        return intervals.mean(value_P, ACCURACY, UNIT, f"plug-in, {intervals.T}")
    k = r_PK.shape[1]
    m = k // 2
    subsets_SM = _subsets(k, m)
    half_P = np.zeros(len(r_PK))
    step = max(1, _CHUNK // (len(r_PK) * m))
    for start in range(0, len(subsets_SM), step):
        at = subsets_SM[start : start + step]
        half_P += plug_in(r_PK[:, at], a_PK[:, at]).sum(axis=1) / len(subsets_SM)
    # values of prompts may now leave 0..1; only their mean is meant, and `mean` cuts that
    return intervals.mean((k * value_P - m * half_P) / (k - m), ACCURACY, UNIT, f"corrected, {intervals.T}")


def _subsets(k: int, m: int) -> NDArray[np.intp]:
    """(S, m) all subsets of m of k samples, or SUBSETS random ones, each sample in about equally many."""
    if math.comb(k, m) <= SUBSETS:
        return np.array(list(itertools.combinations(range(k), m)), dtype=np.intp)
    rng = generator("half samples", k)
    orders = [rng.permutation(k) for _ in range(SUBSETS // 2)]
    return np.array([part for order in orders for part in (order[:m], order[k - m :])], dtype=np.intp)


# --- shared -----------------------------------------------------------------------------------------


def _covariance(r_PK: Floats, s_PK: Floats) -> Floats:
    """(P,) unbiased covariances; 0 where the reward does not vary, whatever the scores."""
    with np.errstate(invalid="ignore"):
        centred = r_PK - r_PK.mean(axis=1, keepdims=True)
        product = np.where(centred == 0, 0.0, centred * s_PK).sum(axis=1) / (r_PK.shape[1] - 1)
    return np.where((r_PK == r_PK[:, :1]).all(axis=1), 0.0, product)


def _checked(r: ArrayLike, score: ArrayLike, binary: bool = False) -> tuple[Floats, Floats]:
    r_PK, s_PK = intervals.samples("r", r, 2), intervals.samples("score", score, 2)
    intervals.same_shape(r=r_PK, score=s_PK)
    if r_PK.min() < 0 or r_PK.max() > 1:
        raise UserError("r", "outside 0 to 1", "give rewards between 0 and 1")
    if binary and not intervals.is_binary(r_PK):
        raise UserError("r", "graded", "this measure needs rewards of 0 and 1")
    if np.isposinf(s_PK).any():
        raise UserError("score", "inf", "a student's own draw has a finite log-probability under the student")
    return r_PK, s_PK
