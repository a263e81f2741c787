"""What routes reached in known cases, and so what they may reach here. Needs numpy only.

A route is one or two phases with one budget of FLOPs: that of full online training. A case is a student, an expert
and a task for which every route was trained to its end. Each route is compared with what the diagnosis can forecast,
the accuracies of SFT (S) and of online training (O) with equal updates:

    shift of a route = its accuracy - anchor,    anchor = S for offline routes, max(S, O) for those with an online part

A case is alike by what S and O gain there. For a point of the forecast (S, O) one case is drawn, with probability
proportional to

    even / n + (1 - even) exp(-distance^2 / (2 width^2)) / sum,
    distance in (S - student, O - S, expert - max(S, O))

and its shifts are applied together, so that routes stay correlated as they were (a collapse of one is often the
collapse of the other), plus an independent normal error of scale `noise`. The part `even` is what every case counts
however far it is: with few cases, few are near. Cases of one scenario count as one together.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from understudy.errors import UserError

Floats = NDArray[np.float64]

FIRST = "first"
"""The first phase of a route of two: SFT with half of the budget."""
SHIFTED: tuple[str, ...] = (FIRST, "sft", "gkd", "sft+opd", "sft+gkd", "gkd_reward")
"""What is forecast from S and O, in the order of Case.shifts."""
OFFLINE_ONLY = frozenset({FIRST, "sft"})
ROUTES: tuple[str, ...] = ("nothing", "sft", "opd", "gkd", "gkd_reward", "sft+opd", "sft+gkd")
"""The routes that a recommendation chooses from. `opd`: the online method of this expert."""
PREFERRED, LEAD = ("gkd_reward", "sft+gkd"), 0.06
"""The fixed routes with the least regret on the bank, the better one first: of these the first that is possible is
preferred, and another route must be expected to end this far above it (`understudy calibrate fit-routes`)."""
HARM = 0.02
"""A model that ends more than this below its start is harmed."""


@dataclass(frozen=True)
class Case:
    """One (scenario, seed) with the accuracies of its routes; nan: not trained."""

    scenario: str
    seed: int
    student: float
    expert: float
    sft: float
    """With as many updates as `opd`."""
    opd: float
    ends: Mapping[str, float]
    """Of SHIFTED, at the budget of `opd`."""
    source: str = ""

    @property
    def shifts(self) -> Floats:
        """In the order of SHIFTED; nan for what was not trained."""
        return np.array([self.ends.get(name, np.nan) - self.anchor(name) for name in SHIFTED])

    def anchor(self, name: str) -> float:
        return self.sft if name in OFFLINE_ONLY else max(self.sft, self.opd)

    def reached(self) -> dict[str, float]:
        """Accuracy of each of ROUTES; nan where it was not trained."""
        return {"nothing": self.student, "opd": self.opd} | {
            name: self.ends.get(name, np.nan) for name in ROUTES if name not in ("nothing", "opd")
        }


@dataclass(frozen=True)
class Analogs:
    """Known cases, and how they are weighed. width, noise: in accuracy; even: a share."""

    cases: tuple[Case, ...]
    width: float = 0.15
    even: float = 0.3
    noise: float = 0.04
    stretch: float = 1.0
    """Factor of the widths of intervals, so that 95% of them hold."""
    visible: int = 1280
    """Rollouts after which the reward of an online phase shows whether it gains."""
    source: str = ""
    score: Mapping[str, Any] = field(default_factory=dict)
    """What `understudy calibrate fit-routes` measured, each scenario judged by the others."""

    def draw(self, student: float, expert: float, sft: Floats, opd: Floats) -> dict[str, Floats]:
        """Accuracies of ROUTES and of FIRST for points (sft, opd) of the forecast, each an array of their length.

        expert: its accuracy; nan where it is not known, and then it does not count. The same every time.
        """
        points = len(sft)
        place, *errors = _even_points(points, 1 + len(SHIFTED))
        weights = np.cumsum(self.weights(student, expert, sft, opd), axis=1)
        chosen = np.minimum((weights < place[:, None] * weights[:, -1:]).sum(1), len(self.cases) - 1)
        shifts = self.filled()[chosen]
        best = np.maximum(sft, opd)
        out = {"nothing": np.full(points, student), "opd": opd}
        for i, name in enumerate(SHIFTED):
            anchor = sft if name in OFFLINE_ONLY else best
            out[name] = np.clip(anchor + shifts[:, i] + self.noise * ndtri(errors[i]), 0.0, 1.0)
        return out

    def weights(self, student: float, expert: float, sft: Floats, opd: Floats) -> Floats:
        """(points, cases), each row with sum 1."""
        known = np.isfinite(expert)

        def place(a: Any, e: Any, s: Any, o: Any) -> Floats:
            room = e - np.maximum(s, o) if known else np.zeros_like(s)
            return np.stack([s - a, o - s, room], -1)

        there = place(*(np.array([getattr(c, n) for c in self.cases]) for n in ("student", "expert", "sft", "opd")))
        here = place(np.full(len(sft), student), np.full(len(sft), expert), sft, opd)
        squared = ((here[:, None] - there[None]) ** 2).sum(-1) / self.width**2
        near = np.exp(-(squared - squared.min(1, keepdims=True)) / 2) * self.shares
        near /= near.sum(1, keepdims=True)
        return self.even * self.shares + (1 - self.even) * near

    @property
    def shares(self) -> Floats:
        """What each case counts before any is nearer: scenarios alike, with sum 1."""
        names = [c.scenario for c in self.cases]
        shares = np.array([1 / names.count(name) for name in names])
        return shares / shares.sum()

    def filled(self) -> Floats:
        """(cases, SHIFTED) shifts; one that is not known stands at the mean of the known ones (0 if there is none)."""
        shifts = np.stack([c.shifts for c in self.cases])
        known = np.isfinite(shifts)
        mean = np.where(known, shifts, 0.0).sum(0) / np.maximum(known.sum(0), 1)
        return np.where(known, shifts, mean)

    def ends(self, name: str) -> Floats:
        """Accuracy of one of ROUTES or FIRST in every case; one that is not known as `filled` has it."""
        if name in ("nothing", "opd"):
            return np.array([c.student if name == "nothing" else c.opd for c in self.cases])
        anchors = np.array([c.anchor(name) for c in self.cases])
        return np.clip(anchors + self.filled()[:, SHIFTED.index(name)], 0.0, 1.0)

    def without(self, scenario: str) -> Analogs:
        """The same from all other scenarios."""
        return replace(self, cases=tuple(c for c in self.cases if c.scenario != scenario))

    # --- JSON -------------------------------------------------------------------------------------
    def to_dict(self) -> dict[str, Any]:
        def number(x: float) -> float | None:
            return round(float(x), 4) if np.isfinite(x) else None

        return {
            "source": self.source, "width": self.width, "even": self.even, "noise": self.noise, "stretch": self.stretch,
            "visible": self.visible, "score": dict(self.score), "ends": list(SHIFTED),
            "cases": [
                [c.source, c.scenario, c.seed, *map(number, (c.student, c.expert, c.sft, c.opd)),
                 *(number(c.ends.get(name, np.nan)) for name in SHIFTED)] for c in self.cases
            ],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Analogs:
        """UserError: not what `to_dict` writes, or no case."""
        if data.get("ends") != list(SHIFTED):
            raise UserError("routes", data.get("ends", ""), "its routes are not this version's: fit it again")
        try:
            cases = []
            for source, scenario, seed, *values in data["cases"]:
                a, e, s, o, *ends = (np.nan if v is None else float(v) for v in values)
                cases.append(Case(scenario, seed, a, e, s, o, dict(zip(SHIFTED, ends, strict=True)), source))
            numbers = {k: float(data[k]) for k in ("width", "even", "noise", "stretch")}
            out = cls(tuple(cases), **numbers, visible=int(data["visible"]), source=str(data["source"]),
                      score=dict(data["score"]))  # fmt: skip
        except (TypeError, KeyError, ValueError) as error:
            raise UserError("routes", "", f"cannot be read ({error}): fit it again") from None
        if not out.cases:
            raise UserError("routes", "", "holds no case: fit it again")
        return out


def favourite(means: Mapping[str, float]) -> str:
    """Of routes with these expected accuracies: the highest, or the preferred one where it is at most LEAD below."""
    top = max(means, key=lambda name: means[name])
    first = preferred(means)
    return first if first and means[first] >= means[top] - LEAD else top


def preferred(names: Container[str]) -> str:
    """The first of PREFERRED among these routes; empty: none is."""
    return next((name for name in PREFERRED if name in names), "")


@cache
def _even_points(count: int, dimensions: int) -> tuple[Floats, ...]:
    """`dimensions` arrays of `count` levels in (0, 1) that fill the cube evenly: Kronecker sequences by roots of
    primes, other steps than those of the forecast's own points, so that the two do not go together."""
    roots = np.sqrt([2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0][:dimensions])
    u = (0.25 + np.arange(1, count + 1)[:, None] * roots) % 1.0
    u = np.clip(u, 0.5 / count, 1 - 0.5 / count)
    return tuple(u[:, i] for i in range(dimensions))


# --- the file that comes with the package ------------------------------------------------------------


def _file() -> Path:
    return Path(str(resources.files("understudy.diagnosis.forecast").joinpath("routes.json")))


@cache
def load() -> Analogs:
    """Those of routes.json."""
    return Analogs.from_dict(json.loads(_file().read_text(encoding="utf-8")))


def packed(analogs: Analogs) -> str:
    """The text of routes.json: one line per case."""
    data = analogs.to_dict()
    cases = ",\n".join("  " + json.dumps(case) for case in data.pop("cases"))
    return json.dumps(data, indent=1).removesuffix("\n}") + ',\n "cases": [\n' + cases + "\n ]\n}\n"


def install(analogs: Analogs) -> None:
    """Judge routes by these from now on, in this installation. UserError: the file cannot be written."""
    try:
        _file().write_text(packed(analogs), encoding="utf-8")
    except OSError as error:
        raise UserError("install", _file(), f"cannot be written ({error.strerror}): use --out instead") from None
    load.cache_clear()


def mean_best(draws: Mapping[str, Floats], names: Sequence[str]) -> Floats:
    """The best of some routes, per point."""
    return np.max(np.stack([draws[name] for name in names]), axis=0)
