"""Tasks by name. A new task is one file (or folder) here and one line in TASKS."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from understudy.errors import UserError
from understudy.protocols import Task
from understudy.specs import build, parse_spec
from understudy.tasks.addition import AdditionTask
from understudy.tasks.chain import ChainTask
from understudy.tasks.classify import ClassifyTask
from understudy.tasks.countdown import CountdownTask
from understudy.tasks.gym import GymTask
from understudy.tasks.mixture import PairTask
from understudy.tasks.path import PathTask
from understudy.tasks.rewards import OPTIONS, RewardConfig, RewardTask
from understudy.tasks.sort import SortTask
from understudy.tasks.text import DATASETS, TextTask

TASKS: dict[str, Callable[[Any], Task]] = {
    "countdown": CountdownTask.from_spec,
    "addition": AdditionTask.from_spec,
    "classify": ClassifyTask.from_spec,
    "sort": SortTask.from_spec,
    "path": PathTask.from_spec,
    "chain": ChainTask.from_spec,
    "pair": lambda spec: PairTask.from_spec(spec, make_task),
    "rg": GymTask.from_spec,
    **dict.fromkeys(DATASETS, TextTask.from_spec),
}


def make_task(text: str, field: str = "task") -> Task:
    """The task that NAME[:key=value,...] names, its options checked."""
    spec = parse_spec(_named(text), field)
    if spec.name not in TASKS:
        raise UserError(field, text, f"unknown; one of {', '.join(TASKS)}")
    asked = {key: value for key, value in spec.args.items() if key in OPTIONS}
    task = TASKS[spec.name](replace(spec, args={k: v for k, v in spec.args.items() if k not in asked}))
    if asked and "reward" not in asked:
        raise UserError(
            f"{field}.{next(iter(asked))}", next(iter(asked.values())), "there is no reward=FILE.py:function"
        )
    return RewardTask(task, build(RewardConfig, asked, "task")) if asked else task


def _named(text: str) -> str:
    """`rg:NAME,...` (or rg:NAME:...) as `rg:dataset=NAME,...`: there, the first word is the name of a data set."""
    head, _, rest = text.partition(":")
    name = re.match(r"[^,:=]*(?=[,:]|$)", rest)
    return f"{head}:dataset={name[0]},{rest[name.end() + 1 :]}" if head.strip() == "rg" and name else text


def load_task(text: str) -> Task:
    """The same, after it has passed its own gold check."""
    task = make_task(text)
    task.check()
    return task


__all__ = ["TASKS", "load_task", "make_task"]
