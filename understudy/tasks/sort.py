"""Sorting: write the symbols of the prompt in order.

Prompt `dbcab`, completion `abbcd`. `<` takes back the last symbol: `ac<bbcd` is right too. The reward is 1 iff what is
left is the sorted text and the completion ended. Each symbol depends on all that is left over, but on nothing that is
computed out of sight: a small network can learn it, and errs more often the more symbols there are.

Two prompts with the same symbols are one problem, so a held-out answer is never seen in training.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any

from understudy.specs import check, option, require
from understudy.tasks.generated import DrawnConfig, DrawnTask
from understudy.tasks.pens import BACK, TypingPen, typed
from understudy.tasks.search_format import STYLE_TOKENS, unstyled
from understudy.types import Prompt

SYMBOLS = {"letters": "abcdefghijklmnopqrstuvwxyz", "digits": "0123456789"}


@dataclass(frozen=True)
class SortConfig(DrawnConfig):
    symbols: str = option("letters", choices=tuple(SYMBOLS))
    """letters or digits."""
    alphabet: int = option(10, within="[2, 26]")
    """The first so many of them are used."""
    length: int = option(6, within="[2, 24]")
    """Symbols of a prompt."""
    ood_length: int = 0
    """Out of distribution: symbols of a prompt there. 0 = one more."""
    corrections: int = option(4, least=0)
    """Symbols that a completion has room to take back."""

    def __post_init__(self) -> None:
        check(self, "task")
        known = len(SYMBOLS[self.symbols])
        require(
            self, "task",
            ("alphabet", self.alphabet <= known, f"there are {known} {self.symbols}"),
            ("ood_length", self.ood_length == 0 or self.length < self.ood_length <= 32,
             "must exceed length, at most 32"),
        )  # fmt: skip


class SortTask(DrawnTask):
    name = "sort"
    Config = SortConfig
    config: SortConfig
    keywords: tuple[str, ...] = (BACK, "~")
    mechanism = "each symbol follows from the prompt and from what is written, so a student can follow step by step"

    def __init__(self, config: SortConfig | None = None) -> None:
        super().__init__(config)
        self.ood_length = self.config.ood_length or self.config.length + 1
        self.max_new_tokens: int = STYLE_TOKENS + self.ood_length + 2 * self.config.corrections + 1

    def draw(self, dice: Random, ood: bool) -> dict[str, Any]:
        c = self.config
        known, length = SYMBOLS[c.symbols][: c.alphabet], self.ood_length if ood else c.length
        return {"symbols": "".join(dice.choices(known, k=length))}

    def problem(self, data: dict[str, Any]) -> str:
        return "".join(sorted(data["symbols"]))

    def text(self, data: dict[str, Any]) -> str:
        return str(data["symbols"])

    def verify(self, prompt: Prompt, text: str, ended: bool) -> float:
        right = self.problem(dict(prompt.data))
        if not ended or len(text) > STYLE_TOKENS + len(right) + 2 * self.config.corrections:
            return 0.0
        return 1.0 if typed(unstyled(text)) == right else 0.0

    def pen(self, prompt: Prompt) -> TypingPen:
        symbols = prompt.data["symbols"]
        n, last = len(symbols), max(symbols)

        def follow(text: str) -> tuple[str, str]:
            if len(text) >= n:
                return "", ""
            left = sorted(Counter(symbols) - Counter(text))  # distinct ones; never empty: text is shorter
            return left[0], "".join(left[1:])

        return TypingPen(follow, sum(s != last for s in symbols))
