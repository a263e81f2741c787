"""Claims of section 1: the realizable case."""

from __future__ import annotations

import math

import numpy as np

from understudy.errors import UserError
from understudy.theory.claims.claim import (
    N_GRID,
    Options,
    Result,
    Row,
    at_least,
    at_most,
    curve,
    equal,
    largest_difference,
)
from understudy.theory.exact import enumerate as brute
from understudy.theory.families import realizable as bounds
from understudy.theory.families.realizable import StochasticRealizable, TokenClass, Unvisited, online_ratio
from understudy.theory.information import IID, Info
from understudy.theory.scalars import Array

DELTA = 0.05


def realizable(o: Options) -> Result:
    """Theorem 1a: the MLE's error does not depend on the horizon."""
    rng, k, runs = o.rng("realizable"), 64, 400
    ns, horizons = o.grid("n", (8, 32, 128, 512)), o.grid("H", (1, 2, 4, 8))
    if max(horizons) > 12:
        raise UserError("H", max(horizons), "at most 12 here: the class is a table over 2^H sequences")
    rows: list[Row] = []
    means: dict[int, list[float]] = {}
    for horizon in horizons:
        tokens = TokenClass.random(k, horizon, 2, rng)
        d2 = tokens.hellinger2()
        reward = rng.integers(0, 2, tokens.policies.shape[1:])
        value = (tokens.policies * reward).sum(-1) @ tokens.mu
        means[horizon], broken = [], 0
        for n in ns:
            picked = tokens.sample_mle(n, runs, rng)
            means[horizon].append(float(d2[picked].mean()))
            broken += int((d2[picked] > bounds.mle_hellinger_bound(k, n, DELTA)).sum())
            headline = n == ns[-1] and horizon in (horizons[0], horizons[-1])
            name, bound = f"mean D2(MLE, expert), H = {horizon}, n = {n}", bounds.mle_hellinger_mean_bound(k, n)
            rows.append(at_most(name, bound, means[horizon][-1], headline=headline))
        name = f"share of runs with D2 > 2 log(K/.05)/n, H = {horizon}"
        rows.append(at_most(name, DELTA, broken / (runs * len(ns))))
        excess = np.abs(value - value[0]) - np.sqrt(d2)
        rows.append(at_most(f"|V - V_e| - sqrt(D2) over the class, H = {horizon}", 0.0, excess.max()))
    return Result(rows, {"n": ns, "means": means, "bound": [bounds.mle_hellinger_mean_bound(k, n) for n in ns]})


def scores(o: Options) -> Result:
    """Theorem 1b and Family R-stoch: with a random realizable expert, scores help, interaction does not."""
    rng, rows = o.rng("scores"), []
    l, grid = o.value("l", 8), o.grid("n", N_GRID)
    families = {g: StochasticRealizable(l, g) for g in (0.05, 0.1, 0.25)}
    for g, family in families.items():
        for n in grid if g == 0.1 else ():
            off_g, on_g = family.regret(Info.OFF_G, n), family.regret(Info.ON_G, n)
            rows.append(equal(f"regret ON-G against OFF-G, g = .1, n = {n}", off_g, on_g, headline=n == 64))
        n = 64 if 64 in grid else grid[0]
        gain = family.regret(Info.OFF_S, n) - family.regret(Info.OFF_G, n)
        rows.append(at_least(f"regret OFF-S minus OFF-G, g = {g}, n = {n}", 0.0, gain, headline=g == 0.1))
    tiny = StochasticRealizable(2, 0.15)
    worst = largest_difference(brute.stochastic_regret, StochasticRealizable.regret, [tiny], IID, range(4))
    rows.append(equal("largest difference from enumeration (l = 2, n <= 3)", 0.0, worst, 1e-12))
    k, n, runs, broken = 64, 32, 4000, 0
    for _ in range(runs // 400):
        broken += int((_worst_survivor(k, n, 400, rng) > bounds.score_bound(k, n, DELTA)).sum())
    rows.append(at_most("share of OFF-G runs with TV > log(K/.05)/n, K = 64, n = 32", DELTA, broken / runs))
    curves = {
        g: {info: [family.regret(info, m) for m in curve()] for info in (Info.OFF_S, Info.OFF_G)}
        for g, family in families.items()
    }
    return Result(rows, {"n": curve(), "curves": curves, "l": l})


def _worst_survivor(k: int, n: int, runs: int, rng: np.random.Generator) -> Array:
    """(runs,) TV of the worst policy that agrees with every score seen. Policies move mass of e between two actions."""
    expert = rng.dirichlet(np.ones(12))
    pairs = np.array([rng.choice(12, 2, replace=False) for _ in range(k)])
    moved = rng.uniform(0.05, 1, k) * expert[pairs].min(1)
    counts = rng.multinomial(n, expert, runs)
    unseen = (counts[:, pairs] == 0).all(-1)  # neither action was sampled: still consistent
    return np.asarray(np.where(unseen, moved, 0.0).max(1))


def constant(o: Options) -> Result:
    """Theorem 1c: with a deterministic realizable expert, online is better by a constant at most."""
    rows, l = [], o.value("l", 8)
    for n in o.grid("n", tuple(n for n in N_GRID if n + 1 >= l - 1)):
        if l - 1 > n + 1:
            raise UserError("n", n, f"zeta = 1/(n+1) needs l - 1 <= n + 1: at least {l - 2}")
        regret, lower = Unvisited(l, 1 / (n + 1)).regret(Info.ON_G, n), bounds.unvisited_lower_bound(l, n)
        rows.append(at_least(f"best ON-G regret, zeta = 1/(n+1), n = {n}", lower, regret, headline=n == 64))
        rows.append(
            at_most(f"MLE (OFF-S) regret on the same family, n = {n}", bounds.deterministic_mean_bound(2**l, n), regret)
        )
    worst = largest_difference(brute.unvisited_regret, Unvisited.regret, [Unvisited(3, 0.2)], IID, range(4))
    rows.append(equal("largest difference from enumeration, all four models", 0.0, worst, 1e-12))
    ratio = online_ratio(2 ** (10**6), 10**12)
    name = "offline upper / online lower bound, log2 K = 1e6 (limit 2 e ln 2)"
    rows.append(equal(name, bounds.ONLINE_RATIO_LIMIT, ratio, 1e-4, headline=True))
    ns = [n for n in curve() if l - 1 <= n + 1]
    data = {
        "n": ns,
        "exact": [Unvisited(l, 1 / (n + 1)).regret(Info.ON_G, n) for n in ns],
        "lower": [bounds.unvisited_lower_bound(l, n) for n in ns],
        "upper": [(l * math.log(2) + 1) / n for n in ns],
        "l": l,
    }
    return Result(rows, data)
