"""Stand-ins for the recipes on public data: rows in the public schemas, written on the spot, and models that
read bytes.

The problems are sums of two small numbers. They exercise every phase (schemas, recorded traces, warm-up, RL, SFT, OPD,
evaluation); what the models reach says nothing about the paper.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from understudy.config import TrainConfig
from understudy.experiments.compare import Arm, Plan
from understudy.experiments.job import Job, training
from understudy.recipes.recipe import Scale
from understudy.recipes.tiny import RL, assemble
from understudy.runs.files import write_bytes
from understudy.tasks.generated import is_held_out

LARGE = "larger network"
LARGEST = 15  # of either number: 256 sums
UPDATES = {"warm": 250, "rl": 25, "imitate": 40}
MECHANISM = {
    RL: "The student itself, after its warm-up, after GRPO: realizable by construction.",
    LARGE: "A wider network with the same warm-up: whether the student can represent it is not known.",
}
EVALUATION = {"eval_prompts": 40, "final_prompts": 64, "final_samples": 4, "eval_splits": "test"}


def problems(held_out: bool) -> Iterator[tuple[str, str, str]]:
    """(problem, worked solution, answer) of one side of the wall."""
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


SCHEMAS = {"gsm8k": gsm8k, "openr1": openr1, "dapo": dapo}


def write_rows(folder: Path, name: str) -> Path:
    """folder/NAME/train.jsonl and test.jsonl; the same bytes every time."""
    for split, held_out in (("train", False), ("test", True)):
        lines = [json.dumps(SCHEMAS[name](*one)) for one in problems(held_out)]
        target = folder / name / f"{split}.jsonl"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, ("\n".join(lines) + "\n").encode())
    return folder / name


def _run(scale: Scale, **fields: Any) -> TrainConfig:
    updates = scale.times(fields.pop("updates"))
    known: dict[str, Any] = {
        "updates": updates, "eval_every": max(1, updates // 2), "prompts_per_update": 32, "micro_batch": 16,
        "schedule": "cosine", "warmup": 5, "save_every": 0,
    } | EVALUATION  # fmt: skip
    for name in ("eval_prompts", "final_prompts"):
        known[name] = scale.times(int(known[name]), 4)
    return TrainConfig(**(known | fields))


def _plan(title: str, scale: Scale, warm_task: str, task: str, rl_of_large: bool) -> Plan:
    before: list[Job] = []
    arms: list[Arm] = []
    for seed in scale.all_seeds:
        place = scale.out / f"seed-{seed}"
        warm, rl = {}, {}
        for size, width in (("small", 64), ("large", 128)):
            config = _run(
                scale, method="sft", student=f"scratch:width={width},layers=2,heads=2", expert="recorded",
                    task=warm_task,
                seed=seed, out=str(place / f"warm-{size}"), updates=UPDATES["warm"], lr=5e-3, eval_expert=False,
            )  # fmt: skip
            warm[size] = training(f"warm-up, {size}, seed {seed}", config)
            before.append(warm[size])
            if size == "small" or rl_of_large:
                config = _run(
                    scale, method="grpo", student=config.out, task=task, seed=seed, out=str(place / f"rl-{size}"),
                    updates=UPDATES["rl"], lr=3e-4, prompts_per_update=16,
                )  # fmt: skip
                rl[size] = training(f"RL, {size}, seed {seed}", config, (warm[size].name,))
                before.append(rl[size])
        large = rl.get("large", warm["large"])
        for label, expert in ((RL, rl["small"]), (LARGE, large)):
            for method in ("sft", "opd"):
                config = _run(
                    scale, method=method, student=warm["small"].config.out, expert=expert.config.out, task=task,
                    seed=seed, out=str(place / f"{method}-{'rl' if label == RL else 'large'}"),
                    updates=UPDATES["imitate"], lr=1e-3,
                )  # fmt: skip
                arms.append(Arm(label, method, seed, 1, replace(config, eval_every=scale.times(10))))
    return assemble(title, scale, arms, before, {RL: True, LARGE: None}, ["understudy", "run"], mechanism=MECHANISM)


def warm_then_rl(title: str, scale: Scale) -> Plan:
    """GSM8K after a warm-up on OpenR1, both sizes, with RL of both."""
    warm, rows = (write_rows(scale.out / "rows", name) for name in ("openr1", "gsm8k"))
    more = "instruction=none,verifier=number,max_new_tokens=24"
    return _plan(
        title, scale, f"openr1:path={warm / 'train.jsonl'},traces=true,test=gsm8k,test_path={rows},{more}",
        f"gsm8k:path={rows},{more}", rl_of_large=True,
    )  # fmt: skip


def two_public(title: str, scale: Scale) -> Plan:
    """DAPO's conversations, a student and two experts that others made: here, the warm-up stands for the others."""
    warm, rows, test = (write_rows(scale.out / "rows", name) for name in ("openr1", "dapo", "gsm8k"))
    more = "instruction=none,template=chat,verifier=number,max_new_tokens=24"
    return _plan(
        title, scale, f"openr1:path={warm / 'train.jsonl'},traces=true,{more}",
        f"dapo:path={rows / 'train.jsonl'},test=gsm8k,test_path={test},{more}", rl_of_large=False,
    )  # fmt: skip
