"""Tasks by name. A new task is one file (or folder) here and one line in TASKS."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from understudy.errors import UserError
from understudy.protocols import Task
from understudy.specs import build, parse_spec
from understudy.tasks import python
from understudy.tasks.addition import AdditionTask
from understudy.tasks.chain import ChainTask
from understudy.tasks.classify import ClassifyTask
from understudy.tasks.countdown import CountdownTask
from understudy.tasks.environments import EnvTask
from understudy.tasks.gym import GymTask
from understudy.tasks.mixture import PairTask
from understudy.tasks.path import PathTask
from understudy.tasks.python import register as register_task
from understudy.tasks.python import text_task
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
    "env": EnvTask.from_spec,
    **dict.fromkeys(DATASETS, TextTask.from_spec),
}


def make_task(text: str, field: str = "task") -> Task:
    """The task that NAME[:key=value,...] or FILE.py:NAME[,key=value,...] names, its options checked."""
    file, _, rest = text.partition(":")
    in_file = python.names_file(text)
    name, _, options = rest.partition(",") if in_file else ("", "", "")
    spec = parse_spec(f"{file}:{options}" if in_file else _named(text), field)
    asked = {key: value for key, value in spec.args.items() if key in OPTIONS}
    args = {key: value for key, value in spec.args.items() if key not in asked}
    if asked and "reward" not in asked:
        key, value = next(iter(asked.items()))
        raise UserError(f"{field}.{key}", value, "there is no reward=FILE.py:function")
    if in_file:
        task = python.from_file(f"{file}:{name}", field, args)
    elif spec.name in python.REGISTERED and not args:
        task = python.REGISTERED[spec.name]
    elif spec.name in TASKS:
        task = TASKS[spec.name](replace(spec, args=args))
    else:
        hint = "a task made in Python is known in its own process only: put it in a file and give FILE.py:NAME"
        raise UserError(field, text, f"unknown; one of {', '.join([*TASKS, *python.REGISTERED])}; {hint}")
    return RewardTask(task, build(RewardConfig, asked, "task")) if asked else task


def _named(text: str) -> str:
    """`rg:NAME,...` (or rg:NAME:...) as `rg:dataset=NAME,...`: there, the first word is a name; likewise env:NAME."""
    key = {"rg": "dataset", "env": "environment"}.get(text.partition(":")[0].strip())
    head, _, rest = text.partition(":")
    name = re.match(r"[^,:=]*(?=[,:]|$)", rest)
    return f"{head}:{key}={name[0]},{rest[name.end() + 1 :]}" if key and name else text


def load_task(text: str) -> Task:
    """The same, after it has passed its own gold check."""
    task = make_task(text)
    task.check()
    return task


__all__ = ["TASKS", "Task", "load_task", "make_task", "register_task", "text_task"]
