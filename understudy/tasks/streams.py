"""What the prompt streams of generated tasks share: the wall between train and test, and passes in random order."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

from understudy.randomness import generator


def is_held_out(problem: str, split_seed: int, test_share: float) -> bool:
    """Whether only test and ood prompts may use this problem: a function of its name and the salt alone."""
    digest = hashlib.blake2b(f"{split_seed}|{problem}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64 < test_share


def place(task: str, size: int, split: str, seed: int, index: int) -> int:
    """Which of `size` problems item `index` is: passes over all of them, each in a new random order."""
    turn, at = divmod(index, size)
    return int(_shuffled(task, size, split, seed, turn)[at])


@lru_cache(maxsize=64)
def _shuffled(task: str, size: int, split: str, seed: int, turn: int) -> np.ndarray:
    return generator(task, "order", split, seed, turn).permutation(size)
