"""Random finite worlds for the calibration lab, eight kinds of them (docs/diagnose.md).

A world is a contextual bandit whose actions are short token sequences, with a finite class of students that is
learnt context by context. Nothing in it is a language model, but it has what decides between offline and online:
a start, an expert, a class, a budget of n sequences, and prefixes on which the expert can take over.

realizable   the expert is in the class: another option of it, or the start tilted by the reward as RL does
benign       the expert's style is out of reach, alike for every student: the irreducible part is reward-neutral
harmful      ... and in the students' own styles the expert is worse: the irreducible part is not neutral (Theorem 3C)
trap         students differ in how much of the style they can fake, and the fakers are worse (Example T)
hidden       Family F: the expert's usual actions say nothing of what a student needs to know (Theorem 2)
no better    an expert no better than the student, overall or from where the student is
too little   the budget is short of what there is to learn
horizon      section 5's sequence families, R-, M-mode- and M-token-
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from understudy.theory.bandit import FamilyF
from understudy.theory.horizon import HZ
from understudy.theory.information import Info
from understudy.theory.scalars import Array, logistic, logit

STYLES = 3
WEAK, GOOD, DECOY, OTHER = range(4)
SMOOTH = 0.01
"""Experts that rule an action out still score it, as programmatic experts do: mass spread over all actions."""


@dataclass(frozen=True)
class World:
    """X contexts, K options of the class in each, Y actions (sequences of T tokens). The reward is 0 or 1."""

    kind: str
    seed: int
    mu: Array  # (X,)
    expert: Array  # (X, Y) what it samples
    score: Array  # (X, Y) what it says about any action; positive wherever a student plays
    options: Array  # (K, X, Y), positive
    prior: Array  # (X, K): the start is the mixture of the options with these weights
    reward: Array  # (X, Y)
    tokens: NDArray[np.int64]  # (Y, T)
    n: int  # sequences in either full training
    exact_sft: Callable[[int], float] | None = None  # n -> expected accuracy of SFT, in closed form (theory)

    @property
    def start(self) -> Array:
        """(X, Y) the student before training."""
        return self.policy(self.prior)

    def policy(self, weights_XK: Array) -> Array:
        return np.einsum("xk,kxy->xy", weights_XK, self.options)

    def value(self, policy_XY: Array) -> float:
        return float(self.mu @ (policy_XY * self.reward).sum(-1))


def make(kind: str, seed: int) -> World:
    """The world of this kind and seed: the same one every time."""
    return KINDS[kind](np.random.default_rng([sorted(KINDS).index(kind), seed]), kind, seed)


# --- styled worlds: a style token, then a content token ----------------------------------------------


@dataclass
class _Draft:
    """Content accuracies (..., X, S) and style laws (..., X, S) of the expert and of the four options."""

    mu: Array
    contents: int
    v_e: Array  # (X, S)
    q_e: Array
    v: Array  # (4, X, S)
    q: Array


def _table(q: Array, v: Array, contents: int) -> Array:
    """(..., S) style law, (..., S) accuracy of the content given the style -> (..., S * contents) actions."""
    wrong = np.repeat(((1 - v) / (contents - 1))[..., None], contents - 1, -1)
    return (q[..., None] * np.concatenate([v[..., None], wrong], -1)).reshape(*q.shape[:-1], -1)


def _around(rng: np.random.Generator, level: float, *shape: int) -> Array:
    """Accuracies about `level`, jittered in logits."""
    return np.clip(logistic(logit(level) + rng.normal(0, 0.5, shape)), 0.01, 0.99)


def _draft(rng: np.random.Generator, v_e: float, v_weak: float) -> _Draft:
    """A realizable start: the good option is the expert; styles are anybody's."""
    x, contents = int(rng.integers(6, 17)), int(rng.integers(2, 5))
    v = np.stack([_around(rng, level, x, 1) for level in (v_weak, v_e, rng.uniform(0.05, 0.9), v_weak)])
    v = np.repeat(v, STYLES, -1)
    q = rng.dirichlet(np.ones(STYLES), (4, x))
    q[DECOY] = q[GOOD]  # right in style, not in content
    return _Draft(rng.dirichlet(np.full(x, 3.0)), contents, v[GOOD], q[GOOD], v, q)


def _out_of_reach(rng: np.random.Generator, d: _Draft, tau: Array, transfer: bool) -> None:
    """Style 0 becomes the expert's own: a student gives it only mass tau (4,).

    transfer: what the expert does in its own style still shows the content a student needs; otherwise a student's
    content there is a coin, and only the share eps of expert samples in playable styles says anything.
    """
    eps = 10 ** rng.uniform(-2.5, -0.5)
    rest = rng.dirichlet(np.ones(STYLES - 1), len(d.mu))
    d.q_e = np.concatenate([np.full((len(d.mu), 1), 1 - eps), eps * rest], -1)
    own = rest * np.exp(rng.normal(0, 0.3, (4, *rest.shape)))
    own = own / own.sum(-1, keepdims=True)
    mass = np.broadcast_to(tau[:, None, None], (4, len(d.mu), 1))
    d.q = np.concatenate([mass, (1 - mass) * own], -1)
    if not transfer:
        d.v = d.v.copy()
        d.v[..., 0] = 1 / d.contents


def _styled(rng: np.random.Generator, kind: str, seed: int, d: _Draft, by_samples: bool, difficulty: float) -> World:
    """Set the prior so that context x is learnt after about n * 10^N(difficulty, spread) sequences.

    by_samples: that many expert samples (SFT); otherwise that many prompts of the online learner. The other one then
    learns as fast as the world lets it.
    """
    n = int(2 ** rng.uniform(7, 12))
    expert, options = _table(d.q_e, d.v_e, d.contents), _table(d.q, d.v, d.contents)
    log_e, log_p = np.log(expert), np.log(options)
    losses = -(expert * log_p).sum(-1) if by_samples else (options * (log_p - log_e)).sum(-1)  # (4, X)
    gain = np.maximum(losses[WEAK] - losses.min(0), 0.02)
    needed = n * 10 ** rng.normal(difficulty, rng.uniform(0.2, 0.8), len(d.mu))
    nats = np.clip(needed * d.mu * gain, 0.5, 200)
    against = np.zeros((len(d.mu), 4))
    against[:, 1:] = nats[:, None] + rng.uniform(0, 2, (len(d.mu), 3))
    prior = np.exp(-against)
    contents = np.array([int(c == 0) for _ in range(STYLES) for c in range(d.contents)], float)
    tokens = np.array(list(product(range(STYLES), range(d.contents))))
    return World(
        kind, seed, d.mu, expert, expert, options, prior / prior.sum(-1, keepdims=True),
        np.tile(contents, (len(d.mu), 1)), tokens, n,
    )  # fmt: skip


def _difficulty(rng: np.random.Generator) -> float:
    return float(rng.uniform(-2.2, -0.2))


def _levels(rng: np.random.Generator) -> tuple[float, float]:
    """(the expert's accuracy, the start's)"""
    v_e = rng.uniform(0.5, 0.98)
    return float(v_e), float(rng.uniform(0.05, v_e))


def _realizable(rng: np.random.Generator, kind: str, seed: int) -> World:
    d = _draft(rng, *_levels(rng))
    if rng.random() < 0.5:  # the start tilted by the reward, with two steps on the way
        step = (logit(d.v[GOOD]) - logit(d.v[WEAK])) / 3
        d.v = np.stack([logistic(logit(d.v[WEAK]) + k * step) for k in (0, 3, 2, 1)])
        d.q = np.repeat(d.q[GOOD][None], 4, 0)
        d.v_e, d.q_e = d.v[GOOD], d.q[GOOD]
    return _styled(rng, kind, seed, d, True, _difficulty(rng))


def _benign(rng: np.random.Generator, kind: str, seed: int) -> World:
    d, transfer = _draft(rng, *_levels(rng)), bool(rng.random() < 0.5)
    _out_of_reach(rng, d, np.full(4, 1e-3), transfer)
    return _styled(rng, kind, seed, d, transfer, _difficulty(rng))


def _harmful(rng: np.random.Generator, kind: str, seed: int) -> World:
    v_e, v_weak = _levels(rng)
    d, transfer = _draft(rng, v_e, v_weak), bool(rng.random() < 0.7)
    _out_of_reach(rng, d, np.full(4, 1e-3), transfer)
    d.v_e = d.v_e.copy()
    d.v_e[:, 1:] = np.clip(d.v_e[:, 1:] * rng.uniform(0.1, 0.9), 0.01, 0.99)
    d.v = d.v.copy()
    d.v[OTHER] = np.clip(d.v_e[:, 1:2] + rng.normal(0, 0.03, (len(d.mu), 1)), 0.01, 0.99)
    return _styled(rng, kind, seed, d, transfer, _difficulty(rng))


def _trap(rng: np.random.Generator, kind: str, seed: int) -> World:
    v_e, v_weak = _levels(rng)
    d = _draft(rng, v_e, v_weak)
    d.v[DECOY] = _around(rng, float(rng.uniform(0.05, 0.8 * v_e)), len(d.mu), 1)
    low, high = 10 ** rng.uniform(-9, -5), 10 ** rng.uniform(-4, -1.5)
    _out_of_reach(rng, d, np.array([low, low, high, low]), True)
    return _styled(rng, kind, seed, d, False, _difficulty(rng))


def _no_better(rng: np.random.Generator, kind: str, seed: int) -> World:
    v_e = float(rng.uniform(0.2, 0.9))
    v_weak = min(0.97, v_e + float(rng.uniform(-0.02, 0.3)))
    if rng.random() < 0.5:
        d = _draft(rng, v_e, v_weak)
        return _styled(rng, kind, seed, d, True, _difficulty(rng))
    d = _draft(rng, float(rng.uniform(v_weak, 0.98)), v_weak)  # better, but not from where the student is
    d.v[OTHER] = _around(rng, v_e, len(d.mu), 1)
    d.v[GOOD] = d.v[DECOY] = _around(rng, v_weak, len(d.mu), 1)
    _out_of_reach(rng, d, np.full(4, 1e-3), False)
    d.v_e = d.v_e.copy()
    d.v_e[:, 1:] = d.v[OTHER][:, 1:]
    return _styled(rng, kind, seed, d, bool(rng.random() < 0.5), _difficulty(rng))


def _too_little(rng: np.random.Generator, kind: str, seed: int) -> World:
    d, by_samples = _draft(rng, *_levels(rng)), True
    if rng.random() < 0.5:
        by_samples = bool(rng.random() < 0.5)
        _out_of_reach(rng, d, np.full(4, 1e-3), by_samples)
    return _styled(rng, kind, seed, d, by_samples, float(rng.uniform(-0.1, 1)))


# --- worlds of the theory, with closed forms --------------------------------------------------------


def _hidden(rng: np.random.Generator, kind: str, seed: int) -> World:
    """Family F with deterministic students; a share of the contexts may be known from the start."""
    l, n = int(rng.integers(4, 17)), int(2 ** rng.uniform(5, 12))  # noqa: E741
    active = tuple(sorted(rng.choice(l, int(rng.integers(1, l + 1)), replace=False).tolist()))
    kappa = float(rng.choice([0.0, rng.uniform(0, 0.35)]))
    p = rng.dirichlet(np.full(l, 3.0))
    family = FamilyF(l, float(10 ** rng.uniform(-3, -0.2)), kappa, "D", tuple(p / p.sum()), active)
    return family_world(family, n, kind, seed)


def family_world(family: FamilyF, n: int, kind: str = "hidden", seed: int = 0, tau: float = 1e-4) -> World:
    """Family F as a world, all bits 0 without loss of generality. Actions: (own style, bit), (expert's, right or not).

    Students put tau on the expert's style, alike, so that SFT's loss is finite; it moves nothing (Theorem 2 (i)).
    """
    theta = np.zeros(family.l, dtype=np.int64)
    expert = family.expert(theta)
    options = np.stack([(1 - tau) * family.student(np.full(family.l, b)) for b in (0, 1)])
    options[..., 2:] = tau / 2
    options = np.maximum(options, 1e-12)
    known = np.ones(family.l, bool)
    known[list(range(family.l) if family.active is None else family.active)] = False
    prior = np.where(known[:, None], np.array([1.0, 0.0]), 0.5)
    tokens = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    score = expert if family.kappa > 0 else (1 - SMOOTH) * expert + SMOOTH / 4
    return World(
        kind, seed, family.law, expert, score, options, prior, family.reward(theta), tokens, n,
        lambda m: family.value_best - family.regret(Info.OFF_S, m),
    )  # fmt: skip


def _horizon(rng: np.random.Generator, kind: str, seed: int) -> World:
    name = str(rng.choice(["R-shared", "R-indep", "M-mode-shared", "M-mode-indep", "M-token-shared", "M-token-indep"]))
    h = int(rng.integers(2, 4 if name.endswith("indep") or name.startswith("M-token") else 6))
    l, known = int(rng.integers(3, 13)), int(rng.integers(0, 6))  # noqa: E741
    family = HZ(name, l + known, float(10 ** rng.uniform(-3, -0.2)), 0.0, h)
    return horizon_world(family, known, int(2 ** rng.uniform(4, 11)), kind, seed)


def horizon_world(family: HZ, known: int, n: int, kind: str = "horizon", seed: int = 0, tau: float = 1e-4) -> World:
    """A family of section 5, `known` of whose l contexts are known from the start; the right bits are 0.

    Tokens: 0 and 1 are content, 2 is filler, 3 the expert's style token, 4 'play'. A student plays its bits and puts
    tau a token on filler (or on the style token), alike for every student.
    """
    h, mode, token = family.H, family.kind.startswith("M-mode"), family.kind.startswith("M-token")
    own = list(product((0, 1, 2) if token else (0, 1), repeat=h))
    sequences = [(4, *s) for s in own] + [(3,) + (2,) * h] if mode else own
    tokens = np.array(sequences)
    content = tokens[:, 1:] if mode else tokens
    bits = np.array(list(product((0, 1), repeat=h)) if family.kind.endswith("indep") else [[0] * h, [1] * h])

    def chance(right: NDArray[np.int64], filler: float, wrong: float) -> Array:
        """(Y,) probability of each sequence if every token is independent: right, filler or wrong."""
        each = np.where(content == 2, filler, np.where(content == right, 1 - filler - wrong, wrong))
        if mode:
            each = np.where(content == 2, 1.0, np.where(content == right, 1 - wrong, wrong))
        return np.asarray(each.prod(-1))

    def lead(play: float) -> Array:
        return np.where(tokens[:, 0] == 4, play, 1 - play) if mode else np.ones(len(tokens))

    filler = 1 - family.eps if token else 0.0
    expert = lead(family.eps) * chance(bits[0], filler, 0.0)
    # where fillers are usual, a wrong token is scored far below a right one, not below a filler
    score = lead(family.eps) * chance(bits[0], filler, SMOOTH * (family.eps if token else 1.0))
    options = np.stack([lead(1 - tau) * chance(b, tau if token else 0.0, 1e-9) for b in bits])
    x, k = family.l, len(bits)
    prior = np.full((x, k), 1 / k)
    prior[:known] = np.eye(k)[0]
    reward = (content != 1).all(-1).astype(float)
    return World(
        kind, seed, np.full(x, 1 / x), np.tile(expert, (x, 1)), np.tile(score / score.sum(), (x, 1)),
        np.repeat((options / options.sum(-1, keepdims=True))[:, None], x, 1), prior, np.tile(reward, (x, 1)),
        tokens, n, lambda m: 1 - family.regret(Info.OFF_S, m) * (x - known) / x,
    )  # fmt: skip


KINDS: dict[str, Callable[[np.random.Generator, str, int], World]] = {
    "realizable": _realizable,
    "benign": _benign,
    "harmful": _harmful,
    "trap": _trap,
    "hidden": _hidden,
    "no better": _no_better,
    "too little": _too_little,
    "horizon": _horizon,
}
