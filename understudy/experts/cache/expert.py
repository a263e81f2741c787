"""An expert whose scores are kept on disk and read from there: asked only for what is not there yet.

Where the expert itself cannot be had (too large for this machine, a server that is down), the scores that
`understudy score` has left in the cache are enough, and a missing one is told plainly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from understudy.errors import UserError
from understudy.experts.cache.store import ScoreCache, identity_name, key
from understudy.experts.server.expert import spread
from understudy.protocols import Arrived, Expert, Stepper
from understudy.types import Prompt, Rollout


class CachedExpert(Expert):
    """Scores (and top-k scores) by way of `cache`; everything else is the expert's own."""

    def __init__(
        self,
        cache: ScoreCache,
        identity: dict[str, Any],
        facts: dict[str, Any],
        student: Any,
        expert: Expert | Callable[[], Expert],
        spec: str,
        here: bool = True,
    ) -> None:
        """facts: name, capabilities and language of the expert, as `introduction` has them. expert: it, or a function
        that reaches it or raises UserError. here: False when it cannot be had at all."""
        self.cache, self.identity, self.facts, self.spec = cache, identity, facts, spec
        self._name = identity_name(identity)
        self._expert: Expert | None = expert if isinstance(expert, Expert) else None
        self._reach: Callable[[], Expert] | None = None if isinstance(expert, Expert) else expert
        self.name = str(facts["name"])
        self.provenance = dict(facts.get("provenance") or {}) | {"score_cache": self._name}
        self.tokenizer, self.vocabulary = student.tokenizer, int(facts["vocabulary"])
        self.end_ids = tuple(int(i) for i in facts["end_ids"])
        self.hint = self._expert.hint if self._expert else "it is not here, only its scores are"
        self.capabilities = frozenset(facts["capabilities"] if here else {"score", "top_k"})
        self.hits = self.misses = 0
        self._compared = False

    @property
    def expert(self) -> Expert:
        if self._expert is None and self._reach:
            self._expert = self._reach()
        assert self._expert is not None
        return self._expert

    def start(self, prompts: Sequence[Prompt]) -> Stepper:
        return self.expert.start(prompts)

    def sample(self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int) -> list[Rollout]:
        return self.expert.sample(prompts, samples, seed, max_new_tokens)

    def has_greedy(self) -> bool:
        return "sample" in self.capabilities and self.expert.has_greedy()

    def greedy(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Rollout]:
        return self.expert.greedy(prompts, max_new_tokens)

    def distribution(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        return self.expert.distribution(rollouts)

    def score(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        return [x["logp"] for x in self.entries(rollouts, 0)]

    def coarse(self, rollouts: Sequence[Rollout], k: int) -> list[Tensor]:
        return [spread(x["top_ids"], x["top_logp"], self.vocabulary) for x in self.entries(rollouts, k)]

    def entries(self, rollouts: Sequence[Rollout], k: int, arrived: Arrived | None = None) -> list[dict[str, Tensor]]:
        kind = f"top_k:{k}" if k else "score"
        keys = [key(self._name, r.prompt.ids, r.ids, kind) for r in rollouts]
        out: dict[int, dict[str, Tensor]] = {}
        for i, name in enumerate(keys):
            found = self.cache.get(name)
            if found is not None and len(found["logp"]) == len(rollouts[i].ids):
                out[i] = {label: torch.from_numpy(array.copy()) for label, array in found.items()}
        missing = [i for i in range(len(keys)) if i not in out]
        if out and not self._compared:
            self._compare(rollouts, out, k)
        self.hits, self.misses = self.hits + len(out), self.misses + len(missing)
        if missing:
            expert = self._needed(len(missing), len(keys))

            def keep(which: int, entry: dict[str, Tensor]) -> None:
                i = missing[which]
                out[i] = entry
                self.cache.put(keys[i], {label: t.numpy() for label, t in entry.items()})

            try:
                expert.entries([rollouts[i] for i in missing], k, keep)
            finally:
                self.cache.flush()
        if arrived:
            for i in range(len(keys)):
                arrived(i, out[i])
        return [out[i] for i in range(len(keys))]

    def _compare(self, rollouts: Sequence[Rollout], out: dict[int, dict[str, Tensor]], k: int) -> None:
        """Once a process, where a server is at hand: does it still score as it did when the cache was written?"""
        self._compared = True
        limit = self._expert.noise if self._expert else None
        if self._expert is None or limit is None:
            return
        i = next(iter(out))
        now = self._expert.entries([rollouts[i]], k)[0]["logp"]
        gap = float((now - out[i]["logp"]).abs().mean())
        if not gap <= limit:
            hint = (
                f"the server now scores a kept completion otherwise, by {gap:.4f} nats a token (limit {limit:g}): its "
                "weights have changed; give it another revision=..., or use another cache"
            )
            raise UserError("score_cache", self.cache.folder, hint)

    def _needed(self, missing: int, of: int) -> Expert:
        try:
            return self.expert
        except UserError as error:
            hint = (
                f"{missing} of {of} completions have no score in {self.cache.folder}, and the expert cannot be had "
                f"({error.field}: {error.hint}); where it can: understudy score --expert ... --run RUN --out CACHE"
            )
            raise UserError("score_cache", self.spec, hint) from None
