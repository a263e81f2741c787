"""Claims of section 2: what offline imitation cannot do at H = 1 when the expert is out of reach."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from understudy.theory.claims.claim import (
    Options,
    Result,
    Row,
    at_least,
    at_most,
    curve,
    equal,
    largest_difference,
    monte_carlo,
)
from understudy.theory.exact import enumerate as brute
from understudy.theory.families import bandit, learners
from understudy.theory.families.bandit import FamilyF
from understudy.theory.families.horizon import HZ
from understudy.theory.information import IID, Info

TINY = FamilyF(2, 0.3, 0.2, "D", (0.3, 0.7))  # small enough to enumerate


def bottleneck(o: Options) -> Result:
    """Theorem 2 with corollaries C1 and C2."""
    rng, family, rows = o.rng("bottleneck"), o.family(), []
    l, eps, kappa = family.l, family.eps, family.kappa
    for n in o.grid("n", (16, 64, 256, 1024)):
        exact = family.regret(Info.OFF_S, n)
        mean, error = learners.simulate_regret(family, learners.OFFLINE_LEARNERS["majority"], n, 4000, rng)
        name = f"OFF-S regret by simulated majority vote, n = {n}"
        rows.append(monte_carlo(name, exact, mean, error, headline=n == 64))
        rows.append(at_most(f"ON-G minus OFF-S regret, n = {n}", 0.0, family.regret(Info.ON_G, n) - exact))
    tiny = [dataclasses.replace(TINY, students=s, kappa=k) for s in ("D", "S") for k in (0.0, 0.2)]
    worst = largest_difference(brute.family_regret, FamilyF.regret, tiny, IID, range(4))
    name = "largest difference from enumeration (l = 2, n <= 3, all models)"
    rows.append(equal(name, 0.0, worst, 1e-12, headline=True))
    for e in (0.1, 0.01, 0.001):
        ratio = bandit.samples_needed(0.05, 8, e) / bandit.samples_needed(0.05, 8, 1.0)
        name = f"C1: OFF-S over ON-G samples for regret .05, eps = {e}"
        rows.append(at_least(name, 1 / e, ratio, headline=e == 0.001))
    far = FamilyF(l, 1e-9, 0.0)
    for n in (64, 4096):
        name = f"C2: sup over eps of OFF-S regret, n = {n}"
        rows.append(equal(name, far.gap / 2, far.regret(Info.OFF_S, n), 1e-5))
    ns = curve(100_000, 80)
    lines = {
        (e, noise): [FamilyF(l, e, noise).regret(Info.OFF_S, n) for n in ns]
        for e in ((0.1, 0.01, 0.001) if o.eps is None else (eps,))
        for noise in ((0.0, 0.1) if o.kappa is None else (kappa,))
    }
    online = [family.regret(Info.ON_G, n) for n in ns]
    off_g = {e: [FamilyF(l, e, 0.1).regret(Info.OFF_G, n) for n in ns] for e, _ in lines}
    return Result(rows, {"n": ns, "off_s": lines, "off_g": off_g, "on_g": online, "l": l})


def truncated(o: Options) -> Result:
    """C3: expert samples restricted to the expert's style, as with top-p or greedy decoding."""
    family, rows = o.family(), []
    for n in o.grid("n", (64, 4096, 10**6)):
        off = bandit.truncated_decoding_regret(family, Info.OFF_S, n)
        rows.append(equal(f"OFF-S regret on truncated samples, n = {n}", family.gap / 2, off, headline=n == 10**6))
    on = bandit.truncated_decoding_regret(family, Info.ON_G, 64)
    rows.append(equal("ON-G regret, n = 64, is what it was", family.regret(Info.ON_G, 64), on))
    worst = largest_difference(
        lambda info, n: brute.family_regret(TINY, info, n, truncated=True),
        lambda info, n: bandit.truncated_decoding_regret(TINY, info, n),
        (Info.OFF_S, Info.OFF_G),
        range(4),
    )
    rows.append(equal("largest difference from enumeration", 0.0, worst, 1e-12))
    return Result(rows)


def rate(o: Options) -> Result:
    """C4: the bottleneck in the shape log|Pi| / n."""
    rows: list[Row] = []
    cases: tuple[tuple[int, float, int], ...] = ((8, 1.0, 64), (8, 0.1, 128), (8, 0.01, 1024), (16, 0.01, 4096))
    if o.given():
        cases = ((o.value("l", 8), o.value("eps", 0.01), o.value("n", 1024)),)
    for l, eps, n in cases:
        family = bandit.rate_instance(l, eps, n)
        regret, bound = family.regret(Info.OFF_S, n), bandit.rate_lower_bound(l, eps, n)
        name = f"OFF-S regret, l = {l}, eps = {eps}, n = {n}"
        rows.append(at_least(name, bound, regret, headline=l == 8 and eps == 0.01))
        for factor in (0.9, 1.1):
            other = float(family.law[0]) * factor
            if (l - 1) * other <= 1:
                law = (other,) * (l - 1) + (1 - (l - 1) * other,)
                moved = dataclasses.replace(family, p=law).regret(Info.OFF_S, n)
                rows.append(at_most(f"the same at {factor} zeta (zeta maximises)", regret, moved))
    worst = largest_difference(
        brute.family_regret, FamilyF.regret, [bandit.rate_instance(3, 0.5, 5)], [Info.OFF_S], range(4)
    )
    rows.append(equal("largest difference from enumeration", 0.0, worst, 1e-12))
    eps = o.value("eps", 0.01)
    ns = {size: [n for n in curve(100_000, 80) if size - 1 <= eps * (n + 1)] for size in (4, 8, 16, 32)}
    exact = {size: [bandit.rate_instance(size, eps, n).regret(Info.OFF_S, n) for n in at] for size, at in ns.items()}
    lower = {size: [bandit.rate_lower_bound(size, eps, n) for n in at] for size, at in ns.items()}
    return Result(rows, {"n": ns, "exact": exact, "lower": lower, "eps": eps})


def two_point(o: Options) -> Result:
    """C5: Le Cam for any two worlds."""
    rng, n = o.rng("two-point"), 4
    ratios: list[float] = []
    while len(ratios) < 60:
        mu, experts = rng.dirichlet(np.ones(2)), rng.dirichlet(np.ones(3), (2, 2))
        payoff = rng.random((2, 2, 2))
        best = payoff.max(-1) @ mu
        policies = [(a, b) for a in (0, 1) for b in (0, 1)]
        value = np.array([[mu @ payoff[j, [0, 1], list(p)] for p in policies] for j in (0, 1)])
        separation = float((best[:, None] - value).sum(0).min())
        if separation < 0.02:
            continue  # one policy is good in both worlds: nothing to learn
        laws = brute.observation_laws(Info.OFF_S, mu, experts)
        # the mean over the two worlds is below the larger one, so this is the harder check
        bayes = brute.bayes_regret(laws, payoff, mu, best, n)
        ratios.append(bayes / bandit.le_cam(separation, bandit.hellinger2(mu, experts[0], experts[1]), n))
    name = f"Bayes regret over Le Cam bound, smallest of 60 random pairs, n = {n}"
    rows = [at_least(name, 1.0, min(ratios), headline=True)]
    family = dataclasses.replace(o.family(), l=1)
    d2 = bandit.hellinger2(family.law, family.expert(np.array([0])), family.expert(np.array([1])))
    for m in o.grid("n", (64, 1024)):
        name = f"Family F (l = 1) OFF-S regret, n = {m}"
        rows.append(at_least(name, bandit.le_cam(family.gap, d2, m), family.regret(Info.OFF_S, m)))
    return Result(rows)


def logits(o: Options) -> Result:
    """C6: full next-token distributions."""
    family, rows = o.family(), []
    mode = HZ("M-mode-shared", family.l, family.eps, 0.0, 2)
    for n in o.grid("n", (16, 64)):
        on, off_l = family.regret(Info.ON_G, n), family.regret(Info.OFF_L, n)
        rows.append(equal(f"OFF-L regret at H = 1 against ON-G, n = {n}", on, off_l, headline=n == 64))
        off_s, off_l = mode.regret(Info.OFF_S, n), mode.regret(Info.OFF_L, n)
        rows.append(equal(f"OFF-L against OFF-S behind a style token, n = {n}", off_s, off_l, headline=n == 64))
    tiny = HZ("M-mode-shared", 2, 0.3, 0.0, 2)
    worst = largest_difference(brute.horizon_regret, HZ.regret, [tiny], [Info.OFF_L], range(4))
    rows.append(equal("largest difference from enumeration (M-mode, OFF-L)", 0.0, worst, 1e-12))
    return Result(rows)


def coverage(o: Options) -> Result:
    """Coverage by the base policy, and OFF-G as ON-G with base = expert."""
    family, rows = o.family(), []
    for n in o.grid("n", (64, 1024)):
        as_base, off_g = family.regret(Info.ON_G, n, coverage=1 / family.eps), family.regret(Info.OFF_G, n)
        name = f"ON-G with base = expert (C = 1/eps) against OFF-G, n = {n}"
        rows.append(equal(name, off_g, as_base, headline=n == 64))
        values = [family.regret(Info.ON_G, n, c) for c in (1, 10, 100)]
        rows.append(at_least(f"regret grows with C = 1, 10, 100, n = {n}", 0.0, min(np.diff(values))))
    theta = np.zeros(family.l, dtype=np.int64)
    expert, student = family.expert(theta), family.student(theta)
    needed = float(family.law @ np.where(student > 0, student**2 / np.maximum(expert, 1e-300), 0.0).sum(-1))
    rows.append(equal("E_pi[pi/e] in Family F", 1 / (family.eps * (1 - family.kappa)), needed, 1e-6 * needed))
    rng, worst = o.rng("coverage"), math.inf
    for _ in range(200):
        pi, e = rng.dirichlet(np.ones(5)), rng.dirichlet(np.ones(5))
        worst = min(worst, float((pi**2 / e).sum() / math.exp((pi * np.log(pi / e)).sum())))
    rows.append(at_least("E_pi[pi/e] / exp(KL(pi || e)), 200 random pairs (Jensen)", 1.0, worst))
    return Result(rows)


def baseline(o: Options) -> Result:
    """Importance-weighted ON-G learners need a baseline."""
    family, rows = o.family(), []
    exact = {
        "midrange": learners.midrange_regret,
        "group": learners.group_centred_regret,
        "none": learners.raw_ips_regret,
    }
    for n in o.grid("n", (16, 64, 256)):
        best = family.regret(Info.ON_G, n)
        midrange, centred, raw = (formula(family, n) for formula in exact.values())
        rows.append(equal(f"midrange baseline attains Theorem 2 (iii), n = {n}", best, midrange))
        rows.append(at_least(f"group mean as baseline, n = {n}", best, centred))
        rows.append(at_least(f"no baseline (raw IPS), n = {n}", centred, raw, headline=n == 256))
    worst = largest_difference(
        lambda n, name: brute.ips_regret(TINY, n, name), lambda n, name: exact[name](TINY, n), range(4), exact
    )
    name = "largest difference from running the learners on all data sets"
    rows.append(equal(name, 0.0, worst, 1e-12, headline=True))
    ns = curve(1024, 50)
    lines = {name: [formula(family, n) for n in ns] for name, formula in exact.items()}
    off = [family.regret(Info.OFF_S, n) for n in ns]
    return Result(rows, {"n": ns, "lines": lines, "off": off, "eps": family.eps, "kappa": family.kappa, "l": family.l})
