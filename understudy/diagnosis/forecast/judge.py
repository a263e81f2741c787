"""The verdict: from evidence to the probabilities of offline suffices, go online, neither, and too close to call.

What is predicted. a = accuracy of the student now, S and O = accuracy after full SFT and full online training with the
same budget, m = the margin (.05). The truth is *neither* if max(S, O) - a <= m, else *go online* if O - S > m, else
*offline suffices*. Outcomes within the tolerance (.02) of a boundary between these are close calls.

How. diagnosis/forecast/model.py gives S - a and O - S a joint distribution (bivariate t). The probability of an
answer is its mass away from the boundaries; the mass near them is `undecided`. An answer is given only if its
probability reaches the confidence of the model, and then it is the largest of the three. The guards below can only take
probability from an answer and give it to undecided.

What is not used: the forward KL of the untrained student. It may be huge and harmless (a style that cannot be
predicted), or small where the expert is of no use. What counts is how far the pilots lower it, and the reverse KL that
is left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
from scipy.special import ndtri
from scipy.stats import chi2

from understudy.diagnosis.forecast.explain import reasons, without_reward, would_change
from understudy.diagnosis.forecast.features import Feature, Features, features
from understudy.diagnosis.forecast.model import Floats, Forecast, VerdictModel, load
from understudy.diagnosis.outcome import ANSWERS, MARGIN, NEITHER, OFFLINE, ONLINE, TOLERANCE, UNDECIDED
from understudy.diagnosis.types import Estimate, Evidence, Verdict

RULE = "forecast-2"
DRAWS = 4096
CAP = 0.1
"""A guarded answer stays at least this far below the confidence that an answer needs."""
NEARING = 0.5
"""Share of the forward KL that pilots removed from which a student that is never right may become so."""
CLASSES = (OFFLINE, ONLINE, NEITHER)


def judge(evidence: Evidence, model: VerdictModel | None = None) -> Verdict:
    """The verdict of `model` (the one in use, by default) on this evidence. Never raises for lack of evidence."""
    model = model or load()
    rule = f"{RULE} ({model.name})"
    seen = features(evidence)
    if seen is None or not evidence.has_verifier:
        return _without_reward(evidence, rule)
    student = seen.student
    forecast = model.forecast(seen)
    start = min(max(student.value, 0.0), 1.0)
    sft, opd = draws(forecast, start, model.freedom)
    p = _probabilities(start, sft, opd, model)
    caps = _guards(seen, evidence)
    for answer, _ in caps:
        allowed = model.confidence - CAP
        if p[answer] > allowed:
            p[UNDECIDED] += p[answer] - allowed
            p[answer] = allowed
    best = max(CLASSES, key=lambda a: p[a])
    answer = best if p[best] >= model.confidence else UNDECIDED
    expected = {
        "student": evidence.measures["student_accuracy"],
        "sft": interval(sft, "forecast, t distribution", student),
        "opd": interval(opd, "forecast, t distribution; an estimate: no online run of this size was made", student),
    }
    if "expert_accuracy" in evidence.measures:
        expected["expert"] = evidence.measures["expert_accuracy"]
    why = reasons(evidence, model, forecast, answer, p, expected, [reason for _, reason in caps])
    judged = Verdict(answer, p, expected, why, would_change(evidence, model, forecast, answer), rule)
    return _gated(judged, evidence.measures) if no_headroom(evidence.measures) else judged


# --- the headroom gate ----------------------------------------------------------------------------------

NO_HEADROOM = "no headroom, no training"


def no_headroom(measures: Mapping[str, Estimate]) -> bool:
    """Whether, with 95% confidence, the expert is not even a margin better than the student: no pilot is trained."""
    headroom = measures.get("headroom")
    return headroom is not None and headroom.high <= MARGIN


def _gated(judged: Verdict, measures: Mapping[str, Estimate]) -> Verdict:
    """Neither, at the level of headroom's interval; only stopped, where re-weighting by the expert's scores would help.

    Online, a student can pass an expert that errs at random. With headroom alone as the reason, a quarter of the
    answers were wrong in the lab's worlds of that kind (`hidden`).
    """
    reason = f"{NO_HEADROOM}: with 95% confidence the expert is not {MARGIN:g} better than the student here"
    changed = ("a harder task or a better expert, on which the two differ",)
    tilt, student = measures.get("tilt_ceiling"), measures["student_accuracy"]
    if tilt is not None and tilt.low > student.value:
        reason += f"; but the student's own answers, weighed by the expert's scores, would reach {tilt.value:.2f}"
        return replace(judged, reasons=(reason, *judged.reasons), would_change=(*changed, *judged.would_change))
    sure = max(0.95, judged.probabilities[NEITHER])
    rest = sum(p for answer, p in judged.probabilities.items() if answer != NEITHER)
    chances = {
        answer: sure if answer == NEITHER else (1 - sure) * (p / rest if rest else 0.0)
        for answer, p in judged.probabilities.items()
    }
    rule = f"{judged.rule}, headroom gate"
    # reasons against an answer of the forecast are none against this one
    kept = [r for r in judged.reasons if not r.startswith(("held back", "no answer", "not known"))]
    return Verdict(NEITHER, chances, judged.expected, (reason, *kept), changed, rule)


# --- probabilities --------------------------------------------------------------------------------------


@cache
def _normals() -> tuple[Floats, Floats]:
    """(DRAWS, 2) fixed points that fill the normal plane evenly, and (DRAWS,) even levels for the t's common divisor.

    Kronecker sequences (golden-ratio family, dimension 3): the same verdict every time, without random numbers.
    """
    g = 1.2207440846057596  # the real root of g^4 = g + 1: as uniform as three dimensions allow
    i = np.arange(1, DRAWS + 1)[:, None]
    u = (0.5 + i * np.array([1 / g, 1 / g**2, 1 / g**3])) % 1.0
    u = np.clip(u, 0.5 / DRAWS, 1 - 0.5 / DRAWS)
    return ndtri(u[:, :2]), u[:, 2]


def draws(forecast: Forecast, start: float, freedom: float) -> tuple[Floats, Floats]:
    """Points of the predictive distribution of (S, O), cut to [0, 1]."""
    z, u = _normals()
    wide = np.sqrt(freedom / chi2.ppf(u, freedom))
    rho = forecast.correlation
    sft = start + forecast.gain + forecast.gain_scale * wide * z[:, 0]
    lead = forecast.lead + forecast.lead_scale * wide * (rho * z[:, 0] + math.sqrt(1 - rho * rho) * z[:, 1])
    sft = np.clip(sft, 0.0, 1.0)
    return sft, np.clip(sft + lead, 0.0, 1.0)


def _probabilities(start: float, sft: Floats, opd: Floats, model: VerdictModel) -> dict[str, float]:
    gain, online = np.maximum(sft, opd) - start, opd - sft
    m, d = model.margin, model.tolerance
    clear = gain > m + d
    neither = float((gain <= m - d).mean())
    go = float((clear & (online > m + d)).mean())
    stay = float((clear & (online <= m - d)).mean())
    return {OFFLINE: stay, ONLINE: go, NEITHER: neither, UNDECIDED: max(0.0, 1 - stay - go - neither)}


def interval(values: Floats, method: str, student: Feature, stretch: float = 1.0) -> Estimate:
    """Median and 95% of draws, wider by the error of the student's own accuracy, which moves everything with it.

    stretch: factor of both distances from the median."""
    low, middle, high = np.quantile(values, [0.025, 0.5, 0.975])
    spread = 1.96 * student.error
    low, high = middle - stretch * (middle - low), middle + stretch * (high - middle)
    low, high = middle - math.hypot(middle - low, spread), middle + math.hypot(high - middle, spread)
    return Estimate(float(middle), max(0.0, float(low)), min(1.0, float(high)), 0, "accuracy", method)


# --- guards ---------------------------------------------------------------------------------------------


def _guards(seen: Features, evidence: Evidence) -> list[tuple[str, str]]:
    """(answer that may not be given with confidence, why). Warnings of the theory: no coefficient overrules them."""
    out: list[tuple[str, str]] = []
    takeover = seen.takeover
    if takeover is not None and takeover.value + 1.645 * takeover.error < 0:
        out.append((ONLINE, f"the expert does worse than the student itself when it goes on from the student's own "
                            f"prefixes ({takeover.value:+.3f}): its advice does not help from there"))  # fmt: skip
    if not evidence.scored:
        out.append((ONLINE, "the expert gives samples only: online training needs its scores"))
    gap = evidence.measures.get("gap_nats")
    pilot = seen.opd
    wrong = gap is not None and math.isfinite(gap.value) and gap.high < 0
    if wrong and gap is not None and not (pilot and pilot.value - 1.645 * pilot.error > 0):
        out.append((ONLINE, f"among the student's own completions the expert prefers wrong ones, by "
                            f"{-gap.value:.2f} nats, and no online pilot shows a gain"))  # fmt: skip
    accuracies = [evidence.measures.get("student_accuracy")]
    accuracies += [points[-1].accuracy for kind in ("sft", "opd") if (points := evidence.curve(kind))]
    if all(e is not None and e.value <= TOLERANCE for e in accuracies):
        for answer in (OFFLINE, ONLINE):
            out.append((answer, "neither the student nor a pilot is ever right: what full training would reach cannot "
                                "be forecast from accuracies"))  # fmt: skip
        if seen.fall > NEARING:
            out.append((NEITHER, f"nothing is ever right yet, but the SFT pilots removed {seen.fall:.0%} of the "
                                 "forward KL: it may come"))  # fmt: skip
    if not evidence.curve("sft") and not evidence.curve("opd"):
        for answer in (OFFLINE, ONLINE):
            out.append((answer, "no pilot was trained: how far either route gets is a guess"))
    elif not evidence.curve("opd") and takeover is None:
        out.append((ONLINE, "neither an online pilot nor the expert's continuations were measured"))
    return out


def _without_reward(evidence: Evidence, rule: str) -> Verdict:
    """No verifier: without accuracies none of the three answers can be given."""
    why, change = without_reward(evidence)
    p: dict[str, float] = {a: float(a == UNDECIDED) for a in ANSWERS}
    return Verdict(UNDECIDED, p, {}, why, change, rule)
