"""A diagnosis in words: its answer, what to do, why, and what would change it. Needs no torch.

`reasons` and `would_change` are part of the verdict, because they need the forecast; `explain` words the
finished diagnosis, the same for the terminal and for the page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from understudy.diagnosis.codec import finite
from understudy.diagnosis.forecast.features import Feature, known
from understudy.diagnosis.forecast.model import TERMS, Forecast, VerdictModel
from understudy.diagnosis.outcome import ANSWERS, NEITHER, OFFLINE, ONLINE, UNDECIDED
from understudy.diagnosis.types import Diagnosis, Estimate, Evidence, Verdict
from understudy.evaluation.numbers import percent

REACHED = 0.5  # of the expert in hand: the pilots have learnt much of it
CLOSE = 0.5  # nats per sequence: below this two policies are hard to tell apart by a few samples
ACTIONS: dict[str, str] = {
    OFFLINE: "fine-tune on the expert's samples (SFT)",
    ONLINE: "let the student act and the expert score (OPD)",
    NEITHER: "training toward this expert is not expected to help",
    UNDECIDED: "the evidence does not say",
}
ROUTES: dict[str, str] = {
    "student": "student now",
    "sft": "offline (SFT)",
    "opd": "online (OPD), an estimate",
    "expert": "expert",
}
"""student, sft, opd, expert: how a table of routes names them."""


# --- a finished diagnosis -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Explanation:
    title: str
    """The answer, such as "Go online"."""
    action: str
    """What it means to do, one clause; where it is open, the likeliest answer."""
    probability: str
    """Of the answer; empty where it is open or not known."""
    advice: str
    """What to do, with the numbers that it rests on; a few sentences."""
    margin: str
    """What "clearly" means."""
    reasons: tuple[str, ...]
    would_change: tuple[str, ...]


def explain(d: Diagnosis) -> Explanation:
    p, answer, margin = chances(d.verdict), d.verdict.answer, finite(d.setting.get("margin"))
    return Explanation(
        answer.capitalize(),
        _action(answer, p),
        chance(p[answer]) if answer != UNDECIDED and answer in p else "",
        _advice(d, p),
        f"“Clearly” means by more than {100 * margin:g} points of accuracy." if margin else "",
        tuple(dict.fromkeys(line.strip() for line in d.verdict.reasons if line.strip())),
        tuple(line.strip() for line in d.verdict.would_change if line.strip()),
    )


def chances(verdict: Verdict) -> dict[str, float]:
    """Of each of the four answers, as shares of their sum, from offline to online; empty where none is above 0."""
    order = (OFFLINE, NEITHER, UNDECIDED, ONLINE)
    p = {answer: max(0.0, verdict.probabilities.get(answer, 0.0)) for answer in order}
    total = sum(p.values())
    return {answer: x / total for answer, x in p.items()} if total > 0 else {}


def likeliest(p: Mapping[str, float]) -> str:
    """The likeliest of the three answers that decide; "" where no probability is known."""
    return max((a for a in p if a != UNDECIDED), key=lambda a: p[a], default="")


def chance(p: float) -> str:
    """A probability that is neither 0 nor 1 is not written as if it were."""
    if 0 < p < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= p < 1 else f"{100 * p:.0f}%"


def _action(answer: str, p: Mapping[str, float]) -> str:
    best = likeliest(p)
    if answer != UNDECIDED or p.get(best, 0.0) < 0.5:
        return ACTIONS[answer]
    return f"{best} is likeliest ({p[best]:.0%}), but the evidence does not carry it"


def _advice(d: Diagnosis, p: Mapping[str, float]) -> str:
    expected = d.verdict.expected
    now, sft, opd = (percent(e.value) if (e := expected.get(who)) else "" for who in ("student", "sft", "opd"))
    match d.verdict.answer:
        case "offline suffices":
            line = "Fine-tune the student on the expert’s own completions (SFT)."
            if now and sft:
                line += f" That is expected to end at {sft} right, from {now} now."
            cost = {route: d.costs[route].flops for route in ("sft", "opd") if route in d.costs}
            if 0 < cost.get("sft", 0.0) < cost.get("opd", 0.0):
                times = f"{cost['opd'] / cost['sft']:.1f} times"
                return (
                    f"{line} Online training would cost {times} the compute and is not expected to end clearly higher."
                )
            return f"{line} Online training is not expected to end clearly higher."
        case "go online":
            line = "Let the student act, and train it toward the expert’s judgement of what it did (OPD)."
            if now and sft and opd:
                line += f" That is estimated to end at {opd} right, against {sft} offline and {now} now."
            return line
        case "neither":
            if d.stopped:
                return (
                    "Train by neither route: the expert is not clearly better than the student on these prompts, so "
                    "there is nothing to learn from it here."
                )
            line = "Train by neither route"
            return f"{line}: neither is expected to end clearly above {now} right now." if now else f"{line}."
    if not d.evidence.has_verifier:
        return (
            "No reward is known, so whether the expert is better, and whether a route is worth its cost, cannot be "
            "said. What can be measured without one is below."
        )
    line, best = "The evidence does not decide between the answers.", likeliest(p)
    if best and p[best] > 0:
        line += f" The likeliest of the three answers is “{best}”, and its {chance(p[best])} is not enough."
    changes = [line.strip() for line in d.verdict.would_change if line.strip()]
    return f"{line} What could settle it: {changes[0]}." if changes else line


# --- the reasons of a new verdict ----------------------------------------------------------------------


def reasons(
    evidence: Evidence,
    model: VerdictModel,
    forecast: Forecast,
    answer: str,
    p: Mapping[str, float],
    expected: Mapping[str, Estimate],
    guards: Sequence[str],
) -> tuple[str, ...]:
    """Why, the forecast first, then the evidence in the order of its weight."""
    sft, opd, student = expected["sft"], expected["opd"], expected["student"]
    online = f", online {_number(opd)} (an estimate)" if evidence.scored else ""
    out = [
        f"forecast at the full budget: offline {_number(sft)}{online}, from {student.value:.3f} now; "
        f"a gain or a difference below {model.margin:g} is called none"
    ]
    out += _curves(evidence, forecast)
    out += _headroom(forecast, model)
    out += _takeover(forecast)
    out += _ranking(evidence)
    out += [f"held back: {why}" for why in dict.fromkeys(guards)]
    if answer == UNDECIDED:
        best = max((a for a in ANSWERS if a != UNDECIDED), key=lambda a: p[a])
        out.append(
            f"no answer reaches a probability of {model.confidence:g}: {best} has {p[best]:.2f}, and "
            f"{p[UNDECIDED]:.2f} is too close to a boundary to call or held back"
        )
    missing = _missing(evidence)
    if missing:
        out.append(f"not known, so the forecast is wider: {', '.join(missing)}")
    return tuple(out)


def _number(e: Estimate) -> str:
    return f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]"


def _signed(f: Feature) -> str:
    return f"{f.value:+.3f} ± {1.96 * f.error:.3f}"


def _curves(evidence: Evidence, forecast: Forecast) -> list[str]:
    out = []
    points, seen = evidence.curve("sft"), forecast.features
    if seen.sft is not None:
        reached = ", ".join(f"{p.accuracy.value:.3f} at {p.samples:,}" for p in points if p.accuracy)
        out.append(f"SFT pilots reach {reached} sequences ({_signed(seen.sft)} on the student)")
    lefts = [k for kind in ("sft", "opd") if (c := evidence.curve(kind)) and (k := known(c[-1].kl_student_expert))]
    if seen.reach is not None and lefts:
        near = (
            "within reach: what it still lacks is a matter of data"
            if seen.reach >= REACHED
            else "partly in reach"
            if seen.reach >= REACHED / 3
            else "what it does, the expert would not: out of reach, or not yet learnt"
        )
        out.append(
            f"after the pilots {min(k.value for k in lefts):.2f} nats of reverse KL are left at the least: "
            f"{seen.reach:.0%} of the expert is in hand; {near}"
        )
    if len(points) > 1:
        first, last = known(points[0].kl_expert_student), known(points[-1].kl_expert_student)
        if first is not None and last is not None:
            out.append(
                f"held-out forward KL goes from {first.value:.2f} to {last.value:.2f} nats over the pilots "
                "(its size says little, its fall does)"
            )
    if evidence.floor is not None and evidence.floor.rejects_zero:
        floor = evidence.floor.a
        out.append(
            f"extrapolated, a floor of {floor.value:.2f} [{floor.low:.2f}, {floor.high:.2f}] nats stays: more samples "
            "alone do not close it"
        )
    if seen.opd is not None:
        pilot = evidence.curve("opd")[-1]
        assert pilot.accuracy is not None
        out.append(
            f"the online pilot reaches {pilot.accuracy.value:.3f} with {pilot.samples:,} sequences "
            f"({_signed(seen.opd)} on the student, its own training samples counted)"
        )
    return out


def _headroom(forecast: Forecast, model: VerdictModel) -> list[str]:
    seen = forecast.features
    if seen.expert is None:
        return []
    room = Feature(seen.headroom, seen.headroom_error)
    if room.value + 1.96 * room.error <= model.margin:
        return [f"no headroom: the expert is {_signed(room)} against the student, so there is nothing to gain"]
    return [f"headroom: the expert is {_signed(room)} against the student"]


def _takeover(forecast: Forecast) -> list[str]:
    gain = forecast.features.takeover
    if gain is None:
        return []
    does = "helps from where the student really is" if gain.value - 1.96 * gain.error > 0 else (
        "harms from where the student is" if gain.value + 1.96 * gain.error < 0 else "makes no clear difference there"
    )  # fmt: skip
    return [f"continuing the student's own beginnings, the expert {does}: {_signed(gain)} against the student itself"]


def _ranking(evidence: Evidence) -> list[str]:
    auc = evidence.measures.get("auc")
    if auc is None or not math.isfinite(auc.value):
        return []
    return [
        f"within prompts the expert's score ranks right above wrong in {auc.value:.0%} of pairs (weak evidence alone)"
    ]


def _missing(evidence: Evidence) -> list[str]:
    out = []
    if not evidence.curve("sft"):
        out.append("SFT pilots")
    if not evidence.curve("opd"):
        out.append("an online pilot")
    if "score" not in evidence.capabilities and "distribution" not in evidence.capabilities:
        out.append("the expert's scores (a black box)")
    if "takeover_gain" not in evidence.measures:
        out.append("the expert's continuations of the student's prefixes")
    if known(evidence.measures.get("expert_accuracy")) is None:
        out.append("the expert's accuracy")
    return out


def would_change(evidence: Evidence, model: VerdictModel, forecast: Forecast, answer: str) -> tuple[str, ...]:
    """Which evidence, and how much of it, would move the verdict; by the slopes of the forecast."""
    out = []
    seen = forecast.features
    slope = model.lines[forecast.variant]["lead"].slopes[list(TERMS["lead"]).index("lead")] * (1 - (seen.reach or 0.0))
    behind, top = forecast.lead - model.margin, forecast.top - model.margin
    if seen.opd is not None and slope > 0.05:
        need = seen.opd.value - behind / slope
        pilot = f"an online pilot that gains {need:+.2f} on the student instead of {seen.opd.value:+.2f}"
        if answer in (OFFLINE, UNDECIDED) and behind < 0 and need < 1:
            out.append(f"{pilot}: go online")
        if answer in (ONLINE, UNDECIDED) and behind > 0 and need > -1:
            out.append(f"{pilot}: offline suffices, or neither")
    if answer == NEITHER:
        out.append(
            f"any pilot that shows a route {-top:.2f} points better than forecast"
            if top < 0
            else "pilots that gain less than forecast"
        )
        out.append("an expert that is better where the student is, or a larger budget")
    if answer in (OFFLINE, ONLINE):
        out.append(f"pilots that stop {max(top, 0):.2f} short of the forecast: neither")
    if not evidence.curve("opd") and "score" in evidence.capabilities:
        out.append("an online pilot: without one the online branch is extrapolated")
    if answer == UNDECIDED:
        out.append("a larger diagnosis budget: longer pilots, and more prompts to measure them on")
    if "takeover_gain" not in evidence.measures:
        out.append("an expert that can continue the student's own prefixes")
    return tuple(dict.fromkeys(out))


def without_reward(evidence: Evidence) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(reasons, what would change it) where no reward says which answers are right."""
    out = ["no reward is known: whether the expert is better, and whether a route is worth its cost, cannot be said"]
    points = evidence.curve("sft")
    left = known(points[-1].kl_student_expert) if points else None
    forward = known(points[-1].kl_expert_student) if points else None
    if left is not None and forward is not None:
        if max(left.value, forward.value) < CLOSE:
            out.append(
                f"SFT comes close to the expert's own behaviour ({forward.value:.2f} nats forward, {left.value:.2f} "
                "reverse, after the largest pilot): if the expert is worth imitating, offline suffices"
            )
        else:
            out.append(
                f"SFT is still far from the expert after the largest pilot ({forward.value:.2f} nats forward, "
                f"{left.value:.2f} reverse); whether that costs accuracy depends on a reward that is not known"
            )
    elif points:
        out.append("a black-box expert without a reward leaves only the loss curve of SFT")
    return tuple(out), ("a verifier, or a few hundred graded completions of student and expert",)
