"""Claims about routes: when an online phase after SFT is at least as good as either, and when it hurts (section 8)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit, logit
from torch import nn

from understudy.theory.claims.claim import Options, Result, Row, at_least, at_most, equal
from understudy.theory.exact.decompose import split, split_bandit
from understudy.theory.exact.flows import Flow, Phase
from understudy.theory.falsify.generators import GENERATORS
from understudy.theory.families.bandit import FamilyF
from understudy.theory.families.coin import Coin, CoinTable
from understudy.theory.families.hidden import Hidden, arithmetic, geometric
from understudy.theory.information import Info
from understudy.theory.scalars import Array, bernoulli_kl
from understudy.theory.tabular import BlindTable, MixtureTable, TablePolicy, expected_flow

PHASES: tuple[Phase, ...] = ("sft", "opd")
BUDGETS = (0.5, 2.0, 8.0, 32.0)


def train(student: nn.Module, phases: Sequence[str], mu: Array, expert: Array, steps: int = 250) -> list[Array]:
    """The policy (X, Y) after each phase of a route, one student trained on, each phase in exact expectation."""
    ends = []
    for method in phases:
        policy: TablePolicy = expected_flow(method, student, mu, expert, steps=steps)
        ends.append(policy.probabilities())
    return ends


# --- when a route is at least as good ----------------------------------------------------------------------


def route(o: Options) -> Result:
    """Theorems 8A and 8B, each with what happens without one of its conditions."""
    rows, data = _flows(o)
    return Result([*_one_end(o), *_without_keeping(), *_basins(), *rows], data)


def _one_end(o: Options) -> list[Row]:
    """8A: with one stationary point the online phase ends at the same policy from the base and after SFT."""
    rng, offline, online, loss = o.rng("route"), 0.0, 0.0, 0.0
    for _ in range(50):
        mu, expert = rng.dirichlet(np.ones(3)), rng.dirichlet(np.full(4, 0.5), 3) + 1e-3
        expert /= expert.sum(-1, keepdims=True)
        mean, (best, floor) = arithmetic(mu, expert), geometric(mu, expert)
        students = rng.dirichlet(np.ones(4), 20)
        parts = split(mu, np.repeat(students[:, None], 3, 1), expert, np.zeros((3, 4)))
        excess = np.array([(s * np.log(s / best)).sum() for s in students])
        loss = max(loss, float(np.abs(parts.reverse - excess - floor).max()))
        forward = np.array([(mean * np.log(mean / s)).sum() for s in students])
        offline = max(offline, float(np.ptp(parts.forward - forward)))
    phases = train(BlindTable(3, 4), ("sft", "opd_full"), mu, expert, 150)
    (alone,) = train(BlindTable(3, 4), ("opd_full",), mu, expert, 150)
    online = float(np.abs(phases[1] - alone).max())
    return [
        equal("blind students: L - KL(pi || G) + log Z, 50 instances x 20 students", 0.0, loss),
        equal("blind students: range of F - KL(A || pi), the same", 0.0, offline),
        equal("row sft on the last instance: distance from A", 0.0, np.abs(phases[0] - mean).max(), 1e-6),
        equal("row opd_full from the base: distance from G", 0.0, np.abs(alone - best).max(), 1e-6),
        equal("8A: route's end against the end of opd_full alone", 0.0, online, 1e-6, headline=True),
    ]


def _without_keeping() -> list[Row]:
    """The online phase destroys what SFT has; only the best of all ends is at least as good as both."""
    family = Hidden(eps=1e-6, delta=1e-3, lenient=True)
    sft, opd = arithmetic(family.mu, family.expert), geometric(family.mu, family.expert)[0]
    last = "without keeping the best: V of the route's last model (SFT's is .973), Example H, lenient"
    return [
        equal("Example H, lenient: V of SFT", 0.97328, family.value(sft), 1e-5),
        at_most(last, 0.06, family.value(opd), headline=True),
    ]


def _basins() -> list[Row]:
    """With several basins the end depends on the start: worse than opd, or better than both."""
    worse, better = Coin(), Coin(w=0.9)
    sft, base = better.offline, 0.6
    route = better.value(better.end(sft))
    rows = [
        at_most(
            "two basins, base p = .87: V of sft+opd (opd alone: .9987)", 0.01, worse.value(worse.end(worse.offline))
        ),
        at_least("the same base: V of opd alone", 0.99, worse.value(worse.end(0.87))),
        at_least("two basins, base p = .6, w = .9: V of sft+opd", 0.99, route, headline=True),
        at_most("the same base: V of opd alone", 0.01, better.value(better.end(base))),
        at_most("the same base: V of SFT", 0.41, better.value(sft)),
    ]
    return rows


def _flows(o: Options) -> tuple[list[Row], dict[str, Any]]:
    """8B: with a budget, on one number z. Speeds decide."""
    flow, start = Flow(alpha=0.6, goal=4.0), -4.0
    rng, ahead, behind = o.rng("route-schedules"), -math.inf, -math.inf
    for budget in BUDGETS:
        best = flow.run(start, flow.route(start, budget))
        behind = max(behind, *(flow.run(start, [(only, budget)]) - best for only in PHASES))
        for _ in range(8):
            parts = rng.dirichlet(np.full(5, 0.7)) * budget
            names: list[Phase] = ["sft", "opd"] if rng.random() < 0.5 else ["opd", "sft"]
            ahead = max(ahead, flow.run(start, [(names[i % 2], float(t)) for i, t in enumerate(parts)]) - best)
    agree = True
    hidden = _hidden_flow(Hidden())
    for one, first in ((flow, -4.0), (flow, -1.0), (hidden, 0.0), (hidden, -6.0)):
        for a, b in ((0.3, 1.0), (1.0, 1.0), (3.0, 2.0)):
            gap = one.run(first, [("sft", a), ("opd", b)]) - one.run(first, [("opd", a + b)])
            lead = one.run(first, [("sft", a)]) - one.run(first, [("opd", a)])
            agree &= (gap >= 0) == (lead >= 0)
    name = "8B: switching at the crossing of the speeds: the most that"
    routes: tuple[list[tuple[Phase, float]], ...] = ([("opd", 205.0)], [("sft", 200.0), ("opd", 5.0)])
    late = [hidden.run(0.0, phases) for phases in routes]
    rows = [
        at_most(f"{name} 32 other schedules are ahead of it, logits", 0.0, ahead, 1e-8, headline=True),
        at_most(f"{name} sft or opd alone is ahead of it, logits", 0.0, behind, 1e-8),
        equal("8B: route >= opd at equal time iff SFT is ahead when it stops, 12 cases (1 = all)", 1.0, float(agree)),
        at_least("SFT goes the other way: plain share of opd alone after time 205, Example H", 0.99, expit(late[0])),
        at_most("the same time: sft for 200, then opd for 5", 0.01, expit(late[1])),
    ]
    times = np.linspace(0, 12, 61)
    curves: dict[str, Array] = {name: expit(flow.path(start, name, times)) for name in PHASES}
    taken = flow.time("sft", start, flow.switch)
    later = np.concatenate([[taken], times[times > taken]]) - taken
    both = [flow.path(start, "sft", times[times <= taken]), flow.path(flow.switch, "opd", later)[1:]]
    curves["sft+opd"] = expit(np.concatenate(both))
    logits = np.linspace(-5, 0.4, 109)
    speeds = {name: [flow.speed(name, float(z)) for z in logits] for name in PHASES}
    return rows, {"t": times, "curves": curves, "z": logits, "speeds": speeds, "switch": flow.switch}


# --- when a warm start hurts -------------------------------------------------------------------------------


def warm_start(o: Options) -> Result:
    """Example C, the vanishing gradient of Example H, and Theorem 8C."""
    coin = Coin()
    rows, data = _slow()
    shares = np.linspace(0.001, 0.999, 400)
    data |= {
        "p": shares,
        "L": [coin.reverse(float(p)) for p in shares],
        "marks": {
            "base": (0.87, coin.reverse(0.87)),
            "SFT": (coin.offline, coin.reverse(coin.offline)),
            "opd": (coin.end(0.87), coin.reverse(coin.end(0.87))),
        },
    }
    return Result([*_stuck(coin), *rows, *_cannot(o, coin)], data)


def _stuck(coin: Coin) -> list[Row]:
    """Example C by closed form and by the production kernels."""
    mu, base = np.ones(1), 0.87
    cold, warm = CoinTable(coin, base), CoinTable(coin, base)
    train(cold, ("opd_full",), mu, coin.expert)
    (offline,) = train(warm, ("sft",), mu, coin.expert)
    after_sft = warm.p
    train(warm, ("opd_full",), mu, coin.expert)
    (value,) = (offline * coin.reward).sum(-1)
    return [
        equal("Example C: V of the base, p = .87", 0.328, coin.value(base), 1e-3),
        equal("row sft ends at p = E bit = 1/2, V = 2^(1 - H)", 2 / 256, float(value), 1e-8),
        equal("dL/dp there", 0.0, float(coin.slope(coin.offline)), 1e-12),
        at_least("d2L/dp2 there: a strict local minimum", 16.0, coin.curvature(coin.offline)),
        equal("row opd_full from the base: V against the global minimum of L", coin.value(coin.end(base)),
              coin.value(cold.p), 1e-8, headline=True),
        equal("row opd_full after row sft: V", 2 / 256, coin.value(warm.p), 1e-8, headline=True),
        equal("it has not moved: p before and after", after_sft, warm.p, 1e-8),
    ]  # fmt: skip


def _hidden_flow(family: Hidden) -> Flow:
    """Example H's student that mixes the guess and the plain answer: they share no action, so SFT ends at eps and
    L(p) = p log p + (1 - p) log(1 - p) + p L(plain) + (1 - p) L(guess) is least at logit p = L(guess) - L(plain).
    """
    guess, plain = split_bandit(family.bandit()).reverse
    return Flow(family.eps, float(guess - plain))


def _slow() -> tuple[list[Row], dict[str, Any]]:
    """Example H: from SFT's end online training sees the good answer once in 1/eps rollouts."""
    family = Hidden()
    flow, b = _hidden_flow(family), family.bandit()
    sft, opd = (train(MixtureTable(b.students), (row,), b.mu, b.expert)[0] for row in ("sft", "opd_full"))
    base, warm, there = 0.0, float(logit(family.eps)), float(logit(0.9))
    from_base, from_sft = (flow.time("opd", z, there) for z in (base, warm))
    middle = flow.run(warm, [("opd", from_sft)])
    scored = {q: FamilyF(1, 0.5, 0.0).regret(Info.ON_G, 64, 1 / q) for q in (0.5, family.eps)}
    rows = [
        equal("Example H: row sft ends with the plain share eps", family.eps, sft[0, :2].sum(), 1e-6),
        equal("row opd_full ends at logit p = L(guess) - L(plain)", expit(flow.goal), opd[0, :2].sum(), 1e-6),
        at_least("V at the two ends: opd", 0.97, family.value(opd[0])),
        at_most("V at the two ends: SFT", 0.14, family.value(sft[0])),
        equal("time of opd after SFT to a share of .9, by integrating the flow", there, middle, 1e-7),
        at_least("that time against its bound, near 1 / (2 eps (goal - start))", flow.shortest(warm, there), from_sft),
        at_least("that time as a multiple of the time from the base", 30.0, from_sft / from_base, headline=True),
        at_most("the same multiple with natural gradient", 3.0, flow.natural(warm, there) / flow.natural(base, there)),
        equal("rollouts that show it: ON-G regret after 64, start with share 1/2", 0.5**65, scored[0.5]),
        equal("the same from SFT's end, 1/2 (1 - eps)^64", 0.5 * 0.999**64, scored[family.eps], headline=True),
    ]
    times = np.linspace(0, 60, 81)
    lines = {name: expit(flow.path(z, "opd", times)) for name, z in (("base", base), ("SFT", warm))}
    return rows, {"t": times, "lines": lines}


def _cannot(o: Options, coin: Coin) -> list[Row]:
    """8C: what a descent from the warm start can lose, and the basin that decides in Example C."""
    rng, worst = o.rng("warm-start"), -math.inf
    for make in GENERATORS.values():
        batch = make(200, rng)
        parts = split(batch.mu, batch.students, batch.expert, batch.reward)
        distance = bernoulli_kl(parts.value, parts.value_expert[:, None])  # (M, K)
        budget = parts.reverse - parts.nuisance.min(-1, keepdims=True)
        reachable = parts.reverse[:, None, :] <= parts.reverse[:, :, None]  # from warm start k: every j with L_j <= L_k
        worst = max(worst, float(np.where(reachable, distance[:, None, :] - budget[:, :, None], -math.inf).max()))
    agree = 0
    for w in np.linspace(0.5, 0.98, 25):
        family = Coin(w=float(w))
        agree += (family.value(family.end(family.offline)) > 0.99) == (family.offline > family.barriers[1])
    early = [p for p in np.linspace(0.5, 0.87, 38) if coin.value(coin.end(float(p))) > 0.99]
    return [
        at_most("8C: kl(V(end) || V_e) - (L(start) - inf N), worst of 800 instances, every pair", 0.0, worst, 1e-9,
                headline=True),
        equal("Example C: ends well iff SFT is beyond the barrier, shares w of one style, of 25", 25, agree),
        at_least("Example C: SFT stopped early does no harm down to p =", coin.barriers[1], min(early)),
    ]  # fmt: skip
