"""What a training uses where its configuration leaves a field open: by kind of student, by method, by cost.

A learning rate that is right for a new tiny model destroys a pretrained one. The numbers stand in USUAL, with sources.
Needs no torch: a student's kind and size are read from its folder.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from understudy.errors import UserError, check_file
from understudy.methods.cells import Method

SMALL = 10e6
"""Weights below which a model trains like a new one, also one from elsewhere."""
FAR = 10.0
"""A learning rate that differs by more than this factor from the usual one is worth a warning."""
FIELDS = (
    "lr", "schedule", "warmup", "eval_start", "eval_prompts", "final_prompts", "final_samples", "eval_divergences",
)  # fmt: skip
"""The fields that `filled` fills; config.json of a run holds their values."""


@dataclass(frozen=True)
class Student:
    """What the name of a student says about it."""

    pretrained: bool
    """Neither made from scratch here, nor small."""
    weights: float
    """nan: not known before it is loaded."""
    vocabulary: int
    """0: likewise."""


@dataclass(frozen=True)
class Usual:
    """Usual values of the optimizer, and where they come from."""

    lr: float
    schedule: str
    warmup: float
    """Share of the updates."""
    what: str
    source: str


KINDS = ("offline", "online", "reward")
"""Imitation of given text; distillation on prefixes that change with the student; a reward alone."""
USUAL: dict[tuple[str, str], Usual] = {
    ("new", "offline"): Usual(1e-3, "constant", 0.0, "a new or small model", "Understudy's own runs"),
    ("new", "online"): Usual(1e-3, "constant", 0.0, "a new or small model", "Understudy's own runs"),
    ("new", "reward"): Usual(1e-3, "constant", 0.0, "a new or small model", "Understudy's own runs"),
    ("full", "offline"): Usual(
        2e-5, "constant", 0.0, "imitation with all weights of a pretrained model",
        "TRL's SFTConfig: 2e-5; LLaMA-Factory's full SFT: 1e-5",
    ),
    ("full", "online"): Usual(
        5e-6, "constant", 0.0, "on-policy distillation with all weights of a pretrained model",
        "between TRL's GKDConfig (2e-5) and GRPOConfig (1e-6)",
    ),
    ("full", "reward"): Usual(
        1e-6, "constant", 0.0, "reinforcement learning with all weights of a pretrained model",
        "TRL's GRPOConfig and verl: 1e-6",
    ),
    ("lora", "offline"): Usual(
        2e-4, "constant", 0.0, "imitation with an adapter",
        "10 times that of all weights (LoRA Without Regret, Schulman et al. 2025); LLaMA-Factory: 1e-4",
    ),
    ("lora", "online"): Usual(
        5e-5, "constant", 0.0, "on-policy distillation with an adapter",
        "10 times that of all weights; tinker-cookbook's on-policy distillation: 1e-4",
    ),
    ("lora", "reward"): Usual(
        1e-5, "constant", 0.0, "reinforcement learning with an adapter", "10 times that of all weights",
    ),
}  # fmt: skip
"""(student, kind of method) -> values. A constant rate without warm-up everywhere (as in LoRA Without Regret): every
tool that a training is exported to has it, and a phase that a guard or a budget ends early has seen the same rate.
AdamW's weight decay is 0, as in TRL."""

EVAL_PROMPTS, FINAL_PROMPTS, FINAL_SAMPLES = 128, 256, 4
LEAST_PROMPTS, LEAST_FINAL = 8, 32
PROMPT = 64
"""Tokens of a prompt, which is not known yet: short completions cost mostly that."""
SPEED = 15e9
"""FLOPs per second that a CPU is taken to reach while it samples a few rows, where it mostly reads weights."""
START_SECONDS = 30.0
"""What an evaluation during training should take on a CPU: the first one is before the first update."""
FINAL_SHARE = 0.1
"""Of the training's FLOPs, which the last evaluation may take on a CPU."""
TOKENS = 256
"""Tokens of a completion that these estimates count, where the room is larger."""
VOCABULARY = 16_384
"""Vocabulary up to which both KLs from the expert are measured without being asked for."""


def kind(method: Method) -> str:
    """Of KINDS."""
    if method.weight == "advantage":
        return "reward"
    return "offline" if method.behavior == "expert" or method.weight == "passed" else "online"


def usual(method: Method, student: Student, lora_rank: int) -> Usual:
    model = "lora" if lora_rank and student.pretrained else "full" if student.pretrained else "new"
    return USUAL[model, kind(method)]


def filled(config: Any, room: int = 0) -> dict[str, Any]:
    """FIELDS of a resolved training, those that are None with their values. room: tokens of a completion, if known."""
    student = describe(config.student, config.out)
    row = usual(config, student, config.lora_rank)
    values: dict[str, Any] = {
        "lr": row.lr, "schedule": row.schedule, "warmup": min(round(row.warmup * config.updates), 50),
    }  # fmt: skip
    values |= evaluation(config, student, room)
    given = {name: getattr(config, name) for name in FIELDS}
    return {name: values[name] if value is None else value for name, value in given.items()}


def evaluation(config: Any, student: Student, room: int = 0) -> dict[str, Any]:
    """How much is evaluated. On a CPU, with a model of known size: as much as its cost allows."""
    out: dict[str, Any] = {
        "eval_start": True, "eval_prompts": EVAL_PROMPTS, "final_prompts": FINAL_PROMPTS,
        "final_samples": FINAL_SAMPLES,
        "eval_divergences": not student.pretrained or 0 < student.vocabulary <= VOCABULARY,
    }  # fmt: skip
    if not student.pretrained or math.isnan(student.weights) or not on_cpu(config.device):
        return out
    tokens = min(room or config.max_new_tokens or TOKENS, TOKENS)
    completion = 2 * student.weights * (PROMPT + tokens)  # FLOPs
    looks = START_SECONDS * SPEED / (completion * (config.eval_samples + 1))
    out |= {"eval_prompts": _clamp(looks, LEAST_PROMPTS, EVAL_PROMPTS), "eval_start": looks >= LEAST_PROMPTS / 2}
    rows = config.updates * config.prompts_per_update * config.samples_per_prompt
    budget = FINAL_SHARE * 3 * rows  # completions: an update trains each with three times the FLOPs of sampling it
    splits = max(1, len([s for s in config.eval_splits.split(",") if s.strip()]))
    for samples in (FINAL_SAMPLES, 1):
        prompts = budget / (splits * (samples + 1))
        out |= {"final_prompts": _clamp(prompts, LEAST_FINAL, FINAL_PROMPTS), "final_samples": samples}
        if prompts >= FINAL_PROMPTS / 2:
            break
    return out


def _clamp(value: float, least: int, most: int) -> int:
    """The largest power of two up to `value`, within the bounds."""
    return max(least, min(most, 2 ** int(math.log2(max(value, 1.0)))))


def on_cpu(device: str) -> bool:
    """Whether a training of this device option computes on a CPU: `auto` looks for an accelerator of this machine."""
    if device != "auto":
        return device == "cpu"
    return sys.platform != "darwin" and not any(map(os.path.exists, ("/dev/nvidiactl", "/dev/kfd")))


def reasons(config: Any, left_open: Collection[str]) -> list[str]:
    """What was chosen for a resolved training and why, and a warning where a given learning rate is far outside.

    left_open: the fields of FIELDS that the user did not give. [] where nothing is worth a line.
    """
    given = {name: name not in left_open for name in FIELDS}
    student = describe(config.student, config.out)
    row = usual(config, student, config.lora_rank)
    out = []
    if given["lr"] and not 1 / FAR <= config.lr / row.lr <= FAR and config.lr > 0:
        times = config.lr / row.lr
        more = f"{times:.3g} times" if times > 1 else f"one {1 / times:.3g}th of"
        harm = "it can destroy the model within a few updates" if times > 1 else "little will be learned"
        out.append(f"lr {config.lr:g} is {more} what is usual for {row.what} ({row.lr:g}): {harm}")
    if not student.pretrained:
        return out
    if not given["lr"]:
        ramp = f" after {config.warmup} updates of warm-up" if config.warmup else ""
        line = f"learning rate {config.lr:g}, {config.schedule}{ramp}: usual for {row.what} ({row.source})"
        out.append(line)
    if not given["eval_start"] and not config.eval_start and config.eval_every:
        out.append("no evaluation before the first update, which would take minutes on this CPU (--eval-start)")
    if not given["eval_prompts"] and config.eval_prompts < EVAL_PROMPTS and config.eval_every:
        out.append(f"{config.eval_prompts} prompts per evaluation while training, to keep it short (--eval-prompts)")
    if not given["final_prompts"] and config.final_prompts < FINAL_PROMPTS:
        size = f"{config.final_prompts} prompts x {config.final_samples} samples"
        out.append(f"{size} in the last evaluation, a tenth of the training's cost (--final-prompts for more)")
    if not given["eval_divergences"] and not config.eval_divergences and config.expert and config.eval_expert:
        out.append("the KLs from the expert are not measured when evaluating: a large vocabulary (--eval-divergences)")
    return out


# ---------------------------------------------------------------- what a student's name says


def describe(name: str, out: str = "", depth: int = 20) -> Student:
    """The student that a name stands for: `scratch:...`, a folder, a run of ours (its student counts), a hub id.

    out: run directory of the training. A student in the same folder is a run that does not exist yet, and no hub id.
    """
    new = Student(False, math.nan, 0)
    if name.startswith("scratch") or not name:
        return new
    folder = Path(name)
    run = next((p for p in (folder, folder.parent, folder.parent.parent) if _run_student(p)), None)
    if os.path.isdir(folder) and run is not None and depth:
        begun = describe(_run_student(run), str(run), depth - 1)
        own = _model(folder)
        return Student(begun.pretrained, own.weights if own.weights == own.weights else begun.weights, own.vocabulary)
    if os.path.isdir(folder):
        return _model(folder)
    is_hub_id = re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not name.startswith(".")
    is_hub_id = is_hub_id and Path(name).parts[0] != next(iter(Path(out).parts), "")
    return Student(
        is_hub_id, math.nan, 0
    )  # no such folder: a run that does not exist yet, or a mistake that is refused


def _run_student(folder: Path) -> str:
    """The student that config.json of a run names; "" where the folder is no run."""
    config = _read(folder / "config.json")
    return str(config["student"]) if "method" in config and config.get("student") else ""


def _model(folder: Path) -> Student:
    """By config.json and the size of the weights on disk."""
    folder = folder / "final" if os.path.isfile(folder / "final" / "config.json") else folder
    facts = _read(folder / "config.json")
    dtype = str(facts.get("dtype") or facts.get("torch_dtype") or "float32")
    width = 2 if dtype in ("bfloat16", "float16") else 4
    try:
        files = [p for p in folder.iterdir() if p.suffix == ".safetensors" and p.name.startswith("model")]
        weights = sum(p.stat().st_size for p in files) / width
    except OSError:
        weights = 0.0
    vocabulary = facts.get("vocab_size")
    size = vocabulary if isinstance(vocabulary, int) else 0
    return Student(not 0 < weights < SMALL, weights or math.nan, size)


def _read(path: Path) -> dict[str, Any]:
    if not os.path.isfile(path):
        return {}
    return _read_once(str(path), os.stat(path).st_mtime_ns)


@lru_cache(maxsize=256)
def _read_once(path: str, _: int) -> dict[str, Any]:
    try:
        check_file(path, "student")
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, UserError):
        return {}
    return data if isinstance(data, dict) else {}
