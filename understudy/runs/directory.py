"""The run directory: everything a run writes, in one folder that can be killed, resumed, moved and read.

What each file holds is in docs/run-directory.md. The rules:
- a file is whole or absent; only metrics.jsonl and samples.jsonl grow, and may end in half a line;
- a checkpoint remembers how long these two were, so a resumed run cuts them back and repeats nothing;
- one process writes a run at a time; anybody may read it meanwhile;
- a run belongs to one configuration; another one is refused by naming the fields that differ.

Importing this module loads no torch, so the report can read runs without it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from understudy.errors import UserError
from understudy.runs.files import (
    Lock,
    describe_os_error,
    dumps,
    new_folder,
    plain,
    read_json,
    recover,
    sync,
    write_json,
)
from understudy.runs.read import LOCK, checkpoints, differences, finite, is_done, is_run

if TYPE_CHECKING:
    from types import TracebackType

    from torch import Tensor

    from understudy.runs.checkpoint import Checkpoint

State = Literal["running", "done", "stopped"]
LOGS = ("metrics.jsonl", "samples.jsonl")
_BEGINNING = {LOCK, "config.json", "provenance.json", "status.json"}  # nothing is lost while only these exist


def to_stderr(line: str) -> None:
    print(f"note: {line}", file=sys.stderr, flush=True)


class RunDir:
    """One run on disk, open for writing. Use `with RunDir.open(...) as run:`.

    path: the folder. config: the caller's configuration. done: finished, nothing left to do.
    resumed: the folder was there before.
    """

    def __init__(self, path: Path, config: dict[str, Any], keep: int, note: Callable[[str], None]) -> None:
        """Use `open`."""
        self.path, self.config, self.keep, self.note = path, config, keep, note
        self.done = False
        self.resumed = False
        self._restored = False
        self._step: int | None = None  # of the newest good checkpoint
        self._status: dict[str, Any] = {"state": "running", "step": 0, "updates": 0, "reason": ""}
        self._lock = Lock(path / LOCK)
        self._logs: dict[str, int] = {}  # open file handles
        self.listeners: list[Callable[[Mapping[str, Any]], None]] = []  # each hears every record of `log`

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
    ) -> RunDir:
        """Create the run in `path`, or take up the one that is there.

        config: JSON-able, finite. A run that is there must have the same one, except for the fields in
            `volatile` (dotted names; a name covers what is under it), which change no number of the result.
        defaults: what fields mean that the run there does not have, because an earlier version began it.
        provenance: see understudy.runs.provenance; called once, when needed. A resume is recorded beside it.
        resume: "never" refuses a folder that already holds a run.
        keep: how many checkpoints stay.
        note: takes one line for the user when something was repaired.
        Raises UserError, having touched nothing, when the folder is not a run, belongs to another
        configuration, is being written by another process, or cannot be written.
        """
        path = Path(path)
        run = cls(path, finite(config), keep, note)
        with _explained(path):
            if path.is_dir() and is_run(path):
                run._check(resume, volatile, defaults)
                if is_done(path):  # no lock: a finished run is only read, by as many as like
                    run.done = run.resumed = run._restored = True
                    run._status = read_json(path / "status.json")
                    return run
            elif path.is_dir():
                _check_free(path)
        made = provenance() if callable(provenance) else provenance
        with _explained(path):
            path.mkdir(parents=True, exist_ok=True)
            run._lock.acquire()
            try:
                run._begin(resume, volatile, defaults, made or {})
            except BaseException:
                run.close()
                raise
        return run

    def _check(self, resume: str, volatile: frozenset[str], defaults: Mapping[str, Any] | None) -> None:
        if resume == "never":
            raise UserError("out", self.path, "already holds a run; choose another --out, or resume it")
        config = self.path / "config.json"
        changed = differences(read_json(config, "out"), self.config, volatile, defaults)
        if changed:
            told = ", ".join(changed[:12]) + (f" and {len(changed) - 12} more" if len(changed) > 12 else "")
            hint = f"belongs to another configuration: {told}; choose another --out, or the original settings"
            raise UserError("out", self.path, hint)

    def _begin(
        self, resume: str, volatile: frozenset[str], defaults: Mapping[str, Any] | None, provenance: Mapping[str, Any]
    ) -> None:
        recover(self.path)
        if not is_run(self.path):
            _check_free(self.path)
            write_json(self.path / "provenance.json", provenance)
            self.status("running")
            # config.json comes last: where it is, the beginning is complete
            write_json(self.path / "config.json", self.config)
            self._restored = True
            return
        self._check(resume, volatile, defaults)  # looked at again: only now nobody else can change it
        self.resumed = True
        for folder in ("checkpoints", "data"):
            recover(self.path / folder)
        with contextlib.suppress(UserError):  # a damaged status says nothing that a checkpoint does not
            self._status = read_json(self.path / "status.json")
        self._note_resume(plain(provenance))
        self.status("running")

    def _note_resume(self, now: Mapping[str, Any]) -> None:
        first: dict[str, Any] = {}
        with contextlib.suppress(UserError):
            first = read_json(self.path / "provenance.json")
        changed = {
            key: now[key]
            for key in ("git", "versions", "device", "threads", "processes")
            if key in now and key in first and now[key] != first[key]
        }
        if now:
            first.setdefault("resumes", []).append({"started": now.get("started"), "changed": changed})
            write_json(self.path / "provenance.json", first)
        if changed:
            names = ", ".join(changed)
            self.note(f"{self.path}: resumed with other {names}; the weights may differ in the last bits")

    # ------------------------------------------------------------ while it runs

    def describe(self, **facts: Any) -> None:
        """Add facts to provenance.json, for example expert={...}, student={...}, once they are known."""
        with _explained(self.path):
            known = read_json(self.path / "provenance.json")
            if any(known.get(key) != plain(value) for key, value in facts.items()):
                write_json(self.path / "provenance.json", known | facts)

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl. NaN and infinities are written as null.

        A record's "ledger" also becomes ledger.json.
        """
        self._append("metrics.jsonl", [record])
        if "ledger" in record:
            self._write("ledger.json", record["ledger"], durable=False)
        for hear in self.listeners:
            hear(record)

    def samples(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append lines to samples.jsonl."""
        self._append("samples.jsonl", records)

    def status(self, state: State, reason: str = "", **numbers: int) -> None:
        """Write status.json. `numbers`: step, updates; the last known ones stay when left out."""
        self._status = self._status | {"state": state, "reason": " ".join(reason.split())} | numbers
        self._write("status.json", self._status)

    def cache(self, name: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors data/NAME.safetensors, made by `make` only the first time (or when damaged).

        What making them cost belongs in the tensors too: a resumed run does not make them again.
        """
        from understudy.runs.checkpoint import cached_tensors

        with _explained(self.path, self._how_to_resume()):
            return cached_tensors(self.path / "data" / f"{name}.safetensors", make, self.note)

    def save(
        self, step: int, write_model: Callable[[Path], object], tensors: Mapping[str, Tensor], state: Mapping[str, Any]
    ) -> Path:
        """Write the checkpoint of `step`, as a whole or not at all, then drop the oldest ones.

        write_model(folder) writes a Hugging Face model there; tensors: optimizer and random state; state:
        JSON that must come back bit by bit (ValueError otherwise). "ledger" and "updates" in it are also
        shown in ledger.json and status.json.
        Raises UserError when the disk refuses; the checkpoints before this one stay.
        """
        from understudy.runs.checkpoint import write_checkpoint

        folder = self.path / "checkpoints"
        target = folder / f"step-{step:08d}"
        try:
            with _explained(self.path, self._how_to_resume()):
                folder.mkdir(exist_ok=True)
                sizes = self._settle_logs()
                write_checkpoint(target, step, write_model, tensors, state, sizes)
        except UserError as error:
            with contextlib.suppress(UserError):  # a full disk may have no room for the reason either
                self.status("stopped", str(error))
            raise
        self._step = step
        self._show(step, state)
        self._prune(target)
        return target

    def _prune(self, newest: Path) -> None:
        with _explained(self.path):
            for damaged in newest.parent.glob("damaged-*"):
                shutil.rmtree(damaged, ignore_errors=True)
            for old in checkpoints(self.path)[: -self.keep]:
                if old != newest:
                    # under another name first, so that a kill leaves no half checkpoint under a good name
                    gone = old.with_name(f".tmp-{old.name}-gone")
                    os.rename(old, gone)
                    shutil.rmtree(gone, ignore_errors=True)

    def restore(self) -> Checkpoint | None:
        """The newest checkpoint whose every byte is as written, the logs cut back to it. None: start anew.

        A damaged checkpoint is named to the user and set aside; the one before it is used.
        """
        from understudy.runs.checkpoint import read_checkpoint

        found: Checkpoint | None = None
        damaged: list[str] = []
        with _explained(self.path):
            for path in reversed(checkpoints(self.path)):
                result = read_checkpoint(path)
                if not isinstance(result, str):
                    found = result
                    break
                damaged.append(f"checkpoint {path.name} is damaged: {result}")
                aside = path.with_name(f"damaged-{path.name}")
                shutil.rmtree(aside, ignore_errors=True)
                os.rename(path, aside)
            instead = "no good one is left, starting from the beginning"
            if found:
                instead = f"using {found.path.name} instead"
            for line in damaged:
                self.note(f"{self.path}: {line}; {instead}")
            self._cut_logs(found.logs if found else {})
        self._step = found.step if found else None
        self._show(found.step if found else 0, found.state if found else {})
        self._restored = True
        return found

    def finish(self, write_model: Callable[[Path], object], final: Mapping[str, Any]) -> None:
        """Write final/ and final.json, then status "done". If killed in between, call it again."""
        with _explained(self.path, self._how_to_resume()):
            self._settle_logs()
            with new_folder(self.path / "final") as tmp:
                write_model(tmp)
            write_json(self.path / "final.json", final)
        self.status("done")
        self.done = True

    # ------------------------------------------------------------ the small print

    def close(self) -> None:
        """Close the logs and free the lock. The status stays as it is."""
        for handle in self._logs.values():
            os.close(handle)
        self._logs.clear()
        self._lock.release()

    def __enter__(self) -> RunDir:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._status["state"] == "running":
            reason = str(error) or type(error).__name__
            if isinstance(error, KeyboardInterrupt):
                reason = "interrupted"
            with contextlib.suppress(UserError):
                self.status("stopped", reason)
        self.close()

    def _saying(self) -> contextlib.AbstractContextManager[None]:
        """Within it, what the system refuses is told in one line."""
        return _explained(self.path, self._how_to_resume())

    def _how_to_resume(self) -> str:
        where = "from the beginning" if self._step is None else f"from step {self._step}"
        return f", then run the same command again: it resumes {where}"

    def _show(self, step: int, state: Mapping[str, Any]) -> None:
        """ledger.json and status.json as of a checkpoint."""
        if "ledger" in state:
            self._write("ledger.json", state["ledger"], durable=False)
        elif not step:
            (self.path / "ledger.json").unlink(missing_ok=True)
        self.status("running", step=step, updates=int(state.get("updates", step)))

    def _write(self, name: str, value: Any, durable: bool = True) -> None:
        with _explained(self.path, self._how_to_resume()):
            write_json(self.path / name, value, durable)

    def _append(self, name: str, records: Iterable[Mapping[str, Any]]) -> None:
        if not self._restored:
            raise RuntimeError("call restore() first: a resumed run must cut its logs back before it goes on")
        data = b"".join(dumps(record) for record in records)
        with _explained(self.path, self._how_to_resume()):
            if name not in self._logs:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                self._logs[name] = os.open(self.path / name, flags, 0o666)
            handle = self._logs[name]
            before = os.fstat(handle).st_size
            try:
                while data:  # a write may take only a part
                    data = data[os.write(handle, data) :]
            except OSError:
                os.ftruncate(handle, before)
                raise

    def _settle_logs(self) -> dict[str, int]:
        """Flush the logs to the disk; how many bytes each has."""
        sizes = {}
        for name in LOGS:
            if name in self._logs:
                os.fsync(self._logs[name])
            sizes[name] = (self.path / name).stat().st_size if (self.path / name).exists() else 0
        return sizes

    def _cut_logs(self, sizes: Mapping[str, int]) -> None:
        for name in LOGS:
            path, size = self.path / name, sizes.get(name, 0)
            have = path.stat().st_size if path.exists() else 0
            if have > size:
                os.truncate(path, size)
                sync(path)
            elif have < size:
                self.note(f"{path}: has {have} bytes, the checkpoint saw {size}; lines before it are missing")
                whole = path.read_bytes().rfind(b"\n") + 1 if have else 0
                if whole < have:
                    os.truncate(path, whole)


@contextlib.contextmanager
def _explained(path: Path, after: str = "") -> Iterator[None]:
    """Turn what the operating system refuses into one line for the user."""
    try:
        yield
    except Exception as error:
        words = describe_os_error(error)
        if words is None:
            raise
        raise UserError("out", path, words + after) from error


def _check_free(path: Path) -> None:
    """UserError unless a run may begin in the existing folder `path`: nothing of value is in it."""
    there = {entry.name for entry in path.iterdir() if not entry.name.startswith(".tmp")}
    if not there or (LOCK in there and there <= _BEGINNING - {"config.json"}):
        return  # empty, or a run that was killed before its first second was over
    if LOCK in there or "metrics.jsonl" in there or "checkpoints" in there:
        hint = "is a run without its config.json; put the file back, or choose another --out"
    else:
        hint = f"is not empty and not a run (it holds {sorted(there)[0]}); choose another --out"
    raise UserError("out", path, hint)
