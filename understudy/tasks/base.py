"""What a task is: streams of prompts, a verifier, and what a model made from scratch needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from understudy.errors import UserError
from understudy.types import Prompt

if TYPE_CHECKING:
    from understudy.config import Spec
    from understudy.experts.base import Expert


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


def check_task(task: Task, n: int = 8) -> None:
    """UserError unless the verifier accepts the gold answers of the first `n` prompts of every split."""
    for split in task.splits:
        for prompt in task.prompts(split, n, seed=0):
            gold = task.gold(prompt)
            if task.verify(prompt, gold, True) != 1.0:
                raise UserError(
                    "task",
                    task.name,
                    f"its verifier rejects its own gold {gold!r} for {split} prompt {prompt.key!r}",
                )
