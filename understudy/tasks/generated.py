"""What generated tasks share: options, the wall between train and test, passes in random order, a tokenizer."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from understudy.errors import UserError
from understudy.protocols import Task
from understudy.randomness import generator
from understudy.specs import Spec, build
from understudy.tasks.tokenizer import shared_tokenizer


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
