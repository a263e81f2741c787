"""What one training would do and cost, from a short look at its models. Nothing is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from understudy.config import Resolved, TrainConfig, resolve
from understudy.config.defaults import FIELDS
from understudy.evaluation.numbers import count, duration, large
from understudy.methods.price import flops_per_update, tokens_per_update
from understudy.routes.look import load_models, look
from understudy.routes.route import RouteConfig
from understudy.terminal import Progress
from understudy.training.checks import room_of, with_costs, with_room

LOOK = 16
"""Prompts that student and expert complete for the estimate, at most."""


def dry_run(config: TrainConfig, progress: Progress, note: Callable[[str], None]) -> list[str]:
    """Some lines: the training, its updates, tokens, FLOPs, time, memory and disk. UserError: it cannot run."""
    left_open = [name for name in FIELDS if getattr(config, name) is None]
    c = resolve(config)
    n = min(LOOK, max(2, c.eval_prompts))
    route = RouteConfig(c.method, n, 0, dataclasses.replace(config, budget=0.0, budget_axis="updates"), "")
    models = load_models(route, note)
    c = with_room(c, models.task, models.student)[0]
    c = with_costs(c, models.task, left_open)
    measured = look(route, models, progress)
    lengths, sizes, pace = measured.lengths, measured.sizes, measured.paces[c.method]
    flops, tokens = flops_per_update(c, lengths, sizes, c.updates), tokens_per_update(c, lengths, c.updates)
    updates = c.updates
    if c.budget:
        per_update = {"flops": flops, "train_seconds": pace, **tokens}[c.budget_axis]
        updates = min(updates, max(1, int(c.budget / per_update))) if per_update else updates
    batch = f"{c.prompts_per_update} prompts x {c.samples_per_prompt} completions"
    trained = sum(p.numel() for p in models.student.trained().values())
    rate = f"learning rate {c.lr:g} ({c.schedule}, warm-up {c.warmup})"
    return [
        f"{c.method} of {c.student} ({large(sizes.student)} weights, {large(float(trained))} trained), task {c.task}",
        f"  {count(updates)} updates of {batch}, {rate}, at most {room_of(c, models.task)} tokens per completion",
        f"  mean tokens of {n} prompts: prompt {lengths.prompt:.0f}, student {lengths.student:.0f}, "
        f"expert {lengths.expert:.0f}; {100 * lengths.passed:.0f}% of the student's completions pass"
        + ("" if models.task.verified else " (nothing verifies them)"),
        f"  training: {_tokens(tokens, updates)}, {large(updates * flops)} FLOPs, about {duration(updates * pace)} "
        f"({duration(pace)} per update)",
        _evaluations(c, updates, measured.lengths.student + measured.lengths.prompt, sizes.student, pace / flops),
        _memory(c, sizes.student, float(trained), sizes.expert),
        "  nothing was written",
    ]


def _tokens(tokens: dict[str, float], updates: int) -> str:
    names = {
        "student_tokens_trained": "tokens trained", "student_tokens_sampled": "sampled by the student",
        "expert_tokens_sampled": "by the expert", "expert_tokens_scored": "scored by the expert",
    }  # fmt: skip
    return ", ".join(f"{large(updates * tokens[name])} {what}" for name, what in names.items() if tokens[name])


def _evaluations(c: Resolved, updates: int, length: float, weights: float, seconds_per_flop: float) -> str:
    """Their number and time: sampled and greedy completions, at the pace of the training's FLOPs."""
    looks = len(range(0, updates, c.eval_every)) - (not c.eval_start) if c.eval_every else 0
    splits = len([s for s in c.eval_splits.split(",") if s.strip()])
    rows = looks * c.eval_prompts * (c.eval_samples + 1) + splits * c.final_prompts * (c.final_samples + 1)
    last = f"at the end {c.final_prompts} prompts x {c.final_samples} of each split"
    seconds = 2 * weights * rows * length * seconds_per_flop
    return f"  evaluations: {looks} of {c.eval_prompts} prompts, {last}; at least {duration(seconds)}"


def _memory(c: Resolved, weights: float, trained: float, expert: float) -> str:
    width = 2 if c.dtype == "bfloat16" else 4
    memory = width * weights + 3 * width * trained + (4 if c.dtype == "float32" else 2) * expert
    checkpoint = width * trained + 2 * width * trained
    return (
        f"  memory: {_bytes(memory)} for weights, gradients and optimizer, activations come on top; "
        f"disk: {_bytes(checkpoint)} per checkpoint, {c.keep} are kept"
    )


def _bytes(n: float) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e8 else f"{n / 1e6:.1f} MB"
