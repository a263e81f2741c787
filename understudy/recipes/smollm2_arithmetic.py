"""The first real model: SmolLM2-135M-Instruct learns sums from two experts, offline, online, one after the other, auto.

Experts: the model itself after rejection sampling (it can be represented by construction), and a program that knows
every answer and opens with a word that nobody can predict. Every arm has the FLOPs of `UPDATES` updates of opd_full.
Chosen for two cores without a GPU: short prompts, answers of one number, LoRA.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from understudy.config import TrainConfig
from understudy.evaluation.completions import RESULTS
from understudy.evaluation.config import EvalConfig
from understudy.experiments.job import Job, Note, training
from understudy.experiments.plan import Plan, PlannedRun, auto_run, route_run, slug
from understudy.recipes.recipe import Scale
from understudy.routes.auto_config import AutoConfig
from understudy.routes.route import RouteConfig
from understudy.terminal import Progress

NAME = "smollm2_arithmetic"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
READING = "template=bare,extract=number,stop=.||\\n,max_new_tokens=6"
TASK = f"rg:chain_sum,min_terms=2,max_terms=2,min_digits=1,max_digits=2,{READING}"
"""12 + 7 = and 45 - 60 =, as reasoning-gym words them; the model alone solves about half of them greedily."""
OTHER = (
    f"rg:products,min_terms=2,max_terms=2,min_digits=1,max_digits=1,test_share=0.9,instruction=The answer is,{READING}"
)
"""What is not trained: products of two digits."""
SECRET = "answerer:style=secret,sure=0.5,direct=0.25"
"""Without `direct` it would contradict everything that the model writes at first, and the reverse KL teach noise."""
SELF, ANSWERER = "the model after rejection sampling", "answerer with a secret opening"
EXPERTS: dict[str, dict[str, Any]] = {
    SELF: {
        "mechanism": "Realizable by construction: the student's own base after rft on the verifier's reward, with an "
        "adapter of the rank that every student has.",
        "realizable": True, "expect": "none",
    },
    ANSWERER: {
        "mechanism": "A program that knows the answer before its first token. Three times of four it opens with one of "
        "eight words, half of the time the one that a secret hash of the problem names: no student can know which, and "
        "the reward ignores it.",
        "realizable": False, "expect": None,
    },
}  # fmt: skip
ROUTES = ("sft", "opd_full", "sft+opd_full")
UPDATES = 24
"""Of opd_full: their expected FLOPs are the budget of every arm."""
RECIPE: dict[str, Any] = {
    "lr": 5e-4, "schedule": "cosine", "warmup": 2, "lora_rank": 16, "prompts_per_update": 4, "samples_per_prompt": 1,
    "eval_expert": False, "eval_divergences": False, "save_every": 8,
}  # fmt: skip
RFT: dict[str, Any] = {
    "method": "rft", "updates": 12, "round_updates": 4, "prompts_per_update": 8, "samples_per_prompt": 4,
}  # fmt: skip
EVALUATION: dict[str, Any] = {
    "eval_every": 0, "eval_splits": "test", "eval_prompts": 96, "final_prompts": 96, "final_samples": 1,
}  # fmt: skip
OTHER_PROMPTS = 64
LOOK = 16
"""Prompts of auto's looks: its default of 256 would cost more than the training."""


def plan(scale: Scale) -> Plan:
    """The expert, then the arms, seed by seed."""
    model = scale.model(HUB_ID)
    sizes = EVALUATION | {name: scale.times(EVALUATION[name], 4) for name in ("eval_prompts", "final_prompts")}
    out = scale.out
    expert = TrainConfig(
        student=model, task=TASK, seed=scale.first_seed, out=str(out / "expert"), guard=False,
        **(RECIPE | sizes | RFT | {"updates": scale.times(RFT["updates"])}),
    )  # fmt: skip
    first = training(f"expert: {SELF}", expert)
    specs = {ANSWERER: SECRET, SELF: expert.out}
    runs = [
        _arm(scale, label, spec, model, seed, route, sizes)
        for seed in scale.all_seeds for route in (*ROUTES, "auto") for label, spec in specs.items()
    ]  # fmt: skip
    described = {label: {"spec": specs[label], **EXPERTS[label]} for label in EXPERTS}
    base = {str(seed): {"path": model} for seed in scale.all_seeds}
    return Plan("A real model: sums by SmolLM2-135M", out, described, runs, base, ("understudy", "run", NAME), "flops",
                (first,))  # fmt: skip


def _arm(
    scale: Scale, label: str, spec: str, model: str, seed: int, route: str, sizes: dict[str, Any]
) -> PlannedRun:  # fmt: skip
    updates = scale.times(UPDATES)
    out = str(scale.out / f"seed-{seed}" / f"{slug(route)}-{'self' if label == SELF else 'answerer'}")
    if route == "auto":
        fields = tuple(f"{name}={value}" for name, value in RECIPE.items())
        config = AutoConfig(
            student=model, expert=spec, task=TASK, seed=seed, out=out, budget=f"opd_full:{updates}", set=fields,
            look_prompts=LOOK, final_prompts=sizes["final_prompts"], final_samples=sizes["final_samples"],
        )  # fmt: skip
        return auto_run(label, config)
    train = TrainConfig(
        student=model, expert=spec, task=TASK, seed=seed, out=out, updates=updates, budget_axis="flops", guard=False,
        **RECIPE, **sizes,
    )  # fmt: skip
    return route_run(label, RouteConfig(route, look_prompts=LOOK, select_prompts=0, train=train))


def measures(plan: Plan, scale: Scale) -> list[Job]:
    """Evaluations after the runs: the base and the expert's student on both tasks, every model on the other task."""
    model = scale.model(HUB_ID)
    models = {"base": model, "expert": str(scale.out / "expert")} | {
        f"{Path(r.config.out).parent.name}-{Path(r.config.out).name}": r.config.out for r in plan.runs
    }
    jobs = [_measure(scale, "base-test", model, TASK, EVALUATION["final_prompts"])]
    jobs += [_measure(scale, f"{name}-other", path, OTHER, OTHER_PROMPTS) for name, path in models.items()]
    return jobs


def _measure(scale: Scale, name: str, model: str, task: str, prompts: int) -> Job:
    out = str(scale.out / "measures" / name)
    config = EvalConfig(model=model, task=task, prompts=scale.times(prompts, 4), samples=1, out=out)
    return Job(f"measure {name}", measure, (config,), str(Path(out) / RESULTS))


def measure(config: EvalConfig, progress: Progress, note: Note) -> None:
    """Evaluate a model; completions and results are kept in a directory."""
    from understudy.evaluation.model import evaluate_model  # imports torch: only the process that measures waits

    evaluate_model(config, progress)
