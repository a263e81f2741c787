"""Does the expert's advice point at the reward where the student is? (THEORY.md E4 and E5, Theorems 3B, 3C, 3E, 3F)

Arrays, student side: `r` (P, K) rewards in [0, 1] and `score` (P, K) of the same K >= 2 student completions a
prompt. `score` is A = log expert - log student where exactness is claimed; the log expert alone, or A a token, are
other scores. Comparisons are always between completions of the SAME prompt. A prompt whose completions are all
right or all wrong is *unmixed*: it says "nothing to learn here" and is never dropped.

-inf scores (the expert rules a completion out) are fine for ranks, tilts and ceilings; a covariance or a gap in nats
is then infinite or undefined, and is returned as such. Estimates are unbiased unless the function says otherwise.
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

ACCURACY = "accuracy"
UNIT = (0.0, 1.0)
UNMIXED = "no prompt had completions of different reward"
SUBSETS = 128  # half samples a prompt at most, in the bias correction
_CHUNK = 1_000_000  # numbers held at once


def reward_covariance(r: ArrayLike, score: ArrayLike) -> Estimate:
    """Mean within-prompt covariance of reward and score (divided by K - 1: unbiased).

    With score = A this is dV/dt at t = 0 of the tilt toward the expert: the first gain, in accuracy per unit of t.
    """
    r_PK, s_PK = _checked(r, score)
    covariance_P = _covariance(r_PK, s_PK)
    unit = "accuracy a unit of tilt"
    return _undefined(covariance_P, unit) or intervals.mean(covariance_P, unit)


def gap_nats(r: ArrayLike, score: ArrayLike) -> Estimate:
    """Sum of covariances over sum of reward variances: by how many nats the score prefers right completions.

    The regression slope of score on reward within prompts; for 0/1 rewards a mean of E[A | 1] - E[A | 0] over
    prompts, weighted by v (1 - v).
    """
    r_PK, s_PK = _checked(r, score)
    covariance_P = _covariance(r_PK, s_PK)
    return _undefined(covariance_P, "nats") or intervals.ratio(
        covariance_P, r_PK.var(axis=1, ddof=1), "nats", empty=UNMIXED
    )


def auc(r: ArrayLike, score: ArrayLike) -> Estimate:
    """Share of same-prompt pairs of different reward which the score puts in the right order, ties one half.

    Weighted by pairs: its expectation does not depend on K, unlike the mean of AUCs of mixed prompts.
    """
    pairs = _pairs(*_checked(r, score))
    return intervals.ratio(pairs.right, pairs.different, "probability", UNIT, UNMIXED)


def auc_per_token(r: ArrayLike, score: ArrayLike, lengths: ArrayLike) -> Estimate:
    """`auc` of the score divided by the completion's number of tokens, (P, K) and at least 1."""
    r_PK, s_PK = _checked(r, score)
    return auc(r_PK, s_PK / _lengths(lengths, r_PK))


def auc_length_residual(r: ArrayLike, score: ArrayLike, lengths: ArrayLike) -> Estimate:
    """`auc` of what is left of the score after its linear dependence on length within prompts is taken out.

    One slope for all prompts (least squares over finite scores); the jackknife refits it, so that the interval
    knows it was estimated. If length itself tells right from wrong, that signal is taken out too: the difference
    to `auc` says how much of the ranking length alone explains.
    """
    r_PK, s_PK = _checked(r, score)
    length_PK = _lengths(lengths, r_PK)
    finite_PK = np.isfinite(s_PK)
    count_P = np.maximum(finite_PK.sum(axis=1, keepdims=True), 1)

    def centred(x_PK: Floats) -> Floats:
        kept = np.where(finite_PK, x_PK, 0.0)
        return np.where(finite_PK, kept - kept.sum(axis=1, keepdims=True) / count_P, 0.0)

    x_PK, y_PK = centred(length_PK), centred(s_PK)
    xy_P, xx_P = (x_PK * y_PK).sum(axis=1), (x_PK * x_PK).sum(axis=1)
    i, j = np.triu_indices(r_PK.shape[1], 1)
    prompt, pair = np.nonzero(r_PK[:, i] != r_PK[:, j])
    first, second = i[pair], j[pair]
    sign = np.sign(r_PK[prompt, first] - r_PK[prompt, second])
    longer = sign * (length_PK[prompt, first] - length_PK[prompt, second])
    with np.errstate(invalid="ignore"):
        higher = sign * (s_PK[prompt, first] - s_PK[prompt, second])
    higher = np.where(np.isnan(higher), 0.0, higher)  # both ruled out: a tie
    longer = np.where(np.isfinite(higher), longer, 0.0)

    def residual_auc(keep: NDArray[np.bool_]) -> float:
        xx = float(xx_P[keep].sum())
        slope = float(xy_P[keep].sum()) / xx if xx > 0 else 0.0
        rest = higher[keep[prompt]] - slope * longer[keep[prompt]]
        return float(0.5 + 0.5 * np.sign(rest).mean()) if rest.size else math.nan

    if not prompt.size:
        return Estimate(math.nan, *UNIT, len(r_PK), "probability", f"no number: {UNMIXED}")
    # few groups: ranks jump as the slope moves, and small steps of a jump are no derivative
    return intervals.jackknife(residual_auc, len(r_PK), "probability", UNIT, groups=10)


def best_of_2_gain(r: ArrayLike, score: ArrayLike) -> Estimate:
    """Expected reward of the better-scored of two student completions, minus that of one (ties: either).

    Exactly mean(s^2) (2 auc - 1) with the same score, s^2 the unbiased within-prompt reward variance, for 0/1
    rewards (identity 3F); right for graded rewards too. No training is involved: reranking by the expert.
    """
    return intervals.mean(_pairs(*_checked(r, score)).gain, ACCURACY, (-0.5, 0.5))


# --- following the expert all the way -------------------------------------------------------------


@dataclass(frozen=True)
class TiltCurve:
    """Value of the student tilted toward the expert, student^(1-t) expert^t, along t."""

    t: tuple[float, ...]
    value: tuple[Estimate, ...]
    effective: tuple[float, ...]
    """Share of the K samples that the weights leave, mean over prompts. Near 1/K: one sample speaks for a prompt."""


def tilt_curve(r: ArrayLike, advantage: ArrayLike, ts: ArrayLike, corrected: bool = True) -> TiltCurve:
    """V(t): mean over prompts of the reward under weights e^(tA) on its own K samples. Unmixed: unchanged.

    t = 1 is the expert restricted to what the student can say. V(0) is the student's accuracy, and the slope there
    is the covariance. Self-normalised weights are biased by about 1/K toward the unweighted mean; `corrected`
    takes that out to first order by half samples (`tilt_ceiling`), which makes the slope at 0 exactly
    `reward_covariance`. Beyond where `effective` falls to a few samples, no correction helps.
    """
    r_PK, a_PK = _checked(r, advantage)
    values, effective = [], []
    for t in intervals.per_prompt("t", ts):
        tilted = _tilted(float(t))
        values.append(_corrected_mean(r_PK, a_PK, tilted, corrected))
        w_PK = _weights(a_PK, float(t))
        total_P = w_PK.sum(axis=1)
        share_P = np.divide(total_P**2, (w_PK**2).sum(axis=1), out=np.ones(len(w_PK)), where=total_P > 0)
        effective.append(float(share_P.mean()) / r_PK.shape[1])
    return TiltCurve(tuple(np.asarray(ts, float).tolist()), tuple(values), tuple(effective))


def tilt_ceiling(r: ArrayLike, advantage: ArrayLike, corrected: bool = True) -> Estimate:
    """Value where online imitation ends if the student can reweigh right against wrong on each prompt, and only that.

    Mean over prompts of sigma(logit v + gap), gap = E[A | right] - E[A | wrong]; unmixed prompts unchanged
    (Theorem 3C). Exact for classes closed under that tilt; other students may end above or below it. 0/1 rewards.

    The plug-in (`corrected=False`) is too LOW at small K, because a prompt that looks unmixed by chance gets
    nothing: about -c/K, .04 of .53 at K = 4 (THEORY.md section 7). `corrected` removes the 1/K term by half
    samples: (K V_K - m V_m) / (K - m), m = K // 2, V_m the mean plug-in over subsets of m samples. It costs
    variance: about a tenth more standard error at K = 4 to 8, less above.
    """
    r_PK, a_PK = _checked(r, advantage, binary=True)
    return _corrected_mean(r_PK, a_PK, _ceiling, corrected)


def asymmetry(r: ArrayLike, advantage: ArrayLike, expert_success: ArrayLike) -> Estimate:
    """E v (1 - v) (D1 - D0): how much further the expert is from the student's right answers than from its wrong ones.

    Theorem 3B: v (1 - v) (logit v_e - logit v) - Cov, mean over prompts, in nats weighted by v (1 - v). Positive:
    style pulls against the reward, and online imitation may end below the expert. 0/1 rewards; `expert_success`
    (P, J) rewards of J expert completions of each prompt. DESCRIPTIVE: success rates enter through logits, smoothed
    by half a success and half a failure, so it is biased for small K and J.
    """
    r_PK, a_PK = _checked(r, advantage, binary=True)
    expert_PJ = intervals.samples("expert_success", expert_success)
    if len(expert_PJ) != len(r_PK) or not intervals.is_binary(expert_PJ):
        raise UserError("expert_success", expert_PJ.shape, "give 0/1 rewards of the same prompts")

    def smooth_logit(x: Floats) -> Floats:
        return np.asarray(logit((x.sum(axis=1) + 0.5) / (x.shape[1] + 1)))

    pull_P = r_PK.var(axis=1, ddof=1) * (smooth_logit(expert_PJ) - smooth_logit(r_PK))
    pull_P = pull_P - _covariance(r_PK, a_PK)
    return _undefined(pull_P, "nats") or intervals.mean(pull_P, "nats", method=f"descriptive, {intervals.T}")


# --- inside -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pairs:
    """Of each prompt (P,): pairs of different reward, those in the right order (ties half), best-of-2 gain."""

    different: Floats
    right: Floats
    gain: Floats


def _pairs(r_PK: Floats, s_PK: Floats) -> _Pairs:
    i, j = np.triu_indices(r_PK.shape[1], 1)
    parts = []
    step = max(1, _CHUNK // len(i))
    for start in range(0, len(r_PK), step):
        r, s = r_PK[start : start + step], s_PK[start : start + step]
        order = (s[:, i] > s[:, j]).astype(np.float64) - (s[:, i] < s[:, j])  # comparisons: -inf ties with -inf
        better = r[:, i] - r[:, j]
        different = better != 0
        right = (0.5 * different + 0.5 * np.sign(better) * order).sum(axis=1)
        parts.append((different.sum(axis=1).astype(np.float64), right, (better * order).mean(axis=1) / 2))
    return _Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _covariance(r_PK: Floats, s_PK: Floats) -> Floats:
    """(P,) unbiased covariances; 0 where the reward does not vary, whatever the scores."""
    with np.errstate(invalid="ignore"):
        centred = r_PK - r_PK.mean(axis=1, keepdims=True)
        product = np.where(centred == 0, 0.0, centred * s_PK).sum(axis=1) / (r_PK.shape[1] - 1)
    return np.where((r_PK == r_PK[:, :1]).all(axis=1), 0.0, product)


def _undefined(values_P: Floats, unit: str) -> Estimate | None:
    """What to answer where the expert rules out right and wrong completions of one prompt: inf - inf."""
    bad = int(np.isnan(values_P).sum())
    if not bad:
        return None
    told = f"no number: the expert rules out right and wrong completions of {bad} prompts"
    return Estimate(math.nan, -math.inf, math.inf, len(values_P), unit, told)


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


def _lengths(lengths: ArrayLike, r_PK: Floats) -> Floats:
    length_PK = intervals.samples("lengths", lengths)
    intervals.same_shape(r=r_PK, lengths=length_PK)
    if length_PK.min() < 1 or not np.isfinite(length_PK).all():
        raise UserError("lengths", length_PK.min(), "a completion has at least one token")
    return length_PK
