"""understudy tasks"""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from understudy.cli import options
from understudy.errors import UserError
from understudy.terminal import console

ABOUT = {
    "countdown": "reach a number with given ones; hidden or written search",
    "addition": "sums of long numbers, with carries written or not",
    "classify": "a label from the bits of a prompt",
    "sort": "sort symbols",
    "path": "find the way in a star of edges",
    "chain": "a chain of operations modulo a prime",
    "pair": "two tasks in one, to measure forgetting",
    "rg": "any data set of reasoning-gym: `understudy tasks rg`",
    "env": "a single-turn environment of the package verifiers: env:NAME",
    "data": "your own rows: JSON lines, parquet, csv, the formats of TRL, ShareGPT, Alpaca, verl",
}


@dataclass(frozen=True)
class TasksConfig:
    names: tuple[str, ...] = ()
    """A task, or rg for the data sets of reasoning-gym, or rg:NAME for the options of one. Default: all tasks."""
    json: bool = False
    """Print JSON."""


def tasks_command(args: Sequence[str]) -> int:
    """understudy tasks"""
    config = options.parse(
        TasksConfig,
        args,
        "understudy tasks",
        "The tasks that --task takes, and the options of one.",
        epilog="examples\n  understudy tasks\n  understudy tasks rg\n  understudy tasks rg:chain_sum",
        positional="names",
    )
    if len(config.names) > 1:
        raise UserError("names", " ".join(config.names), "one at a time")
    name = config.names[0] if config.names else ""
    found = look(name)
    if config.json:
        print(json.dumps(found))
        return 0
    for line in _lines(name, found):
        console.print(line, markup=False, soft_wrap=True)
    return 0


def look(name: str) -> dict[str, Any]:
    """What there is to say of a task, or of all."""
    from understudy.tasks import TASKS  # seconds of imports, which --help does not need
    from understudy.tasks.gym import listing
    from understudy.tasks.gym.config import GymConfig

    if not name:
        from understudy.tasks.text import DATASETS

        about = {n: d.about for n, d in DATASETS.items()} | ABOUT
        return {"tasks": {n: about.get(n, "") for n in TASKS}}
    if name == "rg":
        return {"data_sets": listing.data_sets(), "options": _options(GymConfig)}
    if name.startswith("rg:"):
        return listing.facts(name.partition(":")[2])
    if name.partition(":")[0] not in TASKS:
        from understudy.specs import unknown

        raise UserError("names", name, unknown(name, TASKS))
    return {"options": _options(_config_of(name))}


def _config_of(name: str) -> type:
    from understudy.tasks.addition import AdditionConfig
    from understudy.tasks.chain import ChainConfig
    from understudy.tasks.classify import ClassifyConfig
    from understudy.tasks.countdown.config import CountdownConfig
    from understudy.tasks.environments import EnvConfig
    from understudy.tasks.mixture import PairConfig
    from understudy.tasks.path import PathConfig
    from understudy.tasks.sort import SortConfig
    from understudy.tasks.text.config import TextConfig

    known: dict[str, type] = {
        "addition": AdditionConfig, "chain": ChainConfig, "classify": ClassifyConfig, "countdown": CountdownConfig,
        "env": EnvConfig, "pair": PairConfig, "path": PathConfig, "sort": SortConfig,
    }  # fmt: skip
    return known.get(name.partition(":")[0], TextConfig)


def _options(config: type) -> dict[str, list[str]]:
    """Option -> (default, what it does)."""
    docs = options.field_docs(config)
    fields = dataclasses.fields(config)
    return {
        f.name: [_shown(f.default), docs.get(f.name, "")] for f in fields if f.name not in ("dataset", "environment")
    }


def _shown(default: Any) -> str:
    if default in (None, "", dataclasses.MISSING):
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


def _lines(name: str, found: dict[str, Any]) -> Iterator[str]:
    for task, about in found.get("tasks", {}).items():
        yield f"{task:12} {about}"
    if "tasks" in found:
        yield "\n--task NAME:option=value,...; the options of one: understudy tasks NAME"
        yield "every task also takes reward=FILE.py:function; a task of your own: FILE.py:NAME (docs/tasks.md)"
    for category, names in found.get("data_sets", {}).items():
        yield textwrap.fill(f"{category:12} {', '.join(names)}", 110, subsequent_indent=" " * 13)
    if "data_sets" in found:
        yield "\n--task rg:NAME,option=value,...; the options of one: understudy tasks rg:NAME. All have these too:\n"
    width = max(map(len, found.get("options", {})), default=0)
    for option, (first, second) in found.get("options", {}).items():
        text = f"{first}, default {second}" if name.startswith("rg:") else f"{second} [{first}]" if first else second
        yield textwrap.fill(f"  {option:{width}}  {text}", 110, subsequent_indent=" " * (width + 4))
    if "levels" in found:
        levels = found["levels"]
        yield f"levels 0 to {levels - 1} (level=, ood_level=)" if levels else "no levels: give ood_OPTION=value for ood"
    for text, gold in found.get("examples", []):
        yield f"\n{text}\n--> {gold}"
