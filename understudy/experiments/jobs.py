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
from understudy.experiments.ray import run_ray
from understudy.runs.read import is_done

LAUNCHERS = ("local", "ray")

Show = Callable[[str, str, int, int, str], None]
"""show(job, phase, done, total, note)"""
Progress = Callable[[str, int, int, str], None]
"""progress(phase, done, total, note)"""


@dataclass(frozen=True)
class Job:
    """One training run, started once the jobs in `needs` have finished."""

    name: str
    config: TrainConfig
    needs: tuple[str, ...] = ()

    def is_done(self) -> bool:
        return is_done(Path(self.config.out))

    def run(self, progress: Progress, note: Callable[[str], None]) -> None:
        from understudy.training.train import train

        train(self.config, progress, note)


@dataclass(frozen=True)
class Work:
    """Anything else worth a process: `call(*args, progress, note)`, which leaves the file `out` when it has finished.

    `call` is a function of a module, not of a class or another function: it crosses to another process. The name of
    `out` should tell all that its content depends on, for a file that is there is not made again.
    """

    name: str
    call: Callable[..., None]
    args: tuple[Any, ...]
    out: str
    needs: tuple[str, ...] = ()

    def is_done(self) -> bool:
        return Path(self.out).is_file()

    def run(self, progress: Progress, note: Callable[[str], None]) -> None:
        self.call(*self.args, progress, note)


def run_all(
    jobs: Sequence[Job | Work], workers: int, show: Show, keep_going: bool = False, launcher: str = "local"
) -> list[str]:
    """Run every job; the names of those that were finished before and only re-used.

    launcher: `local` processes, or `ray` (ray_jobs.py).

    The first failure lets running jobs end, starts no more (keep_going: only none that needs the failed one), and is
    raised as the job's own UserError at the end. Ctrl-C lets every running job save and raises KeyboardInterrupt.
    """
    if launcher not in LAUNCHERS:
        raise UserError("launcher", launcher, f"unknown; one of {', '.join(LAUNCHERS)}")
    names = [j.name for j in jobs]
    if len(set(names)) != len(names):
        raise ValueError("two jobs have one name")
    if unknown := {n for j in jobs for n in j.needs} - set(names):
        raise ValueError(f"jobs need unknown jobs: {sorted(unknown)}")
    reused = [j.name for j in jobs if j.is_done()]
    for job in jobs:
        if job.name in reused:
            if isinstance(job, Job):
                _check_same(job)
            show(job.name, "finished before", 1, 1, "re-used")
    waiting = [j for j in jobs if j.name not in reused]
    if launcher == "ray":
        run_ray(waiting, workers, set(reused), show, keep_going)
        return reused
    if workers <= 1:
        _run_here(waiting, show, keep_going)
        return reused
    pool = _Pool(show)
    try:
        pool.run(waiting, workers, set(reused), keep_going)
    finally:
        pool.close()
    return reused


def _run_here(jobs: Sequence[Job | Work], show: Show, keep_going: bool) -> None:
    """One after the other in this process (a notebook, a script without a __main__ guard)."""
    from understudy.training.train import Interrupted

    failed: dict[str, UserError] = {}
    for job in jobs:  # jobs come after those they need
        if failed.keys() & set(job.needs):
            failed[job.name] = next(iter(failed.values()))
            continue
        try:
            job.run(partial(show, job.name), partial(show, job.name, "note", 0, 0))
        except Interrupted as stop:
            raise KeyboardInterrupt(str(stop)) from None
        except UserError as error:
            if not keep_going:
                raise
            failed[job.name] = error
            show(job.name, "failed", 0, 1, error.hint)
            continue
        show(job.name, "done", 1, 1, "")
    if failed:
        raise next(iter(failed.values()))


def _check_same(job: Job) -> None:
    """A finished run is re-used only if it is of this very configuration."""
    from understudy.config import VOLATILE, resolve, to_dict
    from understudy.runs.read import differences, read_config

    changed = differences(read_config(job.config.out), to_dict(resolve(job.config)), VOLATILE, to_dict(TrainConfig()))
    if changed:
        raise UserError("out", job.config.out, f"holds another run ({', '.join(changed[:4])}): choose another --out")


class _Pool:
    def __init__(self, show: Show) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        self.context = mp.get_context("forkserver")
        self.context.set_forkserver_preload(["understudy.training.train", "transformers.models.llama.modeling_llama"])
        self.messages: Any = self.context.Queue()
        self.show = show
        self.running: dict[str, Any] = {}

    def run(self, waiting: list[Job | Work], workers: int, done: set[str], keep_going: bool) -> None:
        failure: UserError | None = None
        while True:
            ready = [j for j in waiting if set(j.needs) <= done] if failure is None or keep_going else []
            if not self.running and not ready:
                break
            while ready and len(self.running) < workers:
                job = ready.pop(0)
                waiting.remove(job)
                child = self.context.Process(target=_child, args=(job, self.messages), name=job.name)
                child.start()
                self.running[job.name] = child
            try:
                name, phase, a, b, note = self.messages.get(timeout=0.5)
            except queue.Empty:
                dead = self._dead()
                failure = failure or dead
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


def _child(job: Job | Work, messages: Any) -> None:
    from understudy.training.train import Interrupted

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
        job.run(progress, note)
        messages.put((job.name, "done", 0, 0, ""))
    except UserError as error:
        where = job.config.out if isinstance(job, Job) else job.out
        value = f"{error.value} (run {where})"
        messages.put((job.name, "failed", 0, 0, (error.field, value, error.hint)))
    except (Interrupted, KeyboardInterrupt):
        messages.put((job.name, "failed", 0, 0, ("run", job.name, "interrupted; the same command resumes it")))
    except BaseException as error:
        traceback.print_exc(file=sys.stderr)
        messages.put((job.name, "failed", 0, 0, ("run", job.name, f"{type(error).__name__}: {error}")))
