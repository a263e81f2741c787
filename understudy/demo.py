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
from understudy.jobs import Job, run_all
from understudy.run_files import read_final
from understudy.terminal import Board, console

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
    """Only the two experts that matter most, fewer updates, smaller evaluations."""
    first_seed: int = 200
    """Seeds are first_seed, first_seed + 1, ... The settings were chosen on seeds below 200."""
    split_seed: int = 2027
    """Which problems are held out. The settings were chosen on split_seed 0 and 2026."""
    out: str = "runs/demo"
    """Where everything goes. The same command again goes on where it was stopped."""
    workers: int = 2
    """Runs at a time: one a core."""


def base(out: Path, seed: int, task: str) -> TrainConfig:
    """The student before post-training: sft from scratch on traces of a mediocre solver, on a wider number range."""
    return TrainConfig(
        method="sft", student="scratch:width=64,layers=2,heads=2", expert="mediocre:false_ok=0.1,false_no=0.02",
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
    """Expert (b), more capacity and better training: whether it is in reach is not known."""
    return TrainConfig(
        method="sft", student="scratch:width=128,layers=2,heads=8", expert="good", task=task, seed=seed, out=str(out),
        updates=1000, prompts_per_update=48, lr=2e-3, schedule="cosine", warmup=50, prompt_pool=24_000,
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
GATE, TRIES = 1 / 3, 3
"""A base is admitted once it solves this share of training prompts (sampled); else another is trained, at most TRIES.
One that cannot tell a right attempt from a wrong one leaves RL nothing to reward and online imitation nothing to keep:
it collapses (LAB_LOG.md). The gate looks at the base alone, before any imitation, and the page says what it did."""

LARGER, SEARCH, STYLED, RL = "larger network", "hidden search", "styled search", "RL of the base"
EXPECT = {RL: "none", LARGER: None, SEARCH: "better", STYLED: None}  # online against offline; None: open


def setting(config: DemoConfig) -> tuple[str, dict[str, Any], list[int]]:
    """The task, the evaluation fields, the seeds."""
    if config.seeds < 1:
        raise UserError("seeds", config.seeds, "must be at least 1")
    task = f"countdown:max_number=12,ood_min=13,ood_max=20,wide_max=20,test_share=0.2,split_seed={config.split_seed}"
    return task, QUICK if config.quick else EVALUATION, [config.first_seed + i for i in range(config.seeds)]


def prepared(config: DemoConfig, train: TrainConfig) -> TrainConfig:
    """A run that makes a base or an expert, not itself studied: four looks at it are enough."""
    if config.quick:
        train = replace(train, updates=QUICK_UPDATES[train.method])
    evaluation = setting(config)[1] | {"eval_every": max(1, train.updates // 4)}
    return replace(train, **evaluation)


def base_job(config: DemoConfig, seed: int, attempt: int) -> Job:
    name = "base" if attempt == 0 else f"base-{attempt + 1}"
    place = Path(config.out) / f"seed-{seed}" / name
    train = prepared(config, base(place, seed + 1000 * attempt, setting(config)[0]))
    return Job(f"{name}, seed {seed}", replace(train, eval_splits="test,ood,train"))


def larger_job(config: DemoConfig, seed: int) -> Job:
    place = Path(config.out) / f"seed-{seed}" / "expert-larger"
    return Job(
        f"expert: {LARGER}, seed {seed}", prepared(config, larger_expert(place, seed, setting(config)[0]))
    )


def admit(config: DemoConfig) -> dict[int, list[float]]:
    """Train each seed's base until one passes the gate: seed -> the accuracy of each one tried."""
    seeds = setting(config)[2]
    found: dict[int, list[float]] = {seed: [] for seed in seeds}
    beside = [] if config.quick else [larger_job(config, seed) for seed in seeds]
    for attempt in range(TRIES):
        due = [seed for seed in seeds if max(found[seed], default=0) < GATE]
        jobs = [base_job(config, seed, attempt) for seed in due]
        if not jobs:
            break
        with Board(total_jobs=len(jobs + beside)) as board:
            run_all(jobs + beside, config.workers, board.show)
        beside = []
        for seed, job in zip(due, jobs):
            sampled = (read_final(job.config.out) or {})["splits"]["train"]["sampled"]
            found[seed].append(sum(map(sum, sampled)) / sum(map(len, sampled)))
    return found


def plan_of(config: DemoConfig, command: Sequence[str], tried: dict[int, list[float]] | None = None) -> Plan:
    """All runs of the demo, as a comparison. `tried`: what `admit` found; by default each seed's first base."""
    task, evaluation, seeds = setting(config)
    root = Path(config.out)
    tried = tried or {seed: [1.0] for seed in seeds}
    labels = [RL, SEARCH] if config.quick else [RL, LARGER, SEARCH, STYLED]
    before: list[Job] = []
    arms: list[Arm] = []
    experts: dict[str, dict[str, Any]] = {}
    bases: dict[str, dict[str, str]] = {}
    for seed in seeds:
        place = root / f"seed-{seed}"
        first = base_job(config, seed, tried[seed].index(max(tried[seed])))
        start = first.config.out
        bases[str(seed)] = {"path": str(Path(start).relative_to(root))}
        specs = {
            RL: str(place / "expert-rl"),
            LARGER: str(place / "expert-larger"),
            SEARCH: "solver",
            STYLED: "styled",
        }
        rl = prepared(config, rl_expert(Path(specs[RL]), seed, task, start))
        before += [first, Job(f"expert: {RL}, seed {seed}", rl, (first.name,))]
        if LARGER in labels:
            before.append(larger_job(config, seed))
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
    arms = [replace(a, config=replace(a.config, **evaluation)) for a in arms]
    settings = {
        k: v
        for k, v in to_dict(resolve(arms[0].config)).items()
        if k not in ("method", "expert", "out", "student")
    }
    told = [
        f"seed {seed}: {len(accuracies)} bases tried, solving {', '.join(f'{a:.2f}' for a in accuracies)} of training "
        f"prompts; a base is admitted at {GATE:.2f}{'' if max(accuracies) >= GATE else ', none was: the best is used'}"
        for seed, accuracies in tried.items()
        if len(accuracies) > 1
    ]
    return Plan("Offline or online? Countdown on one laptop", root, "updates", experts, arms, bases, settings,
                list(command), tuple(before), tuple(told))  # fmt: skip


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
    plan = plan_of(config, ["understudy", "demo", *args], admit(config))
    console.print(f"{len(plan.jobs())} runs, {config.workers} at a time, in {config.out}", markup=False)
    run(plan, config.workers)
    return 0
