"""Claims about the worked examples: the trap, the Gaussian bottleneck and Figure 3 (sections 2 and 3)."""

from __future__ import annotations

import dataclasses

import numpy as np

from understudy.theory.claims.claim import Options, Result, at_least, at_most, curve, equal, monte_carlo
from understudy.theory.exact.decompose import guarantee, split_bandit
from understudy.theory.families.gaussian import Bottleneck, Fig3
from understudy.theory.families.trap import Trap
from understudy.theory.information import Info
from understudy.theory.scalars import gaussian_cdf, gaussian_density, kl_inv_lower


def trap(o: Options) -> Result:
    """Example T: mass covering costs SFT .68 with unlimited data."""
    example, b = Trap(), Trap().bandit()
    parts = split_bandit(b)
    online, offline = parts.value[int(parts.online())], parts.value[int(parts.offline())]
    promise = guarantee(float(parts.value_expert), float(parts.delta))
    rows = [
        equal("V of the reverse-KL choice (online) against V_e", example.value_expert, online, headline=True),
        equal("V of the forward-KL choice (SFT)", example.v2, offline, headline=True),
        at_least("online value against its guarantee (3A, kl inverse)", promise.kl_inverse, online),
        at_least("P(MLE takes student 2), n = 1", 0.95, example.mle_picks_second(1)),
        at_least("P(MLE takes student 2), n = 5", 0.999999, example.mle_picks_second(5)),
    ]
    share = np.linspace(0, 1, 201)
    hull = np.stack([(1 - w) * b.students[0] + w * b.students[1] for w in share])
    on_hull = split_bandit(dataclasses.replace(b, students=hull))
    return Result(rows, {"w": share, "L": on_hull.reverse, "F": on_hull.forward, "V": on_hull.value, "parts": parts})


def gaussian(o: Options) -> Result:
    """The Gaussian bottleneck."""
    rng, rows = o.rng("gaussian"), []
    for distance, n in ((4.0, 10), (6.0, 100), (10.0, 1000), (10.0, 100_000)):
        family = Bottleneck(distance)
        name = f"exact Bayes OFF-S regret, M = {distance:g}, n = {n}"
        rows.append(at_least(name, family.lower_bound(n), family.regret(Info.OFF_S, n)))
    near = Bottleneck(4.0)
    mean, error = near.simulate(10, 200_000, rng)
    exact = near.regret(Info.OFF_S, 10)
    rows.append(monte_carlo("OFF-S Bayes learner on raw (x, y), M = 4, n = 10", exact, mean, error, headline=True))
    rows.append(at_most("ON-G regret, M = 4, n = 1", 0.012, near.regret(Info.ON_G, 1)))
    ns = curve(100_000, 80)
    lines = {m: [Bottleneck(m).regret(Info.OFF_S, n) for n in ns] for m in (2.0, 4.0, 6.0, 8.0)}
    bounds = {m: [Bottleneck(m).lower_bound(n) for n in ns] for m in lines}
    online = [near.regret(Info.ON_G, n) for n in ns]
    return Result(rows, {"n": ns, "lines": lines, "bounds": bounds, "online": online})


def figure3(o: Options) -> Result:
    """Figure 3: benign (class A) against harmful (class B) misspecification."""
    a, b = Fig3("A"), Fig3("B")
    v_e = float(gaussian_cdf(2.0))
    rows = [
        equal("class A: V at the reverse-KL projection m = 2", v_e, a.value(a.minimiser), headline=True),
        equal("class B: V at the reverse-KL projection a = 0", 0.5, b.value(b.minimiser), headline=True),
        equal("class A: Delta_r", 0.0, a.delta("r"), 1e-8),
        at_most("class A: Delta_y", 0.0, a.delta("y"), 1e-8),
        equal("class B: Delta_y", 4.0, b.delta("y"), 1e-8),
        at_least("class B: V against its guarantee (3A with phi = r)", kl_inv_lower(v_e, b.delta("r")), b.value(0.0)),
    ]
    worst = 0.0
    for cls in (a, b):
        for t in (-1.5, -0.75, 0.0, 0.5, 1.3, 2.0):
            exact = {"L": cls.reverse_kl(t), "V": cls.value(t), "R": cls.relevant(t), "N": cls.nuisance(t)}
            worst = max(worst, *(abs(number - exact[key]) for key, number in cls.quadrature(t).items()))
    rows.append(equal("largest difference of L, V, R, N from quadrature, both classes", 0.0, worst, 1e-9))
    for cls, points in ((a, (0.0, 1.0)), (b, (-1.0, -0.5))):
        for t in points:
            fisher, h = (1.0 if cls.cls == "A" else 2.0), 1e-5
            slope = -(cls.reverse_kl(t + h) - cls.reverse_kl(t - h)) / (2 * h)
            step = slope / fisher * float(gaussian_density(t))
            rows.append(equal(f"class {cls.cls}: natural-gradient dV at {t:g}", step, cls.natural_step(t), 1e-8))
    rows.append(at_least("class B at 0: raw Cov(r, A) is positive", 0.79, b.raw_covariance(0.0)))
    rows.append(equal("class B at 0: projected covariance", 0.0, b.natural_step(0.0), headline=True))
    ts = np.linspace(-3, 4, 281)
    curves = {cls.cls: {"L": [cls.reverse_kl(u) for u in ts], "V": [cls.value(u) for u in ts]} for cls in (a, b)}
    return Result(rows, {"t": ts} | curves)
