"""Claims of sections 4 to 6: finite samples from a base policy, horizon, and the falsifiers."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from understudy.theory.claims.claim import H_GRID, Options, Result, Row, at_least, at_most, equal, largest_difference
from understudy.theory.exact import enumerate as brute
from understudy.theory.exact.online import ESTIMATORS, RAW, Online, random_instance
from understudy.theory.falsify import search
from understudy.theory.families.bandit import FamilyF
from understudy.theory.families.horizon import HZ, KINDS
from understudy.theory.information import Info
from understudy.theory.scalars import monte_carlo_tolerance


def base_policy(o: Options) -> Result:
    """Theorem 4: five estimators from a fixed base policy's samples, against n."""
    rng, delta = o.rng("base-policy"), 0.1
    ns = o.grid("n", (50, 200, 800, 3200))
    bandits = [random_instance(rng) for _ in range(12)]
    rows: list[Row] = []
    for n in ns:
        for row in search.theorem4_violations(bandits, n, 100, delta, o.seed):
            rows.append(at_most(f"Theorem {row.theorem}: share of violations, n = {n}", row.allowed, row.share))
    near = [Online(b) for b in bandits]  # the base is like the students
    far = [Online(dataclasses.replace(b, base=b.expert)) for b in bandits]
    student_base, expert_base = {}, {}
    for name in (*ESTIMATORS, RAW):
        student_base[name] = [_mean_excess(near, name, n, rng) for n in ns]
        expert_base[name] = [_mean_excess(far, name, n, rng) for n in ns]
    certified = [float(np.mean([p.bounds(n, delta)["ips"] for p in near])) for n in ns]
    last, excess = ns[-1], student_base["ips"][-1]
    rows.append(
        at_most(f"mean excess L of ips, student base, n = {last}: certified", certified[-1], excess, headline=True)
    )
    if last >= 800:  # orderings that a reader will expect; with less data they are noise
        for name in ESTIMATORS:
            text = f"mean excess L of {name} against raw IPS, n = {last}"
            rows.append(at_most(text, student_base[RAW][-1], student_base[name][-1]))
        text = f"mean excess L of ips with base = expert, n = {last}: against the student base"
        rows.append(at_least(text, excess, expert_base["ips"][-1], headline=True))
    spread = float(np.mean([p.loss.max() - p.loss.min() for p in near]))
    worst_far = float(np.exp(np.mean([math.log(p.worst_weight) for p in far])))
    data = {"n": ns, "student": student_base, "expert": expert_base, "certified": certified, "spread": spread}
    return Result(rows, data | {"coverage": (float(np.mean([p.worst_weight for p in near])), worst_far)})


def _mean_excess(problems: list[Online], name: str, n: int, rng: np.random.Generator) -> float:
    picked = [p.choose(p.sample(n, 100, rng), name) for p in problems]
    return float(np.mean([(p.loss[k] - p.loss.min()).mean() for p, k in zip(problems, picked)]))


def horizon(o: Options) -> Result:
    """Section 5: what H does, and what it does not do."""
    l, eps, n = o.value("l", 8), o.value("eps", 0.01), o.value("n", 64)
    grid = o.grid("H", H_GRID)
    last = grid[-1]
    rows: list[Row] = []

    def regret(kind: str, h: int, info: Info = Info.OFF_S, kappa: float = 0.0) -> float:
        return HZ(kind, l, eps, kappa, h).regret(info, n)

    for kind in ("R-shared", "R-indep"):
        ratio = max(regret(kind, h) for h in grid) / max(regret(kind, 1), 1e-300)
        rows.append(at_most(f"{kind}: largest regret over H against H = 1", 2.0, ratio, headline=kind == "R-indep"))
    for kind in KINDS[2:]:
        gap = regret(kind, 1) - regret(kind, 1, Info.ON_G)
        rows.append(at_least(f"{kind}: OFF-S minus ON-G regret at H = 1", 0.0, gap))
    for check, kind, text in (
        (equal, "M-mode-shared", "M-mode-shared: OFF-S at"),
        (at_most, "M-token-shared", "M-token-shared shrinks:"),
        (at_least, "M-token-indep", "M-token-indep grows:"),
    ):
        rows.append(check(f"{text} H = {last} against H = 1", regret(kind, 1), regret(kind, last), headline=True))
    tiny = [HZ(kind, 2, 0.3, 0.0, h) for kind in KINDS for h in (1, 2)]
    noisy = [HZ(kind, 2, 0.3, 0.2, 2) for kind in ("R-shared", "M-mode-shared")]
    worst = largest_difference(brute.horizon_regret, HZ.regret, tiny, (Info.OFF_S, Info.OFF_L, Info.ON_G), (1, 2))
    worst = max(worst, largest_difference(brute.horizon_regret, HZ.regret, noisy, [Info.OFF_S], [2]))
    rows.append(equal("largest difference from enumerating token sequences", 0.0, worst, 1e-12, headline=True))
    hs = list(range(1, 33))
    off = {kind: [regret(kind, h) for h in hs] for kind in KINDS}
    noise = {k: [regret("R-shared", h, kappa=k) for h in hs] for k in (0.1, 0.3, 0.4)}
    return Result(rows, {"H": hs, "off": off, "noise": noise, "n": n, "l": l, "eps": eps})


def falsifiers(o: Options) -> Result:
    """Section 6: the search for a counter-example, with its tallies."""
    rows: list[Row] = []
    tallies = []
    for dmax in (0.05, 0.005):
        for kind, count in (
            ("generic", 20_000), ("planted-tau", 5000), ("planted-noisy", 5000), ("planted-const", 5000),
        ):  # fmt: skip
            tally = search.search(kind, count, dmax, o.seed + 6)
            tallies.append(tally)
            name = f"{kind}, Delta <= {dmax} ({tally.kept} of {tally.instances} kept)"
            rows.append(equal(f"F2 events, {name}", 0.0, tally.violations, headline=kind == "generic" and dmax == 0.05))
            rows.append(equal(f"F3 events, {name}", 0.0, tally.local_violations))
            rows.append(at_least(f"online matches the expert, {name}", 1.0, tally.online_matches))
    learners = search.offline_learners(FamilyF(8, 0.05, 0.2), (64, 256, 1024), 4000, o.seed)
    for row in learners:
        slack, headline = monte_carlo_tolerance(row.standard_error), row.n == 64 and row.learner == "majority"
        name = f"F1: offline '{row.learner}' against R_off, n = {row.n}"
        rows.append(at_least(name, row.bayes, row.regret, slack, headline=headline))
    for violation in search.theorem4_violations(search.random_instances(60, o.seed + 4), 200, 50, 0.1, o.seed):
        rows.append(at_most(f"F4: Theorem {violation.theorem} violated, n = 200", violation.allowed, violation.share))
    climbs = [search.hill_climb(d, o.seed) for d in (0.005, 0.02, 0.1)]
    for climb in climbs:
        rows.append(at_most(f"hill climb at Delta <= {climb.dmax}: V_e - V_online", climb.proved, climb.gap))
    return Result(rows, {"tallies": tallies, "learners": learners, "climbs": climbs})
