"""Words of the page that the terminal has no room for: why a part is missing, controls, units, the command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from understudy.diagnosis.codec import finite
from understudy.diagnosis.outcome import NEITHER, OFFLINE, ONLINE, UNDECIDED
from understudy.diagnosis.types import Diagnosis, Estimate
from understudy.evaluation.numbers import percent, points, with_bounds
from understudy.report.text import label
from understudy.specs import parse_several

CONTROLS = {
    "stability": ("Twice the steps", "Is what stays due to the optimizer? The same sequences, trained twice as long."),
    "capacity_ladder": ("A larger student", "Is it the student’s size? The same sequences, a larger student."),
    "self_retraining": (
        "An expert in reach",
        "Would any expert look as hard? The trained pilot as expert, which the student can certainly be.",
    ),
}
MEANS: dict[str, str] = {
    OFFLINE: "SFT gains, and OPD does not end clearly higher",
    NEITHER: "no route ends clearly above the student now",
    UNDECIDED: "too close to call, or the evidence does not reach",
    ONLINE: "OPD ends clearly higher than SFT",
}
GAINS = ("headroom", "takeover_gain")
"""Measures that are differences of accuracies."""
# options of `understudy diagnose`, with the values that need not be written down
_OPTIONS: dict[str, Any] = {
    "student": "", "expert": "", "expert_of": "", "task": "", "budget": "", "updates": None,
    "prompts_per_update": None, "set": [], "controls": "budget", "pilots": True, "verifier": True, "prompts": None,
    "samples": None, "expert_samples": None, "seed": None, "out": "", "device": "auto", "trust_remote_code": False,
    "expert_parameters": 0.0, "device_flops": 0.0, "price_per_hour": 0.0, "price_per_million": 0.0,
}  # fmt: skip


def time(d: Diagnosis) -> str:
    """What the hours in the table of costs are."""
    machine = label(d.setting.get("machine") or "", 120)
    if finite(d.setting.get("device_flops")):
        return f"Time: the FLOPs on {machine or 'the accelerator that was named'}."
    line = f"Time: of the full trainings, at the pilots’ pace{f' on {machine}' if machine else ''}"
    return f"{line}." if d.evidence.curve("sft") else f"{line}; not known where no pilot was trained."


def without_pilots(d: Diagnosis) -> str:
    if d.stopped:
        return f"No pilots were trained: the diagnosis stopped at the headroom gate ({label(d.stopped, 120)})."
    if d.setting.get("pilots") is False:
        return "No pilots were trained: they were switched off (--no-pilots)."
    return "No pilots were trained: they do not fit into the budget. A larger --budget buys them."


def missing(d: Diagnosis, what: str, reward: bool = True, scores: bool = True) -> str:
    """Why `what` is not on the page. reward, scores: whether it needs them."""
    if scores and not d.evidence.scored:
        why = "The expert only gives samples: without its scores of the student’s texts this cannot be measured."
        return f"{what} cannot be shown. {why}"
    if reward and not d.evidence.has_verifier:
        return f"{what} cannot be shown. No reward is known here, so nothing says which answers are right."
    return f"{what} cannot be shown: this diagnosis holds no such data."


def measure(name: str, e: Estimate) -> str:
    """A measure with its interval, in the unit that reads best."""
    if name in GAINS:
        return with_bounds(e, points)
    if e.unit == "accuracy":
        return f"{percent(e.value)} [{100 * e.low:.1f}, {100 * e.high:.1f}]"
    return with_bounds(e)


def unit(name: str, e: Estimate) -> str:
    if name in GAINS:
        return "points"
    return "" if e.unit in ("accuracy", "probability") else label(e.unit, 40)


def command(setting: Mapping[str, Any]) -> str:
    """The command that asks the same question again; empty where the setting names no student or expert."""
    if not setting.get("student") or not setting.get("expert"):
        return ""
    words = ["understudy", "diagnose"]
    for name, default in _OPTIONS.items():
        value = setting.get("experts" if name == "expert" and setting.get("experts") else name)
        if value is None or value == default:
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif name == "expert" and setting.get("experts"):
            words += ["--expert", *(f"{key}={spec}" for key, spec in parse_several(value).items())]
        elif isinstance(value, list):
            words += [f"--{flag}", *map(str, value)]
        else:
            words += [f"--{flag}", f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)
