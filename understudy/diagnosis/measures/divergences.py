"""How far expert and student are apart, from the log-probabilities of whole completions (THEORY.md E1, E2, E3, E6).

Arrays: `ls`, `le` (P, K) natural log-probabilities under student and expert of K completions of each of P prompts.
"Student side": completions drawn from the student; "expert side": from the expert. A = le - ls is the expert's
advantage in nats. The policy that draws gives its own draw a finite log-probability; the other one may give -inf.

Everything refers to the policies that the completions were drawn from. Completions drawn with top-p or another
temperature, but scored without, belong to no divergence.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy

from understudy.diagnosis.measures import intervals
from understudy.diagnosis.measures.intervals import Floats
from understudy.diagnosis.types import Estimate
from understudy.errors import UserError

NATS = "nats a sequence"
PROBABILITY = "probability"
UNIT = (0.0, 1.0)
Side = tuple[ArrayLike, ArrayLike]
"""(ls, le) of the samples of one side."""


def advantage(ls: ArrayLike, le: ArrayLike, drawn_by: str = "student") -> Floats:
    """(P, K) A = le - ls; -inf where the expert rules a student's draw out, +inf the other way round.

    UserError for nan, +inf, and for a draw that the policy which drew it gives probability 0.
    """
    student_PK, expert_PK = intervals.samples("ls", ls), intervals.samples("le", le)
    intervals.same_shape(ls=student_PK, le=expert_PK)
    own = student_PK if drawn_by == "student" else expert_PK
    if not np.isfinite(own).all() or np.isposinf(student_PK).any() or np.isposinf(expert_PK).any():
        told = f"a draw of the {drawn_by} must have a finite log-probability under the {drawn_by}"
        raise UserError("ls" if drawn_by == "student" else "le", "infinite", told)
    return expert_PK - student_PK


def reverse_kl(ls: ArrayLike, le: ArrayLike) -> Estimate:
    """KL(student || expert) as the mean of -A over student samples: unbiased; a sample of it may be negative."""
    return intervals.mean(-advantage(ls, le).mean(axis=1), NATS)


def reverse_kl_k3(ls: ArrayLike, le: ArrayLike) -> Estimate:
    """KL(student || expert) as the mean of e^A - 1 - A: never negative, and often less noisy while A is small.

    Unbiased only if the student can draw whatever the expert can. It can under softmax; not under top-p or top-k
    renormalised, where this is too small by the expert's mass outside. e^A has a heavy right tail: far apart, the
    rare samples that carry the mean are not seen, and the interval is too short. Use `reverse_kl` there.
    """
    a_PK = advantage(ls, le)
    with np.errstate(over="ignore"):
        return intervals.mean((np.expm1(a_PK) - a_PK).mean(axis=1), NATS, method=f"k3, {intervals.T}")


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


def forward_kl(ls: ArrayLike, le: ArrayLike) -> Estimate:
    """KL(expert || student) as the mean of A over expert samples: what SFT lowers, less the expert's entropy."""
    return intervals.mean(advantage(ls, le, "expert").mean(axis=1), NATS)


def tv_student(ls: ArrayLike, le: ArrayLike) -> Estimate:
    """Total variation as the mean of (1 - e^A)+ over student samples, mean over prompts. Saturates at 1."""
    return intervals.mean(_tv(advantage(ls, le)), PROBABILITY, UNIT)


def tv_expert(ls: ArrayLike, le: ArrayLike) -> Estimate:
    """Total variation as the mean of (1 - e^-A)+ over expert samples."""
    return intervals.mean(_tv(-advantage(ls, le, "expert")), PROBABILITY, UNIT)


def tv_pooled(student: Side, expert: Side, shared_prompts: bool = True) -> Estimate:
    """Total variation as the mean of |tanh(A / 2)| over both sides: the least noisy of the three.

    student = (ls, le) of student samples, expert = (ls, le) of expert samples. `shared_prompts`: row i of both is
    the same prompt, so that the two halves are paired; otherwise the prompts are independent draws.
    """
    return _pooled(student, expert, shared_prompts, lambda a: np.abs(np.tanh(a / 2)))


def bhattacharyya(ls: ArrayLike, le: ArrayLike) -> Estimate:
    """Bhattacharyya coefficient sum_y sqrt(student expert) as the mean of e^(A/2) over student samples; 1 if equal."""
    with np.errstate(over="ignore"):
        return intervals.mean(np.exp(advantage(ls, le) / 2).mean(axis=1), PROBABILITY)


def bhattacharyya_pooled(student: Side, expert: Side, shared_prompts: bool = True) -> Estimate:
    """The same from both sides, as the mean of 1 / cosh(A / 2): each value lies in 0..1, so no rare large ones."""

    def one(a: Floats) -> Floats:
        with np.errstate(over="ignore"):
            return 1 / np.cosh(a / 2)

    return _pooled(student, expert, shared_prompts, one)


def _tv(a_PK: Floats) -> Floats:
    return np.asarray(-np.expm1(np.minimum(a_PK, 0.0)).mean(axis=1))


def _pooled(student: Side, expert: Side, shared_prompts: bool, of: Callable[[Floats], Floats]) -> Estimate:
    """Half the mean of of(A) over student samples plus half of that over expert samples; of(A) in 0..1."""
    own_P = of(advantage(*student)).mean(axis=1)
    other_P = of(advantage(*expert, drawn_by="expert")).mean(axis=1)
    if shared_prompts:
        if len(own_P) != len(other_P):
            raise UserError("prompts", f"{len(own_P)} and {len(other_P)}", "both sides need the same prompts")
        return intervals.mean((own_P + other_P) / 2, PROBABILITY, UNIT)
    if min(len(own_P), len(other_P)) == 1:
        value = float(own_P.mean() + other_P.mean()) / 2
        return Estimate(value, 0.0, 1.0, 1, PROBABILITY, "one prompt: no interval")
    # Welch: two independent samples of prompts
    parts = [float(v.var(ddof=1)) / len(v) / 4 for v in (own_P, other_P)]
    value, total, n = float(own_P.mean() + other_P.mean()) / 2, sum(parts), len(own_P) + len(other_P)
    if total == 0:  # every prompt of a side alike
        return intervals.mean(np.full(n, value), PROBABILITY, UNIT)
    df = total**2 / (parts[0] ** 2 / (len(own_P) - 1) + parts[1] ** 2 / (len(other_P) - 1))
    half = intervals.t_quantile(df, intervals.LEVEL) * math.sqrt(total)
    low, high = max(value - half, 0.0), min(value + half, 1.0)
    return Estimate(value, low, high, n, PROBABILITY, "Welch, prompts of both sides")


# --- E6: how much of the reverse KL can be about the reward ----------------------------------------


def coin_kl(a: float, b: float) -> float:
    """kl(a || b) of two coins in nats; infinite where b rules out what a does."""
    with np.errstate(divide="ignore", invalid="ignore"):
        one = xlogy(a, a) - (a * np.log(b) if a > 0 else 0.0)
        zero = xlogy(1 - a, 1 - a) - ((1 - a) * np.log1p(-b) if a < 1 else 0.0)
    return max(float(one + zero), 0.0)


def reward_nuisance_split(
    r: ArrayLike, r_expert: ArrayLike, reverse_kl_samples: ArrayLike
) -> tuple[Estimate, Estimate]:
    """(R_low, N_up) of one checkpoint: KL(student || expert) = R + N with R >= R_low and so N <= N_up.

    R is the part of the divergence about the reward, N the rest (THEORY.md section 3). R_low = kl(V || V_e) of
    the two mean rewards; N_up = reverse KL - R_low. Along training, N_up level and high with R_low falling to 0 is
    the benign signature. r (P, K) and r_expert (P, J) in [0, 1] on the same prompts; `reverse_kl_samples` (P, K)
    is -A, or the sums over tokens of the full divergence. The interval of R_low is that of its signed root, which
    stays regular where V = V_e.
    """
    own_P = intervals.samples("r", r).mean(axis=1)
    other_P = intervals.samples("r_expert", r_expert).mean(axis=1)
    kl_P = intervals.samples("reverse_kl_samples", reverse_kl_samples).mean(axis=1)
    if not len(own_P) == len(other_P) == len(kl_P):
        raise UserError("prompts", f"{len(own_P)}, {len(other_P)}, {len(kl_P)}", "all need the same prompts")

    def low_root(keep: NDArray[np.bool_]) -> float:
        v, v_e = float(own_P[keep].mean()), float(other_P[keep].mean())
        return math.copysign(math.sqrt(2 * coin_kl(v, v_e)), v - v_e)

    def rest(keep: NDArray[np.bool_]) -> float:
        return float(kl_P[keep].mean()) - coin_kl(float(own_P[keep].mean()), float(other_P[keep].mean()))

    n = len(own_P)
    root = intervals.jackknife(low_root, n, NATS)
    ends = [root.low**2 / 2, root.high**2 / 2]
    low = 0.0 if root.low <= 0 <= root.high else min(ends)
    reward = Estimate(root.value**2 / 2, low, max(ends), n, NATS, f"signed root, {root.method}", root.level)
    return reward, intervals.jackknife(rest, n, NATS)


# --- the rival predictor ----------------------------------------------------------------------------


def top_token_overlap(student_ids: ArrayLike, expert_ids: ArrayLike, prompt: ArrayLike) -> Estimate:
    """Mean share of the student's k likeliest next tokens that are among the expert's k likeliest.

    The overlap ratio of arXiv 2604.13016 at prefixes of student samples. ids (N, k), one row a position, in any
    order; `prompt` (N,) says which prompt a position belongs to. Positions count alike (ratio of sums), and the
    interval is over prompts. Depends on k: state it.
    """
    a, b, prompt_N = np.asarray(student_ids), np.asarray(expert_ids), np.asarray(prompt)
    if a.ndim != 2 or a.shape != b.shape or a.size == 0 or prompt_N.shape != a.shape[:1]:
        shapes = f"{a.shape}, {b.shape}, {prompt_N.shape}"
        raise UserError("top tokens", shapes, "give ids (positions, k) twice and prompt (positions,), not empty")
    for name, ids in (("student_ids", a), ("expert_ids", b)):
        ordered = np.sort(ids, axis=1)
        if (ordered[:, 1:] == ordered[:, :-1]).any():
            raise UserError(name, "a token twice in one row", "give the k likeliest tokens, each once")
    both = np.sort(np.concatenate([a, b], axis=1), axis=1)
    shared_N = (both[:, 1:] == both[:, :-1]).mean(axis=1) * (both.shape[1] - 1) / a.shape[1]
    row_N = np.unique(prompt_N, return_inverse=True)[1]
    return intervals.ratio(np.bincount(row_N, shared_N), np.bincount(row_N), "share of top tokens", UNIT)
