"""Claims of section 2: what offline imitation cannot do at H = 1 when the expert is out of reach."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from understudy.theory.claims.claim import Options, Result, Row, at_least, at_most, equal, monte_carlo
from understudy.theory.exact import enumerate as brute
from understudy.theory.families.bandit import (
    FamilyF,
    hellinger2,
    le_cam,
    rate_instance,
    rate_lower_bound,
    samples_needed,
    truncated_decoding_regret,
)
from understudy.theory.families.horizon import HZ
from understudy.theory.families.information import Info
from understudy.theory.families.learners import (
    group_centred_regret,
    midrange_regret,
    raw_ips_regret,
    simulate_regret,
    vote_majority,
)

IID = (Info.OFF_S, Info.OFF_G, Info.OFF_L, Info.ON_G)


def curve(last: int = 4096, points: int = 60) -> list[int]:
    return sorted({round(x) for x in np.geomspace(1, last, points)})


def bottleneck(o: Options) -> Result:
    """Theorem 2 with corollaries C1 and C2."""
    rng, rows = o.rng("bottleneck"), []
    l, eps, kappa = o.value("l", 8), o.value("eps", 0.01), o.value("kappa", 0.1)  # noqa: E741
    family = FamilyF(l, eps, kappa)
    for n in o.grid("n", (16, 64, 256, 1024)):
        exact = family.regret(Info.OFF_S, n)
        mean, error = simulate_regret(family, vote_majority, n, 4000, rng)
        rows.append(
            monte_carlo(f"OFF-S regret by simulated majority vote, n = {n}", exact, mean, error, headline=n == 64)
        )
        rows.append(at_most(f"ON-G minus OFF-S regret, n = {n}", 0.0, family.regret(Info.ON_G, n) - exact))
    worst = 0.0
    for students in ("D", "S"):
        for noise in (0.0, 0.2):
            tiny = FamilyF(2, 0.3, noise, students, (0.3, 0.7))
            for info in IID:
                for n in range(4):
                    worst = max(worst, abs(brute.family_regret(tiny, info, n) - tiny.regret(info, n)))
    rows.append(
        equal("largest difference from enumeration (l = 2, n <= 3, all models)", 0.0, worst, 1e-12, headline=True)
    )
    for e in (0.1, 0.01, 0.001):
        ratio = samples_needed(0.05, 8, e) / samples_needed(0.05, 8, 1.0)
        rows.append(
            at_least(f"C1: OFF-S over ON-G samples for regret .05, eps = {e}", 1 / e, ratio, headline=e == 0.001)
        )
    for n in (64, 4096):
        tiny_eps = FamilyF(l, 1e-9, 0.0)
        rows.append(
            equal(f"C2: sup over eps of OFF-S regret, n = {n}", tiny_eps.gap / 2, tiny_eps.regret(Info.OFF_S, n), 1e-5)
        )
    ns = curve(100_000, 80)
    lines = {
        (e, noise): [FamilyF(l, e, noise).regret(Info.OFF_S, n) for n in ns]
        for e in ((0.1, 0.01, 0.001) if o.eps is None else (eps,))
        for noise in ((0.0, 0.1) if o.kappa is None else (kappa,))
    }
    online = [FamilyF(l, eps, kappa).regret(Info.ON_G, n) for n in ns]
    off_g = {e: [FamilyF(l, e, 0.1).regret(Info.OFF_G, n) for n in ns] for e, _ in lines}
    return Result(rows, {"n": ns, "off_s": lines, "off_g": off_g, "on_g": online, "l": l})


def truncated(o: Options) -> Result:
    """C3: expert samples cut to its own style, as with top-p or greedy decoding."""
    l, eps, kappa = o.value("l", 8), o.value("eps", 0.01), o.value("kappa", 0.1)  # noqa: E741
    family, rows = FamilyF(l, eps, kappa), []
    for n in o.grid("n", (64, 4096, 10**6)):
        off = truncated_decoding_regret(family, Info.OFF_S, n)
        rows.append(equal(f"OFF-S regret on truncated samples, n = {n}", family.gap / 2, off, headline=n == 10**6))
    on = truncated_decoding_regret(family, Info.ON_G, 64)
    rows.append(equal("ON-G regret, n = 64, is what it was", family.regret(Info.ON_G, 64), on))
    tiny, worst = FamilyF(2, 0.3, 0.2, "D", (0.3, 0.7)), 0.0
    for info in (Info.OFF_S, Info.OFF_G):
        for n in range(4):
            exact = brute.family_regret(tiny, info, n, truncated=True)
            worst = max(worst, abs(exact - truncated_decoding_regret(tiny, info, n)))
    rows.append(equal("largest difference from enumeration", 0.0, worst, 1e-12))
    return Result(rows)


def rate(o: Options) -> Result:
    """C4: the bottleneck in the shape log|Pi| / n."""
    rows: list[Row] = []
    cases: tuple[tuple[int, float, int], ...] = ((8, 1.0, 64), (8, 0.1, 128), (8, 0.01, 1024), (16, 0.01, 4096))
    if o.given():
        cases = ((o.value("l", 8), o.value("eps", 0.01), o.value("n", 1024)),)
    for l, eps, n in cases:  # noqa: E741
        family = rate_instance(l, eps, n)
        regret = family.regret(Info.OFF_S, n)
        bound = rate_lower_bound(l, eps, n)
        rows.append(
            at_least(f"OFF-S regret, l = {l}, eps = {eps}, n = {n}", bound, regret, headline=l == 8 and eps == 0.01)
        )
        assert family.p is not None
        zeta = family.p[0]
        for factor in (0.9, 1.1):
            other = zeta * factor
            if (l - 1) * other <= 1:
                law = (other,) * (l - 1) + (1 - (l - 1) * other,)
                moved = dataclasses.replace(family, p=law).regret(Info.OFF_S, n)
                rows.append(at_most(f"the same at {factor} zeta (zeta maximises)", regret, moved))
    tiny = rate_instance(3, 0.5, 5)
    worst = max(abs(brute.family_regret(tiny, Info.OFF_S, n) - tiny.regret(Info.OFF_S, n)) for n in range(4))
    rows.append(equal("largest difference from enumeration", 0.0, worst, 1e-12))
    sizes = (4, 8, 16, 32)
    eps = o.value("eps", 0.01)
    ns = {size: [n for n in curve(100_000, 80) if size - 1 <= eps * (n + 1)] for size in sizes}
    exact = {size: [rate_instance(size, eps, n).regret(Info.OFF_S, n) for n in ns[size]] for size in sizes}
    lower = {size: [rate_lower_bound(size, eps, n) for n in ns[size]] for size in sizes}
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
        ratios.append(bayes / le_cam(separation, hellinger2(mu, experts[0], experts[1]), n))
    name = f"Bayes regret over Le Cam bound, smallest of 60 random pairs, n = {n}"
    rows = [at_least(name, 1.0, min(ratios), headline=True)]
    family = FamilyF(1, o.value("eps", 0.01), o.value("kappa", 0.1))
    zero, one = np.array([0]), np.array([1])
    d2 = hellinger2(family.law, family.expert(zero), family.expert(one))
    for m in o.grid("n", (64, 1024)):
        rows.append(
            at_least(f"Family F (l = 1) OFF-S regret, n = {m}", le_cam(family.gap, d2, m), family.regret(Info.OFF_S, m))
        )
    return Result(rows)


def logits(o: Options) -> Result:
    """C6: full next-token distributions."""
    l, eps, kappa = o.value("l", 8), o.value("eps", 0.01), o.value("kappa", 0.1)  # noqa: E741
    family, rows = FamilyF(l, eps, kappa), []
    for n in o.grid("n", (16, 64)):
        on, off_l = family.regret(Info.ON_G, n), family.regret(Info.OFF_L, n)
        rows.append(equal(f"OFF-L regret at H = 1 against ON-G, n = {n}", on, off_l, headline=n == 64))
        mode = HZ("M-mode-shared", l, eps, 0.0, 2)
        rows.append(
            equal(
                f"OFF-L against OFF-S behind a style token, n = {n}",
                mode.regret(Info.OFF_S, n),
                mode.regret(Info.OFF_L, n),
                headline=n == 64,
            )
        )
    tiny = HZ("M-mode-shared", 2, 0.3, 0.0, 2)
    worst = max(abs(brute.horizon_regret(tiny, Info.OFF_L, n) - tiny.regret(Info.OFF_L, n)) for n in range(4))
    rows.append(equal("largest difference from enumeration (M-mode, OFF-L)", 0.0, worst, 1e-12))
    return Result(rows)


def coverage(o: Options) -> Result:
    """Coverage by the base policy, and OFF-G as ON-G with base = expert."""
    l, eps, kappa = o.value("l", 8), o.value("eps", 0.01), o.value("kappa", 0.1)  # noqa: E741
    family, rows = FamilyF(l, eps, kappa), []
    for n in o.grid("n", (64, 1024)):
        as_base = family.regret(Info.ON_G, n, coverage=1 / eps)
        off_g = family.regret(Info.OFF_G, n)
        rows.append(
            equal(f"ON-G with base = expert (C = 1/eps) against OFF-G, n = {n}", off_g, as_base, headline=n == 64)
        )
        values = [family.regret(Info.ON_G, n, c) for c in (1, 10, 100)]
        rows.append(at_least(f"regret grows with C = 1, 10, 100, n = {n}", 0.0, min(np.diff(values))))
    theta = np.zeros(l, dtype=np.int64)
    expert, student = family.expert(theta), family.student(theta)
    needed = float(family.law @ np.where(student > 0, student**2 / np.maximum(expert, 1e-300), 0.0).sum(-1))
    rows.append(equal("E_pi[pi/e] in Family F", 1 / (eps * (1 - kappa)), needed, 1e-6 * needed))
    rng = o.rng("coverage")
    worst = math.inf
    for _ in range(200):
        pi, e = rng.dirichlet(np.ones(5)), rng.dirichlet(np.ones(5))
        worst = min(worst, float((pi**2 / e).sum() / math.exp((pi * np.log(pi / e)).sum())))
    rows.append(at_least("E_pi[pi/e] / exp(KL(pi || e)), 200 random pairs (Jensen)", 1.0, worst))
    return Result(rows)


def baseline(o: Options) -> Result:
    """Importance-weighted ON-G learners: the baseline is essential."""
    l, eps, kappa = o.value("l", 8), o.value("eps", 0.01), o.value("kappa", 0.1)  # noqa: E741
    family, rows = FamilyF(l, eps, kappa), []
    for n in o.grid("n", (16, 64, 256)):
        best = family.regret(Info.ON_G, n)
        rows.append(equal(f"midrange baseline attains Theorem 2 (iii), n = {n}", best, midrange_regret(family, n)))
        rows.append(at_least(f"group mean as baseline, n = {n}", best, group_centred_regret(family, n)))
        raw, centred = raw_ips_regret(family, n), group_centred_regret(family, n)
        rows.append(at_least(f"no baseline (raw IPS), n = {n}", centred, raw, headline=n == 256))
    tiny, worst = FamilyF(2, 0.3, 0.2, "D", (0.3, 0.7)), 0.0
    exact = {"midrange": midrange_regret, "group": group_centred_regret, "none": raw_ips_regret}
    for name, formula in exact.items():
        for n in range(4):
            worst = max(worst, abs(brute.ips_regret(tiny, n, name) - formula(tiny, n)))
    rows.append(
        equal("largest difference from running the learners on all data sets", 0.0, worst, 1e-12, headline=True)
    )
    ns = curve(1024, 50)
    lines = {name: [formula(family, n) for n in ns] for name, formula in exact.items()}
    off = [family.regret(Info.OFF_S, n) for n in ns]
    return Result(rows, {"n": ns, "lines": lines, "off": off, "eps": eps, "kappa": kappa, "l": l})
