"""Two tasks in one, to measure forgetting: `pair:main=countdown;max_number=12,other=classify;bits=8,share=0.3`.

Training prompts are the main task's, except a share of the other's (0 = none: the other one can only be forgotten).
Splits: the main task's own, and `forget`, which is the other's test split. Options inside a task are separated by `;`.
The two must have the same tokenizer (the generated tasks do).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from understudy.errors import UserError
from understudy.protocols import Expert, Task
from understudy.randomness import seed_from
from understudy.specs import Spec, build, check, option, parse_spec, require
from understudy.types import Prompt

FORGET = "forget"


@dataclass(frozen=True)
class PairConfig:
    main: str = "countdown"
    """The task that is trained, options after `;`."""
    other: str = "classify"
    """The task that may be forgotten, options after `;`."""
    share: float = option(0.0, within="[0, 1]")
    """Share of training prompts that are the other's: to train a base that can do both."""
    other_expert: str = "labeller;p_right=1"
    """The other task's programmatic expert, for its share of the prompts."""

    def __post_init__(self) -> None:
        check(self, "task")
        require(
            self, "task",
            ("main", self.main.partition(";")[0] != "pair", "a pair of pairs is not supported"),
            ("other", self.other.partition(";")[0] != "pair", "a pair of pairs is not supported"),
        )  # fmt: skip


def spec_text(inner: str) -> str:
    """`countdown;ops=+-;attempts=2` as `countdown:ops=+-,attempts=2`."""
    name, _, rest = inner.partition(";")
    return f"{name}:{rest.replace(';', ',')}" if rest else name


class PairTask(Task):
    name = "pair"

    def __init__(self, config: PairConfig, make: Callable[[str, str], Task]) -> None:
        """make(spec as text, name of the option): the task that it names."""
        self.config = config
        self.main = make(spec_text(config.main), "task.main")
        self.other = make(spec_text(config.other), "task.other")
        if self.main.name == self.other.name:
            raise UserError("task.other", config.other, "must be another task than main")
        self.splits: tuple[str, ...] = (*self.main.splits, FORGET)
        self.max_new_tokens = max(self.main.max_new_tokens, self.other.max_new_tokens)
        self.keywords = self.main.keywords

    @classmethod
    def from_spec(cls, spec: Spec, make: Callable[[str, str], Task]) -> PairTask:
        return cls(build(PairConfig, spec.args, "task"), make)

    def of(self, prompt: Prompt) -> Task:
        """The task that a prompt belongs to, by its key."""
        return self.other if prompt.key.startswith(f"{self.other.name} ") else self.main

    def prompts(self, split: str, n: int, seed: int, start: int = 0) -> list[Prompt]:
        if split == FORGET:
            return self.other.prompts("test", n, seed, start)
        if split != "train" or not self.config.share:
            return self.main.prompts(split, n, seed, start)
        out = []
        for index in range(start, start + n):
            coin = seed_from("pair", seed, index) / 2**64
            task = self.other if coin < self.config.share else self.main
            out += task.prompts("train", 1, seed, index)
        return out

    def verify(self, prompt: Prompt, text: str, ended: bool) -> float:
        return self.of(prompt).verify(prompt, text, ended)

    def gold(self, prompt: Prompt) -> str:
        return self.of(prompt).gold(prompt)

    def fields(self, prompt: Prompt) -> Mapping[str, Any]:
        return self.of(prompt).fields(prompt)

    def part(self, name: str) -> Task:
        return {self.main.name: self.main, self.other.name: self.other}.get(name, self)

    def tokenizer(self) -> Any:
        return self.main.tokenizer()

    def expert(self, spec: Spec, tokenizer: Any) -> Expert:
        """The main task's programmatic expert, beside the other's for its prompts."""
        # imported here: tasks do without torch
        from understudy.experts.programs.base import PairExpert

        other = parse_spec(spec_text(self.config.other_expert), "task.other_expert")
        experts = self.main.expert(spec, tokenizer), self.other.expert(other, tokenizer)
        return PairExpert(*experts, lambda prompt: self.of(prompt) is self.main)
