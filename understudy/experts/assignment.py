"""Which of several experts a prompt has: by a field of its row, or by its task. Needs no torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from understudy.config import ExpertSpec
from understudy.errors import UserError
from understudy.protocols import Task
from understudy.specs import parse_several
from understudy.types import Prompt

ROWS, STREAM = 20_000, 512
"""Rows of a data set that are looked at, and prompts of an endless stream."""
FIELD = "expert_of"


@dataclass(frozen=True)
class Assignment:
    """The expert of each prompt: the one whose name is the value of `field`."""

    names: tuple[str, ...]
    field: str
    task: Task

    def name(self, prompt: Prompt) -> str:
        """UserError: the prompt has no such field, or its value names none of the experts."""
        fields = self.task.fields(prompt)
        place = f"prompt {prompt.key}" + (f" ({where})" if (where := prompt.data.get("where")) else "")
        if self.field not in fields:
            raise UserError(FIELD, self.field, f"{place} has no such field; it has {', '.join(fields) or 'none'}")
        value = fields[self.field]
        if (name := named(value)) not in self.names:
            hint = f"of {place} names none of the experts {', '.join(self.names)}"
            raise UserError(FIELD, f"{self.field}={str(value)[:80]}", hint)
        return name

    def groups(self, prompts: Sequence[Prompt]) -> dict[str, list[int]]:
        """Name -> numbers of the prompts that it has, of those that have any."""
        out: dict[str, list[int]] = {}
        for i, prompt in enumerate(prompts):
            out.setdefault(self.name(prompt), []).append(i)
        return {name: out[name] for name in self.names if name in out}

    def shares(self, seed: int) -> dict[str, float]:
        """Name -> share of the train prompts. UserError: one of them has no expert."""
        counts = self._count("train", seed)
        return {name: counts[name] / counts.total() for name in self.names}

    def check(self, seed: int, splits: Iterable[str]) -> None:
        """UserError: a train prompt, or one of these splits, has no expert; an expert has no prompt there."""
        used = self._count("train", seed)
        for split in splits:
            used += self._count(split, seed)
        for name in self.names:
            if not used[name]:
                known = ", ".join(f"{other} {used[other]}" for other in self.names if used[other])
                raise UserError("expert", name, f"is the expert of no prompt, by {self.field} ({known}): leave it out")

    def _count(self, split: str, seed: int) -> Counter[str]:
        size = self.task.size(split)
        n = STREAM if size is None else min(size, ROWS)
        return Counter(self.name(p) for p in self.task.prompts(split, n, seed))


def named(value: Any) -> str:
    """A field's value as the name of an expert: blanks and other signs that a name cannot have are `_`."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return re.sub(r"[^\w.+-]+", "_", str(value)).strip("_")


def assignment_of(expert: str, field: str, task: Task) -> Assignment:
    """UserError: the text is not that of several experts."""
    return Assignment(tuple(parse_several(expert)), field, task)


def specs_of(spec: ExpertSpec, task: Task) -> Mapping[str, tuple[ExpertSpec, Task]]:
    """Name -> (what names this expert alone, the task whose programs it may name)."""
    out = {}
    for name, text in parse_several(spec.expert).items():
        part = task.part(name) if spec.expert_of == "task" else task
        text_of = spec.task if part is task else f"{spec.task} {name}"
        out[name] = replace(spec, expert=text, expert_of="", task=text_of), part
    return out
