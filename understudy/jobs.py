"""Runs that depend on runs, some at a time: one process a run, one progress line each, finished runs re-used.

A child is forked from a clean server process that has the heavy imports done, so a run starts in a fraction of a
second.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import queue
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from understudy.config import TrainConfig
from understudy.errors import UserError
from understudy.run_files import is_done

Show = Callable[[str, str, int, int, str], None]
"""show(job, phase, done, total, note)"""


@dataclass(frozen=True)
class Job:
    """One training run, started once the jobs in `needs` have finished."""

    name: str
    config: TrainConfig
    needs: tuple[str, ...] = ()


def run_all(jobs: Sequence[Job], workers: int, show: Show) -> list[str]:
    """Run every job; the names of those that were finished before and only re-used.

    The first failure lets running jobs end, starts no more, and is raised as the job's own UserError. Ctrl-C lets every
    running job save and raises KeyboardInterrupt.
    """
    names = [j.name for j in jobs]
    if len(set(names)) != len(names):
        raise ValueError("two jobs have one name")
    if unknown := {n for j in jobs for n in j.needs} - set(names):
        raise ValueError(f"jobs need unknown jobs: {sorted(unknown)}")
    reused = [j.name for j in jobs if is_done(Path(j.config.out))]
    for job in jobs:
        if job.name in reused:
            _check_same(job)
            show(job.name, "finished before", 1, 1, "re-used")
    waiting = [j for j in jobs if j.name not in reused]
    if workers <= 1:
        _run_here(waiting, show)
        return reused
    pool = _Pool(show)
    try:
        pool.run(waiting, workers, set(reused))
    finally:
        pool.close()
    return reused


def _run_here(jobs: Sequence[Job], show: Show) -> None:
    """One after the other in this process (a notebook, a script without a __main__ guard)."""
    from understudy.train import Interrupted, train

    for job in jobs:  # jobs come after those they need
        try:
            train(job.config, partial(show, job.name), partial(show, job.name, "note", 0, 0))
        except Interrupted as stop:
            raise KeyboardInterrupt(str(stop)) from None
        show(job.name, "done", 1, 1, "")


def _check_same(job: Job) -> None:
    """A finished run is re-used only if it is of this very configuration."""
    from understudy.config import VOLATILE, resolve, to_dict
    from understudy.run_files import differences, read_config

    changed = differences(read_config(job.config.out), to_dict(resolve(job.config)), VOLATILE)
    if changed:
        raise UserError(
            "out", job.config.out, f"holds another run ({', '.join(changed[:4])}): choose another --out"
        )


class _Pool:
    def __init__(self, show: Show) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        self.context = mp.get_context("forkserver")
        self.context.set_forkserver_preload(["understudy.train", "transformers.models.llama.modeling_llama"])
        self.messages: Any = self.context.Queue()
        self.show = show
        self.running: dict[str, Any] = {}

    def run(self, waiting: list[Job], workers: int, done: set[str]) -> None:
        failure: UserError | None = None
        while self.running or (waiting and failure is None):
            ready = [j for j in waiting if set(j.needs) <= done]
            while ready and len(self.running) < workers and failure is None:
                job = ready.pop(0)
                waiting.remove(job)
                child = self.context.Process(target=_child, args=(job, self.messages), name=job.name)
                child.start()
                self.running[job.name] = child
            try:
                name, phase, a, b, note = self.messages.get(timeout=0.5)
            except queue.Empty:
                failure = failure or self._dead()
                continue
            if phase == "done":
                self.running.pop(name).join()
                done.add(name)
                self.show(name, "done", 1, 1, "")
            elif phase == "failed":
                self.running.pop(name).join()
                failure = failure or UserError(*note)
                self.show(name, "failed", 0, 1, note[2])
            else:
                self.show(name, phase, a, b, note)
        if failure is not None:
            raise failure

    def _dead(self) -> UserError | None:
        """A child that is gone without a word (killed, out of memory)."""
        for name, child in list(self.running.items()):
            if child.exitcode is not None:
                time.sleep(0.2)
                if self.messages.empty():
                    del self.running[name]
                    return UserError(
                        "run",
                        name,
                        f"its process ended with status {child.exitcode} (killed? out of memory?): "
                        "the same command resumes it",
                    )
        return None

    def close(self) -> None:
        """Ask what still runs to save and stop; wait for it."""
        for child in self.running.values():
            if child.exitcode is None and child.pid:
                os.kill(child.pid, signal.SIGINT)
        for child in self.running.values():
            child.join(timeout=60)


def _child(job: Job, messages: Any) -> None:
    from understudy.train import Interrupted, train

    # Ctrl-C reaches the parent alone, which asks each child once: a second ask would not save
    os.setpgid(0, 0)
    last, server = [0.0], os.getppid()

    def progress(phase: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if os.getppid() != server:  # the parent was killed: save and stop, as after Ctrl-C
            os.kill(os.getpid(), signal.SIGTERM)
        if now - last[0] > 0.3 or done == total:
            last[0] = now
            messages.put((job.name, phase, done, total, note))

    def note(line: str) -> None:
        messages.put((job.name, "note", 0, 0, line))

    try:
        train(job.config, progress, note)
        messages.put((job.name, "done", 0, 0, ""))
    except UserError as error:
        value = f"{error.value} (run {job.config.out})"
        messages.put((job.name, "failed", 0, 0, (error.field, value, error.mend)))
    except (Interrupted, KeyboardInterrupt):
        messages.put(
            (job.name, "failed", 0, 0, ("run", job.name, "interrupted; the same command resumes it"))
        )
    except BaseException as error:
        traceback.print_exc(file=sys.stderr)
        messages.put((job.name, "failed", 0, 0, ("run", job.name, f"{type(error).__name__}: {error}")))
