"""understudy demo: the paper's central question on one machine, from nothing to a report.

A base is pre-trained on traces of a mediocre solver. Experts differ in how far out of the base's reach they are. From
the base, each is imitated offline (sft), online (opd_full) and by one after the other (sft+opd_full) with equal FLOPs,
after a diagnosis of which of the first two is enough. Settings were frozen on other seeds and problems (LAB_LOG.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from understudy.config import TrainConfig
from understudy.diagnosis.config import BUDGET
from understudy.errors import UserError
from understudy.experiments.config import DemoConfig
from understudy.experiments.job import Job, training
from understudy.experiments.plan import Plan, PlannedRun, auto_run, route_run, slug
from understudy.routes.auto_config import AutoConfig
from understudy.routes.route import RouteConfig

UPDATES = 140
"""Of opd_full: the FLOPs that these are expected to cost are the budget of every route."""
# no more prompts than there are distinct test problems, so that a prompt is a unit of replication
EVALUATION: dict[str, Any] = {"eval_every": 25, "eval_prompts": 128, "final_prompts": 240, "final_samples": 4}
QUICK: dict[str, Any] = {"eval_every": 40, "eval_prompts": 96, "final_prompts": 240, "final_samples": 2}
QUICK_UPDATES = 70
ROUTES = ("sft", "opd_full", "sft+opd_full")
COMMON: dict[str, Any] = {"micro_batch": 16, "save_every": 100, "guard": False}
"""No guard, and routes end with their last phase: an experiment shows what a method does, also where it does harm."""
IMITATE: dict[str, Any] = {"lr": 1e-3, "schedule": "cosine", "warmup": 10}


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


RL, LARGER, SEARCH, STYLED = "RL of the base", "larger network", "hidden search", "styled search"
EXPERTS: dict[str, dict[str, Any]] = {
    RL: {
        "mechanism": "Realizable by construction: it is the student's own base after GRPO on the verifier's reward, so "
        "the student can represent it exactly.",
        "realizable": True, "expect": "none",
    },
    LARGER: {
        "mechanism": "A network four times the size, trained from scratch on better traces than the base ever saw. "
        "Whether the base can represent it is not known.",
        "realizable": None, "expect": None,
    },
    SEARCH: {
        "mechanism": "Out of reach by information: it knows a solution before its first token, which the student would "
        "have to compute. It almost never errs, so its samples never show how to recover from a wrong attempt. That it "
        "recovers when asked (verdict no, try again) is built into it: online scoring reaches that, offline samples do "
        "not.",
        "realizable": False, "expect": "better",
    },
    STYLED: {
        "mechanism": "As hidden search, behind a first line that is a secret hash of the prompt: style that the "
        "student cannot predict and that the reward ignores.",
        "realizable": False, "expect": None,
    },
}  # fmt: skip
"""expect: of online against offline; None: open."""


def countdown(split_seed: int = DemoConfig.split_seed) -> str:
    """The demo's task; split_seed: which problems are held out."""
    numbers = "max_number=12,ood_min=13,ood_max=20,wide_max=20,digits=2,check=true"
    return f"countdown:{numbers},test_share=0.2,split_seed={split_seed}"


def plan_of(config: DemoConfig, command: Sequence[str]) -> Plan:
    """All runs of the demo, as a comparison."""
    if not 1 <= config.seeds <= 1000:
        raise UserError("seeds", config.seeds, "must be at least 1 and at most 1000")
    root = Path(config.out or ("runs/demo-quick" if config.quick else "runs/demo"))
    labels = [RL, SEARCH]
    if config.quick:
        labels = [SEARCH]
    elif config.full or config.seeds > 1:
        labels = list(EXPERTS)
    before: list[Job] = []
    runs: list[PlannedRun] = []
    bases, specs = {}, {SEARCH: "solver", STYLED: "styled"}
    for seed in range(config.first_seed, config.first_seed + config.seeds):
        place = root / f"seed-{seed}"
        local = specs | {RL: str(place / "expert-rl"), LARGER: str(place / "expert-larger")}
        bases[str(seed)] = {"path": f"seed-{seed}/base"}
        before += _makers(config, labels, place, seed)
        runs += _runs(config, {label: local[label] for label in labels}, str(place / "base"), place, seed)
    first = {r.expert: r.config.expert for r in reversed(runs)}
    experts = {label: {"spec": first[label], **EXPERTS[label]} for label in labels}
    return Plan("Offline, online, or one after the other? Countdown on one laptop", root, experts, runs, bases,
                command, "flops", before, BUDGET if config.diagnose else "")  # fmt: skip


def _makers(config: DemoConfig, labels: Sequence[str], place: Path, seed: int) -> list[Job]:
    """The trainings of the base and of the experts, which are not studied: four evaluations each are enough."""

    def job(name: str, train: TrainConfig, needs: tuple[str, ...] = ()) -> Job:
        every = 0 if config.quick else max(1, train.updates // 4)
        fields = (QUICK if config.quick else EVALUATION) | {"eval_every": every}
        return training(f"{name}, seed {seed}", replace(train, **fields), needs)

    task = countdown(config.split_seed)
    jobs = [job("base", base(place / "base", seed, task))]
    if RL in labels:
        train = rl_expert(place / "expert-rl", seed, task, str(place / "base"))
        jobs.append(job(f"expert: {RL}", train, (jobs[0].name,)))
    if LARGER in labels:
        jobs.append(job(f"expert: {LARGER}", larger_expert(place / "expert-larger", seed, task)))
    return jobs


def _runs(config: DemoConfig, specs: Mapping[str, str], start: str, place: Path, seed: int) -> list[PlannedRun]:
    """Every expert by every route; with all four, hidden search also offline with five times the budget."""
    runs = []
    for label, spec in specs.items():
        longer = [("sft", 5)] if label == SEARCH and LARGER in specs else []
        for text, times in [*((text, 1) for text in ROUTES), *longer]:
            name = f"{slug(text)}{f'-x{times}' if times > 1 else ''}-{label.replace(' ', '-').lower()}"
            train = TrainConfig(
                student=start, expert=spec, task=countdown(config.split_seed), seed=seed, out=str(place / name),
                updates=(QUICK_UPDATES if config.quick else UPDATES) * times, budget_axis="flops",
                **COMMON, **IMITATE, **(QUICK if config.quick else EVALUATION),
            )  # fmt: skip
            runs.append(route_run(label, RouteConfig(text, select_prompts=0, train=train), times))
        runs.append(
            auto_run(label, _auto(config, spec, start, place / f"auto-{label.replace(' ', '-').lower()}", seed))
        )
    return runs


def _auto(config: DemoConfig, spec: str, start: str, out: Path, seed: int) -> AutoConfig:
    """`understudy auto` with the budget of every other arm."""
    size = QUICK if config.quick else EVALUATION
    updates = QUICK_UPDATES if config.quick else UPDATES
    recipe = {name: value for name, value in (COMMON | IMITATE).items() if name not in ("guard", "save_every")}
    return AutoConfig(
        student=start, expert=spec, task=countdown(config.split_seed), seed=seed, out=str(out),
        budget=f"opd_full:{updates}", set=tuple(f"{name}={value}" for name, value in recipe.items()),
        final_prompts=size["final_prompts"], final_samples=size["final_samples"],
    )  # fmt: skip
