"""Stand-ins for the recipes on public data: rows in the public schemas, written here, and models that read bytes.

The problems are sums of two small numbers. They exercise every phase (schemas, recorded traces, warm-up, RL, SFT, OPD,
evaluation); the accuracies that the models reach say nothing about the paper.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from understudy.config import TrainConfig
from understudy.experiments.demo import LARGER, RL
from understudy.experiments.job import Job, training
from understudy.experiments.plan import Plan, PlannedRun
from understudy.recipes.recipe import Scale
from understudy.recipes.tiny import assembled, scaled
from understudy.runs.files import write_bytes
from understudy.tasks.generated import is_held_out

LARGEST = 15  # of either number: 256 sums
EVALUATION = {"eval_prompts": 40, "final_prompts": 64, "final_samples": 4, "eval_splits": "test"}
EXPERTS: dict[str, dict[str, Any]] = {
    RL: {"mechanism": "The student itself, after its warm-up, after GRPO: realizable by construction.",
         "expect": None, "realizable": True},
    LARGER: {"mechanism": "A wider network with the same warm-up: whether the student can represent it is not known.",
             "expect": None, "realizable": None},
}  # fmt: skip


def problems(held_out: bool) -> Iterator[tuple[str, str, str]]:
    """(problem, worked solution, answer) of the held-out sums or of the others."""
    for a in range(LARGEST + 1):
        for b in range(LARGEST + 1):
            if is_held_out(f"{a}+{b}", 0, 0.25) == held_out:
                yield f"{a}+{b}?", f"{a}+{b}=", str(a + b)


def gsm8k(problem: str, work: str, answer: str) -> dict[str, Any]:
    return {"question": problem, "answer": f"{work}{answer}\n#### {answer}"}


def openr1(problem: str, work: str, answer: str) -> dict[str, Any]:
    trace = f"{work}\\boxed{{{answer}}}"
    return {
        "problem": problem, "solution": trace, "answer": answer, "problem_type": "Arithmetic", "source": "made",
        "uuid": work, "generations": [trace, trace + "."], "correctness_math_verify": [True, True],
    }  # fmt: skip


def dapo(problem: str, work: str, answer: str) -> dict[str, Any]:
    return {
        "data_source": "made", "prompt": [{"role": "user", "content": problem}], "ability": "MATH",
        "reward_model": {"style": "rule", "ground_truth": answer}, "extra_info": {"index": work},
    }  # fmt: skip


def write_rows(scale: Scale, schema: Callable[[str, str, str], dict[str, Any]]) -> Path:
    """rows/NAME/train.jsonl and test.jsonl; the same bytes every time."""
    folder = scale.out / "rows" / schema.__name__
    folder.mkdir(parents=True, exist_ok=True)
    for split, held_out in (("train", False), ("test", True)):
        lines = [json.dumps(schema(*problem)) + "\n" for problem in problems(held_out)]
        write_bytes(folder / f"{split}.jsonl", "".join(lines).encode())
    return folder


def _config(scale: Scale, updates: int, every: int = 0, **fields: Any) -> TrainConfig:
    """every: updates between evaluations, 0: half of all."""
    updates = scale.times(updates)
    common: dict[str, Any] = {"prompts_per_update": 32, "micro_batch": 16, "schedule": "cosine", "warmup": 5,
                              "save_every": 0}  # fmt: skip
    evaluation = EVALUATION | {"eval_every": scale.times(every) if every else max(1, updates // 2)}
    return scaled(scale, TrainConfig(**(common | {"updates": updates} | fields)), **evaluation)


def _plan(title: str, scale: Scale, warm_task: str, task: str, rl_of_large: bool) -> Plan:
    """Warm-up of a small and a large model, RL of the small one (and of the large one), imitation by the small one."""
    before: list[Job] = []
    runs: list[PlannedRun] = []
    for seed in scale.all_seeds:
        place = scale.out / f"seed-{seed}"
        warm, last = {}, {}
        for size, width in (("small", 64), ("large", 128)):
            config = _config(
                scale, 250, method="sft", student=f"scratch:width={width},layers=2,heads=2", expert="recorded",
                task=warm_task, seed=seed, out=str(place / f"warm-{size}"), lr=5e-3, eval_expert=False,
            )  # fmt: skip
            warm[size] = last[size] = training(f"warm-up, {size}, seed {seed}", config)
            before.append(warm[size])
            if size == "small" or rl_of_large:
                config = _config(
                    scale, 25, method="grpo", student=config.out, task=task, seed=seed, out=str(place / f"rl-{size}"),
                    lr=3e-4, prompts_per_update=16,
                )  # fmt: skip
                last[size] = training(f"RL, {size}, seed {seed}", config, (warm[size].name,))
                before.append(last[size])
        for label, short, size in ((RL, "rl", "small"), (LARGER, "large", "large")):
            for method in ("sft", "opd"):
                config = _config(
                    scale, 40, 10, method=method, student=warm["small"].out, expert=last[size].out, task=task,
                    seed=seed, out=str(place / f"{method}-{short}"), lr=1e-3,
                )  # fmt: skip
                runs.append(PlannedRun(label, method, seed, 1, config))
    return assembled(title, scale.out, runs, EXPERTS, before)


def warm_then_rl(title: str, scale: Scale) -> Plan:
    """GSM8K after a warm-up on OpenR1, both sizes, with RL of both."""
    warm, rows = write_rows(scale, openr1), write_rows(scale, gsm8k)
    more = "instruction=none,verifier=number,max_new_tokens=24"
    return _plan(
        title, scale, f"openr1:path={warm / 'train.jsonl'},traces=true,test=gsm8k,test_path={rows},{more}",
        f"gsm8k:path={rows},{more}", rl_of_large=True,
    )  # fmt: skip


def two_public(title: str, scale: Scale) -> Plan:
    """DAPO's conversations, a student and two public experts; here the warm-up stands for the experts' own training."""
    warm, rows, test = (write_rows(scale, schema) for schema in (openr1, dapo, gsm8k))
    more = "instruction=none,template=chat,verifier=number,max_new_tokens=24"
    return _plan(
        title, scale, f"openr1:path={warm / 'train.jsonl'},traces=true,{more}",
        f"dapo:path={rows / 'train.jsonl'},test=gsm8k,test_path={test},{more}", rl_of_large=False,
    )  # fmt: skip
