"""A run directory that several processes share: the first one writes, all agree on what is there.

It must lie on a file system that all of them see (`open` checks it). Every method is called by all processes, in the
same order.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from understudy import distributed
from understudy.errors import UserError
from understudy.runs.checkpoint import Checkpoint, load_tensors, read_cached, write_cached
from understudy.runs.directory import RunDir, State, to_stderr

if TYPE_CHECKING:
    from torch import Tensor


class SharedRun(RunDir):
    """See RunDir. Processes other than the first hold no lock and write nothing but their part of a checkpoint."""

    @classmethod
    def open(
        cls,
        path: Path | str,
        config: Mapping[str, Any],
        provenance: Callable[[], Mapping[str, Any]] | Mapping[str, Any] | None = None,
        *,
        resume: Literal["auto", "never"] = "auto",
        volatile: frozenset[str] = frozenset(),
        defaults: Mapping[str, Any] | None = None,
        keep: int = 2,
        note: Callable[[str], None] = to_stderr,
    ) -> SharedRun:
        made: RunDir | None = None
        failure: UserError | None = None
        if distributed.is_main():
            try:
                made = super().open(
                    path, config, provenance, resume=resume, volatile=volatile, defaults=defaults, keep=keep, note=note
                )
            except UserError as error:
                failure = error
        failure = distributed.agreed(failure)
        if failure is not None:
            raise failure
        run = made if isinstance(made, SharedRun) else cls(Path(path), dict(config), keep, note)
        run.done, run.resumed = distributed.agreed((run.done, run.resumed))
        run._check_shared()
        return run

    def _check_shared(self) -> None:
        if self.done:
            return
        name = self.path / f".tmp-shared-{distributed.agreed(secrets.token_hex(4))}"
        if distributed.is_main():
            name.write_bytes(b"")
        distributed.barrier()
        blind = distributed.any_of(not name.exists())
        distributed.barrier()
        if distributed.is_main():
            name.unlink()
        if blind:
            raise UserError("out", self.path, "is not on a file system that every process sees: choose one that is")

    # ------------------------------------------------------------ the first process alone

    def describe(self, **facts: Any) -> None:
        if distributed.is_main():
            super().describe(**facts)

    def log(self, record: Mapping[str, Any]) -> None:
        if distributed.is_main():
            super().log(record)

    def samples(self, records: Iterable[Mapping[str, Any]]) -> None:
        if distributed.is_main():
            super().samples(records)

    def status(self, state: State, reason: str = "", **numbers: int) -> None:
        if distributed.is_main():
            super().status(state, reason, **numbers)

    # ------------------------------------------------------------ all together

    def cache(self, name: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        path = self.path / "data" / f"{name}.safetensors"
        there = distributed.is_main() and read_cached(path, self.note) is not None
        if not distributed.agreed(there):
            tensors = make()
            if distributed.is_main():
                with self._saying():
                    write_cached(path, tensors)
            distributed.barrier()
        return load_tensors(path)

    def save(
        self, step: int, write_model: Callable[[Path], object], tensors: Mapping[str, Tensor], state: Mapping[str, Any]
    ) -> Path:
        if distributed.is_main():
            target = super().save(step, lambda folder: write_model(distributed.agreed(folder)), tensors, state)
        else:
            write_model(distributed.agreed(Path()))
            target = self.path / "checkpoints" / f"step-{step:08d}"
        distributed.barrier()
        return target

    def restore(self) -> Checkpoint | None:
        found = super().restore() if distributed.is_main() else None
        told = distributed.agreed((found.step, found.path, found.state, found.logs) if found else None)
        self._restored = True
        if told is None or distributed.is_main():
            return found
        step, path, state, logs = told
        return Checkpoint(step, path, load_tensors(path / "state.safetensors"), state, logs)

    def finish(self, write_model: Callable[[Path], object], final: Mapping[str, Any]) -> None:
        if distributed.is_main():
            super().finish(lambda folder: write_model(distributed.agreed(folder)), final)
        else:
            write_model(distributed.agreed(Path(os.devnull)))
        distributed.barrier()
        self.done = True

    def close(self) -> None:
        if distributed.is_main():
            super().close()
