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
from understudy.types import Prompt, Rollout

CHUNK = 64  # completions that a local expert scores between two writes


class CachedExpert:
    """Scores (and top-k scores) by way of `cache`; everything else is the expert's own."""

    def __init__(
        self,
        cache: ScoreCache,
        identity: dict[str, Any],
        facts: dict[str, Any],
        student: Any,
        expert: Any | Callable[[], Any],
        spec: str,
        here: bool = True,
    ) -> None:
        """facts: name, capabilities and language of the expert, as `introduction` has them. expert: it, or a function
        that reaches it or raises UserError. here: False when it cannot be had at all."""
        self.cache, self.identity, self.facts, self.spec = cache, identity, facts, spec
        self._name = identity_name(identity)
        self._expert = None if callable(expert) else expert
        self._reach: Callable[[], Any] = expert if callable(expert) else lambda: expert
        self.name = str(facts["name"])
        self.provenance: dict[str, Any] = dict(facts.get("provenance") or {}) | {"score_cache": self._name}
        self.tokenizer, self.vocabulary = student.tokenizer, int(facts["vocabulary"])
        self.end_ids = tuple(int(i) for i in facts["end_ids"])
        self.hint = getattr(self._expert, "hint", "it is not here, only its scores are")
        self.capabilities = frozenset(facts["capabilities"] if here else {"score", "top_k"})
        self.hits = self.misses = 0
        self._compared = False

    def __getattr__(self, name: str) -> Any:
        if name == "greedy" and "sample" in self.capabilities:  # evaluate.py asks whether there is one
            return self.expert.greedy
        raise AttributeError(name)

    @property
    def expert(self) -> Any:
        if self._expert is None:
            self._expert = self._reach()
        return self._expert

    def start(self, prompts: Sequence[Prompt]) -> Any:
        return self.expert.start(prompts)

    def sample(self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int) -> list[Rollout]:
        return self.expert.sample(prompts, samples, seed, max_new_tokens)

    def distribution(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        return self.expert.distribution(rollouts)

    def score(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        return [x["logp"] for x in self.entries(rollouts, 0)]

    def coarse(self, rollouts: Sequence[Rollout], k: int) -> list[Tensor]:
        return [spread(x["top_ids"], x["top_logp"], self.vocabulary) for x in self.entries(rollouts, k)]

    def entries(self, rollouts: Sequence[Rollout], k: int) -> list[dict[str, Tensor]]:
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

            def arrived(which: int, entry: dict[str, Tensor]) -> None:
                i = missing[which]
                out[i] = entry
                self.cache.put(keys[i], {label: t.numpy() for label, t in entry.items()})

            try:
                ask(expert, [rollouts[i] for i in missing], k, arrived)
            finally:
                self.cache.flush()
        return [out[i] for i in range(len(keys))]

    def _compare(self, rollouts: Sequence[Rollout], out: dict[int, dict[str, Tensor]], k: int) -> None:
        """Once a process, where a server is at hand: does it still score as it did when the cache was written?"""
        self._compared = True
        limit = getattr(getattr(self._expert, "config", None), "noise", None)
        if self._expert is None or limit is None or not hasattr(self._expert, "entries"):
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

    def _needed(self, missing: int, of: int) -> Any:
        try:
            return self.expert
        except UserError as error:
            hint = (
                f"{missing} of {of} completions have no score in {self.cache.folder}, and the expert cannot be had "
                f"({error.field}: {error.hint}); where it can: understudy score --expert ... --run RUN --out CACHE"
            )
            raise UserError("score_cache", self.spec, hint) from None


def ask(expert: Any, rollouts: Sequence[Rollout], k: int, arrived: Callable[[int, dict[str, Tensor]], None]) -> None:
    """Have `expert` score these; arrived(which, entry) as they come. With k: its top k of every place too."""
    if hasattr(expert, "entries"):
        expert.entries(rollouts, k, arrived)
        return
    for at in range(0, len(rollouts), CHUNK):
        part = rollouts[at : at + CHUNK]
        if k:
            for i, (r, table) in enumerate(zip(part, expert.distribution(part))):
                arrived(at + i, top_entry(r, table.cpu(), k))
        else:
            for i, logp in enumerate(expert.score(part)):
                arrived(at + i, {"logp": logp.float().cpu()})


def top_entry(rollout: Rollout, table_TV: Tensor, k: int) -> dict[str, Tensor]:
    """What a server would tell of a distribution: the tokens' own log-probs and the top k."""
    best = table_TV.topk(min(k, table_TV.shape[-1] - 1), -1)
    own = table_TV.gather(-1, torch.tensor(rollout.ids).unsqueeze(-1)).squeeze(-1)
    return {"logp": own.float(), "top_ids": best.indices.int(), "top_logp": best.values.float()}
