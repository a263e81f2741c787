"""behavior x replay -> the labelled rollouts of each update. One method for each replay cell.

Everything is a function of (configuration, step, current weights): a resumed run draws what the killed one would have.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from understudy import distributed, running
from understudy.config import Resolved
from understudy.errors import UserError
from understudy.evaluation.numbers import duration
from understudy.experts.entries import Kept
from understudy.policy import Policy
from understudy.protocols import Supervision, Task
from understudy.randomness import generator
from understudy.runs.checkpoint import cached_tensors
from understudy.terminal import Progress, no_progress
from understudy.training.acting import AT_ONCE, Actor, PromptStream, chunk_updates
from understudy.training.labels import Labelled, annealed, count_scored, expert_draws, experts_top_k, label, with_text
from understudy.training.monitor import Seen, seen
from understudy.types import Ledger, Prompt, Rollout

CACHE_BYTES = 1 << 30  # largest cache of expert states on disk


class Cache(Protocol):
    """Where rollouts are kept for a resume: a run directory."""

    def cache(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]: ...

    def has(self, name: str) -> bool: ...

    def describe(self, **facts: object) -> None: ...


class RolloutSource:
    """The labelled rollouts of each update: a stream of prompts, an actor, and the replay cell."""

    def __init__(self, actor: Actor, run: Cache, ledger: Ledger, show: Progress = no_progress) -> None:
        self.config, self.student, self.actor = actor.config, actor.student, actor
        self.prompts = PromptStream(actor.config, actor.task, actor.student)
        self.run, self.ledger, self.show = run, ledger, show
        self._rounds: dict[int, tuple[list[Rollout], list[Tensor] | None]] = {}
        self._reused: tuple[int, list[Labelled]] = (-1, [])
        self.seen: Seen | None = None
        """What the student's completions show that are new in this update; None: there are none."""
        self.progress = 0.0
        """Share of the training that is over, 0 to 1: what is annealed follows it."""
        self.seconds = {"sample": 0.0, "score": 0.0}
        """What this update's completions and the expert's scores of them have taken."""
        self._sampled: tuple[int, list[Rollout]] = (-1, [])  # the chunk of replay fixed in use

    def labelled(self, step: int) -> list[Labelled]:
        """The labelled rollouts of update `step` (0, 1, ...): this process's share."""
        self.seen = None
        self.seconds = dict.fromkeys(self.seconds, 0.0)
        replay = {"fixed": self.fixed, "fresh": self.fresh, "aggregate": self.aggregate, "round": self.round}
        return replay[self.config.replay](step)

    def _act(self, prompts: Sequence[Prompt], name: object, round_: int = 0) -> list[Rollout]:
        began = time.perf_counter()
        with running.reporting(lambda done, total, left: self.show("sampling", done, total, _at_most(left))):
            rollouts = self.actor.act(prompts, name, round_)
        self.seconds["sample"] += time.perf_counter() - began
        if self.actor.sampler is not None and rollouts and rollouts[0].actor != "expert":
            self.run.describe(sampler=self.actor.sampler.facts)  # what its first refresh has measured
        return rollouts

    def _passed(self, rollout: Rollout) -> bool:
        return (rollout.reward or 0.0) >= self.actor.task.passes

    def _unpack(self, tensors: dict[str, Tensor], prompts: Sequence[Prompt]) -> list[Rollout]:
        return unpack(tensors, prompts, self.config.samples_per_prompt, self.student, self.config.behavior)

    def labels(
        self,
        rollouts: Sequence[Rollout],
        targets: Sequence[Tensor] | None = None,
        supervision: tuple[Supervision, Sequence[int]] | None = None,
    ) -> list[Labelled]:
        """Labels of this process's share, without blank completions and what weight `passed` drops; completions of one
        prompt stay together.

        targets, supervision: what is cached, see labels.label.
        """
        c = annealed(self.config, self.progress)
        # what is cached is cached for every rollout: drop its rows together with the failed completions
        kept = [i for i, r in enumerate(rollouts) if not r.blank and (c.weight != "passed" or self._passed(r))]
        # whole groups: an advantage compares the completions of a prompt, and they share the row of its tokens
        prompts = list(dict.fromkeys(rollouts[i].prompt.key for i in kept))
        own = set(distributed.share(prompts))
        kept = [i for i in kept if rollouts[i].prompt.key in own]
        targets = targets and [targets[i] for i in kept]
        supervision = supervision and (supervision[0], [supervision[1][i] for i in kept])
        needs = c.target != "token" or c.reads_scores
        expert = self.actor.scorer() if needs and targets is None and supervision is None else None
        spent, began = Ledger(), time.perf_counter()
        out = label([rollouts[i] for i in kept], c, self.student, expert, spent, targets, supervision)
        self.seconds["score"] += time.perf_counter() - began
        names = ("expert_calls", "expert_tokens_scored", "expert_prompt_tokens", "base_tokens_scored")
        for name, total in zip(names, distributed.total([getattr(spent, name) for name in names])):
            setattr(self.ledger, name, getattr(self.ledger, name) + int(total))
        return out

    # -- replay fresh -------------------------------------------------------------------------------------------

    def fresh(self, step: int) -> list[Labelled]:
        """Sampled anew, for each update or for `updates_per_rollout` of them."""
        n, reuse = self.config.prompts_per_update, self.config.updates_per_rollout
        first = step - step % reuse
        if self._reused[0] != first or reuse == 1:
            prompts = self.prompts.take(first // reuse * n, n)
            rollouts = self._act(prompts, first)
            self.actor.count(rollouts, self.ledger)
            self.seen = seen(rollouts, self.actor.task.verified)
            self._reused = (first, self._with_text(self.labels(rollouts), prompts, first))
        return self._reused[1]

    def _with_text(self, own: list[Labelled], prompts: Sequence[Prompt], first: int) -> list[Labelled]:
        """Beside these, the expert's completions of some of the prompts, where sft_alpha asks for them."""
        c = self.config
        if not c.sft_alpha:
            return own
        began = time.perf_counter()
        expert = dataclasses.replace(self.actor, config=dataclasses.replace(c, behavior="expert"))
        texts = expert.act(prompts[: c.text_prompts], f"text {first}")
        self.seconds["sample"] += time.perf_counter() - began
        expert.count(texts, self.ledger)
        # (completions of a prompt stay together: the ledger counts its tokens once)
        return with_text(own, distributed.share(texts, c.samples_per_prompt), c.sft_alpha, c.reduction)

    # -- replay fixed -------------------------------------------------------------------------------------------

    def fixed(self, step: int) -> list[Labelled]:
        """Of completions that are sampled once: a chunk of updates at a time; of a pool all, again in every pass."""
        n, samples = self.config.prompts_per_update, self.config.samples_per_prompt
        if not self._whole:
            chunk, first = divmod(step, chunk_updates(n))
            rollouts = self._chunk(chunk)[first * n * samples : (first + 1) * n * samples]
            self.actor.count(rollouts, self.ledger)
            return self.labels(rollouts)
        where = [p * samples + s for p in self.prompts.indices(step * n, n) for s in range(samples)]
        rollouts = [self._fixed_rollouts[i] for i in where]
        # paid for when first used; a pool's later passes are free
        self.actor.count(rollouts[: max(0, len(self.prompts) * samples - step * n * samples)], self.ledger)
        if self._fixed_supervision is None:
            return self.labels(rollouts)
        if step == 0:
            count_scored(self.ledger, self._fixed_rollouts, self.config, self.actor.own_reader())
        return self.labels(rollouts, supervision=(self._fixed_supervision, where))

    @cached_property
    def _whole(self) -> bool:
        """Whether everything is sampled before the first update: a pool, and a run that an earlier version began."""
        return bool(self.config.prompt_pool) or self.run.has("fixed")

    def _chunk(self, chunk: int) -> list[Rollout]:
        if self._sampled[0] != chunk:
            prompts = self.prompts.chunk(chunk)
            self._sampled = (chunk, self._completed(prompts, f"fixed-{chunk:04d}"))
        return self._sampled[1]

    @cached_property
    def _fixed_rollouts(self) -> list[Rollout]:
        return self._completed(self.prompts.distinct(), "fixed")

    def _completed(self, prompts: Sequence[Prompt], name: str) -> list[Rollout]:
        """Completions of these prompts, which data/NAME keeps."""

        def make() -> dict[str, Tensor]:
            rollouts: list[Rollout] = []
            for at in range(0, len(prompts), AT_ONCE):
                self.show("sampling", at, len(prompts), "")
                rollouts += self._act(prompts[at : at + AT_ONCE], "fixed")
            self.show("sampling", len(prompts), len(prompts), "")
            return pack(rollouts)

        return self._unpack(self.run.cache(name, make), prompts)

    @cached_property
    def _fixed_supervision(self) -> Supervision | None:
        """The expert's distributions on a re-used pool, computed once: later passes load no expert.

        As hidden states with the expert's head, or its top k; None: this expert cannot be kept, it works every time.
        """
        c, rollouts = self.config, self._fixed_rollouts
        if not c.prompt_pool or c.target != "distribution":
            return None
        top_k = experts_top_k(c)

        def make() -> dict[str, Tensor]:
            expert = self.actor.scorer()
            size = sum(len(r.ids) for r in rollouts) * expert.keep_bytes(top_k)
            if size > CACHE_BYTES:
                hint = f"its expert's states need {size >> 20} MiB of cache: use a smaller pool, or 0"
                raise UserError("prompt_pool", c.prompt_pool, hint)
            if not size:
                return {}
            entries = distributed.spread(lambda part: expert.keep(part, top_k), rollouts)
            joined = {name: torch.cat([entry[name] for entry in entries]) for name in entries[0]}
            return joined | {f"shared.{n}": t for n, t in (expert.keep_shared() if not top_k else {}).items()}

        cached = self.run.cache("expert-states", make)
        shared = {n.removeprefix("shared."): cached.pop(n) for n in list(cached) if n.startswith("shared.")}
        if not cached:
            return None
        lengths = [len(r.ids) for r in rollouts]
        entries = [dict(zip(cached, parts)) for parts in zip(*(tensor.split(lengths) for tensor in cached.values()))]
        device = self.student.device
        return Kept(entries, {n: t.to(device) for n, t in shared.items()}, self.student.vocabulary)

    # -- replay round and aggregate -----------------------------------------------------------------------------

    def round(self, step: int) -> list[Labelled]:
        """The passed completions of this round, dealt evenly to its updates."""
        c = self.config
        round_ = self._count_round(step)
        rollouts, targets = self._of_round(round_)
        passed = [i for i, r in enumerate(rollouts) if c.weight != "passed" or self._passed(r)]
        order = generator("deal", c.seed, round_).permutation(len(passed))
        dealt = [passed[i] for i in order[step % c.round_updates :: c.round_updates]]
        return self.labels([rollouts[i] for i in dealt], targets=targets and [targets[i] for i in dealt])

    def aggregate(self, step: int) -> list[Labelled]:
        """A uniform draw from all rounds so far."""
        c = self.config
        round_ = self._count_round(step)
        parts = [self._of_round(r) for r in range(round_ + 1)]
        everything = [r for rollouts, _ in parts for r in rollouts]
        size = min(len(everything), c.prompts_per_update * c.samples_per_prompt)
        which = generator("aggregate", c.seed, step).choice(len(everything), size, replace=False)
        rollouts = [everything[i] for i in which]
        if parts[0][1] is None:
            return self.labels(rollouts)
        targets = [t for _, ts in parts for t in ts or []]
        return self.labels(rollouts, targets=[targets[i] for i in which])

    def _of_round(self, round_: int) -> tuple[list[Rollout], list[Tensor] | None]:
        """What round `round_` sampled (with DAgger's labels), from the cache when a killed run has been there."""
        if round_ not in self._rounds:
            n = self.config.prompts_per_update * self.config.round_updates
            prompts = self.prompts.take(round_ * n, n)
            relabel = self.config.target == "expert_token"

            def draws(part: Sequence[Rollout]) -> list[Tensor]:
                return expert_draws(part, self.actor.scorer(), self.config.seed)

            def make() -> dict[str, Tensor]:
                rollouts = self._act(prompts, f"round-{round_}", round_)
                tensors = pack(rollouts)
                if relabel:
                    tensors["targets"] = torch.cat(distributed.spread(draws, rollouts))
                return tensors

            cached = self.run.cache(f"round-{round_:04d}", make)
            rollouts = self._unpack(cached, prompts)
            targets = list(cached["targets"].split(cached["lengths"].tolist())) if relabel else None
            self._rounds[round_] = (rollouts, targets)
        return self._rounds[round_]

    def _count_round(self, step: int) -> int:
        """The round of `step`; its cost is counted at its first update."""
        round_, update = divmod(step, self.config.round_updates)
        if update == 0:
            rollouts, targets = self._of_round(round_)
            self.actor.count(rollouts, self.ledger)
            self.seen = seen(rollouts, self.actor.task.verified)
            if targets is not None:
                count_scored(self.ledger, rollouts, self.config, self.actor.own_reader())
        return round_


def _at_most(seconds: float) -> str:
    return f"at most {duration(seconds)} left"


def samples_are_kept(config: Resolved, folder: Path) -> bool:
    """Whether a run's data/ folder holds all completions that replay fixed needs."""
    last = (config.updates - 1) // chunk_updates(config.prompts_per_update)
    files = (folder / "data" / f"{name}.safetensors" for name in ("fixed", f"fixed-{last:04d}"))
    return any(map(os.path.exists, files))  # of a name that is too long for the system, no error


def kept_rollouts(config: Resolved, task: Task, student: Policy, folder: Path) -> list[Rollout]:
    """The completions in a run's data/ folder. UserError when there are none, or they are damaged."""
    stream = PromptStream(config, task, student)
    per_round = config.prompts_per_update * config.round_updates
    out: list[Rollout] = []
    for path in sorted((folder / "data").glob("*.safetensors")):
        if path.stem == "fixed":
            prompts = stream.distinct()
        elif path.stem.startswith("fixed-"):
            prompts = stream.chunk(int(path.stem.removeprefix("fixed-")))
        elif path.stem.startswith("round-"):
            prompts = stream.take(int(path.stem.removeprefix("round-")) * per_round, per_round)
        else:
            continue

        def damaged(line: str, path: Path = path) -> None:
            raise UserError("run", path, "is damaged; run the training again, which makes it anew")

        out += unpack(cached_tensors(path, dict, damaged), prompts, config.samples_per_prompt, student, config.behavior)
    if not out:
        raise UserError("run", folder, "keeps no completions in data/: only replay fixed, aggregate and round do")
    return out


def pack(rollouts: Sequence[Rollout]) -> dict[str, Tensor]:
    """Rollouts as flat tensors for the run directory's cache; prompts are not in it, they are a seeded stream."""
    return {
        "ids": torch.tensor([i for r in rollouts for i in r.ids], dtype=torch.int32),
        "behavior_logp": torch.tensor([x for r in rollouts for x in r.behavior_logp], dtype=torch.float32),
        "lengths": torch.tensor([len(r.ids) for r in rollouts], dtype=torch.int32),
        "ended": torch.tensor([r.ended for r in rollouts]),
        "reward": torch.tensor([math.nan if r.reward is None else float(r.reward) for r in rollouts]),
        "expert": torch.tensor([r.actor == "expert" for r in rollouts]),
    }


def unpack(
    tensors: dict[str, Tensor], prompts: Sequence[Prompt], samples: int, policy: Policy, actor: str
) -> list[Rollout]:
    """What `pack` packed: `samples` completions of each prompt; actor: of those that are not the expert's."""
    lengths = tensors["lengths"].tolist()
    named = [(p, s) for p in prompts for s in range(samples)]
    if len(lengths) != len(named):
        hint = f"cached completions, but {len(named)} are due: delete the run's data/ folder"
        raise UserError("data", len(lengths), hint)
    ids = [tuple(x.tolist()) for x in tensors["ids"].split(lengths)]
    logps = [tuple(x.tolist()) for x in tensors["behavior_logp"].split(lengths)]
    ended, expert, kept = (tensors[name].tolist() for name in ("ended", "expert", "reward"))
    reward = [None if math.isnan(r) else r for r in kept]
    texts = policy.decode(ids)
    return [
        Rollout(p, s, ids[i], logps[i], ended[i], texts[i], "expert" if expert[i] else actor, reward[i])
        for i, (p, s) in enumerate(named)
    ]
