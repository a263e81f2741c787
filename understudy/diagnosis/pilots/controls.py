"""Controls of the pilots: is a floor due to the student, the optimizer, or too little data?

All at the middle of the offline curve, where they are affordable, each compared with the pilot there, prompt by prompt.
None certifies that an expert is out of reach; they say what else could explain a floor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from understudy.config import Resolved
from understudy.diagnosis.cost import Sizes
from understudy.diagnosis.measures import intervals
from understudy.diagnosis.measures.collect import compared
from understudy.diagnosis.measures.estimators import NATS
from understudy.diagnosis.pilots.budget import Size, look_cost
from understudy.diagnosis.pilots.estimates import divergence
from understudy.diagnosis.pilots.pilot import Pilots
from understudy.diagnosis.types import CHECKS, Control
from understudy.experts import LocalExpert
from understudy.randomness import seed_from
from understudy.specs import parse_spec

SMALL = 0.1
"""Twice the steps should lower the held-out divergence by less than this share of it."""
NO_LADDER = "not run: all weights of a given model are trained; only scratch and LoRA students have a next size"
GROWTH = 4
"""Weights of a student of twice the width, about; LoRA's larger adapter costs hardly more, so this is generous."""


def controls(pilots: Pilots, size: Size, choice: str) -> dict[str, Control]:
    """Every control, run or with the reason why not. choice: budget (while it lasts), all, none."""
    if not size.sequences:
        return {name: Control(False, "not run: no pilots") for name in CHECKS}
    if "score" not in pilots.setting.expert.capabilities:
        return {name: Control(False, "not run: the expert gives no scores") for name in CHECKS}
    n, left = size.curve[1], size.left
    out = {}
    sizes, length = pilots.setting.sizes, float(pilots.table.length.mean())
    for name, flops in prices(sizes, pilots.offline, length, n, size.prompts).items():
        if choice == "none" or (choice == "budget" and flops > left):
            out[name] = Control(False, "not run: budget" if choice == "budget" else "not run: --controls none")
            continue
        out[name] = _RUN[name](pilots, size, n)
        if out[name].ran:
            left -= flops
    out.setdefault("capacity_ladder", Control(False, NO_LADDER))
    return {name: out[name] for name in CHECKS}


def prices(sizes: Sizes, offline: Resolved, length: float, n: int, prompts: int) -> dict[str, float]:
    """FLOPs of each control on n sequences of so many tokens, measured on so many prompts; in the order in which they
    are run."""
    look = prompts * look_cost(sizes, length, length, few=True).flops
    out = {
        "stability": sizes.sft(n, length).flops + sizes.cost(trained=n * length, prompts=(0, 0, n)).flops + look,
        "self_retraining": Sizes(sizes.student, sizes.student, sizes.prompt).sft(n, length).flops + look,
    }
    if larger(offline) is not None:
        grown = replace(sizes, student=GROWTH * sizes.student)
        out["capacity_ladder"] = grown.sft(n, length).flops + GROWTH * look
    return out


def _stability(pilots: Pilots, size: Size, n: int) -> Control:
    """The same sequences, twice the updates: what still falls then was due to the optimizer."""
    before = _middle(pilots, n)
    twice = 2 * (n // size.batch)
    path = pilots.train(pilots.offline, n, size.batch, f"sft-{n}-twice", updates=twice, prompt_pool=n)
    fall = intervals.mean(before - pilots.measure(path, few=True).forward, NATS)
    steady = fall.value <= SMALL * float(before.mean())
    outcome = (
        "twice the steps on the same data change little: not the optimizer's floor"
        if steady
        else "twice the steps on the same data still lower it: part of the floor is the optimizer's"
    )
    return Control(True, outcome, (pilots.point(path, "sft", n, "twice the steps", few=True),), fall, steady)


def _self_retraining(pilots: Pilots, size: Size, n: int) -> Control:
    """The trained pilot as expert: realizable by construction. From the same start, on as much data, how near?"""
    setting, middle = pilots.setting, pilots.run.path / "pilots" / f"sft-{n}"
    alike = Sizes(setting.sizes.student, setting.sizes.student, setting.sizes.prompt)
    path = pilots.train(pilots.offline, n, size.batch, f"sft-{n}-self", alike, expert=str(middle))
    expert = LocalExpert(pilots.load(middle))
    rollouts = expert.sample(pilots.few, 1, seed_from("diagnose self", setting.seed), setting.room)
    reachable = divergence(compared(setting, pilots.load(path), expert, rollouts, "expert"), "expert")
    tokens = sum(len(r.ids) for r in rollouts)
    n_few = len(rollouts)
    pilots.spent += alike.cost(tokens, tokens, tokens, prompts=(2 * n_few, n_few, 0))
    harder = intervals.mean(_middle(pilots, n) - reachable, NATS)
    near = harder.low <= 0
    outcome = (
        "from here the expert is no harder to imitate than a policy that is certainly in reach"
        if near
        else "the expert stays further away than a policy that is certainly in reach, trained alike; "
        "under-trained pilots can show this too"
    )
    return Control(True, outcome, (), harder, near)


def _capacity_ladder(pilots: Pilots, size: Size, n: int) -> Control:
    """The same data, a larger student."""
    grown = larger(pilots.offline)
    assert grown is not None  # else it has no price
    changes, label = grown
    name = f"sft-{n}-{label.replace(' ', '-')}"
    known = pilots.setting.sizes
    sizes = replace(known, student=GROWTH * known.student)
    path = pilots.train(pilots.offline, n, size.batch, name, sizes, **changes)
    fall = intervals.mean(_middle(pilots, n) - pilots.measure(path, few=True).forward, NATS)
    same = fall.low <= 0
    why = "no clear gain, so capacity is not what holds it back" if same else "clearly nearer: capacity holds it back"
    return Control(True, f"{label}: {why}", (pilots.point(path, "sft", n, label, few=True),), fall, same)


def larger(config: Resolved) -> tuple[dict[str, object], str] | None:
    """(changed fields, label) of the next size of this student; None where there is none."""
    rank = getattr(config, "lora_rank", 0)
    if rank:
        return {"lora_rank": 4 * rank}, f"LoRA rank {4 * rank}"
    if config.student.partition(":")[0] != "scratch":
        return None
    args = dict(parse_spec(config.student, "student").args)
    width = 2 * int(args.get("width", 64))
    args["width"] = str(width)
    return {"student": "scratch:" + ",".join(f"{k}={v}" for k, v in args.items())}, f"width {width}"


def _middle(pilots: Pilots, n: int) -> np.ndarray:
    return pilots.measure(pilots.run.path / "pilots" / f"sft-{n}", few=True).forward


_RUN: dict[str, Callable[[Pilots, Size, int], Control]] = {
    "stability": _stability, "self_retraining": _self_retraining, "capacity_ladder": _capacity_ladder,
}  # fmt: skip
