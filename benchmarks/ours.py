"""Understudy's side of the measurements: one update, or one sampling, in turns with others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.models import text
from understudy.config import TrainConfig, resolve
from understudy.experts.local import LocalExpert
from understudy.policy import Policy
from understudy.policy.sampling import draw
from understudy.protocols import Task
from understudy.tasks.tokenizer import shared_tokenizer
from understudy.training.acting import Actor
from understudy.training.rollouts import RolloutSource
from understudy.training.update import update
from understudy.types import Ledger, Prompt, Rollout


class Letters(Task):
    """Prompts of `length` letters; a completion passes if its text has an even number of characters."""

    name = "letters"

    def __init__(self, length: int, room: int) -> None:
        self.length, self.max_new_tokens = length, room

    def prompts(self, split: str, n: int, seed: int, start: int = 0) -> list[Prompt]:
        return [Prompt(f"{split}-{i}", text(i, self.length)) for i in range(start, start + n)]

    def verify(self, prompt: Prompt, text: str, ended: bool) -> float:
        return float(len(text) % 2 == 0)


class _NoRun:
    """A run directory that keeps nothing."""

    def cache(self, name: str, make: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        return make()

    def describe(self, **facts: object) -> None:
        pass


def policy(model: Any, name: str = "student") -> Policy:
    """The model as a policy with the tokenizer of the measurements."""
    return Policy(model, shared_tokenizer(), name)


class Training:
    """Updates of one method, one after the other."""

    def __init__(
        self, method: str, student: Any, expert: Any, prompts: int, samples: int, length: int, room: int, **options: Any
    ) -> None:
        self.config = resolve(
            TrainConfig(
                method=method, student="student", expert="expert" if expert is not None else "", lr=1e-6,
                prompts_per_update=prompts, samples_per_prompt=samples, max_new_tokens=room, updates=10**6,
                device="cpu", out="unused", **options,
            )
        )  # fmt: skip
        c = self.config
        self.student = policy(student)
        self.expert = LocalExpert(policy(expert, "expert")) if expert is not None else None
        task = Letters(length, room)
        actor = Actor(c, task, self.student, lambda: self.expert, lambda: self.student)  # type: ignore[arg-type, return-value]
        self.source = RolloutSource(actor, _NoRun(), Ledger())
        self.optimizer = torch.optim.AdamW(
            self.student.trained().values(), lr=c.lr, betas=(0.9, c.adam_beta2), weight_decay=0
        )
        self.step = 0

    def whole(self) -> int:
        """Sample, score, learn; returns the number of completion tokens."""
        labelled = self.source.labelled(self.step)
        self.step += 1
        return int(update(self.student, self.optimizer, labelled, self.config)["tokens"])

    def sample(self) -> list[Rollout]:
        """The completions of the next update."""
        n = self.config.prompts_per_update
        self.step += 1
        return self.source.actor.act(self.source.prompts.take(self.step * n, n), self.step)

    def learn(self, rollouts: Sequence[Rollout]) -> int:
        """Labels and one step on given completions: the expert scores where the method needs it."""
        return int(update(self.student, self.optimizer, self.source.labels(rollouts), self.config)["tokens"])

    def score(self, rollouts: Sequence[Rollout]) -> int:
        """The expert's forward passes and output head alone."""
        assert self.expert is not None
        self.expert.score(rollouts)
        return sum(len(r.ids) for r in rollouts)


def rollouts(student: Policy, prompts: int, samples: int, length: int, room: int) -> Callable[[], int]:
    """A contender that draws `samples` completions of each of `prompts` prompts, with log-probs and text."""
    encoded = student.encode(Letters(length, room).prompts("train", prompts, 0))
    seeds = iter(range(10**9))

    def work() -> int:
        out = draw(student.start, student.decode, student.end_ids, encoded, samples, next(seeds), room, "student")
        return sum(len(r.ids) for r in out)

    return work
