"""The run directory: everything that a run writes, in one folder that can be killed, resumed, moved and read.

docs/run-directory.md says what each file holds. The rules:
- a file is whole or absent; only metrics.jsonl and samples.jsonl grow, and may end in half a line;
- a checkpoint records the lengths of these two, so a resumed run cuts them back and repeats no line;
- one process writes a run at a time; any number of processes may read it meanwhile;
- a run belongs to one configuration; another one is refused, and the fields that differ are named.

Readers are in understudy.runs.read, which loads no torch.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from torch import Tensor

from understudy.errors import UserError, shown
from understudy.runs.checkpoint import Checkpoint, cached_tensors, read_checkpoint, slim, write_checkpoint
from understudy.runs.files import (
    STEPS,
    TENSORS,
    is_leftover,
    new_folder,
    os_errors_explained,
    plain,
    read_json,
    recover,
    refuse_links,
    write_json,
)
from understudy.runs.lock import Lock
from understudy.runs.logs import METRICS, SAMPLES, Logs
from understudy.runs.read import LOCK, checkpoints, differences, is_done, is_run, json_config, step_of

State = Literal["running", "done", "stopped"]
_FIRST_FILES = {LOCK, "provenance.json", "status.json"}  # written before config.json: a run of these holds no result


def to_stderr(line: str) -> None:
    print(f"note: {shown(line)}", file=sys.stderr, flush=True)


class RunDir:
    """One run on disk, open for writing. Use `with RunDir.open(...) as run:`.

    path: the folder. config: the caller's configuration. done: the run is finished. resumed: the folder held the run
    before. listeners: each is called with every record of `log`. sample_listeners: with
    the records of every call of `samples`.
    """

    writes = True  # False in the processes of a shared run that write nothing but their part of a checkpoint

    def __init__(self, path: Path, config: dict[str, Any], keep: int, note: Callable[[str], None]) -> None:
        """Use `open`."""
        self.path, self.config, self.keep, self.note = path, config, keep, note
        self.done = False
        self.resumed = False
        self.listeners: list[Callable[[Mapping[str, Any]], None]] = []
        self.sample_listeners: list[Callable[[list[Mapping[str, Any]]], None]] = []
        self.protected: frozenset[int] = frozenset()  # steps whose checkpoints stay, however old
        self._restored = False
        self._step: int | None = None  # of the newest good checkpoint
        self._status: dict[str, Any] = {"state": "running", "step": 0, "updates": 0, "reason": ""}
        self._lock = Lock(path / LOCK)
        self._logs = Logs(path)

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
    ) -> Self:
        """Create the run in `path`, or continue the one that is there.

        config: JSON-able, finite. An existing run must have the same one, except for the fields in `volatile`
            (dotted names; a name covers what is under it), which change no number of the result.
        defaults: the values of fields that the existing run lacks because an earlier version began it.
        provenance: see understudy.runs.provenance; called once, when needed. A resume is recorded in it.
        resume: "never" refuses a folder that already holds a run.
        keep: how many checkpoints stay.
        note: called with one line for the user when something was repaired.
        Raises UserError, with nothing changed on disk, when the folder is not a run, belongs to another
        configuration, is being written by another process, or cannot be written.
        """
        path = Path(path)
        run = cls(path, json_config(config), keep, note)
        with os_errors_explained(path):
            if path.is_dir() and is_run(path):
                run._check(resume, volatile, defaults)
                if is_done(path):  # no lock: a finished run is only read, by any number of processes
                    run.done = run.resumed = run._restored = True
                    run._status = read_json(path / "status.json")
                    return run
                refuse_links(path, ("checkpoints", "data"))
            elif path.is_dir():
                check_free(path)
        facts = provenance() if callable(provenance) else provenance
        with os_errors_explained(path):
            path.mkdir(parents=True, exist_ok=True)
            run._lock.acquire()
            try:
                run._begin(resume, volatile, defaults, facts or {})
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
            fields = ", ".join(changed[:12]) + (f" and {len(changed) - 12} more" if len(changed) > 12 else "")
            hint = f"belongs to another configuration: {fields}; choose another --out, or the original settings"
            if is_done(self.path) and all(line.split()[0] in ("updates", "budget") for line in changed):
                hint = f"is finished, and is not extended ({fields}): go on from its model with --student {self.path}"
            raise UserError("out", self.path, hint)

    def _begin(
        self, resume: str, volatile: frozenset[str], defaults: Mapping[str, Any] | None, provenance: Mapping[str, Any]
    ) -> None:
        refuse_links(self.path, ("checkpoints", "data"))
        recover(self.path)
        if not is_run(self.path):
            check_free(self.path)
            write_json(self.path / "provenance.json", provenance)
            self.status("running")
            # config.json comes last: where it is, the beginning is complete
            write_json(self.path / "config.json", self.config)
            self._restored = True
            return
        self._check(resume, volatile, defaults)  # again: from here on no other process can change it
        self.resumed = True
        recover(self.path / "checkpoints", STEPS)
        recover(self.path / "data", TENSORS)
        with contextlib.suppress(UserError):  # a damaged status holds nothing that a checkpoint lacks
            self._status = read_json(self.path / "status.json")
        self._record_resume(plain(provenance))
        self.status("running")

    def _record_resume(self, now: Mapping[str, Any]) -> None:
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
        if not self.writes:
            return
        with os_errors_explained(self.path):
            known = read_json(self.path / "provenance.json")
            if any(known.get(key) != plain(value) for key, value in facts.items()):
                write_json(self.path / "provenance.json", known | facts)

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl. NaN and infinities are written as null.

        A record's "ledger" also becomes ledger.json.
        """
        self._append(METRICS, [record])
        if "ledger" in record:
            self._write("ledger.json", record["ledger"], durable=False)
        for listener in self.listeners:
            listener(record)

    def samples(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append lines to samples.jsonl."""
        records = list(records)
        self._append(SAMPLES, records)
        for listener in self.sample_listeners:
            listener(records)

    def append(self, name: str, records: Iterable[Mapping[str, Any]]) -> None:
        """Append lines to a file of the caller's own, which no checkpoint cuts back."""
        self._append(name, records)

    def status(self, state: State, reason: str = "", **numbers: int) -> None:
        """Write status.json. `numbers`: step, updates; those left out keep their last value."""
        self._status = self._status | {"state": state, "reason": " ".join(reason.split())} | numbers
        self._write("status.json", self._status)

    def cache(self, name: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors data/NAME.safetensors, computed by `make` only the first time (or when damaged).

        What computing them cost belongs into the tensors too: a resumed run does not compute them again.
        """
        with self._explained():
            return cached_tensors(self.path / "data" / f"{name}.safetensors", make, self.note)

    def has(self, name: str) -> bool:
        """Whether `cache` has made data/NAME.safetensors before."""
        return (self.path / "data" / f"{name}.safetensors").exists()

    def save(
        self, step: int, write_model: Callable[[Path], object], tensors: Mapping[str, Tensor], state: Mapping[str, Any]
    ) -> Path:
        """Write the checkpoint of `step`, as a whole or not at all, then delete the oldest ones.

        write_model(folder) writes a Hugging Face model there; tensors: optimizer and random state; state: JSON that
        must come back bit by bit (ValueError otherwise). "ledger" and "updates" in it are also written to
        ledger.json and status.json.
        Raises UserError when the disk refuses; the checkpoints before this one stay.
        """
        folder = self.path / "checkpoints"
        target = folder / f"step-{step:08d}"
        try:
            with self._explained():
                folder.mkdir(exist_ok=True)
                lengths = self._logs.flush()
                write_checkpoint(target, step, write_model, tensors, state, lengths)
        except UserError as error:
            with contextlib.suppress(UserError):  # a full disk may have no room for the reason either
                self.status("stopped", str(error))
            raise
        self._step = step
        self._publish(step, state)
        self._prune(target)
        return target

    @property
    def saved(self) -> int:
        """The step of the newest good checkpoint; 0 = there is none, or it is the start's."""
        return self._step or 0

    def lengths(self) -> dict[str, int]:
        """The length of each log in bytes, for `rewind`."""
        return self._logs.lengths()

    def rewind(self, lengths: Mapping[str, int]) -> None:
        """Cut the logs back to these lengths: what was logged since is repeated."""
        if self.writes:
            with self._explained():
                self._logs.cut(lengths, self.note)

    def _prune(self, newest: Path) -> None:
        with os_errors_explained(self.path):
            for damaged in newest.parent.glob("damaged-step-*"):
                shutil.rmtree(damaged, ignore_errors=True)
            for old in checkpoints(self.path)[: -self.keep]:
                if old != newest and step_of(old) not in self.protected:
                    # renamed first, so that a kill leaves no half checkpoint under a valid name
                    doomed = old.with_name(f".tmp-{old.name}-gone")
                    os.rename(old, doomed)
                    shutil.rmtree(doomed, ignore_errors=True)

    def restore(self) -> Checkpoint | None:
        """The newest checkpoint whose every byte is as written, with the logs cut back to it; None: start anew.

        A damaged checkpoint is reported to the user and set aside; the one before it is used.
        """
        checkpoint: Checkpoint | None = None
        damaged: list[str] = []
        with os_errors_explained(self.path):
            for path in reversed(checkpoints(self.path)):
                result = read_checkpoint(path)
                if not isinstance(result, str):
                    checkpoint = result
                    break
                damaged.append(f"checkpoint {path.name} is damaged: {result}")
                aside = path.with_name(f"damaged-{path.name}")
                shutil.rmtree(aside, ignore_errors=True)
                os.rename(path, aside)
            instead = "no good one is left, starting from the beginning"
            if checkpoint:
                instead = f"using {checkpoint.path.name} instead"
            for line in damaged:
                self.note(f"{self.path}: {line}; {instead}")
            self._logs.cut(checkpoint.logs if checkpoint else {}, self.note)
        self._step = checkpoint.step if checkpoint else None
        self._publish(checkpoint.step if checkpoint else 0, checkpoint.state if checkpoint else {})
        self._restored = True
        return checkpoint

    def finish(self, write_model: Callable[[Path], object], final: Mapping[str, Any]) -> None:
        """Write final/ and final.json, then status "done". If killed in between, call it again."""
        with self._explained():
            self._logs.flush()
            with new_folder(self.path / "final") as tmp:
                write_model(tmp)
            write_json(self.path / "final.json", final)
        self.status("done")
        self.done = True
        with contextlib.suppress(OSError):  # it is finished: a disk that refuses now only keeps more
            self._slim()

    def _slim(self) -> None:
        """Keep large weights once and large optimizer states not at all: nothing resumes a finished run."""
        self.protected = frozenset()
        kept = checkpoints(self.path)
        if kept and slim(kept[-1], self.path / "final"):
            self._prune(kept[-1])
            for older in kept[:-1]:
                if older.is_dir():
                    slim(older, self.path / "final")

    # ------------------------------------------------------------ closing, and what the methods above share

    def close(self) -> None:
        """Close the logs and free the lock. The status stays as it is."""
        self._logs.close()
        self._lock.release()

    def __enter__(self) -> Self:
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

    def _explained(self) -> contextlib.AbstractContextManager[None]:
        """Inside it, an error of the operating system becomes one line that says how to resume."""
        where = "from the beginning" if self._step is None else f"from step {self._step}"
        return os_errors_explained(self.path, f", then run the same command again: it resumes {where}")

    def _publish(self, step: int, state: Mapping[str, Any]) -> None:
        """Write ledger.json and status.json as of a checkpoint."""
        if "ledger" in state:
            self._write("ledger.json", state["ledger"], durable=False)
        elif not step:
            (self.path / "ledger.json").unlink(missing_ok=True)
        self.status("running", step=step, updates=int(state.get("updates", step)))

    def _write(self, name: str, value: Any, durable: bool = True) -> None:
        if self.writes:
            with self._explained():
                write_json(self.path / name, value, durable)

    def _append(self, name: str, records: Iterable[Mapping[str, Any]]) -> None:
        if not self.writes:
            return
        if not self._restored:
            raise RuntimeError("call restore() first: a resumed run must cut its logs back before it goes on")
        with self._explained():
            self._logs.append(name, records)


def check_free(path: Path) -> None:
    """UserError unless a run may begin in the folder `path`: nothing there could be lost. No folder: it may."""
    if not os.path.isdir(path):  # not Path.is_dir: a name that is too long for the system is an error there
        return
    refuse_links(path)
    names = {entry.name for entry in path.iterdir() if not is_leftover(entry.name)}
    if not names or (LOCK in names and names <= _FIRST_FILES):
        return  # empty, or a run that was killed before its config.json was written
    if LOCK in names or "metrics.jsonl" in names or "checkpoints" in names:
        hint = "is a run without its config.json; put the file back, or choose another --out"
    else:
        hint = f"is not empty and not a run (it holds {sorted(names)[0]}); choose another --out"
    raise UserError("out", path, hint)
