"""Every falsifier, on one instance of a reader or on random instances (`understudy theory falsify`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from understudy.errors import UserError
from understudy.theory.exact import improvement
from understudy.theory.exact.decompose import (
    Split,
    asymmetry_identity,
    guarantee,
    score_reward_covariance,
    split_bandit,
)
from understudy.theory.falsify import search
from understudy.theory.falsify.generators import GENERATORS
from understudy.theory.falsify.search import ETAS, ROUNDING, chosen_values, local_violations, theorem4_violations
from understudy.theory.families.bandit import FamilyF, hellinger2, le_cam
from understudy.theory.families.instance import Bandit
from understudy.theory.scalars import Array, bernoulli_kl, monte_carlo_tolerance, softmax

MEMORY = 20_000_000  # numbers held at a time: data sets x cells, or pairs of actions
_F1 = "no offline learner beats the Bayes regret"


@dataclass(frozen=True)
class Finding:
    """One statement, checked. `refuted` is None where the statement does not apply to this instance."""

    code: str
    statement: str
    observed: float
    bound: float
    refuted: bool | None
    note: str = ""

    def record(self) -> dict[str, object]:
        """For JSON, which has no infinity: null."""
        finite = {k: getattr(self, k) if math.isfinite(getattr(self, k)) else None for k in ("observed", "bound")}
        return vars(self) | finite


@dataclass(frozen=True)
class Examination:
    story: Sequence[str]
    """What was examined, in words."""
    findings: Sequence[Finding]
    tally: search.Tally | None = None
    worst: Bandit | None = None
    """The worst instance of the hill climb."""

    @property
    def refuted(self) -> bool:
        return any(f.refuted for f in self.findings)


def examine_random(
    kind: str, count: int, dmax: float, tol: float | None, n: int, runs: int, delta: float, seed: int,
    progress: Callable[[int, str], None],
) -> Examination:  # fmt: skip
    """The search among random instances. progress(stages done of 4, note)."""
    if kind not in GENERATORS:
        raise UserError("kind", kind, f"one of {', '.join(GENERATORS)}")
    progress(0, "random instances")
    tally = search.search(kind, count, dmax, seed, tol)
    progress(1, "hill climb")
    climb = search.hill_climb(dmax, seed) if dmax > 0 else None
    progress(2, "offline learners")
    learners = search.offline_learners(FamilyF(8, 0.05, 0.2), (n,), runs, seed)
    progress(3, "base-policy bounds")
    bounds = theorem4_violations(search.random_instances(20, seed), n, runs, delta, seed)
    progress(4, "done")
    events = f"events in {tally.instances} instances"
    findings = [
        Finding("F2", f"kl(V || V_e) > Delta, {events}", tally.violations, 0, tally.violations > 0),
        Finding("F3", f"Theorem 3A' broken, {events}", tally.local_violations, 0, tally.local_violations > 0),
    ]
    if climb is not None:
        statement, broken = "largest V_e - V_online of the hill climb", climb.gap > climb.proved + 1e-9
        findings.append(Finding("F2", statement, climb.gap, climb.proved, broken))
    for row in learners:
        statement = f"offline '{row.learner}', Family F, n = {row.n}"
        findings.append(Finding("F1", statement, row.regret, row.bayes, row.refutes))
    for violation in bounds:
        statement = f"Theorem {violation.theorem}: share of violations"
        findings.append(Finding("F4", statement, violation.share, violation.allowed, violation.refutes))
    story = (
        f"{kind}: {tally.kept} of {tally.instances} instances have Delta <= {dmax:g}.",
        f"With unlimited data, not more than {tally.tol:.3g} below the expert: SFT {tally.sft_matches:.1%}, "
        f"online {tally.online_matches:.1%}.",
        f"Better than the other by more than that: SFT {tally.offline_better:.1%}, online {tally.online_better:.1%}.",
    )
    return Examination(story, findings, tally, climb.bandit if climb else None)


def examine(bandit: Bandit, n: int = 64, runs: int = 2000, delta: float = 0.1, seed: int = 0) -> Examination:
    """All falsifiers and identities that apply to `bandit`. n rounds and `runs` data sets for F1 and F4."""
    parts = split_bandit(bandit)
    runs = max(20, min(runs, MEMORY // bandit.expert.size))
    findings = [*_population(bandit, parts), *_identities(bandit, parts)]
    findings += _finite_sample(bandit, parts, n, runs, delta, seed)
    if bandit.alternatives:
        findings += _offline(bandit, n, runs, seed)
    else:
        findings.append(Finding("F1", _F1, math.nan, math.nan, None, "give 'alternatives' to test it"))
    return Examination(_story(bandit, parts), findings)


def _story(b: Bandit, p: Split) -> list[str]:
    v_e, delta = float(p.value_expert), float(p.delta)
    online, offline = int(p.online()), int(p.offline())
    lines = [
        f"expert V_e = {v_e:.6g}; best student V* = {p.value.max():.6g}; "
        f"smallest KL(student || expert) = {p.reverse.min():.6g} nats"
    ]
    if math.isinf(delta):
        lines.append("every student does something the expert never does: Delta is infinite, 3A is silent")
    else:
        promise = guarantee(v_e, delta)
        lines.append(f"Delta = {delta:.6g} nats: online imitation is promised V >= {promise.kl_inverse:.6g}")
        lines.append(f"online (reverse KL) picks {b.label(online)}: V = {p.value[online]:.6g}")
    if math.isinf(float(p.forward.min())):
        lines.append("SFT (forward KL): every student has infinite loss, so SFT is undefined here")
    else:
        lines.append(f"SFT (forward KL) picks {b.label(offline)}: V = {p.value[offline]:.6g}")
    return lines


def _population(bandit: Bandit, parts: Split) -> list[Finding]:
    finite = np.isfinite(parts.reverse)
    residual = np.abs(parts.reverse[finite] - parts.relevant[finite] - parts.nuisance[finite])
    scale = 1 + float(parts.reverse[finite].max(initial=0.0))
    worst = float(residual.max(initial=0.0))
    out = [_identity("3", "chain rule: L = R + N for every student", worst, scale)]
    if not finite.any():
        return [*out, Finding("F2", "online keeps its guarantee", math.nan, math.inf, None, "Delta is infinite")]
    v_e, delta = float(parts.value_expert), float(parts.delta)
    online = float(parts.value[int(parts.online())])
    distance = float(bernoulli_kl(online, v_e))
    statement = "kl(V_online || V_e) <= Delta (Theorem 3A)"
    out.append(Finding("F2", statement, distance, delta, distance > delta + ROUNDING))
    batch = Split(**{f.name: np.asarray(getattr(parts, f.name))[None] for f in fields(parts)})
    broken = bool(local_violations(batch, chosen_values(batch)[0])[0])
    statement = f"no loss V_e - V that Theorem 3A' excludes ({len(ETAS)} levels)"
    return [*out, Finding("F3", statement, v_e - online, math.nan, broken)]


def _identity(code: str, statement: str, residual: float, scale: float = 1.0) -> Finding:
    return Finding(code, statement, residual, ROUNDING * scale, residual > ROUNDING * scale)


_IDENTITIES = {  # code -> statement, what it needs
    "3B": ("Cov(r, A) = v(1-v)[logit v_e - logit v - (D1 - D0)]", "needs binary reward and 0 < v < 1"),
    "3D": ("alignment decomposition of V differences", "needs two choices inside the expert's support"),
    "3E": ("integral of Cov(r, A) along the path = V gained", "needs a student inside the expert's support"),
    "3F": ("best-of-2 gain = v(1-v)(2 AUC - 1)", "needs binary reward and few enough pairs of actions"),
}


def _identities(bandit: Bandit, parts: Split) -> list[Finding]:
    """3B, 3D, 3E and 3F, on the online choice, the SFT choice and the first student."""
    mu, e, r = bandit.mu, bandit.expert, bandit.reward
    binary = bool(np.isin(r, (0.0, 1.0)).all())
    uniform = np.full(r.shape, 1 / r.shape[1])
    with np.errstate(divide="ignore"):
        score = np.log(e)
    residuals: dict[str, list[float]] = {code: [] for code in _IDENTITIES}
    chosen = sorted({0, int(parts.online()), int(parts.offline())})
    first = bandit.students[chosen[0]]
    for k in chosen:
        pi = bandit.students[k]
        if binary and r.size * r.shape[1] <= MEMORY:
            pairs = improvement.best_of_two_gain(mu, pi, score, r)
            residuals["3F"].append(pairs - improvement.best_of_two_identity(mu, pi, score, r))
        if not bool((e[pi > 0] > 0).all()):
            continue
        advantage = improvement.advantage(pi, e)
        if np.ptp(advantage[pi > 0]) < 60:  # sharper paths need more quadrature nodes
            rest = e * (pi > 0)
            gain = (rest / rest.sum(-1, keepdims=True) * r).sum(-1) - (pi * r).sum(-1)
            residuals["3E"] += list(improvement.path_value_gain(pi, e, r, nodes=200) - gain)
        v = (pi * r).sum(-1)
        if binary and bool(((v > 0) & (v < 1)).all()):
            residuals["3B"] += list(score_reward_covariance(pi, e, r) - asymmetry_identity(pi, e, r))
        if k != chosen[0] and bool((e > 0).all()):
            terms = improvement.alignment(mu, (first, pi), e, r, 0.7, uniform, np.zeros(len(mu)))
            truth = float(parts.value[chosen[0]] - parts.value[k])
            scale = 1 + abs(terms.entropy) + abs(terms.imitation) + abs(terms.misalignment)
            residuals["3D"].append((terms.value_difference - truth) / scale)
    return [
        _identity(code, statement, float(np.abs(residuals[code]).max()))
        if residuals[code]
        else Finding(code, statement, math.nan, ROUNDING, None, need)
        for code, (statement, need) in _IDENTITIES.items()
    ]


def _finite_sample(bandit: Bandit, parts: Split, n: int, runs: int, delta: float, seed: int) -> list[Finding]:
    if not np.isfinite(parts.reverse).all():
        note = "some student has infinite KL to the expert: B is infinite"
        return [Finding("F4", "Theorem 4 at confidence 1 - delta", math.nan, delta, None, note)]
    out = []
    for row in theorem4_violations([bandit], n, runs, delta, seed):
        statement = f"Theorem {row.theorem}: excess above its bound, n = {n}"
        note = f"{row.trials} data sets; largest excess / bound {row.worst_ratio:.3g}"
        out.append(Finding("F4", statement, row.share, row.allowed, row.refutes, note))
    return out


def _offline(bandit: Bandit, n: int, runs: int, seed: int) -> list[Finding]:
    """F1 (and C5 for two worlds): regrets of the MLE and of the Bayes learner, averaged over the worlds."""
    rng = np.random.default_rng(seed)
    worlds = bandit.alternatives
    values = np.stack([(bandit.students * r).sum(-1) @ bandit.mu for _, r in worlds])  # (J, K)
    best = values.max(1)
    joint = np.stack([(bandit.mu[:, None] * e).ravel() for e, _ in worlds])
    joint = joint / joint.sum(1, keepdims=True)
    log_joint, flat = _finite_log(joint), _finite_log(bandit.students.reshape(len(bandit.students), -1))
    bayes, mle = np.empty((len(worlds), runs)), np.empty((len(worlds), runs))
    for j in range(len(worlds)):
        counts = rng.multinomial(n, joint[j], runs).astype(float)
        posterior = softmax(counts @ log_joint.T)
        bayes[j] = best[j] - values[j][(posterior @ values).argmax(1)]
        mle[j] = best[j] - values[j][(counts @ flat.T).argmax(1)]
    error = float(math.sqrt(((mle - bayes).var(1) / runs).sum()) / len(worlds))
    below, slack = float((mle - bayes).mean(0).mean()), monte_carlo_tolerance(error)
    note = f"mean over {len(worlds)} worlds: Bayes {bayes.mean():.4g}, SFT {mle.mean():.4g}"
    out = [Finding("F1", f"{_F1}: SFT (MLE) minus Bayes, n = {n}", below, -slack, below < -slack, note)]
    if len(worlds) == 2:
        separation = float((best.sum() - values.sum(0)).min())
        bound = le_cam(separation, hellinger2(bandit.mu, worlds[0][0], worlds[1][0]), n)
        worst = int(bayes.mean(1).argmax())
        observed = float(bayes.mean(1)[worst])
        slack = monte_carlo_tolerance(float((bayes.std(1) / math.sqrt(runs))[worst]))
        out.append(Finding("C5", f"Le Cam: worst-world regret, n = {n}", observed, bound, observed < bound - slack))
    return out


def _finite_log(p: Array) -> Array:
    """log p, at least -1e9, so that 0 counts times log 0 is 0."""
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(p), -1e9)
