"""Closed forms at any parameters: `understudy theory value QUANTITY [options]`.

A quantity is a function: its parameters are the options, with their types and defaults. The first paragraph of its
docstring is the summary; each line `name: text` below is the help of a parameter (COMMON has the shared ones). It
returns the number, or the number and the parameters that it used.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any

import numpy as np

from understudy.errors import UserError
from understudy.specs import build
from understudy.theory import scalars
from understudy.theory.exact.decompose import guarantee, split_bandit, tilt_delta, tilt_value
from understudy.theory.families import bandit, learners, realizable
from understudy.theory.families.bandit import FamilyF
from understudy.theory.families.gaussian import Bottleneck, Fig3
from understudy.theory.families.horizon import HZ, KINDS
from understudy.theory.families.trap import Trap
from understudy.theory.information import parse_info

COMMON = {"n": "Rounds of data.", "l": "Contexts.", "eps": "Playable mass.", "kappa": "Expert's error rate."}


@dataclass(frozen=True)
class Quantity:
    source: str
    """The statement of docs/theory.md."""
    compute: Callable[..., Any]

    @property
    def summary(self) -> str:
        return inspect.getdoc(self.compute).partition("\n\n")[0]  # type: ignore[union-attr]

    @property
    def options(self) -> type[Any]:
        """A dataclass of the parameters; each field's metadata has its help."""
        lines = str(inspect.getdoc(self.compute)).partition("\n\n")[2].splitlines()
        texts = COMMON | dict(line.split(": ", 1) for line in lines)
        hints = typing.get_type_hints(self.compute)
        fields = [
            (p.name, hints[p.name], dataclasses.field(default=p.default, metadata={"help": texts[p.name]}))
            for p in inspect.signature(self.compute).parameters.values()
        ]
        return dataclasses.make_dataclass("Parameters", fields, frozen=True)


QUANTITIES: dict[str, Quantity] = {}
Function = typing.TypeVar("Function", bound=Callable[..., Any])


def quantity(source: str) -> Callable[[Function], Function]:
    def register(compute: Function) -> Function:
        QUANTITIES[compute.__name__.replace("_", "-")] = Quantity(source, compute)
        return compute

    return register


def find(name: str) -> Quantity:
    """The quantity of that name. UserError names the nearest one otherwise."""
    if name in QUANTITIES:
        return QUANTITIES[name]
    close = get_close_matches(name, QUANTITIES, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UserError("quantity", name, f"{hint}one of {', '.join(QUANTITIES)}")


def record(name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """What --json prints: the value in full precision (null, and 'infinite', if it is infinite), parameters, source.

    args: parameter -> value, or its text. UserError names a parameter that is unknown or out of range.
    """
    chosen = find(name)
    parameters = dataclasses.asdict(build(chosen.options, args, ""))
    value = chosen.compute(**parameters)
    if isinstance(value, tuple):
        value, parameters = value
    out: dict[str, Any] = {"quantity": name, "parameters": parameters, "source": chosen.source}
    if math.isinf(value):
        return out | {"value": None, "infinite": "+" if value > 0 else "-"}
    return out | {"value": float(value)}


def pick(table: Mapping[str, Any], name: str, field: str) -> Any:
    """table[name]; UserError lists the names otherwise."""
    if name not in table:
        raise UserError(field, name, f"one of {', '.join(table)}")
    return table[name]


def probability(field: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UserError(field, value, "a probability in [0, 1]")


# --- regrets: how each family reads the parameters ---------------------------------------------------------

LEARNERS = {
    "ON-G-MIDRANGE": learners.midrange_regret,
    "ON-G-GROUP": learners.group_centred_regret,
    "ON-G-RAW": learners.raw_ips_regret,
}


def _family_f(info: str, n: int, family: FamilyF, coverage: float) -> float:
    learner = LEARNERS.get(info.upper())
    return learner(family, n) if learner else family.regret(parse_info(info), n, coverage)


def _plain(info: str, n: int, family: Any) -> float:
    return float(family.regret(parse_info(info), n))


DEFAULTS: dict[str, Any] = {
    "l": 8, "eps": 0.01, "kappa": 0.0, "students": "D", "coverage": 1.0, "g": 0.1, "zeta": None, "M": 4.0, "H": 1,
}  # fmt: skip
FAMILIES: dict[str, tuple[str, Callable[..., float]]] = {
    "F": ("l eps kappa students coverage", lambda i, n, l, e, k, s, c: _family_f(i, n, FamilyF(l, e, k, s), c)),
    "R-stoch": ("l g", lambda i, n, l, g: _plain(i, n, realizable.StochasticRealizable(l, g))),
    "unvisited": ("l zeta", lambda i, n, l, zeta: _plain(i, n, realizable.Unvisited(l, zeta))),
    "rate": ("l eps kappa", lambda i, n, l, e, k: _plain(i, n, bandit.rate_instance(l, e, n, k))),
    "truncated": (
        "l eps kappa students",
        lambda i, n, l, e, k, s: bandit.truncated_decoding_regret(FamilyF(l, e, k, s), parse_info(i), n),
    ),
    "gaussian": ("M", lambda i, n, distance: _plain(i, n, Bottleneck(distance))),
}


def _horizon(kind: str, info: str, n: int, *args: Any) -> float:
    return _plain(info, n, HZ(kind, *args))


FAMILIES |= {kind: ("l eps kappa H", partial(_horizon, kind)) for kind in KINDS}


@quantity("Theorems 1c, 2, C3, C4; sections 1, 2, 5")
def regret(
    family: str = "F", info: str = "OFF-S", n: int = 64, l: int | None = None, eps: float | None = None,
    kappa: float | None = None, students: str | None = None, coverage: float | None = None, g: float | None = None,
    zeta: float | None = None, M: float | None = None, H: int | None = None,
) -> tuple[float, dict[str, Any]]:  # fmt: skip
    """Exact Bayes regret of a family after n rounds of an information model.

    family: F, R-stoch, unvisited (1c), rate (C4), truncated (C3), gaussian, or a horizon kind (R-shared, ...).
    info: OFF-S, OFF-G, OFF-L, ON-G, ON-G*; family F: also the learners ON-G-midrange, ON-G-group, ON-G-raw.
    l: Contexts. Default: 8.
    eps: Mass that the expert puts on actions that students can play. Default: 0.01.
    kappa: Expert's error rate there. Default: 0.
    students: Family F: D (deterministic) or S (soft) students. Default: D.
    coverage: Family F, ON-G: the base puts mass 1/coverage on playable actions. Default: 1.
    g: R-stoch: the expert plays the right bit with probability 1/2 + g. Default: 0.1.
    zeta: unvisited: mass of each rare context. Default: 1/(n + 1).
    M: gaussian: distance of the expert in standard deviations. Default: 4.
    H: Horizon kinds: content tokens. Default: 1.
    """
    values = (l, eps, kappa, students, coverage, g, zeta, M, H)
    given = {name: value for name, value in zip(DEFAULTS, values) if value is not None}
    names, compute = pick(FAMILIES, family, "family")
    for name, value in given.items():
        if name not in names.split():
            raise UserError(name, value, f"family {family} reads {', '.join(names.split())}")
    bandit.check_rounds(n)
    if info.upper() in LEARNERS and family != "F":
        raise UserError("info", info, "a learner of family F; elsewhere name an information model")
    filled = DEFAULTS | {"zeta": 1 / (n + 1)} | given
    read = {name: filled[name] for name in names.split()}
    return compute(info, n, *read.values()), {"family": family, "info": info, "n": n} | read


@quantity("Theorems 1a, 1b, 1c, C4, Gaussian bottleneck")
def bound(
    name: str = "mle-hellinger", k: int = 256, n: int = 64, delta: float = 0.05, eps: float = 0.01, M: float = 4.0
) -> float:
    """A proved bound of the realizable case, or of the rate and Gaussian families.

    name: mle-hellinger, mle-hellinger-mean, deterministic-mean, scores, online-lower, online-ratio, rate-lower, gaussian-lower.
    k: Size of the class.
    delta: Probability of failure.
    eps: rate-lower: playable mass.
    M: gaussian-lower: distance of the expert.
    """  # noqa: E501
    if k < 2 or n < 1 or not 0 < delta < 1:
        raise UserError("bound", f"k={k} n={n} delta={delta}", "needs k >= 2, n >= 1, 0 < delta < 1")
    bounds: dict[str, Callable[[], float]] = {
        "mle-hellinger": lambda: realizable.mle_hellinger_bound(k, n, delta),
        "mle-hellinger-mean": lambda: realizable.mle_hellinger_mean_bound(k, n),
        "deterministic-mean": lambda: realizable.deterministic_mean_bound(k, n),
        "scores": lambda: realizable.score_bound(k, n, delta),
        "online-lower": lambda: realizable.unvisited_lower_bound(int(math.log2(k)), n),
        "online-ratio": lambda: realizable.online_ratio(k, n),
        "rate-lower": lambda: bandit.rate_lower_bound(int(math.log2(k)), eps, n),
        "gaussian-lower": lambda: Bottleneck(M).lower_bound(n),
    }
    return float(pick(bounds, name, "name")())


@quantity("C1")
def samples(regret: float = 0.05, l: int = 8, eps: float = 0.01) -> float:
    """Rounds for a regret in Family F (uniform contexts, kappa 0): OFF-S, or ON-G with --eps 1.

    regret: Target regret, below 1/2.
    l: Contexts, at least 2.
    """
    if not 0 < regret < 0.5:
        raise UserError("regret", regret, "strictly between 0 and 1/2")
    FamilyF(max(l, 2), eps)
    return bandit.samples_needed(regret, max(l, 2), eps)


@quantity("C5")
def le_cam(separation: float = 1.0, hellinger2: float = 0.01, n: int = 64) -> float:
    """Two-point lower bound on worst-world offline regret.

    separation: s = min over the class of regret_0 + regret_1.
    hellinger2: D2(e0, e1), in [0, 2].
    """
    bandit.check_rounds(n)
    if not 0 <= hellinger2 <= 2:
        raise UserError("hellinger2", hellinger2, "lies in [0, 2]")
    return bandit.le_cam(separation, hellinger2, n)


@quantity("section 6")
def perfect_run(n: int = 64, l: int = 8, eps: float = 0.01, kappa: float = 0.1) -> float:
    """P(one offline run gets every bit of Family F right): why single runs prove nothing."""
    bandit.check_rounds(n)
    return learners.perfect_run(FamilyF(l, eps, kappa), n)


@quantity("section 0")
def vote_error(m: int = 3, kappa: float = 0.1) -> float:
    """e_m(kappa): error of a majority of m votes, a tie by a fair coin.

    m: Votes.
    kappa: Error of one vote.
    """
    bandit.check_rounds(m)
    probability("kappa", kappa)
    return float(scalars.vote_error(m, kappa))


# --- section 3 and Example T -------------------------------------------------------------------------------


@quantity("section 3, Theorem 3A; Example T")
def misspecification(
    example: str = "trap", what: str = "delta", student: int = 0, eps: float = 0.01, kappa: float = 0.1
) -> float:
    """L, F, N, R, Delta or the guarantee on Example T or Family F.

    example: trap or F.
    what: L, F, R, N, V (of --student), delta, guarantee, pinsker, online, offline, tv, coverage.
    student: Which student: trap 0 or 1; F 0 = right everywhere, 1 = wrong everywhere.
    eps: Family F: playable mass (trap has its own parameters).
    kappa: Family F: the expert's error rate.
    """
    if example not in ("trap", "F"):
        raise UserError("example", example, "trap or F")
    if student not in (0, 1):
        raise UserError("student", student, "0 or 1")
    bits = np.array([[0], [1]])
    b = Trap().bandit() if example == "trap" else FamilyF(1, eps, kappa).bandit(bits[0], bits)
    parts = split_bandit(b)
    promise = guarantee(float(parts.value_expert), float(parts.delta))
    pi = b.students[student]
    values = {
        "L": parts.reverse[student],
        "F": parts.forward[student],
        "R": parts.relevant[student],
        "N": parts.nuisance[student],
        "V": parts.value[student],
        "delta": parts.delta,
        "guarantee": promise.kl_inverse,
        "pinsker": promise.pinsker,
        "online": parts.value[int(parts.online())],
        "offline": parts.value[int(parts.offline())],
        "tv": 0.5 * np.abs(pi - b.expert).sum(-1) @ b.mu,
        "coverage": np.where(pi > 0, pi**2 / np.where(pi > 0, b.expert, 1.0), 0.0).sum(-1) @ b.mu,
    }
    return float(pick(values, what, "what"))


@quantity("Example T")
def mle_pick(n: int = 1) -> float:
    """P(the MLE on n offline samples takes the bad student) in Example T."""
    bandit.check_rounds(n)
    return Trap().mle_picks_second(n)


@quantity("section 3, Figure 3")
def figure3(cls: str = "A", what: str = "V", t: float | None = None, phi: str = "r") -> float:
    """Quantities of Figure 3's two Gaussian classes.

    cls: A (mean_x = 0) or B (mean_y = mean_x).
    what: At --t: V, L, R, N, natural-step, raw-covariance. Of the class: delta, minimiser, least-nuisance, guarantee.
    t: Parameter of the student. Default: the reverse-KL projection.
    phi: Statistic of the split: r or y.
    """
    if phi not in ("r", "y"):
        raise UserError("phi", phi, "r or y")
    fig = Fig3(cls)
    at = fig.minimiser if t is None else t
    values: dict[str, Callable[[], float]] = {
        "V": lambda: fig.value(at),
        "L": lambda: fig.reverse_kl(at),
        "R": lambda: fig.relevant(at, phi),
        "N": lambda: fig.nuisance(at, phi),
        "natural-step": lambda: fig.natural_step(at),
        "raw-covariance": lambda: fig.raw_covariance(at),
        "delta": lambda: fig.delta(phi),
        "minimiser": lambda: fig.minimiser,
        "least-nuisance": lambda: fig.least_nuisance(phi)[0],
        "guarantee": lambda: scalars.kl_inv_lower(fig.value(2.0), fig.delta(phi)),
    }
    return float(pick(values, what, "what")())


@quantity("Theorem 3C")
def tilt(value: float = 0.9, d1: float = 0.0, d0: float = 0.0, what: str = "value") -> float:
    """Where online imitation ends in a tilt-closed class, or that class's Delta.

    value: The expert's success rate v_e.
    d1: D1 = KL of the conditionals given reward 1, nats.
    d0: D0, given reward 0.
    what: value or delta.
    """
    probability("value", value)
    if min(d1, d0) < 0:
        raise UserError("d1, d0", min(d1, d0), "divergences are at least 0")
    if what == "delta":
        return tilt_delta(value, d1, d0)
    return float(pick({"value": tilt_value}, what, "what")(value, d1 - d0))


@quantity("section 0")
def kl(a: float = 0.5, b: float = 0.9) -> float:
    """kl(a || b) of two coins, in nats.

    a: First coin.
    b: Second coin.
    """
    probability("a", a)
    probability("b", b)
    return float(scalars.bernoulli_kl(a, b))


@quantity("Theorem 3A")
def kl_inverse(value: float = 0.9, budget: float = 0.05, side: str = "lower") -> float:
    """min (or max) of v with kl(v || value) <= budget: the guarantee of Theorem 3A.

    value: The expert's value V_e.
    budget: Delta + t, in nats.
    side: lower or upper.
    """
    probability("value", value)
    if budget < 0:
        raise UserError("budget", budget, "nats, at least 0")
    inverses = {"lower": scalars.kl_inv_lower, "upper": scalars.kl_inv_upper}
    return float(pick(inverses, side, "side")(value, budget))
