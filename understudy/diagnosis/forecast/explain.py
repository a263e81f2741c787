"""The verdict in plain words: the reasons with their numbers, and what would change its mind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from understudy.diagnosis.forecast.features import Feature, curve, known
from understudy.diagnosis.forecast.model import TERMS, Forecast, VerdictModel
from understudy.diagnosis.outcome import ANSWERS
from understudy.diagnosis.types import Estimate, Evidence

OFFLINE, ONLINE, NEITHER, UNDECIDED = ANSWERS
REACHED = 0.5  # of the expert in hand: the pilots have got hold of it
CLOSE = 0.5  # nats a sequence: below this two policies are hard to tell apart by a few samples


def reasons(
    evidence: Evidence,
    model: VerdictModel,
    ahead: Forecast,
    answer: str,
    p: Mapping[str, float],
    expected: Mapping[str, Estimate],
    guards: Sequence[str],
) -> tuple[str, ...]:
    """Why, the forecast first, then the evidence in the order of its weight."""
    sft, opd, student = expected["sft"], expected["opd"], expected["student"]
    scored = not evidence.capabilities or bool({"score", "distribution"} & set(evidence.capabilities))
    online = f", online {_number(opd)} (an estimate)" if scored else ""
    out = [
        f"forecast at the full budget: offline {_number(sft)}{online}, from {student.value:.3f} now; "
        f"a gain or a difference below {model.margin:g} is called none"
    ]
    out += _curves(evidence, ahead)
    out += _headroom(ahead, model)
    out += _takeover(ahead)
    out += _weak(evidence)
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


def _curves(evidence: Evidence, ahead: Forecast) -> list[str]:
    out = []
    points = curve(evidence, "sft")
    seen = ahead.quantities
    if seen.sft is not None:
        told = ", ".join(f"{p.accuracy.value:.3f} at {p.samples:,}" for p in points if p.accuracy)
        out.append(f"SFT pilots reach {told} sequences ({_signed(seen.sft)} on the student)")
    lefts = [k for kind in ("sft", "opd") if (c := curve(evidence, kind)) and (k := known(c[-1].kl_student_expert))]
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
    if points and (fwd := known(points[-1].kl_expert_student)) is not None and len(points) > 1:
        first = known(points[0].kl_expert_student)
        if first is not None:
            out.append(
                f"held-out forward KL goes from {first.value:.2f} to {fwd.value:.2f} nats over the pilots "
                "(its size says little, its fall does)"
            )
    if evidence.floor is not None and evidence.floor.rejects_zero:
        floor = evidence.floor.a
        out.append(
            f"extrapolated, a floor of {floor.value:.2f} [{floor.low:.2f}, {floor.high:.2f}] nats stays: more samples "
            "alone do not close it"
        )
    if seen.opd is not None:
        last = curve(evidence, "opd")[-1]
        assert last.accuracy is not None
        out.append(
            f"the online pilot reaches {last.accuracy.value:.3f} with {last.samples:,} sequences "
            f"({_signed(seen.opd)} on the student, its own training samples counted)"
        )
    return out


def _signed(f: Feature) -> str:
    return f"{f.value:+.3f} ± {1.96 * f.error:.3f}"


def _headroom(ahead: Forecast, model: VerdictModel) -> list[str]:
    seen = ahead.quantities
    if seen.expert is None:
        return []
    room = Feature(seen.headroom, seen.headroom_error)
    if room.value + 1.96 * room.error <= model.margin:
        return [f"no headroom: the expert is {_signed(room)} against the student, so there is nothing to gain"]
    return [f"headroom: the expert is {_signed(room)} against the student"]


def _takeover(ahead: Forecast) -> list[str]:
    gain = ahead.quantities.takeover
    if gain is None:
        return []
    does = "helps from where the student really is" if gain.value - 1.96 * gain.error > 0 else (
        "harms from where the student is" if gain.value + 1.96 * gain.error < 0 else "makes no clear difference there"
    )  # fmt: skip
    return [f"continuing the student's own beginnings, the expert {does}: {_signed(gain)} against the student itself"]


def _weak(evidence: Evidence) -> list[str]:
    auc = evidence.measures.get("auc")
    if auc is None or not math.isfinite(auc.value):
        return []
    return [
        f"within prompts the expert's score ranks right above wrong in {auc.value:.0%} of pairs (weak evidence alone)"
    ]


def _missing(evidence: Evidence) -> list[str]:
    out = []
    if not curve(evidence, "sft"):
        out.append("SFT pilots")
    if not curve(evidence, "opd"):
        out.append("an online pilot")
    if "score" not in evidence.capabilities and "distribution" not in evidence.capabilities:
        out.append("the expert's scores (a black box)")
    if "takeover_gain" not in evidence.measures:
        out.append("the expert's continuations of the student's prefixes")
    if known(evidence.measures.get("expert_accuracy")) is None:
        out.append("the expert's accuracy")
    return out


def would_change(evidence: Evidence, model: VerdictModel, ahead: Forecast, answer: str) -> tuple[str, ...]:
    """Which evidence, and how much of it, would move the verdict; by the forecast's own slopes."""
    out = []
    seen = ahead.quantities
    slope = model.lines[ahead.variant]["lead"].slopes[list(TERMS["lead"]).index("lead")] * (1 - (seen.reach or 0.0))
    behind, top = ahead.lead - model.margin, ahead.top - model.margin
    if seen.opd is not None and slope > 0.05:
        need = seen.opd.value - behind / slope
        told = f"gains {need:+.2f} on the student instead of {seen.opd.value:+.2f}"
        if answer in (OFFLINE, UNDECIDED) and behind < 0 and need < 1:
            out.append(f"an online pilot that {told}: go online")
        if answer in (ONLINE, UNDECIDED) and behind > 0 and need > -1:
            out.append(f"an online pilot that {told}: offline suffices, or neither")
    if answer == NEITHER:
        out.append(
            f"any pilot that shows a route {-top:.2f} points better than forecast"
            if top < 0
            else "pilots that gain less than forecast"
        )
        out.append("an expert that is better where the student is, or a larger budget")
    if answer in (OFFLINE, ONLINE):
        out.append(f"pilots that stop {max(top, 0):.2f} short of the forecast: neither")
    if not curve(evidence, "opd") and "score" in evidence.capabilities:
        out.append("an online pilot: without one the online branch is extrapolated")
    if answer == UNDECIDED:
        out.append("a larger diagnosis budget: longer pilots, and more prompts to measure them on")
    if "takeover_gain" not in evidence.measures:
        out.append("an expert that can continue the student's own prefixes")
    return tuple(dict.fromkeys(out))


def without_reward(evidence: Evidence) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(reasons, what would change it) where nothing tells right from wrong."""
    out = ["no reward is known: whether the expert is better, and whether a route is worth its cost, cannot be said"]
    points = curve(evidence, "sft")
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
                f"{left.value:.2f} reverse); whether that costs accuracy depends on a reward nobody gave"
            )
    elif points:
        out.append("a black-box expert without a reward leaves only the loss curve of SFT")
    return tuple(out), ("a verifier, or a few hundred graded completions of student and expert",)
