"""--reward FILE.py:function of every command that has a task: it becomes an option of the task.

So each place that loads the task has the reward. A file of options is data, perhaps a stranger's: it may not name code
that is run. --reward or --task on the command line confirms it.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from typing import Any

from understudy.errors import UserError

HELP = {
    "reward": "FILE.py:function: your own reward in place of the task's verifier, with the signature of TRL's "
    "reward_funcs; run in a process of its own (docs/tasks.md).",
    "reward_range": "LOW:HIGH, the least and the largest reward, scaled to 0..1: --reward-range=-1:1. [0:1]",
    "reward_pass": "A reward from which a completion counts as solved, for pass@k and weight=passed. Default: the "
    "largest.",
    "reward_limit": "Seconds that one call may take, with up to 64 completions. [60]",
}
NAMES = (*HELP, "reward_workers")
"""All options of a reward that a task takes."""


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("reward")
    for name, text in HELP.items():
        metavar = {"reward": "FILE.py:function", "reward_range": "LOW:HIGH"}.get(name, "X")
        group.add_argument("--" + name.replace("_", "-"), metavar=metavar, help=text.replace("%", "%%"))


def merged(given: dict[str, Any], start: Mapping[str, Any], default: str) -> dict[str, Any]:
    """`given` with its options of a reward moved into the task. start: fields that a file gave.

    UserError: the file names code (a reward, a task FILE.py:NAME or env:NAME), and the command line does not.
    """
    if "task" not in given:
        refuse_code(str(start.get("task", "")), "configuration")
    chosen = {name: given.pop(name) for name in HELP if name in given}
    from_file = str(start.get("task", ""))
    named = rewards_in(from_file).get("reward")
    if named and "task" not in given and chosen.get("reward") != named:
        hint = f"is named by the configuration, and would be run: confirm with --reward {named}"
        raise UserError("reward", named, hint)
    if not chosen:
        return given
    task = str(given.get("task", from_file or default))
    if "reward" not in chosen and "reward" not in rewards_in(task):
        name = next(iter(chosen))
        raise UserError(name, chosen[name], "there is no reward: give --reward FILE.py:function too")
    return given | {"task": with_reward(task, chosen)}


def refuse_code(task: str, source: str) -> None:
    """UserError: a task from `source` names code, FILE.py:NAME or env:NAME, perhaps as a part of a pair. A reward of
    the task itself is left to the caller."""
    name, _, rest = task.partition(":")
    parts = [name, *(item for item in rest.split(",") if item.partition("=")[0].strip() != "reward")]
    words = [word.strip() for part in parts for word in re.split("[:;=]", part)]
    if any(word.endswith(".py") or word == "env" for word in words):
        raise UserError("task", task, f"is named by the {source}, and would be run: confirm with --task")


def rewards_in(task: str) -> dict[str, str]:
    """The options of a reward in a task as text."""
    items = (item.partition("=") for item in task.partition(":")[2].split(","))
    return {key.strip(): value.strip() for key, _, value in items if key.strip() in NAMES}


def with_reward(task: str, chosen: Mapping[str, str]) -> str:
    """The task as text with these options, in place of those of the same name."""
    for name, value in chosen.items():
        if "," in value:
            raise UserError(name, value, "a comma is not possible here: rename the file")
    name, _, rest = task.partition(":")
    kept = [item for item in rest.split(",") if item and item.partition("=")[0].strip() not in chosen]
    return f"{name}:{','.join([*kept, *(f'{key}={value}' for key, value in chosen.items())])}"
