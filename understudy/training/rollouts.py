"""behavior x replay -> the labelled rollouts of each update. One function for each replay cell.

Everything is a function of (configuration, step, current weights): a resumed run draws what the killed one would have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from understudy import distributed
from understudy.config import TrainConfig
from understudy.errors import UserError
from understudy.policy import Policy
from understudy.policy.sampling import Mixture, Start, draw
from understudy.protocols import Expert, Task
from understudy.randomness import generator, seed_from
from understudy.runs.checkpoint import cached_tensors
from understudy.runs.directory import RunDir
from understudy.training.labels import Labelled, expert_draws, expert_tables, label
from understudy.types import Ledger, Prompt, Rollout

AT_ONCE = 2048  # prompts sampled between two signs of progress
CACHE_BYTES = 1 << 30  # largest cache of expert distributions on disk


class Source:
    """Where updates get their rollouts. `base` and `expert` are called for only when a cell needs them."""

    def __init__(
        self,
        config: TrainConfig,
        task: Task,
        student: Policy,
        expert: Callable[[], Expert],
        base: Callable[[], Policy],
        run: RunDir,
        ledger: Ledger,
        show: Callable[[str, int, int, str], None] = lambda *_: None,
        sampler: Any = None,
    ) -> None:
        """sampler: draws the student's whole completions instead of this process (engine.ServerSampler)."""
        self.config, self.task, self.student, self.run, self.ledger = config, task, student, run, ledger
        self.show, self.sampler = show, sampler
        self._load_expert, self._load_base = expert, base
        self.samples = int(config.samples_per_prompt or 1)
        self.pool = int(config.prompt_pool or 0)
        self.max_new_tokens = config.max_new_tokens or task.max_new_tokens
        self._rounds: dict[int, tuple[list[Rollout], list[Tensor] | None]] = {}
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0))
        self._reused: tuple[int, list[Labelled]] = (-1, [])

    @cached_property
    def expert(self) -> Expert:
        return self._load_expert()

    @cached_property
    def base(self) -> Policy:
        return self._load_base()

    def labelled(self, step: int) -> list[Labelled]:
        """The labelled rollouts of update `step` (0, 1, ...)."""
        return {"fixed": self._fixed, "fresh": self._fresh, "aggregate": self._aggregate, "round": self._round}[
            str(self.config.replay)
        ](step)

    # -- prompts ------------------------------------------------------------------------------------------------

    def prompts(self, start: int, n: int) -> list[Prompt]:
        """Items start..start+n of the training stream; with a pool, whole shuffled passes over it."""
        prompts = self._stream(start, n) if not self.pool else [self._pool[i] for i in self._pool_index(start, n)]
        return _placed(prompts, start)

    def _stream(self, start: int, n: int) -> list[Prompt]:
        prompts = self.student.encode(self.task.prompts("train", n, self.config.seed, start))
        self.student.check_room(prompts, self.max_new_tokens)
        return prompts

    def _pool_index(self, start: int, n: int) -> list[int]:
        out = []
        for at in range(start, start + n):
            epoch, i = divmod(at, self.pool)
            if self._order[0] != epoch:
                self._order = (epoch, generator("pool", self.config.seed, epoch).permutation(self.pool))
            out.append(int(self._order[1][i]))
        return out

    @cached_property
    def _pool(self) -> list[Prompt]:
        return _placed(self._stream(0, self.pool), 0)

    # -- behavior -----------------------------------------------------------------------------------------------

    def act(self, prompts: Sequence[Prompt], name: object, round_: int = 0) -> list[Rollout]:
        """Verified completions of these prompts by the behavior policy; `name` makes their random numbers."""
        c = self.config
        seed = seed_from("act", c.seed, name)
        behavior = c.behavior
        if behavior == "mixture_batch":
            behavior = "student" if generator("coin", seed).random() < float(c.student_share or 0) else "expert"

        def work(part: Sequence[Prompt]) -> list[Rollout]:
            if behavior == "expert":
                rollouts = self.expert.sample(part, self.samples, seed, self.max_new_tokens)
            elif behavior == "mixture_token":
                share = float(c.expert_share or 0) ** round_
                rollouts = self._draw(lambda p: Mixture(self.expert.start(p), self.student.start(p), share), part, seed)
            elif behavior == "student" and self.sampler is not None:
                rollouts = self.sampler.sample(part, self.samples, seed, self.max_new_tokens, str(c.behavior))
                self.run.describe(sampler=self.sampler.facts)  # what its first refresh has measured
            else:
                policy = self.base if behavior == "base" else self.student
                rollouts = self._draw(policy.start, part, seed)
            return self.verified(rollouts)

        return distributed.spread_rollouts(work, prompts, self.samples)

    def _draw(self, start: Start, prompts: Sequence[Prompt], seed: int) -> list[Rollout]:
        c = self.config
        actor = str(c.behavior)
        return draw(
            start, self.student.decode, self.student.end_ids, prompts, self.samples, seed, self.max_new_tokens, actor
        )

    def verified(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        return self.task.verify_all(rollouts)

    def count_acted(self, rollouts: Sequence[Rollout]) -> None:
        tokens = sum(len(r.ids) for r in rollouts)
        if rollouts and rollouts[0].actor == "expert":
            self.ledger.expert_calls += len(rollouts)
            self.ledger.expert_tokens_sampled += tokens
            return
        self.ledger.student_tokens_sampled += tokens
        if self.config.behavior == "mixture_token":  # both are asked at every token, whoever's is taken
            self.ledger.expert_calls += len(rollouts)
            self.ledger.expert_tokens_scored += tokens

    def _labels(self, rollouts: Sequence[Rollout], **cached: Any) -> list[Labelled]:
        """Labels of this process's share; the groups of a group advantage stay together."""
        # what is cached is cached for every rollout: drop its rows together with the failed completions
        kept = [i for i, r in enumerate(rollouts) if r.reward or self.config.weight != "passed"]
        kept = distributed.share(kept, self.samples if self.config.weight == "advantage" else 1)
        cached = {name: [rows[i] for i in kept] for name, rows in cached.items() if rows is not None}
        needs = self.config.target != "token" or self.config.weight == "log_ratio"
        expert = self.expert if needs and not cached else None
        spent = Ledger()
        out = label([rollouts[i] for i in kept], self.config, self.student, expert, spent, **cached)
        calls, scored = distributed.total([spent.expert_calls, spent.expert_tokens_scored])
        self.ledger.expert_calls += int(calls)
        self.ledger.expert_tokens_scored += int(scored)
        return out

    # -- replay -------------------------------------------------------------------------------------------------

    def _fresh(self, step: int) -> list[Labelled]:
        n, reuse = self.config.prompts_per_update, self.config.updates_per_rollout
        first = step - step % reuse
        if self._reused[0] != first or reuse == 1:
            rollouts = self.act(self.prompts(first // reuse * n, n), first)
            self.count_acted(rollouts)
            self._reused = (first, self._labels(rollouts))
        return self._reused[1]

    def _fixed(self, step: int) -> list[Labelled]:
        n = self.config.prompts_per_update
        if self.pool:
            prompts = self._pool_index(step * n, n)
        else:
            prompts = list(range(step * n, (step + 1) * n))
        where = [p * self.samples + s for p in prompts for s in range(self.samples)]
        rollouts = [self._fixed_rollouts[i] for i in where]
        # paid for when first used; a pool's later passes are free
        self.count_acted(rollouts[: max(0, self._total() - step * n * self.samples)])
        if self._fixed_tables is not None:
            if step == 0:
                self.ledger.expert_calls += len(self._fixed_rollouts)
                self.ledger.expert_tokens_scored += sum(len(r.ids) for r in self._fixed_rollouts)
            return self._labels(rollouts, distributions=[self._fixed_tables[i] for i in where])
        return self._labels(rollouts)

    def _total(self) -> int:
        return (self.pool or self.config.updates * self.config.prompts_per_update) * self.samples

    @cached_property
    def _fixed_rollouts(self) -> list[Rollout]:
        prompts = self._pool if self.pool else self.prompts(0, self._total() // self.samples)

        def make() -> dict[str, Tensor]:
            rollouts: list[Rollout] = []
            for at in range(0, len(prompts), AT_ONCE):
                self.show("sampling", at, len(prompts), "")
                rollouts += self.act(prompts[at : at + AT_ONCE], "fixed")
            self.show("sampling", len(prompts), len(prompts), "")
            return pack(rollouts)

        cached = self.run.cache("fixed", make)
        named = [(p, s) for p in prompts for s in range(self.samples)]
        return unpack(cached, named, self.student, str(self.config.behavior))

    @cached_property
    def _fixed_tables(self) -> list[Tensor] | None:
        """The expert's distributions on a re-used pool, scored once: later passes load no expert."""
        if not self.pool or self.config.target != "distribution":
            return None
        rollouts = self._fixed_rollouts
        size = sum(len(r.ids) for r in rollouts) * self.student.vocabulary * 4
        if size > CACHE_BYTES:
            raise UserError(
                "prompt_pool",
                self.pool,
                f"its expert distributions need {size >> 20} MiB of cache: use a smaller pool, or 0",
            )
        table = self.run.cache(
            "expert-distributions",
            lambda: {
                "logp": torch.cat(
                    distributed.spread(
                        lambda part: [x.cpu() for x in expert_tables(self.expert, part, self.config)], rollouts
                    )
                )
            },
        )
        return list(table["logp"].split([len(r.ids) for r in rollouts]))

    def _of_round(self, round_: int) -> tuple[list[Rollout], list[Tensor] | None]:
        """What round `round_` sampled (with DAgger's labels), from the cache when a killed run has been there."""
        if round_ not in self._rounds:
            n = self.config.prompts_per_update * int(self.config.round_updates or 1)
            prompts = self.prompts(round_ * n, n)
            relabel = self.config.target == "expert_token"

            def make() -> dict[str, Tensor]:
                rollouts = self.act(prompts, f"round-{round_}", round_)
                tensors = pack(rollouts)
                if relabel:
                    tensors["targets"] = torch.cat(
                        distributed.spread(lambda part: expert_draws(part, self.expert, self.config.seed), rollouts)
                    )
                return tensors

            cached = self.run.cache(f"round-{round_:04d}", make)
            named = [(p, s) for p in prompts for s in range(self.samples)]
            rollouts = unpack(cached, named, self.student, str(self.config.behavior))
            targets = list(cached["targets"].split(cached["lengths"].tolist())) if relabel else None
            self._rounds[round_] = (rollouts, targets)
        return self._rounds[round_]

    def _count_round(self, step: int) -> int:
        round_, update = divmod(step, int(self.config.round_updates or 1))
        if update == 0:
            rollouts, targets = self._of_round(round_)
            self.count_acted(rollouts)
            if targets is not None:
                self.ledger.expert_calls += len(rollouts)
                self.ledger.expert_tokens_scored += sum(len(r.ids) for r in rollouts)
        return round_

    def _round(self, step: int) -> list[Labelled]:
        """The passed completions of this round, dealt evenly to its updates."""
        round_ = self._count_round(step)
        rollouts, targets = self._of_round(round_)
        passed = [i for i, r in enumerate(rollouts) if r.reward or self.config.weight != "passed"]
        size = int(self.config.round_updates or 1)
        order = generator("deal", self.config.seed, round_).permutation(len(passed))
        mine = [passed[i] for i in order[step % size :: size]]
        return self._labels([rollouts[i] for i in mine], targets=targets and [targets[i] for i in mine])

    def _aggregate(self, step: int) -> list[Labelled]:
        """A uniform draw from all rounds so far."""
        round_ = self._count_round(step)
        parts = [self._of_round(r) for r in range(round_ + 1)]
        everything = [r for rollouts, _ in parts for r in rollouts]
        size = min(len(everything), self.config.prompts_per_update * self.samples)
        which = generator("aggregate", self.config.seed, step).choice(len(everything), size, replace=False)
        rollouts = [everything[i] for i in which]
        if parts[0][1] is None:
            return self._labels(rollouts)
        targets = [t for _, ts in parts for t in ts or []]
        return self._labels(rollouts, targets=[targets[i] for i in which])


def kept_rollouts(config: TrainConfig, task: Task, student: Policy, folder: Path) -> list[Rollout]:
    """The completions in a run's data/ folder. UserError when there are none, or they are damaged."""
    nobody: Any = None
    source = Source(config, task, student, nobody, nobody, nobody, Ledger())
    per_round = config.prompts_per_update * int(config.round_updates or 1)
    out: list[Rollout] = []
    for path in sorted((folder / "data").glob("*.safetensors")):
        if path.stem == "fixed":
            prompts = source._pool if source.pool else source.prompts(0, source._total() // source.samples)
        elif path.stem.startswith("round-"):
            prompts = source.prompts(int(path.stem.removeprefix("round-")) * per_round, per_round)
        else:
            continue

        def damaged(line: str, path: Path = path) -> None:
            raise UserError("run", path, "is damaged; run the training again, which makes it anew")

        tensors = cached_tensors(path, dict, damaged)
        named = [(p, s) for p in prompts for s in range(source.samples)]
        out += unpack(tensors, named, student, str(config.behavior))
    if not out:
        raise UserError("run", folder, "keeps no completions in data/: only replay fixed, aggregate and round do")
    return out


def _placed(prompts: Sequence[Prompt], start: int) -> list[Prompt]:
    """A stream may come back to a problem: its place in the stream keeps the random numbers apart."""
    return [dataclasses.replace(p, key=f"{p.key}@{start + i}") for i, p in enumerate(prompts)]


def pack(rollouts: Sequence[Rollout]) -> dict[str, Tensor]:
    """Rollouts as flat tensors for the run directory's cache; prompts are not in it, they are a seeded stream."""
    return {
        "ids": torch.tensor([i for r in rollouts for i in r.ids], dtype=torch.int32),
        "behavior_logp": torch.tensor([x for r in rollouts for x in r.behavior_logp], dtype=torch.float32),
        "lengths": torch.tensor([len(r.ids) for r in rollouts], dtype=torch.int32),
        "ended": torch.tensor([r.ended for r in rollouts]),
        "reward": torch.tensor([float(r.reward or 0) for r in rollouts]),
        "expert": torch.tensor([r.actor == "expert" for r in rollouts]),
    }


def unpack(
    tensors: dict[str, Tensor], named: Sequence[tuple[Prompt, int]], policy: Policy, behavior: str
) -> list[Rollout]:
    lengths = tensors["lengths"].tolist()
    if len(lengths) != len(named):
        raise UserError(
            "data", len(lengths), f"cached completions, but {len(named)} are due: delete the run's data/ folder"
        )
    ids = [tuple(x.tolist()) for x in tensors["ids"].split(lengths)]
    logps = [tuple(x.tolist()) for x in tensors["behavior_logp"].split(lengths)]
    ended, expert, reward = (tensors[name].tolist() for name in ("ended", "expert", "reward"))
    texts = policy.decode(ids)
    return [
        Rollout(p, s, ids[i], logps[i], ended[i], texts[i], "expert" if expert[i] else behavior, reward[i])
        for i, (p, s) in enumerate(named)
    ]
