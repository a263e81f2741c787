"""`understudy.train` with keyword arguments: ours, those of the task `data`, and TRL's names for the same things."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from understudy.api.rows import data_task
from understudy.config import TrainConfig
from understudy.errors import UserError
from understudy.runs.directory import to_stderr
from understudy.specs import build, nearest, several_text
from understudy.tasks.rewards import RewardConfig
from understudy.tasks.text.config import TextConfig
from understudy.terminal import Progress, no_progress
from understudy.training.train import train as train_run

SAME = {
    "model": "student", "teacher_model": "expert", "teacher_model_name_or_path": "expert", "ref_model": "base",
    "learning_rate": "lr", "lr_scheduler_type": "schedule", "warmup_steps": "warmup", "max_grad_norm": "grad_clip",
    "max_steps": "updates", "output_dir": "out", "max_completion_length": "max_new_tokens",
    "num_generations": "samples_per_prompt", "lmbda": "student_share", "save_steps": "save_every",
    "save_total_limit": "keep", "eval_steps": "eval_every", "report_to": "tracker",
    "gradient_checkpointing": "activation_checkpointing",
}  # fmt: skip
"""TRL's name -> the field that means the same."""
OTHER = {
    "args": "give its fields as arguments: learning_rate, max_steps, output_dir, ...",
    "processing_class": "the tokenizer is the one in the model's folder",
    "tokenizer": "the tokenizer is the one in the model's folder",
    "peft_config": "lora_rank=16, lora_alpha=32, lora_targets=... train an adapter",
    "callbacks": "follow a run by progress=, or read its metrics.jsonl",
    "num_train_epochs": "updates=N: an epoch over P problems is P / prompts_per_update updates",
    "per_device_train_batch_size": "prompts_per_update=N is the whole batch; micro_tokens bounds the memory",
    "gradient_accumulation_steps": "prompts_per_update=N is the whole batch; micro_tokens bounds the memory",
    "bf16": "dtype='bfloat16', or 'mixed' for float32 weights",
    "max_length": "max_new_tokens=N bounds a completion; prompts are not cut",
}
"""Names that mean nothing here, or something else -> what does it."""
_TRAIN = frozenset(f.name for f in dataclasses.fields(TrainConfig))
_TASK = frozenset(f.name for f in dataclasses.fields(TextConfig)) | {f.name for f in dataclasses.fields(RewardConfig)}


def train(
    config: TrainConfig | None = None, progress: Progress = no_progress, note: Callable[[str], None] = to_stderr,
    **words: Any,
) -> Path:  # fmt: skip
    """Train one run to its end, or resume it, and return its directory.

    config: all of it; or keyword arguments, as `train_config` takes them. Raises UserError for a mistake that the user
    can correct (nothing is lost), Interrupted after Ctrl-C or SIGTERM.
    """
    if config is None:
        config = train_config(**words)
    elif words:
        raise UserError(next(iter(words)), "", "give a TrainConfig or keyword arguments, not both")
    return train_run(config, progress, note)


def train_config(
    *, train_dataset: Any = None, eval_dataset: Any = None, reward_funcs: Any = None, **words: Any
) -> TrainConfig:  # fmt: skip
    """The configuration that these arguments give.

    train_dataset, eval_dataset: as `data_task` takes them; options of that task (template, verifier, ...) are arguments
    too. reward_funcs: "FILE.py:function", or a function that is defined in a file. Other names: fields of TrainConfig,
    or TRL's (SAME). Without an expert, sft and seq_kd imitate the completions of the rows. UserError: a name that is
    neither, with what to write instead; a model in memory.
    """
    fields: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, value in words.items():
        own = SAME.get(name, name)
        if own not in _TRAIN | _TASK:
            raise UserError(name, _shown(value), OTHER.get(name) or _unknown(name))
        place = fields if own in _TRAIN else options
        if own in fields:
            raise UserError(name, _shown(value), f"is {own}, which is given too")
        place[own] = value
    for name in ("student", "expert", "base"):
        if name in fields:
            fields[name] = _model(name, fields[name])
    reward = reward_funcs if reward_funcs is not None else options.pop("reward", None)
    if reward is not None:
        options["reward"] = _function(reward)
    if train_dataset is not None:
        if "task" in fields:
            raise UserError("task", fields["task"], "train_dataset is the task's data: give its options as arguments")
        fields["task"] = data_task(train_dataset, eval_dataset, **options)
        if fields.get("method", TrainConfig.method) in ("sft", "seq_kd") and "expert" not in fields:
            fields["expert"] = "recorded"
            fields.setdefault("samples_per_prompt", 1)
    elif options or eval_dataset is not None:
        name = next(iter(options), "eval_dataset")
        raise UserError(name, _shown(options.get(name, "")), "is an option of the data: give train_dataset too")
    return build(TrainConfig, fields, "")


def _model(name: str, value: Any) -> str:
    """A name or path, or several experts as {name: path}. A model in memory is refused: a run must find it again when
    it is resumed."""
    if isinstance(value, (str, os.PathLike)):
        return str(value)
    if name == "expert" and isinstance(value, Mapping):
        return several_text({key: _model(name, one) for key, one in value.items()})
    word = {"student": "model", "expert": "teacher_model"}.get(name, name)
    hint = "is a model in memory, which no resumed run could find: model.save_pretrained(DIR), "
    raise UserError(word, type(value).__name__, hint + "tokenizer.save_pretrained(DIR), and give DIR")


def _function(value: Any) -> str:
    """FILE.py:function."""
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        raise UserError("reward_funcs", f"{len(value)} functions", "one is possible: write one that adds them up")
    name = getattr(value, "__qualname__", "")
    try:
        file = inspect.getsourcefile(value)
    except TypeError:
        file = None
    if not callable(value) or not name.isidentifier() or not file or not Path(file).is_file():
        hint = "is run in a process of its own: define it at the top of a .py file, and give it or FILE.py:function"
        raise UserError("reward_funcs", name or type(value).__name__, hint)
    return f"{Path(file).resolve()}:{name}"


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, (str, int, float)) else type(value).__name__


def _unknown(name: str) -> str:
    close = nearest(name, [*_TRAIN, *_TASK, *SAME])
    return "unknown: a field of TrainConfig, an option of the task data (docs/tasks.md) or a word of TRL" + (
        f" (did you mean {close}?)" if close else ""
    )
