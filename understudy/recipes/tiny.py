"""Stand-ins of a minute: the demo's tiny models on Countdown, in the shape of a recipe's real runs.

The settings are the demo's (chosen on seeds below 300; with the 700 updates of --quick a base may not learn to check
its attempts, and online imitation then collapses). Recipes that start from the same base share its run directory: the
recipe that runs first trains it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from understudy.config import TrainConfig, resolve
from understudy.experiments import demo
from understudy.experiments.demo import RL, SEARCH
from understudy.experiments.job import Job, training
from understudy.experiments.plan import Plan, PlannedRun
from understudy.recipes.recipe import Scale, plan_of

FIRST_SEED = 300  # the demo's: its settings were chosen below
COUNTDOWN = demo.countdown()
OTHER = "classify;bits=10;relevant=4;classes=4"
PAIR = f"pair:main=countdown;{COUNTDOWN.partition(':')[2].replace(',', ';')},other={OTHER}"
BOTH = 300  # updates that teach a base the second task
CALLS_OK = "always ok"
OTHER_TOKENS = "RL, other tokens"
OPEN = {label: {**expert, "expect": None} for label, expert in demo.EXPERTS.items()} | {
    CALLS_OK: {
        "mechanism": "The same hidden search, right as often with its own first attempt, but it calls every attempt "
        "ok: where the student errs, its scores praise a verdict that the reward punishes.",
        "realizable": False, "expect": None,
    },
    OTHER_TOKENS: {
        "mechanism": "Another base, whose tokens are pairs of digits, after RL: the student gets its scores by "
        "aligned text.",
        "realizable": None, "expect": None,
    },
}  # fmt: skip
"""Experts of figures that compare something else than online with offline."""


def scaled(scale: Scale, train: TrainConfig, **evaluation: Any) -> TrainConfig:
    """The run with `evaluation`, at the scale's share of the evaluation prompts."""
    prompts = {name: scale.times(evaluation[name], 4) for name in ("eval_prompts", "final_prompts")}
    return replace(train, **(evaluation | prompts))


def _maker(scale: Scale, name: str, train: TrainConfig, needs: tuple[str, ...] = ()) -> Job:
    """A training of a base or an expert: four evaluations."""
    return training(name, scaled(scale, train, **(demo.EVALUATION | {"eval_every": max(1, train.updates // 4)})), needs)


def _base(scale: Scale, seed: int, folder: Path, task: str = COUNTDOWN, name: str = "base") -> Job:
    train = demo.base(folder / f"seed-{seed}" / name, seed, task)
    updates = scale.times(train.updates)
    train = replace(train, updates=updates, prompt_pool=min(resolve(train).prompt_pool, 48 * updates))
    return _maker(scale, f"{name}, seed {seed}", train)


def _rl(scale: Scale, seed: int, task: str, folder: Path, first: Job) -> Job:
    train = demo.rl_expert(folder / f"seed-{seed}" / "expert-rl", seed, task, first.out)
    train = replace(train, updates=scale.times(train.updates))
    return _maker(scale, f"expert: {RL}, seed {seed}", train, (first.name,))


def _imitation(
    scale: Scale, seed: int, task: str, start: Job, method: str, label: str, expert: str, folder: Path
) -> PlannedRun:
    out = folder / f"seed-{seed}" / f"{method}-{label.replace(' ', '-').lower()}"
    train = TrainConfig(
        method=method, student=start.out, expert=expert, task=task, seed=seed, out=str(out),
        updates=scale.times(demo.UPDATES), **demo.COMMON, **demo.IMITATE,
    )  # fmt: skip
    every = scale.times(demo.EVALUATION["eval_every"])
    return PlannedRun(label, method, seed, 1, scaled(scale, train, **(demo.EVALUATION | {"eval_every": every})))


def assembled(
    title: str, out: Path, runs: Sequence[PlannedRun], experts: Mapping[str, Mapping[str, Any]], before: Sequence[Job]
) -> Plan:
    """A Plan whose bases may lie outside its folder (shared between recipes)."""
    bases = {str(r.seed): {"path": os.path.relpath(r.config.student, out)} for r in runs}
    return plan_of(title, out, runs, experts, before, bases)


def shared(scale: Scale) -> Path:
    """Where tiny Countdown bases lie: beside the recipe's own folder."""
    return scale.out.parent / "tiny-countdown"


def countdown_two_experts(title: str, scale: Scale) -> Plan:
    """RL of the base and hidden search, each offline and online: the tiny Fig. 1, whose ood split is Fig. 5 left."""
    folder = shared(scale)
    before: list[Job] = []
    runs: list[PlannedRun] = []
    for seed in scale.all_seeds:
        first = _base(scale, seed, folder)
        rl = _rl(scale, seed, COUNTDOWN, folder, first)
        before += [first, rl]
        for label, expert in ((RL, rl.out), (SEARCH, "solver")):
            for method in ("sft", "opd_full"):
                runs.append(_imitation(scale, seed, COUNTDOWN, first, method, label, expert, folder))
    return assembled(title, folder, runs, demo.EXPERTS, before)


def two_aligned(title: str, scale: Scale) -> Plan:
    """Same student, two experts that are right equally often; one's scores agree with the reward on its errors. And a
    third with another tokenizer."""
    before: list[Job] = []
    runs: list[PlannedRun] = []
    for seed in scale.all_seeds:
        first = _base(scale, seed, shared(scale))
        before.append(first)
        for label, expert in ((SEARCH, "solver"), (CALLS_OK, "always_ok")):
            folder = shared(scale) if label == SEARCH else scale.out  # online on hidden search is Fig. 1's run
            runs.append(_imitation(scale, seed, COUNTDOWN, first, "opd_full", label, expert, folder))
        pairs = f"{COUNTDOWN},tokens=pairs"
        other = _base(scale, seed, scale.out, pairs, "base-pairs")
        rl = _rl(scale, seed, pairs, scale.out, other)
        before += [other, rl]
        runs.append(_imitation(scale, seed, COUNTDOWN, first, "opd", OTHER_TOKENS, rl.out, scale.out))
    return assembled(title, scale.out, runs, OPEN, before)


def forgetting(title: str, scale: Scale) -> Plan:
    """The base is taught a second task, then trained on the first alone, and evaluated on both."""
    before: list[Job] = []
    runs: list[PlannedRun] = []
    updates = scale.times(BOTH)
    evaluated: dict[str, Any] = {"eval_during": "test,forget", "eval_splits": "test,forget"}
    for seed in scale.all_seeds:
        first = _base(scale, seed, shared(scale))
        train = replace(
            first.config, student=first.out, task=f"{PAIR},share=0.5", updates=updates, prompt_pool=48 * updates,
            lr=2e-3, out=str(scale.out / f"seed-{seed}" / "base-both"),
        )  # fmt: skip
        both = _maker(scale, f"base of both tasks, seed {seed}", replace(train, **evaluated), (first.name,))
        rl = _rl(scale, seed, PAIR, scale.out, both)
        rl = training(rl.name, replace(rl.config, **evaluated), rl.needs)
        before += [first, both, rl]
        for label, expert in ((SEARCH, "solver"), (RL, rl.out)):
            for method in ("sft", "opd_full"):
                r = _imitation(scale, seed, PAIR, both, method, label, expert, scale.out)
                runs.append(replace(r, config=replace(r.config, **evaluated)))
    return assembled(title, scale.out, runs, OPEN, before)
