"""What a task is: streams of prompts, a verifier, and what a model made from scratch needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from understudy.errors import UserError
from understudy.types import Prompt, Rollout

if TYPE_CHECKING:
    from understudy.experts.base import Expert
    from understudy.specs import Spec


@runtime_checkable
class Task(Protocol):
    name: str
    splits: tuple[str, ...]
    """Names of the prompt streams, ("train", "test", "ood"); test and ood share no problem with train."""
    max_new_tokens: int
    """Room that the longest sensible completion needs, in tokens of the task's own tokenizer."""
    keywords: tuple[str, ...]
    """Strings whose frequency in completions tells something; the report plots them."""

    def prompts(self, split: str, n: int, seed: int, start: int = 0) -> list[Prompt]:
        """Items start..start+n-1 of the infinite stream (task, split, seed). UserError: unknown split."""
        ...

    def verify(self, prompt: Prompt, text: str, ended: bool) -> float:
        """Reward 1.0 or 0.0. Never raises, whatever a model wrote."""
        ...

    def gold(self, prompt: Prompt) -> str:
        """A completion that the verifier accepts. UserError if the problem has none."""
        ...

    def tokenizer(self) -> Any:
        """PreTrainedTokenizerFast for models made from scratch."""
        ...

    def expert(self, spec: Spec, tokenizer: Any) -> Expert:
        """A programmatic expert of this task. UserError: unknown name or option."""
        ...


# What a task may also have. Tasks without them have endless streams, no stop texts, and verify one at a time.


def size_of(task: Task, split: str) -> int | None:
    """`task.size(split)`: distinct prompts of a split; None = an endless stream. UserError: unknown split."""
    size = getattr(task, "size", None)
    return size(split) if size is not None else None


def stops_of(task: Task) -> tuple[str, ...]:
    """`task.stop`: texts that end a completion; those of one token also stop the sampler (Policy.ends_also)."""
    return tuple(getattr(task, "stop", ()))


def verify_all(task: Task, rollouts: Sequence[Rollout]) -> list[Rollout]:
    """The rollouts with their rewards, by `task.verify_many([(prompt, text, ended), ...])` where it has that."""
    at_once = getattr(task, "verify_many", None)
    if at_once is not None:
        rewards = at_once([(r.prompt, r.text, r.ended) for r in rollouts])
    else:
        rewards = [task.verify(r.prompt, r.text, r.ended) for r in rollouts]
    return [replace(r, reward=reward) for r, reward in zip(rollouts, rewards)]


def check_task(task: Task, n: int = 8) -> None:
    """UserError unless the verifier accepts the gold answers of the first `n` prompts of every split."""
    for split in task.splits:
        size = size_of(task, split)
        for prompt in task.prompts(split, n if size is None else min(n, size), seed=0):
            gold = task.gold(prompt)
            if task.verify(prompt, gold, True) != 1.0:
                raise UserError(
                    "task", task.name, f"its verifier rejects its own gold {gold!r} for {split} prompt {prompt.key!r}"
                )
