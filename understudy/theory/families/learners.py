"""Concrete learners in Family F: online ones in closed form, offline ones by simulation (docs/theory.md, 2 and 6)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.stats import binom

from understudy.errors import UserError
from understudy.theory.families.bandit import Bits, FamilyF, check_rounds, miss
from understudy.theory.scalars import Array, binomial_mean, vote_error

# --- ON-G, uniform base on {0, 1}. Importance-weighted loss of action a: sum_j 2 * 1[y_j = a] (c - g_j)


def midrange_regret(family: FamilyF, n: int) -> float:
    """Baseline c = midrange of the two scores: one draw decides, so it attains Theorem 2 (iii) exactly."""
    check_rounds(n)
    return family.gap / 2 * family.mean_over_active(lambda q: miss(q, n))


def group_centred_regret(family: FamilyF, n: int) -> float:
    """Baseline c = the prompt's mean score: right iff both actions were drawn, else a coin.

    (gap / 2) sum p [2 (1 - p/2)^n - (1 - p)^n].
    """
    check_rounds(n)
    return family.gap / 2 * family.mean_over_active(lambda q: 2 * miss(q / 2, n) - miss(q, n))


def raw_ips_regret(family: FamilyF, n: int) -> float:
    """No baseline (c = 0): it confuses 'drawn often' with 'scored low'."""
    check_rounds(n)
    loss_right = -(math.log(family.eps) + math.log1p(-family.kappa))
    loss_wrong = -(math.log(family.eps) + math.log(family.kappa)) if family.kappa > 0 else math.inf

    def wrong(m: Bits) -> Array:
        """P(the wrong action has the smaller summed loss) after m draws in this context."""
        if math.isinf(loss_wrong):  # it is avoided once drawn; never drawn, it looks free
            cost = 1.0 if loss_right > 0 else 0.5
            return np.where(m == 0, 0.5, cost * 0.5 ** m.astype(float))
        limit = m * loss_wrong / (loss_right + loss_wrong)  # wrong iff k is larger
        nearest = np.rint(limit)
        tie = np.isclose(limit, nearest, rtol=0, atol=1e-9)
        above = binom.sf(np.where(tie, nearest, np.floor(limit)), m, 0.5)
        return np.asarray(above + np.where(tie, 0.5 * binom.pmf(nearest, m, 0.5), 0.0))

    return family.gap * family.mean_over_active(lambda q: binomial_mean(n, q, wrong))


# --- OFF-S -----------------------------------------------------------------------------------------


def perfect_run(family: FamilyF, n: int) -> float:
    """P(one OFF-S run of majority vote gets every bit right): a single lucky run proves nothing.

    Exact for the uniform law: N ~ Bin(n, eps) informative samples, spread over contexts one context at a time.
    """
    if family.p is not None or family.active is not None:
        raise UserError("p", family.p, "perfect_run is for the uniform law with every bit hidden")
    top = min(n, math.ceil(n * family.eps + 12 * math.sqrt(n * family.eps + 1) + 40))
    right = 1 - vote_error(np.arange(top + 1), family.kappa)
    all_right = right.copy()  # over 1 context, given N
    for contexts in range(2, family.l + 1):
        longer = np.empty(top + 1)
        for total in range(top + 1):
            here = np.arange(total + 1)
            longer[total] = (binom.pmf(here, total, 1 / contexts) * right[here]) @ all_right[total - here]
        all_right = longer
    return float(binom.pmf(np.arange(top + 1), n, family.eps) @ all_right)


def _majority(votes_RN: Array, coin_R: Array) -> Array:
    votes = votes_RN.sum(1)
    return np.where(votes == 0, coin_R, votes > 0)


def _first(votes_RN: Array, count: int) -> Array:
    """The first `count` informative (non-zero) votes of each row."""
    return np.where(np.cumsum(votes_RN != 0, axis=1) <= count, votes_RN, 0)


# votes (runs, samples): +1 for bit 1, -1 for bit 0, 0 for an uninformative sample; coin (runs,); -> bit (runs,)
OFFLINE_LEARNERS: dict[str, Callable[[Array, Array], Array]] = {
    "majority": _majority,  # the Bayes rule
    "first": lambda votes, coin: _majority(_first(votes, 1), coin),
    "last": lambda votes, coin: _majority(_first(votes[:, ::-1], 1), coin),
    "latest 3": lambda votes, coin: _majority(_first(votes[:, ::-1], 3), coin),
    "biased": lambda votes, coin: (votes.sum(1) > -2).astype(float),  # bit 1 unless bit 0 leads by two or more
    "coin": lambda votes, coin: coin,
}


def simulate_regret(
    family: FamilyF, learner: Callable[[Array, Array], Array], n: int, runs: int, rng: np.random.Generator
) -> tuple[float, float]:
    """(mean, standard error) of an OFF-S learner's regret, theta uniform: the family average that F1 is about.

    A learner maps the informative votes of one context, (runs, most) in {-1, 0, 1} padded with 0, and a fair coin
    (runs,) to a bit (runs,). One context per run is simulated for each probability: contexts are exchangeable given p.
    """
    mean = variance = 0.0
    values, counts = np.unique(family.active_law, return_counts=True)
    for q, count in zip(values.tolist(), counts.tolist()):
        theta, informative = rng.integers(0, 2, runs), rng.binomial(n, q * family.eps, runs)
        width = max(1, int(informative.max()))  # uninformative samples would be zeros in between: left out
        right = np.where(rng.random((runs, width)) >= family.kappa, 1, -1)
        votes = np.where(np.arange(width) < informative[:, None], right, 0) * (2 * theta - 1)[:, None]
        wrong = learner(votes.astype(float), rng.integers(0, 2, runs).astype(float)) != theta
        mean += family.gap * count * q * wrong.mean()
        variance += (family.gap * count * q) ** 2 * wrong.var() / runs
    return float(mean), math.sqrt(variance)
