"""understudy demo: the paper's central question on one machine, from nothing to a report.

A base is pre-trained on traces of a mediocre solver. Experts differ in how far out of the base's reach they are. From
the base, each is imitated offline (sft) and online (opd_full) with equal updates and equal prompts, after a diagnosis
said which of the two it expects to be enough. Settings were frozen on other seeds and problems (LAB_LOG.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from understudy.config import TrainConfig, resolve, to_dict
from understudy.diagnosis.config import BUDGET
from understudy.errors import UserError
from understudy.experiments.compare import Arm, Plan, describe_expert
from understudy.experiments.job import Job, training

UPDATES = 200
# no more prompts than there are distinct test problems, so that a prompt is a unit of replication
EVALUATION: dict[str, Any] = {"eval_every": 25, "eval_prompts": 128, "final_prompts": 240, "final_samples": 4}
QUICK: dict[str, Any] = {"eval_every": 40, "eval_prompts": 96, "final_prompts": 240, "final_samples": 2}
QUICK_UPDATES = 100
COMMON: dict[str, Any] = {"micro_batch": 16, "save_every": 100}
IMITATE: dict[str, Any] = {"lr": 1e-3, "schedule": "cosine", "warmup": 10}


@dataclass(frozen=True)
class DemoConfig:
    seeds: int = 1
    """Independent repetitions, each with its own base and experts: 3 for the full picture."""
    quick: bool = False
    """Only the hidden-search expert, fewer updates, smaller evaluations. What it shows of the other half is nothing."""
    full: bool = False
    """All four experts, and hidden search offline with five times the updates too. With several seeds always."""
    diagnose: bool = True
    """Ask the diagnosis before the runs, and show its verdicts beside what then happened."""
    first_seed: int = 300
    """Seeds are first_seed, first_seed + 1, ... The settings were chosen on seeds below 300."""
    split_seed: int = 2028
    """Which problems are held out. The settings were chosen on split_seed 0, 2026 and 2027."""
    out: str = ""
    """Where everything goes: runs/demo, runs/demo-quick. The same command again goes on where it was stopped."""
    workers: int = 2
    """Runs at a time: one a core."""


def base(out: Path, seed: int, task: str) -> TrainConfig:
    """The student before post-training: sft from scratch on traces of a mediocre solver, on a wider number range."""
    return TrainConfig(
        method="sft", student="scratch:width=64,layers=2,heads=4", expert="mediocre",
        task=f"{task},wide_share=0.2", seed=seed, out=str(out), updates=1200, prompts_per_update=48, lr=7e-3,
        schedule="cosine", warmup=50, prompt_pool=24_000, eval_expert=False, **COMMON,
    )  # fmt: skip


def rl_expert(out: Path, seed: int, task: str, student: str) -> TrainConfig:
    """Expert (a), realizable: the base itself after reinforcement learning."""
    return TrainConfig(
        method="grpo", student=student, task=task, seed=seed, out=str(out), updates=110, lr=5e-4,
        schedule="cosine", warmup=10, adam_beta2=0.99, **(COMMON | {"micro_batch": 64}),
    )  # fmt: skip


def larger_expert(out: Path, seed: int, task: str) -> TrainConfig:
    """Expert (b), more capacity and better training: whether it is in reach is not known."""
    return TrainConfig(
        method="sft", student="scratch:width=128,layers=2,heads=4", expert="good", task=task, seed=seed, out=str(out),
        updates=1000, prompts_per_update=48, lr=4e-3, schedule="cosine", warmup=50, prompt_pool=24_000,
        eval_expert=False, **COMMON,
    )  # fmt: skip


MECHANISM = {
    "RL of the base": "Realizable by construction: it is the student's own base after GRPO on the verifier's reward, "
    "so the student can represent it exactly.",
    "larger network": "A network four times the size, trained from scratch on better traces than the base ever saw. "
    "Whether the base can represent it is not known.",
    "hidden search": "Out of reach by information: it knows a solution before its first token, which the student would "
    "have to compute. It almost never errs, so its samples never show how to recover from a wrong attempt. That it "
    "recovers when asked (verdict no, try again) is built into it: online scoring reaches that, offline samples do "
    "not.",
    "styled search": "As hidden search, behind a first line that is a secret hash of the prompt: style that the "
    "student cannot predict and that the reward ignores.",
}
LARGER, SEARCH, STYLED, RL = "larger network", "hidden search", "styled search", "RL of the base"
EXPECT = {RL: "none", LARGER: None, SEARCH: "better", STYLED: None}  # online against offline; None: open


def setting(config: DemoConfig) -> tuple[str, dict[str, Any], list[int]]:
    """The task, the evaluation fields, the seeds."""
    if config.seeds < 1:
        raise UserError("seeds", config.seeds, "must be at least 1")
    numbers = "max_number=12,ood_min=13,ood_max=20,wide_max=20,digits=2,check=true"
    task = f"countdown:{numbers},test_share=0.2,split_seed={config.split_seed}"
    return task, QUICK if config.quick else EVALUATION, [config.first_seed + i for i in range(config.seeds)]


def prepared(config: DemoConfig, train: TrainConfig) -> TrainConfig:
    """A run that makes a base or an expert, not itself studied: four looks at it are enough."""
    evaluation = setting(config)[1] | {"eval_every": 0 if config.quick else max(1, train.updates // 4)}
    return replace(train, **evaluation)


def larger_job(config: DemoConfig, seed: int) -> Job:
    place = root_of(config) / f"seed-{seed}" / "expert-larger"
    return training(f"expert: {LARGER}, seed {seed}", prepared(config, larger_expert(place, seed, setting(config)[0])))


def root_of(config: DemoConfig) -> Path:
    return Path(config.out or ("runs/demo-quick" if config.quick else "runs/demo"))


def labels_of(config: DemoConfig) -> list[str]:
    if config.quick:
        return [SEARCH]
    return [RL, LARGER, SEARCH, STYLED] if config.full or config.seeds > 1 else [RL, SEARCH]


def plan_of(config: DemoConfig, command: Sequence[str]) -> Plan:
    """All runs of the demo, as a comparison."""
    task, evaluation, seeds = setting(config)
    root, labels = root_of(config), labels_of(config)
    before: list[Job] = []
    arms: list[Arm] = []
    experts: dict[str, dict[str, Any]] = {}
    bases: dict[str, dict[str, str]] = {}
    for seed in seeds:
        place = root / f"seed-{seed}"
        start = str(place / "base")
        first = training(f"base, seed {seed}", prepared(config, base(Path(start), seed, task)))
        bases[str(seed)] = {"path": str(Path(start).relative_to(root))}
        specs = {RL: str(place / "expert-rl"), LARGER: str(place / "expert-larger"), SEARCH: "solver", STYLED: "styled"}
        rl = prepared(config, rl_expert(Path(specs[RL]), seed, task, start))
        before.append(first)
        if RL in labels:
            before.append(training(f"expert: {RL}, seed {seed}", rl, (first.name,)))
        if LARGER in labels:
            before.append(larger_job(config, seed))
        for label in labels:
            if label not in experts:
                known = describe_expert(specs[label], start, task)
                realizable = label == RL or (None if label == LARGER else known["realizable"])
                experts[label] = {"spec": specs[label], "mechanism": MECHANISM[label], "expect": EXPECT[label],
                                  "realizable": realizable}  # fmt: skip
            for method, times in (("sft", 1), ("opd_full", 1), ("sft", 5)):
                if times > 1 and (label != SEARCH or LARGER not in labels):
                    continue
                name = f"{method}{f'-x{times}' if times > 1 else ''}-{label.replace(' ', '-').lower()}"
                train = TrainConfig(method=method, student=start, expert=specs[label], task=task, seed=seed,
                                    out=str(place / name), **COMMON, **IMITATE)  # fmt: skip
                train = replace(train, updates=(QUICK_UPDATES if config.quick else UPDATES) * times)
                arms.append(Arm(label, method, seed, times, train))
    arms = [replace(a, config=replace(a.config, **evaluation)) for a in arms]
    settings = {
        k: v for k, v in to_dict(resolve(arms[0].config)).items() if k not in ("method", "expert", "out", "student")
    }
    return Plan("Offline or online? Countdown on one laptop", root, "updates", experts, arms, bases, settings,
                list(command), tuple(before), BUDGET if config.diagnose else "")  # fmt: skip
