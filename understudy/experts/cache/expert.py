"""An expert whose scores are kept on disk and read from there: it scores only what is not there yet.

Where the expert itself is not available (too large for this machine, a server that is down), the scores that
`understudy score` has left in the cache are enough; a missing one is an error that says how to get it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from understudy.config import ExpertSpec
from understudy.errors import UserError
from understudy.experts.cache.store import ScoreCache, identity_name, key
from understudy.experts.entries import EntryExpert
from understudy.experts.loading import load_directly
from understudy.policy import tokenizer_sha
from understudy.protocols import Arrived, Expert, Stepper, Task
from understudy.runs.directory import to_stderr
from understudy.runs.files import files_in, sha256
from understudy.runs.read import is_run
from understudy.servers.http import Unreachable
from understudy.servers.urls import names_server
from understudy.types import Prompt, Rollout, Signal


def with_cache(spec: ExpertSpec, task: Task, student: Any) -> CachedExpert:
    """The expert with its cache. It is loaded now only if it must be: a server (it is checked), a program, or a model
    that the cache does not know yet."""
    cache, name = ScoreCache(spec.score_cache, to_stderr), spec.expert
    if not names_server(name) and os.path.isdir(name):
        identity = model_identity(Path(name), spec.dtype)
        for record in cache.experts():
            if record["identity"] == identity:  # the model is here and has scored before: load it at the first miss
                return CachedExpert(cache, record, student, lambda: load_directly(spec, task, student), name)
    try:
        expert = load_directly(spec, task, student)
    except UserError as error:
        if not _absent(name, error):
            raise
        record = _recorded(cache, name, error) if cache.experts() else _unknown(name, student)
        return CachedExpert(cache, record, student, error, name)
    record = {
        "identity": identity_of(expert, spec), "spec": name, "name": expert.name,
        "capabilities": sorted(expert.capabilities), "vocabulary": int(expert.vocabulary),
        "end_ids": list(expert.end_ids), "tokenizer_sha": tokenizer_sha(expert.tokenizer),
        "provenance": expert.provenance,
    }  # fmt: skip
    cache.write_expert(record)
    return CachedExpert(cache, record, student, expert, name)


class CachedExpert(EntryExpert):
    """Scores (and top-k scores) from `cache` where it has them; everything else is the expert's own."""

    def __init__(
        self, cache: ScoreCache, record: dict[str, Any], student: Any,
        expert: Expert | Callable[[], Expert] | UserError, spec: str,
    ) -> None:  # fmt: skip
        """record: identity, name, capabilities, tokenizer of the expert, as the cache keeps them. expert: it, a
        function that loads it, or the reason why it is not available."""
        if record.get("tokenizer_sha") != tokenizer_sha(student.tokenizer):
            hint = f"the scores in {cache.folder} are of another tokenizer than the student's: use the same one"
            raise UserError("expert", spec, hint)
        self.cache, self.spec, self._source = cache, spec, expert
        self._key = identity_name(record["identity"])
        self.name = str(record["name"])
        self.provenance = dict(record.get("provenance") or {}) | {"score_cache": self._key}
        self.tokenizer, self.vocabulary = student.tokenizer, int(record["vocabulary"])
        self.end_ids = tuple(int(i) for i in record["end_ids"])
        self.hint = expert.hint if isinstance(expert, Expert) else "it is not here, only its scores are"
        self.about = expert.about if isinstance(expert, Expert) else ""
        absent = isinstance(expert, UserError)
        self.capabilities = frozenset({"score", "top_k"} if absent else record["capabilities"])
        self.hits = self.misses = 0
        self._compared = False

    @property
    def expert(self) -> Expert:
        """UserError: it is not available."""
        if isinstance(self._source, UserError):
            raise self._source
        if not isinstance(self._source, Expert):
            self._source = self._source()
        return self._source

    @property
    def streams(self) -> bool:  # type: ignore[override]
        return names_server(self.spec)

    def apart(self, device: Any) -> bool:
        return isinstance(self._source, Expert) and self._source.apart(device)

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

    def spans(self, rollouts: Sequence[Rollout]) -> list[Tensor] | None:
        # kept scores of an expert of another family say nothing about spans: for them it is needed
        return self.expert.spans(rollouts) if "tokenizer" in self.provenance else None

    def signal(self, packs: Sequence[Sequence[Rollout]]) -> Signal:
        return self.expert.signal(packs)

    def keep_bytes(self, top_k: int = 0) -> int:
        return super().keep_bytes(top_k) or self.expert.keep_bytes()

    def keep(self, rollouts: Sequence[Rollout], top_k: int = 0) -> list[dict[str, Tensor]]:
        return super().keep(rollouts, top_k) if top_k else self.expert.keep(rollouts)

    def keep_shared(self) -> dict[str, Tensor]:
        return self.expert.keep_shared()

    def entries(self, rollouts: Sequence[Rollout], k: int, arrived: Arrived | None = None) -> list[dict[str, Tensor]]:
        kind = f"top_k:{k}" if k else "score"
        keys = [key(self._key, r.prompt.ids, r.ids, kind) for r in rollouts]
        out: dict[int, dict[str, Tensor]] = {}
        for i, name in enumerate(keys):
            arrays = self.cache.get(name)
            if arrays is not None and len(arrays["logp"]) == len(rollouts[i].ids):
                out[i] = {label: torch.from_numpy(array.copy()) for label, array in arrays.items()}
        missing = [i for i in range(len(keys)) if i not in out]
        if out and not self._compared:
            self._compare(rollouts, out, k)
        self.hits, self.misses = self.hits + len(out), self.misses + len(missing)
        report = arrived or (lambda i, entry: None)
        for i, entry in out.items():
            report(i, entry)
        if missing:
            expert = self._needed(len(missing), len(keys))

            def keep(which: int, entry: dict[str, Tensor]) -> None:
                i = missing[which]
                out[i] = entry
                self.cache.put(keys[i], {label: t.numpy() for label, t in entry.items()})
                report(i, entry)

            try:
                expert.entries([rollouts[i] for i in missing], k, keep)
            finally:
                self.cache.flush()
        return [out[i] for i in range(len(keys))]

    def _compare(self, rollouts: Sequence[Rollout], out: dict[int, dict[str, Tensor]], k: int) -> None:
        """Once per process, where the expert is a server: does it still score as when the cache was written?"""
        self._compared = True
        if not isinstance(self._source, Expert) or self._source.noise is None:
            return
        i = next(iter(out))
        now = self._source.entries([rollouts[i]], k)[0]["logp"]
        gap, limit = float((now - out[i]["logp"]).abs().mean()), self._source.noise
        if not gap <= limit:
            hint = (
                f"the server now scores a kept completion otherwise, by {gap:.4f} nats per token (limit {limit:g}): "
                "its weights have changed; give it another revision=..., or use another cache"
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


# -- which expert it is -------------------------------------------------------------------------------------------


def identity_of(expert: Expert, spec: ExpertSpec) -> dict[str, Any]:
    """What tells this expert from others, wherever it is kept."""
    name, facts = spec.expert, expert.provenance
    if names_server(name):
        return {k: facts[k] for k in ("kind", "model", "root", "revision") if k in facts}
    if os.path.isdir(name):
        return model_identity(Path(name), spec.dtype)
    if expert.policy is not None:  # a hub id: the commit that was loaded
        commit = str(getattr(expert.policy.model.config, "_commit_hash", None) or "")
        return {"kind": "hub", "name": name, "commit": commit, "dtype": spec.dtype}
    return {"kind": "program", "spec": name, "task": spec.task}


def model_identity(folder: Path, dtype: str) -> dict[str, Any]:
    """By content, not by name: a folder may move, and new weights under an old name are another expert."""
    if is_run(folder):
        folder = folder / "final"
    total = hashlib.sha256()
    for path in files_in(folder) if folder.is_dir() else []:
        if path.suffix == ".safetensors" or path.name in ("config.json", "generation_config.json"):
            total.update(f"{path.relative_to(folder).as_posix()} {sha256(path)}\n".encode())
    return {"kind": "model", "sha256": total.hexdigest(), "dtype": dtype}


def _absent(name: str, error: UserError) -> bool:
    """Whether the expert is simply not here, rather than wrong."""
    if names_server(name):
        return isinstance(error, Unreachable)
    return not os.path.exists(name) and "/" in name


def _unknown(name: str, student: Any) -> dict[str, Any]:
    """The record of an expert that is not here and has scored nothing yet. Completions that need no expert can be
    sampled all the same; then the first missing score stops the run and says how to get it."""
    return {
        "identity": {"kind": "not here", "spec": name}, "name": name, "vocabulary": student.vocabulary,
        "end_ids": list(student.end_ids), "tokenizer_sha": tokenizer_sha(student.tokenizer),
    }  # fmt: skip


def _recorded(cache: ScoreCache, name: str, error: UserError) -> dict[str, Any]:
    """The only record of this name. UserError: none, or several."""
    known = cache.experts()
    same = [e for e in known if e.get("spec") == name]
    if len(same) == 1:
        return same[0]
    names = ", ".join(dict.fromkeys(str(e.get("spec")) for e in known)) or "no expert"
    several = "several experts of this name, with different weights" if same else f"scores of {names}"
    raise UserError(error.field, name, f"cannot be had ({error.hint}), and {cache.folder} holds {several}")
