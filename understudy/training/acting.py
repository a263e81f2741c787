"""behavior -> verified completions: the stream of training prompts, and who completes them.

Everything is a function of (configuration, place in the stream, current weights): a resumed run draws what the killed
one would have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from understudy import distributed
from understudy.config import Resolved
from understudy.policy import Policy
from understudy.policy.sampling import Mixture, Start, draw
from understudy.protocols import Expert, Task
from understudy.randomness import generator, seed_from
from understudy.specs import experts_in, names_self
from understudy.training.engine_sampler import EngineSampler
from understudy.training.held import held_rows
from understudy.types import Ledger, Prompt, Rollout, prompt_tokens

AT_ONCE = 2048  # prompts whose completions are sampled together
CHUNK = 16  # updates, at least, whose completions replay fixed samples together


def chunk_updates(prompts_per_update: int) -> int:
    """How many updates of replay fixed have their completions sampled together, before the first of them."""
    return max(CHUNK, -(-AT_ONCE // prompts_per_update))


class PromptStream:
    """The training prompts in order, encoded by the student; with a pool, whole shuffled passes over it."""

    def __init__(self, config: Resolved, task: Task, student: Policy) -> None:
        self.config, self.task, self.student = config, task, student
        self.room = config.max_new_tokens or task.max_new_tokens
        size, held = task.size("train"), held_rows(config, task)
        self.pool = min(config.prompt_pool or size, size - held) if size and held else config.prompt_pool
        """Distinct prompts of which passes are made; 0 = the stream goes on."""
        self.first = 0 if config.prompt_pool else config.first_prompt
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0))

    def __len__(self) -> int:
        """Distinct prompts that the training uses."""
        return self.pool or self.config.updates * self.config.prompts_per_update

    def take(self, start: int, n: int) -> list[Prompt]:
        """Items start..start+n of the stream, counted from where the training begins."""
        first = self.first + start
        if not self.pool:
            return _placed(self._read(first, n), first)
        return _placed([self._pool[i] for i in self.indices(first, n)], first)

    def chunk(self, chunk: int) -> list[Prompt]:
        """The prompts of chunk number `chunk` of replay fixed."""
        size = chunk_updates(self.config.prompts_per_update) * self.config.prompts_per_update
        return self.take(chunk * size, min(size, len(self) - chunk * size))

    def distinct(self) -> list[Prompt]:
        """Every prompt that the training uses, once."""
        return self._pool if self.pool else self.take(0, len(self))

    def indices(self, start: int, n: int) -> list[int]:
        """Which of the distinct prompts the items start..start+n are."""
        if not self.pool:
            return list(range(start, start + n))
        out = []
        for at in range(start, start + n):
            epoch, i = divmod(at, self.pool)
            if self._order[0] != epoch:
                order = generator("pool", self.config.seed, epoch).permutation(self.pool)
                self._order = (epoch, order)
            out.append(int(self._order[1][i]))
        return out

    @cached_property
    def _pool(self) -> list[Prompt]:
        return _placed(self._read(0, self.pool), 0)

    def _read(self, start: int, n: int) -> list[Prompt]:
        prompts = self.student.encode(self.task.prompts("train", n, self.config.seed, start))
        self.student.check_room(prompts, self.room)
        return prompts


def _placed(prompts: Sequence[Prompt], start: int) -> list[Prompt]:
    """A stream may return to a problem: its place in the stream keeps the random numbers apart."""
    return [dataclasses.replace(p, key=f"{p.key}@{start + i}") for i, p in enumerate(prompts)]


@dataclass(frozen=True)
class Actor:
    """Who completes prompts, by the behavior cell. `expert` and `base` are called only when a cell needs them."""

    config: Resolved
    task: Task
    student: Policy
    expert: Callable[[], Expert]
    base: Callable[[], Policy]
    sampler: EngineSampler | None = None
    """Draws the student's whole completions in place of this process."""
    signal: Callable[[], Expert] | None = None
    """What target and weight read. None: `expert`."""

    @property
    def room(self) -> int:
        return self.config.max_new_tokens or self.task.max_new_tokens

    def scorer(self) -> Expert:
        """By the signal cell, what target and weight read."""
        return (self.signal or self.expert)()

    def own_reader(self) -> Expert | None:
        """The expert, where it reads other prompts than the student; None: its prompts are counted without it."""
        return self.expert() if any(map(names_self, experts_in(self.config.expert).values())) else None

    def act(self, prompts: Sequence[Prompt], name: object, round_: int = 0) -> list[Rollout]:
        """Verified completions of these prompts by the behavior policy; `name` makes their random numbers."""
        c = self.config
        seed, behavior = seed_from("act", c.seed, name), c.behavior
        if behavior == "mixture_batch":
            behavior = "student" if generator("coin", seed).random() < c.student_share else "expert"

        def complete(part: Sequence[Prompt]) -> list[Rollout]:
            return self.task.verify_all(self._complete(part, behavior, seed, round_))

        return distributed.spread_rollouts(complete, prompts, c.samples_per_prompt)

    def own(self, prompts: Sequence[Prompt], name: object) -> list[Rollout]:
        """One verified completion of each prompt by the student alone; `name` makes the random numbers."""
        seed = seed_from("own", self.config.seed, name)

        def complete(part: Sequence[Prompt]) -> list[Rollout]:
            if self.sampler is not None:
                return self.task.verify_all(self.sampler.sample(part, 1, seed, self.room, "student"))
            return self.task.verify_all(self._draw(self.student.start, part, seed, 1, "student"))

        return distributed.spread_rollouts(complete, prompts, 1)

    def _complete(self, prompts: Sequence[Prompt], behavior: str, seed: int, round_: int) -> list[Rollout]:
        samples = self.config.samples_per_prompt
        if behavior == "expert":
            return self.expert().sample(prompts, samples, seed, self.room)
        if behavior == "mixture_token":
            share, expert = self.config.expert_share**round_, self.expert()
            return self._draw(lambda p: Mixture(expert.start(p), self.student.start(p), share), prompts, seed)
        if behavior == "student" and self.sampler is not None:
            return self.sampler.sample(prompts, samples, seed, self.room, self.config.behavior)
        policy = self.base() if behavior == "base" else self.student
        return self._draw(policy.start, prompts, seed)

    def _draw(
        self, start: Start, prompts: Sequence[Prompt], seed: int, samples: int = 0, actor: str = ""
    ) -> list[Rollout]:
        """samples, actor: 0 and "" = as the configuration has them."""
        c, student = self.config, self.student
        return draw(
            start, student.decode, student.end_ids, prompts, samples or c.samples_per_prompt, seed, self.room,
            actor or c.behavior, vocabulary=student.vocabulary, device=student.device.type,
        )  # fmt: skip

    def _asked(self, rollouts: Sequence[Rollout]) -> int:
        reader = self.own_reader()
        return prompt_tokens(rollouts) if reader is None else reader.prompt_tokens([r.prompt for r in rollouts])

    def count(self, rollouts: Sequence[Rollout], ledger: Ledger) -> None:
        """Add to the ledger what it cost to act these."""
        tokens, before = sum(len(r.ids) for r in rollouts), prompt_tokens(rollouts)
        if rollouts and rollouts[0].actor == "expert":
            ledger.expert_calls += len(rollouts)
            ledger.expert_tokens_sampled += tokens
            ledger.expert_prompt_tokens += self._asked(rollouts)
            return
        ledger.student_tokens_sampled += tokens
        ledger.student_prompt_tokens_sampled += before
        if rollouts and rollouts[0].actor == "mixture_token":  # the expert scores every token, whichever side writes it
            ledger.expert_calls += len(rollouts)
            ledger.expert_tokens_scored += tokens
            ledger.expert_prompt_tokens += self._asked(rollouts)
