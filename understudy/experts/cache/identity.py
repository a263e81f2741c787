"""Who an expert is, for the score cache: an identity that does not depend on where it is kept, and what to do when it
cannot be had."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from understudy.config import ExpertSpec
from understudy.errors import UserError
from understudy.experts.cache.expert import CachedExpert
from understudy.experts.cache.store import ScoreCache
from understudy.policy import tokenizer_sha
from understudy.protocols import Expert, Task
from understudy.runs.directory import to_stderr
from understudy.runs.files import files_in, sha256
from understudy.runs.read import is_run
from understudy.servers.http import Unreachable
from understudy.servers.urls import names_server

Load = Callable[[ExpertSpec, Any, Any], Expert]


def with_cache(
    spec: ExpertSpec, task: Task, student: Any, load: Load, note: Callable[[str], None] = to_stderr
) -> CachedExpert:
    """The expert behind its cache. It is loaded now only if it must be: a server (it is checked), a program, or a model
    that the cache does not know yet."""
    cache = ScoreCache(spec.score_cache, note)
    name = spec.expert
    if not names_server(name) and os.path.isdir(name):
        identity = model_identity(Path(name), spec.dtype)
        known = [e for e in cache.experts() if e["identity"] == identity]
        if known:  # the model is here and has scored before: load it at the first miss
            return _cached(cache, known[0], student, lambda: load(spec, task, student), name)
    try:
        expert = load(spec, task, student)
    except UserError as error:
        if not _absent(name, error):
            raise
        record = _recorded(cache, name, error) if cache.experts() else _stranger(spec, student)
        return _cached(cache, record, student, _refuser(error), name, here=False)
    record = introduction(expert, spec, student)
    cache.introduce(record["identity"], {k: v for k, v in record.items() if k != "identity"})
    return _cached(cache, record, student, expert, name)


def introduction(expert: Expert, spec: ExpertSpec, student: Any) -> dict[str, Any]:
    """What the cache keeps of an expert."""
    return {
        "identity": identity_of(expert, spec),
        "spec": spec.expert,
        "name": expert.name,
        "capabilities": sorted(expert.capabilities),
        "vocabulary": int(expert.vocabulary),
        "end_ids": list(expert.end_ids),
        "tokenizer_sha": tokenizer_sha(expert.tokenizer),
        "provenance": expert.provenance,
    }


def identity_of(expert: Expert, spec: ExpertSpec) -> dict[str, Any]:
    name, told = spec.expert, expert.provenance
    if names_server(name):
        return {k: told[k] for k in ("kind", "model", "root", "revision") if k in told}
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


def _absent(spec: str, error: UserError) -> bool:
    """Whether the expert is simply not here, rather than wrong."""
    if names_server(spec):
        return isinstance(error, Unreachable)
    return not os.path.exists(spec) and "/" in spec


def _stranger(spec: ExpertSpec, student: Any) -> dict[str, Any]:
    """An expert that is not here and has scored nothing yet. Completions that need no expert can be made all the same;
    then the first score that is missing stops the run and says how to get it."""
    return {
        "identity": {"kind": "not here", "spec": spec.expert},
        "name": spec.expert,
        "vocabulary": student.vocabulary,
        "end_ids": list(student.end_ids),
        "tokenizer_sha": tokenizer_sha(student.tokenizer),
    }


def _recorded(cache: ScoreCache, spec: str, error: UserError) -> dict[str, Any]:
    known = cache.experts()
    found = [e for e in known if e.get("spec") == spec]
    if len(found) == 1:
        return found[0]
    names = ", ".join(dict.fromkeys(str(e.get("spec")) for e in known)) or "no expert"
    several = "several experts of this name, with different weights" if found else f"scores of {names}"
    hint = f"cannot be had ({error.hint}), and {cache.folder} holds {several}"
    raise UserError(error.field, spec, hint)


def _refuser(error: UserError) -> Callable[[], Any]:
    def refuse() -> Any:
        raise error

    return refuse


def _cached(
    cache: ScoreCache, record: dict[str, Any], student: Any, expert: Any, spec: str, here: bool = True
) -> CachedExpert:
    sha = tokenizer_sha(student.tokenizer)
    if record.get("tokenizer_sha") != sha:
        hint = f"the scores in {cache.folder} are of another tokenizer than the student's: use the same one"
        raise UserError("expert", spec, hint)
    return CachedExpert(cache, record["identity"], record, student, expert, spec, here)
