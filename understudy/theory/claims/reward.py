"""Claims of section 3: misspecification relative to the reward, and when imitation improves the reward."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import minimize_scalar

from understudy.theory.claims.claim import Options, Result, Row, at_least, at_most, equal
from understudy.theory.exact import decompose, improvement
from understudy.theory.falsify.generators import GENERATORS, generic
from understudy.theory.falsify.search import chosen_values, hill_climb
from understudy.theory.families.bandit import FamilyF
from understudy.theory.families.gaussian import Fig3
from understudy.theory.families.trap import Trap
from understudy.theory.production import kl_expert_student
from understudy.theory.scalars import Array, bernoulli_kl, kl_inv_lower


def benign(o: Options) -> Result:
    """Theorem 3A: Delta, not the size of the divergence, is what online imitation can lose."""
    rows: list[Row] = []
    for eps, kappa in ((0.01, 0.1), (1e-6, 0.01)):
        family = FamilyF(3, o.value("eps", eps), o.value("kappa", kappa))
        parts = decompose.split_bandit(family.bandit(np.array([0, 1, 0])))
        promise = decompose.guarantee(family.value_expert, float(parts.delta))
        name = f"Family F, eps = {family.eps:g}, kappa = {family.kappa:g}"
        expected = -math.log1p(-family.kappa)
        rows.append(equal(f"{name}: Delta (inf L is {parts.reverse.min():.4g} nats)", expected, float(parts.delta)))
        value = float(parts.value[int(parts.online())])
        rows.append(at_least(f"{name}: online value against 3A", promise.kl_inverse, value, headline=True))
    for dmax in (0.005, 0.02, 0.1):
        climb = hill_climb(dmax, o.seed)
        name = f"largest V_e - V_online a hill climb finds at Delta <= {dmax}"
        rows.append(at_most(name, climb.proved, climb.gap, headline=dmax == 0.02))
    rng, points = o.rng("benign"), {}
    for kind, make in GENERATORS.items():
        batch = make(4000, rng)
        parts = decompose.split(batch.mu, batch.students, batch.expert, batch.reward)
        online, offline = chosen_values(parts)
        excess = bernoulli_kl(online, parts.value_expert) - parts.delta
        rows.append(at_most(f"kl(V_online || V_e) - Delta, worst of 4000 {kind} instances", 0.0, excess.max()))
        points[kind] = (parts.delta, parts.value_expert, online, offline)
    return Result(rows, {"points": points, "named": _named()})


def _named() -> dict[str, tuple[float, float, float]]:
    """(Delta, what online loses, what SFT loses with unlimited data) of the worked examples."""
    fig = Fig3("B")
    lost = fig.value(2.0) - fig.value(fig.minimiser)  # forward and reverse projections coincide
    parts = decompose.split_bandit(Trap().bandit())
    online, offline = (float(parts.value[int(k)]) for k in (parts.online(), parts.offline()))
    v_e = float(parts.value_expert)
    return {"Figure 3, B": (fig.delta("r"), lost, lost), "Example T": (float(parts.delta), v_e - online, v_e - offline)}


def asymmetry(o: Options) -> Result:
    """Theorems 3B and 3C: reward-asymmetric nuisance decides where online imitation ends."""
    batch = generic(500, o.rng("asymmetry"), x=1, y=6, k=1)
    pi, e, r = batch.students[:, 0, 0], batch.expert[:, 0], batch.reward[:, 0]
    residual = np.abs(decompose.score_reward_covariance(pi, e, r) - decompose.asymmetry_identity(pi, e, r))
    rows = [equal("3B: largest residual over 500 random instances", 0.0, residual.max(), headline=True)]
    d1, d0 = decompose.conditional_divergence(pi, e, r, 1), decompose.conditional_divergence(pi, e, r, 0)
    v_e = (e * r).sum(-1)
    worst = np.zeros(3)
    for i in range(40):
        v, one, zero = float(v_e[i]), float(d1[i]), float(d0[i])
        value, loss = _tilt_minimum(v, one, zero)
        differences = (
            value - decompose.tilt_value(v, float(d1[i] - d0[i])),
            loss - min(one, zero) - decompose.tilt_delta(v, one, zero),
            _tilt_forward(pi[i], e[i], r[i]) - v,
        )
        worst = np.maximum(worst, np.abs(differences))
    rows.append(equal("3C: online value against minimising L over all tilts", 0.0, worst[0], 1e-6))
    rows.append(equal("3C: Delta of a tilt-closed class against the same", 0.0, worst[1], 1e-9))
    rows.append(equal("3C: SFT's value in the tilt-closed class against v_e", 0.0, worst[2], 1e-6))
    for gap in (0.0, 1.0, 2.0, 3.0):
        name = f"online value at v_e = .9, D1 - D0 = {gap:g} (SFT keeps .9)"
        rows.append(at_most(name, 0.9, decompose.tilt_value(0.9, gap), headline=gap == 2))
    gaps = np.linspace(-4, 6, 101)
    lines = {v: [decompose.tilt_value(v, float(g)) for g in gaps] for v in (0.6, 0.9, 0.98)}
    return Result(rows, {"gap": gaps, "lines": lines})


def _tilt_minimum(v_e: float, d1: float, d0: float) -> tuple[float, float]:
    """(v, L) minimising L(v) = kl(v || v_e) + v D1 + (1 - v) D0 numerically."""

    def loss(v: float) -> float:
        return float(bernoulli_kl(v, v_e)) + v * d1 + (1 - v) * d0

    best = minimize_scalar(loss, bounds=(1e-12, 1 - 1e-12), method="bounded", options={"xatol": 1e-12})
    return float(best.x), float(best.fun)


def _tilt_forward(pi: Array, e: Array, r: Array) -> float:
    """Value of the forward-KL minimiser over tilts of pi, by the production divergence."""
    one, zero = pi * (r == 1), pi * (r == 0)

    def loss(v: float) -> float:
        return float(kl_expert_student(v * one / one.sum() + (1 - v) * zero / zero.sum(), e))

    return float(minimize_scalar(loss, bounds=(1e-9, 1 - 1e-9), method="bounded", options={"xatol": 1e-12}).x)


def alignment(o: Options) -> Result:
    """Theorem 3D."""
    rng, worst = o.rng("alignment"), 0.0
    batch = generic(200, rng, x=2, y=6, k=2)
    for i in range(len(batch)):
        b = batch.bandit(i)
        beta, nu = float(rng.uniform(0.1, 5)), rng.dirichlet(np.ones(6), 2)
        policies = (b.students[0], b.students[1])
        terms = improvement.alignment(b.mu, policies, b.expert, b.reward, beta, nu, rng.normal(0, 3, 2))
        truth = float(b.value(b.students[0]) - b.value(b.students[1]))
        worst = max(worst, abs(terms.value_difference - truth))
    rows = [equal("largest residual over 200 instances, random beta, nu, a", 0.0, worst, headline=True)]
    family, bits = FamilyF(3, o.value("eps", 0.01), o.positive_kappa(0.1)), np.array([[0, 1, 0], [1, 1, 0], [1, 0, 1]])
    beta = 1 / math.log((1 - family.kappa) / family.kappa)
    expert, reward = family.expert(bits[0])[:, :2], family.reward(bits[0])[:, :2]
    right, *others = (family.student(b)[:, :2] for b in bits)
    for other in others:
        nu = np.full((3, 2), 0.5)
        terms = improvement.alignment(family.law, (right, other), expert, reward, beta, nu, np.zeros(3))
        truth = improvement.value(family.law, right, reward) - improvement.value(family.law, other, reward)
        rows.append(equal("Family F: xi difference between students", 0.0, terms.misalignment))
        rows.append(equal("Family F: beta (L1 - L0) is the value difference", truth, beta * terms.imitation))
    return Result(rows)


def gradient(o: Options) -> Result:
    """Theorem 3E: what moving a little toward the expert does to the reward."""
    rng = o.rng("gradient")
    batch = generic(100, rng, x=1, y=6, k=1)
    pi, e, r = batch.students[:, 0, 0], batch.expert[:, 0], batch.reward[:, 0]
    h = 1e-5

    def v(t: float) -> Array:
        return np.asarray((improvement.path(pi, e, t) * r).sum(-1))

    first, second = improvement.path_derivatives(pi, e, r, 0.4)
    slope = np.abs((v(0.4 + h) - v(0.4 - h)) / (2 * h) - first).max()
    bend = np.abs((v(0.4 + 1e-4) - 2 * v(0.4) + v(0.4 - 1e-4)) / 1e-8 - second).max()
    gain = np.abs(improvement.path_value_gain(pi, e, r) - ((e - pi) * r).sum(-1)).max()
    rows = [
        equal("(a) dV/dt against finite differences", 0.0, slope, 1e-6),
        equal("(a) d2V/dt2 against finite differences", 0.0, bend, 1e-4),
        equal("(a) integral of Cov over the path against V(e) - V(pi)", 0.0, gain, headline=True),
    ]
    natural = vanilla = tabular = plain = 0.0
    for i in range(len(batch)):
        model = improvement.Softmax(rng.normal(size=(6, 3)), rng.normal(size=3))
        natural = max(natural, abs(model.natural_step(e[i], r[i]) - model.projected_covariance(e[i], r[i])))
        step = 1e-6
        moved = improvement.Softmax(model.features, model.theta + step * model.gradients(e[i], r[i])[1])
        slope = float((moved.policy - model.policy) @ r[i]) / step
        vanilla = max(vanilla, abs(slope - model.vanilla_step(e[i], r[i])) / (1 + abs(slope)))
        free = improvement.Softmax(np.eye(6), np.log(pi[i]))
        exact = free.vanilla_step(e[i], r[i])
        tabular = max(tabular, abs(improvement.tabular_vanilla_step(pi[i], e[i], r[i]) - exact))
        plain = max(
            plain, abs(free.natural_step(e[i], r[i]) - float(decompose.score_reward_covariance(pi[i], e[i], r[i])))
        )
    rows += [
        equal("(b) natural step against the tangent-projected covariance", 0.0, natural, headline=True),
        equal("(b) plain step against a small real step, relative", 0.0, vanilla, 1e-4),
        equal("(b) tabular softmax: plain step against sum pi^2 (r - V)(A - EA)", 0.0, tabular),
        equal("(b) tabular softmax: natural step is the plain covariance", 0.0, plain, 1e-8),
    ]
    figure_b = Fig3("B")
    t = np.linspace(-2.5, 2.5, 101)
    raw = [figure_b.raw_covariance(u) for u in t]
    projected = [figure_b.natural_step(u) for u in t]
    return Result(rows, {"t": t, "raw": raw, "projected": projected})


def best_of_two(o: Options) -> Result:
    """Identity 3F."""
    rng, worst = o.rng("best-of-two"), 0.0
    batch = generic(300, rng, x=3, y=6, k=1)
    for i in range(len(batch)):
        b = batch.bandit(i)
        score: Array = np.log(b.expert)
        if i % 2:
            score = np.round(score)  # so that there are ties
        gain = improvement.best_of_two_gain(b.mu, b.students[0], score, b.reward)
        identity = improvement.best_of_two_identity(b.mu, b.students[0], score, b.reward)
        worst = max(worst, abs(gain - identity))
    rows = [equal("V_bo2 - V by all pairs against E[v(1-v)](2 AUC - 1), 300 instances", 0.0, worst, headline=True)]
    low = kl_inv_lower(0.9, 0.05)
    rows.append(equal("kl(kl_inv_lower(.9, .05) || .9)", 0.05, float(bernoulli_kl(low, 0.9)), 1e-12))
    return Result(rows)
