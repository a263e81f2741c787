"""What generated tasks share: options, the wall between train and test, passes in random order, a tokenizer."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property, lru_cache
from random import Random
from typing import Any, ClassVar

import numpy as np

from understudy.errors import UserError
from understudy.protocols import Expert, Task
from understudy.randomness import generator, seed_from
from understudy.specs import Spec, build, option
from understudy.tasks.pens import Pen
from understudy.tasks.tokenizer import shared_tokenizer
from understudy.types import Prompt

POOL = 1024  # distinct problems that test and ood pass over
PATIENCE = 1000  # draws until a problem is on the wanted side


class GeneratedTask(Task):
    """A task whose problems are made by a program. `Config(...)` is the class of its options."""

    Config: ClassVar[Any]

    def __init__(self, config: Any = None) -> None:
        self.config = config or self.Config()

    @classmethod
    def from_spec(cls, spec: Spec) -> Task:
        """The task that `spec` names. UserError: unknown option or value."""
        return cls(build(cls.Config, spec.args, "task"))

    def check_split(self, split: str) -> None:
        """UserError: unknown split."""
        if split not in self.splits:
            raise UserError("split", split, f"unknown; one of {', '.join(self.splits)}")

    def tokenizer(self) -> Any:
        return shared_tokenizer()


@dataclass(frozen=True)
class DrawnConfig:
    """Options of every DrawnTask."""

    test_share: float = option(0.2, within="(0, 1)")
    """Share of all problems that only test and ood prompts may use."""
    split_seed: int = 0
    """Salt of the hash of a problem that decides which those are."""


class DrawnTask(GeneratedTask):
    """Problems are drawn at random, one side of the wall for train, the other for test and ood."""

    config: Any
    realizable: bool | None = None
    """Whether a student can represent an expert that never slips; None = open."""
    mechanism: str = ""
    """Why, in words."""

    @abstractmethod
    def draw(self, dice: Random, ood: bool) -> dict[str, Any]:
        """A problem: the data of its prompt."""

    @abstractmethod
    def problem(self, data: dict[str, Any]) -> str:
        """Equal for problems that count as the same one: what the wall is made of."""

    @abstractmethod
    def text(self, data: dict[str, Any]) -> str:
        """What a student reads."""

    @abstractmethod
    def pen(self, prompt: Prompt) -> Pen:
        """A way through the completions of `prompt`, for experts."""

    def prompts(self, split: str, n: int, seed: int, start: int = 0) -> list[Prompt]:
        """train: independent draws. test, ood: passes over the same distinct problems, each in a new random order."""
        self.check_split(split)
        items = range(start, start + n)
        if split == "train":
            drawn = [self._draw(False, False, "train", seed, i) for i in items]
        else:
            pool = self._held_out[split]
            drawn = [pool[place(len(pool), i, self.name, "order", split, seed)] for i in items]
        out = []
        for data in drawn:
            text = self.text(data)
            out.append(Prompt(f"{self.name} {text}", f"{text}\n", data))
        return out

    @cached_property
    def _held_out(self) -> dict[str, list[dict[str, Any]]]:
        out = {}
        for split in ("test", "ood"):
            drawn = (self._draw(True, split == "ood", split, self.config.split_seed, i) for i in range(POOL))
            out[split] = list({self.problem(data): data for data in drawn}.values())  # a repeated problem is dropped
        return out

    def _draw(self, held_out: bool, ood: bool, *name: object) -> dict[str, Any]:
        """The first of a stream of independent draws that is on the wanted side of the wall."""
        c, dice = self.config, Random(seed_from(self.name, *name))
        for _ in range(PATIENCE):
            data = self.draw(dice, ood)
            if is_held_out(self.problem(data), c.split_seed, c.test_share) == held_out:
                return data
        raise UserError("task.test_share", c.test_share, "leaves no problem on one side: choose one nearer 0.2")

    def gold(self, prompt: Prompt) -> str:
        pen, text = self.pen(prompt), ""
        while following := pen.ahead()[0]:
            pen.push(following)
            text += following
        return text

    def expert(self, spec: Spec, tokenizer: Any) -> Expert:
        """`solver`, `careless`, `checker`, ... (experts/programs/writer.py)."""
        # imported here: tasks do without torch
        from understudy.experts.programs.writer import WriterExpert

        return WriterExpert.from_spec(spec, tokenizer, self.pen, self.realizable, self.mechanism)


def is_held_out(problem: str, split_seed: int, test_share: float) -> bool:
    """Whether only test and ood prompts may use this problem: a function of its name and the salt alone."""
    digest = hashlib.blake2b(f"{split_seed}|{problem}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64 < test_share


def place(size: int, index: int, *name: object) -> int:
    """Which of `size` problems item `index` is: passes over all of them, each in a new random order of `name`."""
    epoch, at = divmod(index, size)
    return int(_shuffled(size, *name, epoch)[at])


@lru_cache(maxsize=64)
def _shuffled(size: int, *name: object) -> np.ndarray:
    return generator(*name).permutation(size)
