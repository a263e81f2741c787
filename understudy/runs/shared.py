"""A run directory that several processes share: the first one writes it, and all get the same answers.

It must lie on a file system that all of them see (`open` checks it). Every method is called by all processes, in the
same order.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from understudy import distributed
from understudy.errors import UserError
from understudy.runs.checkpoint import Checkpoint, load_tensors, read_cached, write_cached
from understudy.runs.directory import RunDir, to_stderr


class SharedRun(RunDir):
    """See RunDir. Processes other than the first hold no lock and write nothing but their part of a checkpoint."""

    @classmethod
    def open(
        cls,
        path: Path | str,
        config: Mapping[str, Any],
        provenance: Callable[[], Mapping[str, Any]] | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        run: Self | None = None
        failure: UserError | None = None
        if distributed.is_main():
            try:
                run = super().open(path, config, provenance, **options)
            except UserError as error:
                failure = error
        failure = distributed.agreed(failure)
        if failure is not None:
            raise failure
        if run is None:
            run = cls(Path(path), dict(config), options.get("keep", 2), options.get("note", to_stderr))
            run.writes = False
        run.done, run.resumed = distributed.agreed((run.done, run.resumed))
        run._check_shared()
        return run

    def _check_shared(self) -> None:
        if self.done:
            return
        probe = self.path / f".tmp-shared-{distributed.agreed(secrets.token_hex(4))}"
        if distributed.is_main():
            probe.write_bytes(b"")
        distributed.barrier()
        unseen = distributed.any_of(not probe.exists())
        distributed.barrier()
        if distributed.is_main():
            probe.unlink()
        if unseen:
            raise UserError("out", self.path, "is not on a file system that every process sees: choose one that is")

    def cache(self, name: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        path = self.path / "data" / f"{name}.safetensors"
        exists = distributed.is_main() and read_cached(path, self.note) is not None
        if not distributed.agreed(exists):
            tensors = make()
            if distributed.is_main():
                with self._explained():
                    write_cached(path, tensors)
            distributed.barrier()
        return load_tensors(path)

    def has(self, name: str) -> bool:
        return distributed.agreed(super().has(name))

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
        checkpoint = super().restore() if distributed.is_main() else None
        self._restored = True
        c = checkpoint
        known = distributed.agreed((c.step, c.path, c.state, c.logs) if c else None)
        if known is None or distributed.is_main():
            return checkpoint
        step, path, state, logs = known
        return Checkpoint(step, path, load_tensors(path / "state.safetensors"), state, logs)

    def finish(self, write_model: Callable[[Path], object], final: Mapping[str, Any]) -> None:
        if distributed.is_main():
            super().finish(lambda folder: write_model(distributed.agreed(folder)), final)
        else:
            write_model(distributed.agreed(Path(os.devnull)))
        distributed.barrier()
        self.done = True
