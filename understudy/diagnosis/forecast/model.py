"""From evidence to a joint forecast of what full SFT and full online training would reach. Needs numpy only.

The rule. Two quantities are forecast: the gain of SFT, S - student, and the lead of online training, O - S (what
decides between the routes, and less uncertain than either, as both are pulled toward one expert). Each is a weighted
sum of `terms` (points of accuracy, see features.py), with a Student t error whose scale is not the same everywhere:

    mean = sum_i slope_i term_i,        scale^2 = floor^2 + sum_j (spread_j size_j)^2

The sizes say where a forecast is hard: what the student still lacks counts much where the pilots learnt nothing of the
expert (reach 0), and little where they did (reach 1). Slopes and spreads are fitted to diagnoses of known outcome
(understudy/calibrate/fit.py), once with all the evidence and once for each lesser kind of it (VARIANTS), so that a
black-box expert is judged by what such diagnoses were worth.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.diagnosis.forecast.features import Features
from understudy.errors import UserError, check_file

Floats = NDArray[np.float64]

TERMS: dict[str, dict[str, str]] = {
    "sft": {
        "gain": "accuracy of the largest SFT pilot minus the student's",
        "near": "what that pilot lacks of the expert, where it is in reach",
        "fall": "the same, out of reach, times the root of the share of forward KL that the pilots removed",
        "last fall": "the same times the share that the last pilot removed of what the one before had left",
        "trend": "rise of the pilots' accuracy per doubling of their data",
        "dip": "how far the pilot fell below the student, where the expert is better than it",
        "far": "what the pilot lacks of the expert, out of reach",
    },
    "lead": {
        "lead": "online pilot minus largest SFT pilot, out of reach",
        "near lead": "the same in reach",
        "online trend": "rise of the online pilot per doubling, out of reach",
        "trend": "rise of the SFT pilots per doubling, out of reach",
        "far": "what SFT lacks of the expert, out of reach",
        "takeover": "gain when the expert goes on from the student's own beginnings, out of reach",
        "fall": "what SFT lacks, out of reach, times the root of the share of forward KL that it removed",
        "dip": "how far the SFT pilot fell below the student, out of reach",
        "tilt": "gain if the student re-weighs its own answers by the expert's scores, at most up to it, out of reach",
    },
}
"""Of each forecast: term -> what it is."""
SPREADS: dict[str, dict[str, str]] = {
    "sft": {
        "far": "what SFT lacks of the expert, out of reach",
        "near": "the same in reach",
        "gain": "what the pilot gained or lost",
        "stake": "expert minus student, out of reach",
        "noise": "standard error of the pilot's gain",
    },
    "lead": {
        "far": "what SFT lacks of the expert, out of reach",
        "lead": "lead of the online pilot, out of reach",
        "near lead": "the same in reach",
        "stake": "expert minus student, out of reach",
        "noise": "standard error of the pilots' difference, out of reach",
    },
}
"""Of each forecast: what widens its error."""
VARIANTS: dict[str, str] = {
    "all": "pilots of both kinds",
    "no online pilot": "SFT pilots with divergences",
    "black box": "SFT pilots, accuracies only",
    "no pilots": "measures alone",
}
LEAST = 0.01
"""Least scale of an error, in points: finer than any accuracy here is measured."""


def variant(q: Features) -> str:
    """Which kind of evidence this is."""
    if q.sft is None:
        return "no pilots"
    if q.opd is not None:
        return "all"
    return "black box" if q.reach is None else "no online pilot"


def terms(q: Features) -> dict[str, Floats]:
    """{"sft", "lead"}: the terms of each forecast, in the order of TERMS; 0 for what is not known."""
    s = _Shared(q)
    root, rise = s.fall**0.5, q.sft_trend.damped
    sft = [s.gain, s.reach * s.lack, s.far * root, s.far * q.last_fall, rise, max(-s.gain, 0.0) * (s.lack > 0), s.far]
    # where there is nothing to take over, and no score to weigh by, the expert itself is what there is
    takeover, tilt = (f.value if f is not None else q.headroom for f in (q.takeover, q.tilt))
    tilt = min(tilt, max(q.headroom, 0.0))
    out = 1 - s.reach
    lead = [
        s.lead * out, s.lead * s.reach, q.opd_trend.damped * out, rise * out, s.far,
        takeover * q.life * out, s.far * root, max(-s.gain, 0.0) * out, tilt * q.life * out,
    ]  # fmt: skip
    return {"sft": np.array(sft), "lead": np.array(lead)}


def sizes(q: Features) -> dict[str, Floats]:
    """{"sft", "lead"}: what widens each forecast, in the order of SPREADS; none is negative."""
    s = _Shared(q)
    out, stake = 1 - s.reach, abs(q.headroom) * (1 - s.reach) * q.life
    sft, opd = (f.error if f is not None else 0.0 for f in (q.sft, q.opd))
    noise = q.life * np.array([sft, np.hypot(sft, opd) * out])
    return {
        "sft": np.array([abs(s.far), s.reach * abs(s.lack), abs(s.gain), stake, noise[0]]),
        "lead": np.array([abs(s.far), abs(s.lead) * out, abs(s.lead) * s.reach, stake, noise[1]]),
    }


class _Shared:
    """What terms and sizes have in common."""

    def __init__(self, q: Features) -> None:
        self.reach, self.fall = q.reach or 0.0, q.fall
        self.gain = q.sft.damped if q.sft is not None else 0.0
        opd = q.opd.damped if q.opd is not None else self.gain
        self.lead = opd - self.gain
        self.lack = (q.headroom - self.gain) * q.life
        self.far = self.lack * (1 - self.reach)


@dataclass(frozen=True)
class Line:
    """One forecast: its slopes, and the spreads of its error, the floor first."""

    slopes: tuple[float, ...]
    spreads: tuple[float, ...]

    def mean(self, term: Floats) -> float:
        return float(term @ np.array(self.slopes))

    def scale(self, size: Floats) -> float:
        parts = np.array(self.spreads) * np.concatenate([[1.0], size])
        return float(np.sqrt(LEAST**2 + parts @ parts))


@dataclass(frozen=True)
class Forecast:
    """SFT's gain over the student and online training's lead over SFT: locations, scales, and their correlation."""

    gain: float
    gain_scale: float
    lead: float
    lead_scale: float
    correlation: float
    variant: str
    features: Features

    @property
    def top(self) -> float:
        """Gain of the better route, were the forecast exact."""
        return self.gain + max(self.lead, 0.0)


@dataclass(frozen=True)
class VerdictModel:
    """The coefficients: two lines per kind of evidence."""

    name: str
    source: str
    """Where they come from: a command, or "prior"."""
    lines: dict[str, dict[str, Line]]
    """Variant -> {"sft", "lead"}."""
    correlation: dict[str, float]
    """Variant -> of the two errors."""
    freedom: float = 6.0
    """Degrees of freedom of the errors' t distribution: tails fatter than Gaussian ones."""
    margin: float = 0.05
    """A gain, or a difference of the two routes, below this is called none."""
    tolerance: float = 0.01
    """Mass within this of a boundary between two answers counts for neither of them."""
    confidence: float = 0.8
    """An answer needs at least this probability."""

    def forecast(self, q: Features) -> Forecast:
        kind, term, size = variant(q), terms(q), sizes(q)
        sft, lead = self.lines[kind]["sft"], self.lines[kind]["lead"]
        return Forecast(
            sft.mean(term["sft"]), sft.scale(size["sft"]), lead.mean(term["lead"]), lead.scale(size["lead"]),
            self.correlation[kind], kind, q,
        )  # fmt: skip

    # --- JSON -------------------------------------------------------------------------------------
    def to_dict(self) -> dict[str, Any]:
        def numbers(kind: str, which: str) -> dict[str, Any]:
            line = self.lines[kind][which]
            return {"slopes": _rounded(line.slopes), "spreads": _rounded(line.spreads)}

        return {
            "name": self.name, "source": self.source,
            "terms": {w: list(t) for w, t in TERMS.items()}, "spreads": {w: list(s) for w, s in SPREADS.items()},
            "variants": {
                kind: {w: numbers(kind, w) for w in TERMS} | {"correlation": round(self.correlation[kind], 6)}
                for kind in VARIANTS
            },
            "freedom": self.freedom, "margin": self.margin, "tolerance": self.tolerance,
            "confidence": self.confidence,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> VerdictModel:
        named = {"terms": {w: list(t) for w, t in TERMS.items()}, "spreads": {w: list(s) for w, s in SPREADS.items()}}
        if any(data.get(key) != value for key, value in named.items()):
            raise UserError("model", data.get("name", ""), "its terms are not this version's: fit it again")
        try:
            kinds = data["variants"]
            lines = {
                kind: {w: Line(*(tuple(map(float, kinds[kind][w][k])) for k in ("slopes", "spreads"))) for w in TERMS}
                for kind in VARIANTS
            }
            rest = {k: data[k] for k in ("freedom", "margin", "tolerance", "confidence")}
            return cls(
                str(data["name"]), str(data["source"]), lines,
                {kind: float(kinds[kind]["correlation"]) for kind in VARIANTS}, **rest,
            )  # fmt: skip
        except (TypeError, KeyError, ValueError) as error:
            raise UserError("model", data.get("name", ""), f"cannot be read ({error}): fit it again") from None


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(v), 6) for v in values]


# --- the models that come with the package -----------------------------------------------------------


@cache
def _packaged() -> dict[str, Any]:
    text = resources.files("understudy.diagnosis.forecast").joinpath("verdict.json").read_text(encoding="utf-8")
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
    check_file(path, "model")
    try:
        return VerdictModel.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError:
        raise UserError("model", name, f"neither a file nor one of {', '.join(names())}") from None
    except (ValueError, RecursionError):
        raise UserError("model", name, "is not JSON: give a file that `understudy calibrate fit` wrote") from None


def install(model: VerdictModel, use: bool = False) -> None:
    """Put a model into verdict.json of this installation; `use`: judge by it from now on."""
    data = _packaged()
    data["models"][model.name] = model.to_dict()
    if use:
        data["use"] = model.name
    path = Path(str(resources.files("understudy.diagnosis.forecast").joinpath("verdict.json")))
    try:
        path.write_text(packed(data), encoding="utf-8")
    except OSError as error:
        raise UserError("install", path, f"cannot be written ({error.strerror}): use --out instead") from None


def packed(data: Mapping[str, Any]) -> str:
    """The text of verdict.json: one line per row of numbers."""
    text = json.dumps(data, indent=1)
    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m.group(1)) + "]", text) + "\n"
