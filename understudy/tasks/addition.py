"""Addition: add two numbers of several digits, with carries, attempt by attempt.

Prompt `047+585`. A completion is up to `attempts` attempts, each with a verdict (search_format.py). The two formats:
    direct    0632 ok          most significant digit first: the carries must be computed without writing them
    scratch   110=0632 ok      first the carries, from the units up: each follows from the one before
The reward is 1 iff the sum is right. The carries of the scratch line are not checked, but must be there.

An expert can attempt every line whose digits are right except for its carries: 2 to the power of `digits` lines, one of
them right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from typing import Any

from understudy.errors import UserError
from understudy.protocols import Expert
from understudy.randomness import seed_from
from understudy.specs import Spec, check, option, require
from understudy.tasks.generated import GeneratedTask, is_held_out, place
from understudy.tasks.search_format import STYLE_TOKENS, passes
from understudy.tasks.tokenizer import NO, OK
from understudy.types import Prompt

POOL = 1024  # distinct problems that test and ood pass over
PATIENCE = 1000  # draws until a problem is on the wanted side


@dataclass(frozen=True)
class AdditionConfig:
    format: str = option("scratch", choices=("scratch", "direct"))
    """scratch (the carries first, which makes it easy step by step) or direct (the sum at once)."""
    digits: int = option(3, within="[2, 8]")
    """Digits of each number; smaller numbers start with zeros."""
    ood_digits: int = 0
    """Out of distribution: digits of each number there. 0 = one more."""
    attempts: int = option(3, within="[1, 64]")
    """Attempts that a completion may make."""
    test_share: float = option(0.2, within="(0, 1)")
    """Share of all problems that only test and ood prompts may use."""
    split_seed: int = 0
    """Salt of the hash of the two numbers that decides which problems those are."""
    max_new_tokens: int = option(0, least=0)
    """Room for a completion. 0 = what the format can need."""

    def __post_init__(self) -> None:
        check(self, "task")
        usable = self.ood_digits == 0 or self.digits < self.ood_digits <= 9
        require(self, "task", ("ood_digits", usable, "must exceed digits, at most 9"))


class AdditionTask(GeneratedTask):
    name = "addition"
    Config = AdditionConfig
    config: AdditionConfig
    keywords: tuple[str, ...] = (OK, NO, "=", "~")

    def __init__(self, config: AdditionConfig | None = None) -> None:
        super().__init__(config)
        self.attempts = self.config.attempts
        self.ood_digits = self.config.ood_digits or self.config.digits + 1
        self.max_new_tokens: int = self.config.max_new_tokens or (
            STYLE_TOKENS + self.attempts * (self._length(self.ood_digits) + 2)  # verdict; newline or end
        )

    # -- problems --------------------------------------------------------------------------------------------

    def prompts(self, split: str, n: int, seed: int, start: int = 0) -> list[Prompt]:
        """train: independent draws. test, ood: passes over the same distinct problems, each in a new random order."""
        self.check_split(split)
        items = range(start, start + n)
        if split == "train":
            digits = self.config.digits
            return [self._prompt(*self._draw(digits, False, "train", seed, i), digits) for i in items]
        pool, digits = self._held_out[split], self.ood_digits if split == "ood" else self.config.digits
        return [self._prompt(*pool[place(len(pool), i, self.name, "order", split, seed)], digits) for i in items]

    @cached_property
    def _held_out(self) -> dict[str, list[tuple[int, int]]]:
        out = {}
        for split, digits in (("test", self.config.digits), ("ood", self.ood_digits)):
            pairs = {}
            for i in range(POOL):  # a repeated pair is dropped
                pair = self._draw(digits, True, split, self.config.split_seed, i)
                pairs[min(pair), max(pair)] = pair
            out[split] = list(pairs.values())
        return out

    def _draw(self, digits: int, held_out: bool, *name: object) -> tuple[int, int]:
        """Two numbers from one side of the wall: the first of a stream of independent draws that is on it."""
        c = self.config
        least = 10**c.digits if digits > c.digits else 0  # out of distribution: not a usual pair with more zeros
        for again in range(PATIENCE):
            dice = seed_from("addition", digits, *name, again)
            rest, a = divmod(dice, 10**digits)
            b = rest % 10**digits
            low, high = min(a, b), max(a, b)
            if high >= least and is_held_out(f"{low}+{high}", c.split_seed, c.test_share) == held_out:
                return a, b
        raise UserError("task.test_share", c.test_share, "leaves no problem on one side: choose one nearer 0.2")

    def _prompt(self, a: int, b: int, digits: int) -> Prompt:
        text = f"{a:0{digits}d}+{b:0{digits}d}"
        return Prompt(f"addition {text}", f"{text}\n", {"a": a, "b": b, "digits": digits})

    # -- answers ---------------------------------------------------------------------------------------------

    def verify(self, prompt: Prompt, text: str, ended: bool) -> float:
        digits, total = prompt.data["digits"], prompt.data["a"] + prompt.data["b"]

        def right(attempt: str) -> bool:
            match = _lines(self.config.format, digits).fullmatch(attempt)
            return match is not None and int(match.group(1)) == total

        return 1.0 if ended and passes(text, self.attempts, self._length(digits) + len(OK), right) else 0.0

    def gold(self, prompt: Prompt) -> str:
        return next(text for text, right in self.candidates(prompt) if right) + OK

    def problem(self, prompt: Prompt) -> tuple[int, int, int]:
        """Equal for prompts that differ only in the order of the numbers."""
        a, b = prompt.data["a"], prompt.data["b"]
        return min(a, b), max(a, b), prompt.data["digits"]

    def candidates(self, prompt: Prompt) -> Sequence[tuple[str, bool]]:
        """Every line whose digits follow from the numbers and from some carries, and whether it is right."""
        a, b, digits = self.problem(prompt)
        columns = [a // 10**i % 10 + b // 10**i % 10 for i in range(digits)]
        out = []
        for carries in product((0, 1), repeat=digits):
            units_first = [(s + c) % 10 for s, c in zip(columns, (0, *carries))]
            total = "".join(map(str, (carries[-1], *reversed(units_first))))
            line = "".join(map(str, carries)) + "=" + total if self.config.format == "scratch" else total
            out.append((line, int(total) == a + b))
        return out

    # -- models ----------------------------------------------------------------------------------------------

    def expert(self, spec: Spec, tokenizer: Any) -> Expert:
        """`solver`, `always_ok`, `mediocre`, ... as in Countdown (experts/programs/solver.py)."""
        # imported here: tasks do without torch
        from understudy.experts.programs.solver import SolverExpert

        expert = SolverExpert.from_spec(spec, tokenizer, self)
        if self.config.format == "scratch":  # every carry is written
            known = "each carry follows from the one before, so a student that adds digits can follow step by step; "
            _, _, rest = expert.provenance["mechanism"].partition("; ")
            expert.provenance |= {"realizable": None, "mechanism": known + rest}
        return expert

    def _length(self, digits: int) -> int:
        """Characters of an attempt."""
        return (digits + 1) + (digits + 1 if self.config.format == "scratch" else 0)


@cache
def _lines(format: str, digits: int) -> re.Pattern[str]:
    carries = f"[01]{{{digits}}}=" if format == "scratch" else ""
    return re.compile(f"{carries}([0-9]{{{digits + 1}}})")
