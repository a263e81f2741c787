"""understudy demo: the paper's central question on one machine, from nothing to a report.

A base is pre-trained on traces of a mediocre solver. Four experts differ in how far out of the base's reach they are.
From the base, each is imitated offline (sft) and online (opd_full) with equal updates and equal prompts; the
hidden-search expert also offline with five times the updates. Settings were frozen on other seeds and problems
(LAB_LOG.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from understudy import options
from understudy.compare import Arm, Plan, describe_expert, run
from understudy.config import TrainConfig, resolve, to_dict
from understudy.errors import UserError
from understudy.jobs import Job
from understudy.terminal import console

UPDATES = 200
# no more prompts than there are distinct test problems, so that a prompt is a unit of replication
EVALUATION: dict[str, Any] = {"eval_every": 25, "eval_prompts": 128, "final_prompts": 240, "final_samples": 4}
QUICK: dict[str, Any] = {"eval_every": 40, "eval_prompts": 96, "final_prompts": 240, "final_samples": 2}
QUICK_UPDATES = {"sft": 1000, "grpo": 70}  # the base and its RL; imitation itself takes 120
COMMON: dict[str, Any] = {"micro_batch": 16, "save_every": 100}
IMITATE: dict[str, Any] = {"lr": 1.5e-3, "schedule": "cosine", "warmup": 10}


@dataclass(frozen=True)
class DemoConfig:
    seeds: int = 1
    """Independent repetitions, each with its own base and experts: 3 for the full picture."""
    quick: bool = False
    """Only the two experts that matter most, and smaller evaluations: under three minutes."""
    first_seed: int = 100
    """Seeds are first_seed, first_seed + 1, ... The settings were chosen on seeds below 100."""
    split_seed: int = 2026
    """Which problems are held out. The settings were chosen on split_seed 0."""
    out: str = "runs/demo"
    """Where everything goes. The same command again goes on where it was stopped."""
    workers: int = 2
    """Runs at a time: one a core."""


def base(out: Path, seed: int, task: str) -> TrainConfig:
    """The student before post-training: sft from scratch on traces of a mediocre solver, on a wider number range."""
    return TrainConfig(
        method="sft", student="scratch:width=64,layers=2", expert="mediocre:false_ok=0.1,false_no=0.02",
        task=f"{task},wide_share=0.2", seed=seed, out=str(out), updates=1400, prompts_per_update=48, lr=4e-3,
        schedule="cosine", warmup=50, prompt_pool=24_000, eval_expert=False, **COMMON,
    )  # fmt: skip


def rl_expert(out: Path, seed: int, task: str, student: str) -> TrainConfig:
    """Expert (a), realizable: the base itself after reinforcement learning."""
    return TrainConfig(
        method="grpo", student=student, task=task, seed=seed, out=str(out), updates=150, lr=1e-3,
        **(COMMON | {"micro_batch": 64}),
    )  # fmt: skip


def larger_expert(out: Path, seed: int, task: str) -> TrainConfig:
    """Expert (b), out of reach by capacity and training: a larger network on better traces."""
    return TrainConfig(
        method="sft", student="scratch:width=128,layers=2,heads=8", expert="good", task=task, seed=seed, out=str(out),
        updates=1000, prompts_per_update=48, lr=2e-3, schedule="cosine", warmup=50, prompt_pool=24_000,
        eval_expert=False, **COMMON,
    )  # fmt: skip


MECHANISM = {
    "RL of the base": "Realizable by construction: it is the student's own base after GRPO on the verifier's reward, "
    "so the student can represent it exactly.",
    "larger network": "Out of reach by capacity and training: a network four times the size, trained from scratch "
    "on better traces than the base ever saw.",
    "hidden search": "Out of reach by information: it knows a solution before its first token, which the student would "
    "have to compute. It almost never errs, so its samples never show how to recover from a wrong attempt. That it "
    "recovers when asked (verdict no, try again) is built into it: online scoring reaches that, offline samples do "
    "not.",
    "styled search": "As hidden search, behind a first line that is a secret hash of the prompt: style that the "
    "student cannot predict and that the reward ignores.",
}
LARGER, SEARCH, STYLED, RL = "larger network", "hidden search", "styled search", "RL of the base"
EXPECT = {RL: "none", LARGER: None, SEARCH: "better", STYLED: None}  # online against offline; None: open


def plan_of(config: DemoConfig, command: Sequence[str]) -> Plan:
    """All runs of the demo, as a comparison."""
    if config.seeds < 1:
        raise UserError("seeds", config.seeds, "must be at least 1")
    root = Path(config.out)
    task = f"countdown:max_number=12,ood_min=13,ood_max=20,wide_max=20,test_share=0.2,split_seed={config.split_seed}"
    labels = [RL, SEARCH] if config.quick else [RL, LARGER, SEARCH, STYLED]
    evaluation = QUICK if config.quick else EVALUATION
    before: list[Job] = []
    arms: list[Arm] = []
    experts: dict[str, dict[str, Any]] = {}
    seeds = [config.first_seed + i for i in range(config.seeds)]
    for seed in seeds:
        place = root / f"seed-{seed}"
        start = str(place / "base")
        specs = {
            RL: str(place / "expert-rl"),
            LARGER: str(place / "expert-larger"),
            SEARCH: "solver",
            STYLED: "styled",
        }
        first = Job(f"base, seed {seed}", base(place / "base", seed, task))
        before.append(first)
        before.append(
            Job(f"expert: {RL}, seed {seed}", rl_expert(Path(specs[RL]), seed, task, start), (first.name,))
        )
        if LARGER in labels:
            before.append(
                Job(f"expert: {LARGER}, seed {seed}", larger_expert(Path(specs[LARGER]), seed, task))
            )
        for label in labels:
            if label not in experts:
                known = describe_expert(specs[label], start, task)
                realizable = label == RL or (None if label == LARGER else known["realizable"])
                experts[label] = {"spec": specs[label], "mechanism": MECHANISM[label], "expect": EXPECT[label],
                                  "realizable": realizable}  # fmt: skip
            for method, times in (("sft", 1), ("opd_full", 1), ("sft", 5)):
                if times > 1 and (label != SEARCH or config.quick):
                    continue
                name = f"{method}{f'-x{times}' if times > 1 else ''}-{label.replace(' ', '-').lower()}"
                train = TrainConfig(method=method, student=start, expert=specs[label], task=task, seed=seed,
                                    out=str(place / name), **COMMON, **IMITATE)  # fmt: skip
                train = replace(train, updates=(120 if config.quick else UPDATES) * times)
                arms.append(Arm(label, method, seed, times, train))
    before = [replace(j, config=replace(j.config, **evaluation)) for j in before]
    if config.quick:
        before = [
            replace(j, config=replace(j.config, updates=QUICK_UPDATES[j.config.method])) for j in before
        ]
    arms = [replace(a, config=replace(a.config, **evaluation)) for a in arms]
    settings = {
        k: v
        for k, v in to_dict(resolve(arms[0].config)).items()
        if k not in ("method", "expert", "out", "student")
    }
    bases = {str(s): {"path": f"seed-{s}/base"} for s in seeds}
    return Plan("Offline or online? Countdown on one laptop", root, "updates", experts, arms, bases, settings,
                list(command), tuple(before))  # fmt: skip


def demo_command(args: Sequence[str]) -> int:
    """understudy demo"""
    config, _ = options.parse(
        DemoConfig,
        args,
        "understudy demo",
        "The paper's central experiment on this machine: tiny Hugging Face models made on the spot, Countdown with a\n"
        "verifier, four experts, offline against online imitation at equal updates. Ends with a table, the finding in\n"
        "words, and the path of report.html.",
        epilog="examples\n  understudy demo\n  understudy demo --quick\n  understudy demo --seeds 3",
    )
    plan = plan_of(config, ["understudy", "demo", *args])
    console.print(f"{len(plan.jobs())} runs, {config.workers} at a time, in {config.out}", markup=False)
    run(plan, config.workers)
    return 0
