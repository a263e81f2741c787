"""What the page of a diagnosis says: headline, what to do, why a part is missing, numbers in their units."""

from __future__ import annotations

import shlex
from typing import Any

from understudy.evaluation.numbers import percent, points, with_bounds
from understudy.report.diagnosis.data import Data, Number, number
from understudy.report.diagnosis.plots import chance
from understudy.report.runs import mapping
from understudy.report.text import label, visible

HEADLINES = {
    "offline suffices": "Offline suffices",
    "go online": "Go online",
    "neither": "Neither",
    "undecided": "Undecided",
}
CONTROLS = {
    "stability": ("Twice the steps", "Is what stays the optimiser’s? The same sequences, trained twice as long."),
    "capacity_ladder": ("A larger student", "Is it the student’s size? The same sequences, a larger student."),
    "self_retraining": (
        "An expert in reach",
        "Would any expert look as hard? The trained pilot as expert, which the student can certainly be.",
    ),
}
_GAINS = ("headroom", "takeover_gain")
# options of `understudy diagnose`, with the values that need not be written down
_OPTIONS: dict[str, Any] = {
    "student": "", "expert": "", "task": "", "budget": "", "updates": None, "prompts_per_update": None, "set": [],
    "controls": "budget", "pilots": True, "verifier": True, "prompts": None, "samples": None,
    "expert_samples": None, "seed": None, "out": "", "device": "auto", "trust_remote_code": False,
    "expert_parameters": 0.0, "device_flops": 0.0,
}  # fmt: skip


# --- the verdict ---------------------------------------------------------------------------------------------------


def headline(d: Data) -> str:
    p = d.chances.get(d.answer)
    if d.answer == "undecided" or p is None:
        return HEADLINES[d.answer]
    return f"{HEADLINES[d.answer]}, with a probability of {chance(p)}"


def advice(d: Data) -> str:
    """What to do."""
    now, sft, opd = (_share(d.expected.get(who)) for who in ("student", "sft", "opd"))
    if d.answer == "offline suffices":
        line = "Fine-tune the student on the expert’s own completions (SFT)."
        if now and sft:
            line += f" That is expected to end at {sft} right, from {now} now."
        times = _dearer(d)
        return line + (
            f" Online training would cost {times} the compute and is not expected to end clearly higher."
            if times
            else " Online training is not expected to end clearly higher."
        )
    if d.answer == "go online":
        line = "Let the student act, and train it toward the expert’s judgement of what it did (OPD)."
        if now and sft and opd:
            line += f" That is estimated to end at {opd} right, against {sft} offline and {now} now."
        return line
    if d.answer == "neither":
        if d.stopped:
            return (
                "Train by neither route: the expert is not clearly better than the student on these prompts, so there "
                "is nothing to learn from it here."
            )
        line = "Train by neither route"
        return f"{line}: neither is expected to end clearly above {now} right now." if now else f"{line}."
    if not d.verified:
        return (
            "No reward is known, so whether the expert is better, and whether a route is worth its cost, cannot be "
            "said. What can be measured without one is below."
        )
    best = max((a for a in d.chances if a != "undecided"), key=lambda a: d.chances[a], default="")
    line = "The evidence does not say: take no advice from it."
    if best and d.chances[best] > 0:
        line += f" The likeliest of the three answers is “{best}”, and its {chance(d.chances[best])} is not enough."
    if d.would_change:
        line += f" What could settle it: {said(d.would_change[0], False)}."
    return line


def _share(e: Number | None) -> str:
    return percent(e.value) if e else ""


def _dearer(d: Data) -> str:
    sft, opd = (number(mapping(d.costs.get(who)).get("flops")) for who in ("sft", "opd"))
    return f"{opd / sft:.1f} times" if sft and opd and opd > sft else ""


def said(line: str, capital: bool = True) -> str:
    """A sentence of the verdict, safe to show."""
    line = visible(line.strip(), 1000)
    return line[:1].upper() + line[1:] if capital else line


def margin(d: Data) -> str:
    least = number(d.setting.get("margin"))
    return f"“Clearly” means by more than {100 * least:g} points of accuracy." if least else ""


def time(d: Data) -> str:
    """What the hours in the table of costs are."""
    machine = label(d.setting.get("machine") or "", 120)
    if number(d.setting.get("device_flops")):
        return f"Time: the FLOPs on {machine or 'the accelerator that was named'}."
    told = f"Time: of the full trainings, at the pilots’ pace{f' on {machine}' if machine else ''}"
    return f"{told}; not known where no pilot was trained." if not d.curve("sft") else f"{told}."


# --- why a part is missing -----------------------------------------------------------------------------------------


def without_pilots(d: Data) -> str:
    if d.stopped:
        return f"No pilots were trained: the diagnosis stopped at the headroom gate ({label(d.stopped, 120)})."
    if d.setting.get("pilots") is False:
        return "No pilots were trained: they were switched off (--no-pilots)."
    return "No pilots were trained: they do not fit into the budget. A larger --budget buys them."


def without_reward(d: Data) -> str:
    return "No reward is known here, so nothing tells right answers from wrong ones."


def without_scores(d: Data) -> str:
    return "The expert only gives samples: without its scores of the student’s texts this cannot be measured."


def missing(d: Data, what: str, reward: bool = True, scores: bool = True) -> str:
    """Why `what` is not on the page."""
    if scores and not d.scored:
        return f"{what} cannot be shown. {without_scores(d)}"
    if reward and not d.verified:
        return f"{what} cannot be shown. {without_reward(d)}"
    return f"{what} cannot be shown: this diagnosis holds no such data."


# --- numbers -------------------------------------------------------------------------------------------------------


def measure(name: str, e: Number) -> str:
    """A measure with its interval, in the unit that reads best."""
    if name in _GAINS:
        return with_bounds(e, points)
    if e.unit == "accuracy":
        return f"{percent(e.value)} [{100 * e.low:.1f}, {100 * e.high:.1f}]"
    return with_bounds(e)


def unit(name: str, e: Number) -> str:
    if name in _GAINS:
        return "points"
    return "" if e.unit in ("accuracy", "probability") else label(e.unit, 40)


def nats(e: Number | None) -> str:
    return "" if e is None else f"{with_bounds(e)} nats"


# --- again ---------------------------------------------------------------------------------------------------------


def command(setting: dict[str, Any]) -> str:
    """The command that asks the same question again; empty where the setting does not say who was asked about."""
    if not setting.get("student") or not setting.get("expert"):
        return ""
    words = ["understudy", "diagnose"]
    for name, default in _OPTIONS.items():
        value = setting.get(name)
        if value is None or value == default:
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list):
            words += [f"--{flag}", *map(str, value)]
        else:
            words += [f"--{flag}", f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)
