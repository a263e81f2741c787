"""The verdict's coefficients, from diagnoses whose outcome is known.

Maximum a posteriori: the likelihood of the outcomes under `forecast`'s t errors, times a normal prior of the slopes
and a log-normal one of the spreads (prior.py): a hundred rows do not fix a dozen numbers per forecast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

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
"""Residuals are cut off here, in scales, so that no outlier decides the correlation."""


@dataclass(frozen=True)
class Case:
    """One diagnosis with its outcome: accuracies of the student before, of full SFT and of full online training."""

    scenario: str
    evidence: Evidence
    student: float
    sft: float
    opd: float

    @cached_property
    def inputs(self) -> dict[str, tuple[dict[str, Floats], dict[str, Floats]]]:
        """Variant of the evidence -> the terms and the sizes of both forecasts; without the variants that the evidence
        is too little for."""
        reduced = {kind: features(without(self.evidence, *MISSING[kind])) for kind in VARIANTS}
        return {kind: (terms(f), sizes(f)) for kind, f in reduced.items() if f is not None}


def fit(
    cases: Sequence[Case], prior: VerdictModel, weight: float = 1.0, name: str = "fitted", source: str = ""
) -> VerdictModel:
    """Coefficients from cases of known outcome. weight: of the prior (1: as stated in prior.py)."""
    if not cases:
        raise UserError("rows", 0, "no cases with both outcomes: nothing to fit")
    lines: dict[str, dict[str, Line]] = {}
    correlation = {}
    for kind in VARIANTS:
        known = [c for c in cases if kind in c.inputs]
        outcome = {"sft": [c.sft - c.student for c in known], "lead": [c.opd - c.sft for c in known]}
        lines[kind], residuals = {}, []
        for which in TERMS:
            term, size = (np.stack([c.inputs[kind][i][which] for c in known]) for i in (0, 1))
            y = np.array(outcome[which])
            line = _line(term, size, y, prior.lines[kind][which], prior.freedom, weight)
            lines[kind][which] = line
            scale = np.array([line.scale(s) for s in size])
            residuals.append(np.clip((y - term @ np.array(line.slopes)) / scale, -CLIP, CLIP))
        a, b = residuals
        seen = float(a @ b / np.sqrt((a @ a) * (b @ b) + 1e-12))
        correlation[kind] = seen * len(known) / (len(known) + 10 * weight)
    return replace(prior, name=name, source=source, lines=lines, correlation=correlation)


def _line(term: Floats, size: Floats, y: Floats, prior: Line, freedom: float, weight: float) -> Line:
    """The most probable slopes and spreads of one forecast of one variant."""
    k, slopes, spreads = term.shape[1], np.array(prior.slopes), np.log(np.array(prior.spreads))
    size = np.concatenate([np.ones((len(y), 1)), size], 1)

    def loss(p: Floats) -> tuple[float, Floats]:
        """Minus the log-posterior, and its gradient."""
        parts2 = (np.exp(p[k:]) * size) ** 2
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

    best = minimize(loss, np.concatenate([slopes, spreads]), jac=True, method="L-BFGS-B").x
    return Line(tuple(map(float, best[:k])), tuple(map(float, np.exp(best[k:]))))


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
