"""From evidence to a joint forecast of what full SFT and full online training would reach. Needs numpy only.

The rule. Evidence is turned into at most nine features, every one in points of accuracy (`features`). Features and
the two gains, S - student and O - student, are modelled as jointly Gaussian with mean 0 and second moments
scale^2 * M. M is the whole model: ten by ten numbers and a few more, set by `fit` from diagnoses whose outcome is
known. A forecast is the Gaussian conditional on the features that are there:

    mean = M_yo (M_oo + E)^-1 z,    covariance = scale^2 * inflation * (M_yy - M_yo (M_oo + E)^-1 M_oy)

so it is one slope a feature (`VerdictModel.slopes`), the slopes of regularised least squares. Three properties come
with it. A missing feature is not filled in, it is left out of the condition, and a Gaussian's conditional variance
can then only grow. Evidence noisier than the rows of the fit adds E, so it counts less and the forecast is wider.
And doubling every gain and gap doubles the forecast.

scale: how large errors are expected to be, in points: the root of `floor`^2 plus squares of what is at stake.
inflation: the leave-one-scenario-out residuals of the fit over what the conditional variance promised.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.diagnose.types import Estimate, Evidence, PilotPoint
from understudy.errors import UserError

Floats = NDArray[np.float64]

FEATURES: dict[str, str] = {
    "headroom": "expert minus student accuracy",
    "sft_gain": "accuracy of the largest SFT pilot minus the student's",
    "sft_trend": "rise of the SFT pilots' accuracy a doubling of their data",
    "sft_reverse": "what SFT still lacks of the expert, times how near its reverse KL came: 0 if out of reach",
    "sft_forward": "what SFT still lacks of the expert, times the share of the forward KL that the pilots removed",
    "opd_gain": "accuracy of the online pilot minus the student's",
    "opd_reverse": "what the online pilot still lacks of the expert, times how near its reverse KL came",
    "takeover": "gain when the expert continues from the student's own prefixes",
    "tilt": "tilt ceiling minus the student's accuracy",
}
"""Every feature is in points of accuracy. The start's forward KL is none of them: a large one alone says nothing."""

TARGETS = ("sft", "opd")


@dataclass(frozen=True)
class Feature:
    value: float
    error: float
    """Standard error of measurement."""


def features(evidence: Evidence) -> dict[str, Feature]:
    """The features that this evidence has; not-a-number and infinite measures count as missing."""
    found: dict[str, Feature] = {}
    student, expert = (
        known(evidence.measures.get("student_accuracy")),
        known(evidence.measures.get("expert_accuracy")),
    )
    headroom = known(evidence.measures.get("headroom"))
    if headroom is None and student is not None and expert is not None:
        headroom = _minus(expert, student)
    for name, feature in (
        ("headroom", headroom),
        ("takeover", known(evidence.measures.get("takeover_gain"))),
    ):
        if feature is not None:
            found[name] = feature
    tilt = known(evidence.measures.get("tilt_ceiling"))
    if tilt is not None and student is not None:
        found["tilt"] = Feature(
            tilt.value - student.value, tilt.error
        )  # the same samples: no error counted twice
    for kind in ("sft", "opd"):
        points = curve(evidence, kind)
        start = next((p for p in evidence.pilots if p.kind == kind and p.samples == 0), None)
        base = (known(start.accuracy) if start else None) or student
        if not points or base is None:
            continue
        last = known(points[-1].accuracy)
        if last is None:
            continue
        found[f"{kind}_gain"] = _minus(last, base)
        if headroom is not None:
            lacking = headroom.value - (last.value - base.value)
            error = math.hypot(headroom.error, last.error)
            gone = _fall(points, start, "kl_student_expert", evidence)
            left = known(points[-1].kl_student_expert)
            if gone is not None and left is not None:
                # a small share of a huge divergence may still be far; nearly nothing left is near, wherever it began
                near = (gone + math.exp(-max(left.value, 0.0))) / 2
                found[f"{kind}_reverse"] = Feature(lacking * near, error * near)
            if kind == "sft" and (fall := _fall(points, start, "kl_expert_student", evidence)) is not None:
                found["sft_forward"] = Feature(lacking * fall, error * fall)
        if kind == "sft" and (trend := _trend(points)) is not None:
            found["sft_trend"] = trend
    return found


def curve(evidence: Evidence, kind: str) -> list[PilotPoint]:
    """The pilots of one kind by growing data, without the start and without the controls."""
    some = [p for p in evidence.pilots if p.kind == kind and p.samples > 0]
    main = [p for p in some if p.label == "curve"] or some
    return sorted(main, key=lambda p: p.samples)


def known(estimate: Estimate | None) -> Feature | None:
    """Value and standard error; None where there is no number."""
    if estimate is None or not math.isfinite(estimate.value):
        return None
    half = (estimate.high - estimate.low) / 2
    z = 1.96 if abs(estimate.level - 0.95) < 1e-9 else _quantile(estimate.level)
    return Feature(estimate.value, half / z if math.isfinite(half) else 1.0)


def _quantile(level: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(0.5 + level / 2)


def _minus(a: Feature, b: Feature) -> Feature:
    return Feature(a.value - b.value, math.hypot(a.error, b.error))


def _trend(points: Sequence[PilotPoint]) -> Feature | None:
    """Least-squares slope of accuracy against log2 of the sequences."""
    seen = [(math.log2(p.samples), a) for p in points if (a := known(p.accuracy)) is not None]
    if len({x for x, _ in seen}) < 2:
        return None
    x = np.array([s[0] for s in seen]) - np.mean([s[0] for s in seen])
    weight = x / (x @ x)
    return Feature(
        float(weight @ [a.value for _, a in seen]),
        float(np.sqrt(weight**2 @ np.square([a.error for _, a in seen]))),
    )


def _fall(
    points: Sequence[PilotPoint], start: PilotPoint | None, side: str, evidence: Evidence
) -> float | None:
    """Share of a held-out KL that the pilots removed, in [0, 1]; from the start, else from the first one."""
    last = known(getattr(points[-1], side))
    before = known(getattr(start, side)) if start else known(evidence.measures.get(side))
    if before is None and len(points) > 1:
        before = known(getattr(points[0], side))
    if last is None or before is None or before.value <= 0:
        return None
    return min(max(1 - max(last.value, 0.0) / before.value, 0.0), 1.0)


@dataclass(frozen=True)
class Forecast:
    """Gains over the student's accuracy: mean (2,) and covariance (2, 2) of (sft, opd)."""

    mean: Floats
    covariance: Floats
    scale: float
    used: dict[str, Feature]


@dataclass(frozen=True)
class VerdictModel:
    """The coefficients. `moments` is over FEATURES then TARGETS, in units of the scale."""

    name: str
    source: str
    """Where they come from: a command, or "prior"."""
    moments: Floats
    noise: Floats
    """(F,) typical variance of measurement of each feature in the fit, in units of the scale: part of `moments`."""
    stakes: dict[str, float]
    """scale^2 = floor^2 + (headroom * stake)^2 + ...: stakes by feature, and "floor"."""
    inflation: float = 1.0
    freedom: float = 8.0
    """Degrees of freedom of the forecast's t distribution: tails fatter than Gaussian ones."""
    margin: float = 0.05
    """A gain, or a difference of the two routes, below this is called none."""
    tolerance: float = 0.02
    """Outcomes within this of a boundary are close calls: no training settles them."""
    confidence: float = 0.7
    """An answer needs at least this probability."""

    def scale(self, found: Mapping[str, Feature]) -> float:
        stakes = [self.stakes["floor"]]
        stakes += [w * found[k].value for k, w in self.stakes.items() if k in found]
        if "headroom" not in found:  # nothing known of what is at stake: anything may be
            stakes.append(self.stakes.get("headroom", 0.0) * 0.5)
        return math.hypot(*stakes)

    def slopes(self, present: Sequence[str], extra: Floats | None = None) -> tuple[Floats, Floats]:
        """(B (2, o), conditional covariance (2, 2) in units of scale^2) given the features `present`."""
        names = list(FEATURES)
        o = [names.index(p) for p in present]
        y = [len(names), len(names) + 1]
        m = self.moments
        if not o:
            return np.zeros((2, 0)), m[np.ix_(y, y)]
        oo = m[np.ix_(o, o)] + (np.diag(extra) if extra is not None else 0.0)
        slopes = np.linalg.solve(oo, m[np.ix_(o, y)]).T
        rest = m[np.ix_(y, y)] - slopes @ m[np.ix_(o, y)]
        return np.asarray(slopes, float), np.asarray((rest + rest.T) / 2, float)

    def forecast(self, found: Mapping[str, Feature]) -> Forecast:
        present = [name for name in FEATURES if name in found]
        scale = self.scale(found)
        index = [list(FEATURES).index(p) for p in present]
        noise = np.array([(found[p].error / scale) ** 2 for p in present])
        extra = np.maximum(noise - self.noise[index], 0.0)
        slopes, rest = self.slopes(present, extra)
        mean = slopes @ np.array([found[p].value for p in present])
        return Forecast(mean, scale**2 * self.inflation * rest, scale, {p: found[p] for p in present})

    # --- JSON -------------------------------------------------------------------------------------
    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name, "source": self.source, "features": list(FEATURES), "targets": list(TARGETS),
            "moments": np.round(self.moments, 6).tolist(), "noise": np.round(self.noise, 6).tolist(),
            "stakes": self.stakes, "inflation": round(self.inflation, 4), "freedom": self.freedom,
            "margin": self.margin, "tolerance": self.tolerance, "confidence": self.confidence,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> VerdictModel:
        if data.get("features") != list(FEATURES) or data.get("targets") != list(TARGETS):
            raise UserError(
                "model", data.get("name", ""), "its features are not this version's: fit it again"
            )
        rest = {k: v for k, v in data.items() if k not in ("features", "targets", "moments", "noise")}
        try:
            return cls(moments=np.array(data["moments"], float), noise=np.array(data["noise"], float), **rest)
        except (TypeError, KeyError, ValueError) as error:
            raise UserError(
                "model", data.get("name", ""), f"cannot be read ({error}): fit it again"
            ) from None


# --- fit ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One diagnosis with its outcome: accuracies of the student before, of full SFT and of full online training."""

    scenario: str
    """Cases of one scenario (its seeds) are left out together."""
    evidence: Evidence
    student: float
    sft: float
    opd: float


def fit(
    cases: Sequence[Case],
    prior: VerdictModel | None = None,
    weight: float = 20.0,
    name: str = "fitted",
    source: str = "",
) -> VerdictModel:
    """Coefficients from cases of known outcome, shrunk to `prior` as if it were `weight` cases more.

    A case lacks features that its evidence lacks: their moments are taken over the cases that have them. The
    inflation makes the leave-one-scenario-out residuals (of both gains, in units of their forecast) have variance 1.
    """
    prior = prior or load("prior")
    if not cases:
        raise UserError("rows", 0, "no cases with both outcomes: nothing to fit")
    table, noise = _table(cases, prior)
    groups = np.array([c.scenario for c in cases])
    squares: list[float] = []
    for scenario in dict.fromkeys(groups.tolist()):
        out = groups == scenario
        if out.all():
            continue
        without = _fitted(table[~out], noise[~out], prior, weight, name, source, 1.0)
        squares += [_surprise(without, cases[i]) for i in np.flatnonzero(out).tolist()]
    inflation = float(np.mean(squares)) if squares else 1.0
    n = len(squares)
    inflation = (n * inflation + weight * prior.inflation) / (n + weight)
    return _fitted(table, noise, prior, weight, name, source, max(inflation, 0.25))


def _table(cases: Sequence[Case], model: VerdictModel) -> tuple[Floats, Floats]:
    """(N, F + 2) features and gains in units of the scale, nan where missing; (N, F) variances of measurement."""
    rows = np.full((len(cases), len(FEATURES) + 2), np.nan)
    noise = np.full((len(cases), len(FEATURES)), np.nan)
    for i, case in enumerate(cases):
        found = features(case.evidence)
        scale = model.scale(found)
        for j, name in enumerate(FEATURES):
            if name in found:
                rows[i, j] = found[name].value / scale
                noise[i, j] = (found[name].error / scale) ** 2
        rows[i, -2:] = (case.sft - case.student) / scale, (case.opd - case.student) / scale
    return rows, noise


def _fitted(
    table: Floats, noise: Floats, prior: VerdictModel, weight: float, name: str, source: str, inflation: float
) -> VerdictModel:
    there = np.isfinite(table).astype(float)
    filled = np.nan_to_num(table)
    counts = there.T @ there
    moments = (filled.T @ filled + weight * prior.moments) / (counts + weight)
    moments = _definite(moments)
    seen = np.isfinite(noise).sum(0)
    typical = (np.nansum(noise, 0) + weight * prior.noise) / (seen + weight)
    return VerdictModel(
        name, source, moments, typical, dict(prior.stakes), inflation, prior.freedom, prior.margin, prior.tolerance,
        prior.confidence,
    )  # fmt: skip


def _definite(moments: Floats, least: float = 1e-4) -> Floats:
    """Pairwise moments of rows with gaps need not be a covariance: the nearest one with eigenvalues >= least."""
    values, vectors = np.linalg.eigh((moments + moments.T) / 2)
    return np.asarray((vectors * np.maximum(values, least)) @ vectors.T)


def _surprise(model: VerdictModel, case: Case) -> float:
    """Mean squared residual of the two gains in units of what the forecast expects (1 if it is honest)."""
    ahead = model.forecast(features(case.evidence))
    miss = np.array([case.sft - case.student, case.opd - case.student]) - ahead.mean
    return float(miss @ np.linalg.solve(ahead.covariance, miss)) / 2


# --- the models that come with the package -----------------------------------------------------------


@cache
def _packaged() -> dict[str, Any]:
    text = resources.files("understudy.diagnose").joinpath("verdict.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def names() -> list[str]:
    return list(_packaged()["models"])


def load(name: str = "") -> VerdictModel:
    """One of the models in verdict.json; "" is the one in use."""
    data = _packaged()
    name = name or data["use"]
    if name not in data["models"]:
        raise UserError("model", name, f"unknown; one of {', '.join(data['models'])}")
    return VerdictModel.from_dict(data["models"][name])


def find(name: str) -> VerdictModel:
    """A model of verdict.json by name, or of a JSON file by path. UserError otherwise."""
    if name in names():
        return load(name)
    path = Path(name)
    try:
        return VerdictModel.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError:
        raise UserError("model", name, f"neither a file nor one of {', '.join(names())}") from None
    except json.JSONDecodeError:
        raise UserError(
            "model", name, "is not JSON: give a file that `understudy calibrate fit` wrote"
        ) from None


def install(model: VerdictModel, use: bool = False) -> None:
    """Put a model into verdict.json of this installation; `use`: judge by it from now on."""
    data = _packaged()
    data["models"][model.name] = model.to_dict()
    if use:
        data["use"] = model.name
    path = Path(str(resources.files("understudy.diagnose").joinpath("verdict.json")))
    try:
        path.write_text(packed(data), encoding="utf-8")
    except OSError as error:
        raise UserError("install", path, f"cannot be written ({error.strerror}): use --out instead") from None


def packed(data: Mapping[str, Any]) -> str:
    """verdict.json's text: one line a row of numbers."""
    text = json.dumps(data, indent=1)
    return (
        re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m.group(1)) + "]", text) + "\n"
    )
