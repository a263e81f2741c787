"""Accuracy of one model, run or programmatic expert: what `understudy eval` prints."""

from __future__ import annotations

from typing import Any

import numpy as np

from understudy.errors import UserError
from understudy.evaluation import intervals
from understudy.evaluation.config import EvalConfig
from understudy.evaluation.sampled import Sampled, held_out, sample_expert, sample_policy, sampling_seed
from understudy.experts import is_programmatic, load_expert
from understudy.policy import load_policy
from understudy.tasks import load_task


def evaluate_model(config: EvalConfig) -> dict[str, Any]:
    """{"measures": {name: {"value", "low", "high"}}, "prompts", "samples", "length", "ended"}; 95% intervals."""
    task = load_task(config.task)
    if config.split not in task.splits:
        raise UserError("split", config.split, f"unknown; one of {', '.join(task.splits)}")
    room = config.max_new_tokens or task.max_new_tokens
    seed = sampling_seed(config.seed, config.eval_seed)
    if is_programmatic(config.model) and not config.model.startswith("scratch"):
        scratch = load_policy("scratch", "model", task.tokenizer())  # only for its tokenizer and context
        expert = load_expert(config.model, task, scratch)
        prompts = held_out(task, scratch, config.split, config.prompts, config.eval_seed, room)
        done = sample_expert(expert, task, prompts, config.samples, seed, room)
    else:
        policy = load_policy(
            config.model,
            "model",
            task.tokenizer(),
            config.seed,
            config.device,
            trust_remote_code=config.trust_remote_code,
        ).add_stop_tokens(task.stop)
        prompts = held_out(task, policy, config.split, config.prompts, config.eval_seed, room)
        done = sample_policy(policy, task, prompts, config.samples, seed, room)
    return _summary(done, config.k)


def _summary(done: Sampled, ks: tuple[int, ...]) -> dict[str, Any]:
    """Measures with bootstrap intervals over prompts."""
    outcome = done.outcome()
    sampled = np.array(outcome["sampled"], dtype=float)
    rows: dict[str, np.ndarray | None] = {
        "greedy": np.array(outcome["greedy"], dtype=float) if outcome["greedy"] is not None else None,
        f"avg@{done.samples}": intervals.avg_at_k(sampled),
    }
    rows |= {f"pass@{k}": intervals.pass_at_k(sampled, k) for k in ks}
    measures = {}
    for name, per_prompt in rows.items():
        if per_prompt is not None:
            i = intervals.bootstrap_prompts(per_prompt)
            measures[name] = {"value": i.value, "low": i.low, "high": i.high}
    return {
        "measures": measures,
        "prompts": len(done.prompts),
        "samples": done.samples,
        "length": float(np.mean(outcome["lengths"])),
        "ended": float(np.mean([r.ended for r in done.rollouts])),
    }
