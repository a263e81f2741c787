"""Gradient scores of the calibration's experts, from the models that `calibrate run` or `calibrate bank` left."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from understudy.calibrate.experts import Key, Scored
from understudy.calibrate.run import FULL, Unit
from understudy.calibrate.scenarios import SCENARIOS
from understudy.config import resolve
from understudy.diagnosis.config import BUDGET
from understudy.diagnosis.measures import gradients
from understudy.experts import load_expert
from understudy.policy import load_policy
from understudy.randomness import seed_from
from understudy.runs.read import is_done
from understudy.tasks import load_task


def ready(root: Path, wanted: Sequence[Key]) -> list[Unit]:
    """Of these scenarios and seeds, those whose models under `root` are finished."""
    units = (Unit(SCENARIOS[name], seed, root, FULL, BUDGET) for name, seed in wanted)
    return [u for u in units if all(is_done(Path(u.model(m))) for m in u.scenario.models())]


def measure(units: Sequence[Unit]) -> Iterator[Scored]:
    """One after the other, a few seconds each."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    for unit in units:
        yield _measure(unit)


def _measure(unit: Unit, prompts: int = gradients.PROMPTS, samples: int = gradients.SAMPLES) -> Scored:
    c = resolve(unit.training("sft"))
    task = load_task(c.task)
    student = load_policy(c.student, "student", task.tokenizer(), c.seed).add_stop_tokens(task.stop)
    expert = load_expert(c.expert_spec, task, student)
    seed = seed_from("expert scores", unit.seed)
    drawn = student.encode(task.prompts("train", prompts, seed % 2**31))
    rollouts = task.verify_all(expert.sample(drawn, samples, seed, task.max_new_tokens))
    size = gradients.dimension(len(rollouts))
    found = gradients.score(gradients.projected(student, rollouts, size, unit.seed).reshape(len(drawn), samples, size))
    logp = student.score(rollouts)
    tokens = sum(map(len, logp))
    right = sum(float(r.reward or 0) for r in rollouts) / len(rollouts)
    return Scored(
        unit.scenario.name, unit.seed, found.value, found.low, found.high,
        -sum(float(x.sum()) for x in logp) / tokens, right, len(drawn), samples,
    )  # fmt: skip
