"""The verdict's coefficients, from diagnoses whose outcome is known.

Maximum a posteriori: the likelihood of the outcomes under `forecast`'s t errors, times a normal prior of the slopes
and a log-normal one of the spreads (prior.py). A dozen numbers a line from a hundred rows need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from understudy.diagnosis.forecast.features import features
from understudy.diagnosis.forecast.model import LEAST, TERMS, VARIANTS, Floats, Line, VerdictModel, sizes, terms
from understudy.diagnosis.types import Evidence
from understudy.errors import UserError

SLOPE_ERROR = 0.1
"""Standard deviation of a slope about its prior."""
SPREAD_ERROR = 0.4
"""Of a spread, in the logarithm."""
MISSING: dict[str, tuple[str, ...]] = {
    "all": (), "no online pilot": ("opd",), "black box": ("scores", "opd"), "no pilots": ("pilots",),
}  # fmt: skip
"""What each variant of the evidence lacks."""
BLACK_BOX = ("accuracy", "headroom", "takeover", "length", "keyword")
"""Words in the names of measures that need samples only, no scores."""
CLIP = 2.5
"""Residuals, in scales, beyond which an outlier no longer sways the correlation."""


@dataclass(frozen=True)
class Case:
    """One diagnosis with its outcome: accuracies of the student before, of full SFT and of full online training."""

    scenario: str
    evidence: Evidence
    student: float
    sft: float
    opd: float


def fit(
    cases: Sequence[Case], prior: VerdictModel, weight: float = 1.0, name: str = "fitted", source: str = ""
) -> VerdictModel:
    """Coefficients from cases of known outcome. weight: of the prior (1: as stated in prior.py)."""
    if not cases:
        raise UserError("rows", 0, "no cases with both outcomes: nothing to fit")
    outcome = {"sft": np.array([c.sft - c.student for c in cases]), "lead": np.array([c.opd - c.sft for c in cases])}
    lines: dict[str, dict[str, Line]] = {}
    correlation = {}
    for kind in VARIANTS:
        less = [features(without(c.evidence, *MISSING[kind])) for c in cases]
        known = [i for i, q in enumerate(less) if q is not None]
        lines[kind], residuals = {}, []
        for which in TERMS:
            term = np.stack([terms(less[i])[which] for i in known])  # type: ignore[arg-type]
            size = np.stack([sizes(less[i])[which] for i in known])  # type: ignore[arg-type]
            y = outcome[which][known]
            line = _line(term, size, y, prior.lines[kind][which], prior.freedom, weight)
            lines[kind][which] = line
            scale = np.array([line.scale(s) for s in size])
            residuals.append(np.clip((y - term @ np.array(line.slopes)) / scale, -CLIP, CLIP))
        a, b = residuals
        found = float(a @ b / np.sqrt((a @ a) * (b @ b) + 1e-12))
        correlation[kind] = found * len(known) / (len(known) + 10 * weight)
    return replace(prior, name=name, source=source, lines=lines, correlation=correlation)


def _line(term: Floats, size: Floats, y: Floats, prior: Line, freedom: float, weight: float) -> Line:
    k, slopes, spreads = term.shape[1], np.array(prior.slopes), np.log(np.array(prior.spreads))
    sizes_ = np.concatenate([np.ones((len(y), 1)), size], 1)

    def loss(p: Floats) -> tuple[float, Floats]:
        """Minus the log-posterior, and its gradient."""
        parts2 = (np.exp(p[k:]) * sizes_) ** 2
        var = LEAST**2 + parts2.sum(1)
        r = y - term @ p[:k]
        t = 1 + r * r / var / freedom
        away, wide = (p[:k] - slopes) / SLOPE_ERROR, (p[k:] - spreads) / SPREAD_ERROR
        value = 0.5 * np.log(var).sum() + (freedom + 1) / 2 * np.log(t).sum()
        value += weight * (away @ away + wide @ wide) / 2
        pull = (freedom + 1) / freedom * r / var / t
        by_var = 0.5 / var * (1 - pull * r)
        gradient = np.concatenate([-term.T @ pull, 2 * parts2.T @ by_var])
        gradient += weight * np.concatenate([away / SLOPE_ERROR, wide / SPREAD_ERROR])
        return float(value), gradient

    found = minimize(loss, np.concatenate([slopes, spreads]), jac=True, method="L-BFGS-B").x
    return Line(tuple(map(float, found[:k])), tuple(map(float, np.exp(found[k:]))))


def without(evidence: Evidence, *missing: str) -> Evidence:
    """The same diagnosis with less: without "opd" (the online pilot), "pilots" (all), "scores" (a black-box expert)."""
    pilots, measures, capabilities = evidence.pilots, dict(evidence.measures), evidence.capabilities
    if "opd" in missing:
        pilots = tuple(p for p in pilots if p.kind != "opd")
    if "pilots" in missing:
        pilots = ()
    if "scores" in missing:
        measures = {k: v for k, v in measures.items() if any(word in k for word in BLACK_BOX)}
        pilots = tuple(replace(p, kl_expert_student=None, kl_student_expert=None) for p in pilots)
        capabilities = ("sample",)
    return replace(evidence, pilots=pilots, measures=measures, capabilities=capabilities)
