"""Stand-ins of a minute: the demo's tiny models on Countdown, in the shape of a recipe's real runs.

The settings are the demo's (chosen on seeds below 300; with the 700 updates of --quick a base may not learn to
    check its
attempts, and online imitation then collapses). Recipes that start from the same base share its run directory: whichever
recipe comes first trains it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from understudy.config import TrainConfig, resolve, to_dict
from understudy.experiments import demo
from understudy.experiments.compare import Arm, Plan
from understudy.experiments.job import Job, training
from understudy.recipes.recipe import Scale

FIRST_SEED = 300  # the demo's: its settings were chosen below
COUNTDOWN = demo.setting(demo.DemoConfig())[0]
NUMBERS = COUNTDOWN.partition(":")[2].replace(",", ";")
BOTH = 300  # updates that teach a base the second task
EVALUATION = demo.EVALUATION
RL, SEARCH, CALLS_OK = demo.RL, demo.SEARCH, "always ok"
MECHANISM = demo.MECHANISM | {
    CALLS_OK: "The same hidden search, right as often with its own first attempt, but it calls every attempt ok: where "
    "the student errs, its scores praise a verdict that the reward punishes."
}


def measured(scale: Scale, train: TrainConfig, every: int = 0) -> TrainConfig:
    """The run with the tiny evaluation; `every` 0: four looks at it."""
    fields = dict(EVALUATION)
    fields["eval_every"] = (every and scale.times(every)) or max(1, train.updates // 4)
    for name in ("eval_prompts", "final_prompts"):
        fields[name] = scale.times(fields[name], 4)
    return replace(train, **fields)


def base_job(scale: Scale, seed: int, folder: Path) -> Job:
    train = demo.base(folder / f"seed-{seed}" / "base", seed, COUNTDOWN)
    updates = scale.times(train.updates)
    train = replace(train, updates=updates, prompt_pool=min(int(train.prompt_pool or 0), 48 * updates))
    return training(f"base, seed {seed}", measured(scale, train))


def rl_job(scale: Scale, seed: int, task: str, folder: Path, first: Job) -> Job:
    train = demo.rl_expert(folder / f"seed-{seed}" / "expert-rl", seed, task, first.config.out)
    train = replace(train, updates=scale.times(train.updates))
    return training(f"expert: {RL}, seed {seed}", measured(scale, train), (first.name,))


def imitation(
    scale: Scale, seed: int, task: str, start: str, method: str, label: str, expert: str, folder: Path
) -> Arm:
    name = f"{method}-{label.replace(' ', '-').lower()}"
    train = TrainConfig(
        method=method, student=start, expert=expert, task=task, seed=seed, out=str(folder / f"seed-{seed}" / name),
        updates=scale.times(demo.UPDATES), **demo.COMMON, **demo.IMITATE,
    )  # fmt: skip
    return Arm(label, method, seed, 1, measured(scale, train, EVALUATION["eval_every"]))


def assemble(
    title: str, scale: Scale, arms: list[Arm], before: list[Job], realizable: dict[str, bool | None],
    command: list[str], expect: dict[str, str | None] | None = None, mechanism: dict[str, str] | None = None,
) -> Plan:  # fmt: skip
    """A Plan whose bases may lie outside its folder (shared between recipes)."""
    told = MECHANISM | (mechanism or {})
    experts: dict[str, dict[str, Any]] = {}
    for arm in arms:
        experts.setdefault(
            arm.expert,
            {"spec": arm.config.expert, "mechanism": told.get(arm.expert, ""), "expect": (expect or {}).get(arm.expert),
             "realizable": realizable.get(arm.expert)},
        )  # fmt: skip
    bases = {str(a.seed): {"path": os.path.relpath(a.config.student, scale.out)} for a in arms}
    skip = ("method", "expert", "out", "student")
    settings = {k: v for k, v in to_dict(resolve(arms[0].config)).items() if k not in skip}
    return Plan(title, scale.out, "updates", experts, arms, bases, settings, command, tuple(before))


def shared(scale: Scale) -> Path:
    """Where tiny Countdown bases live: beside the recipe's own folder."""
    return scale.out.parent / "tiny-countdown"


def countdown_two_experts(title: str, scale: Scale) -> Plan:
    """RL of the base and hidden search, each offline and online: the tiny Fig. 1, whose ood split is Fig. 5 left."""
    folder = shared(scale)
    before: list[Job] = []
    arms: list[Arm] = []
    for seed in scale.all_seeds:
        first = base_job(scale, seed, folder)
        rl = rl_job(scale, seed, COUNTDOWN, folder, first)
        before += [first, rl]
        for label, expert in ((RL, rl.config.out), (SEARCH, "solver")):
            for method in ("sft", "opd_full"):
                arms.append(imitation(scale, seed, COUNTDOWN, first.config.out, method, label, expert, folder))
    scale = replace(scale, out=folder)
    return assemble(title, scale, arms, before, {RL: True, SEARCH: False}, ["understudy", "run"],
                    {RL: "none", SEARCH: "better"})  # fmt: skip


def two_aligned(title: str, scale: Scale) -> Plan:
    """Same student, two experts that are right equally often; one's scores agree with the reward on its errors."""
    folder = shared(scale)
    before: list[Job] = []
    arms: list[Arm] = []
    for seed in scale.all_seeds:
        first = base_job(scale, seed, folder)
        before.append(first)
        for label, expert in ((SEARCH, "solver"), (CALLS_OK, "always_ok")):
            place = folder if label == SEARCH else scale.out  # online on hidden search is Fig. 1's run
            arms.append(imitation(scale, seed, COUNTDOWN, first.config.out, "opd_full", label, expert, place))
    return assemble(title, scale, arms, before, {SEARCH: False, CALLS_OK: False}, ["understudy", "run"])


PAIR = f"pair:main=countdown;{NUMBERS},other=classify;bits=10;relevant=4;classes=4"


def forgetting(title: str, scale: Scale) -> Plan:
    """The base is taught a second task, then trained on the first alone: what becomes of the second?"""
    before: list[Job] = []
    arms: list[Arm] = []
    for seed in scale.all_seeds:
        first = base_job(scale, seed, shared(scale))
        place = scale.out / f"seed-{seed}" / "base-both"
        taught = replace(
            first.config, student=first.config.out, task=f"{PAIR},share=0.5", out=str(place),
            updates=scale.times(BOTH), prompt_pool=48 * scale.times(BOTH), lr=2e-3,
        )  # fmt: skip
        both = training(f"base of both tasks, seed {seed}", _looked(measured(scale, taught)), (first.name,))
        rl = rl_job(scale, seed, PAIR, scale.out, both)
        rl = training(rl.name, _looked(rl.config), rl.needs)
        before += [first, both, rl]
        for label, expert in ((SEARCH, "solver"), (RL, rl.config.out)):
            for method in ("sft", "opd_full"):
                arm = imitation(scale, seed, PAIR, both.config.out, method, label, expert, scale.out)
                arms.append(replace(arm, config=_looked(arm.config)))
    return assemble(title, scale, arms, before, {RL: True, SEARCH: False}, ["understudy", "run"])


def _looked(train: TrainConfig) -> TrainConfig:
    """Both tasks are looked at, while training and at the end."""
    return replace(train, eval_during="test,forget", eval_splits="test,forget")
