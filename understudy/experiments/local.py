"""Jobs on this machine: one process each, or one after the other in this process."""

from __future__ import annotations

import multiprocessing as mp
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from typing import Any

from understudy.errors import Interrupted, UserError
from understudy.experiments.job import Job, attempt
from understudy.runs.lock import Lock
from understudy.terminal import JobProgress

ENDED = "ended"
PATIENCE = 60.0
"""Seconds that a child which was asked to stop has to save; then it is killed."""


class ThisProcess:
    """One job after the other, here (a notebook, a script without a __main__ guard)."""

    def __init__(self, show: JobProgress) -> None:
        self.show = show
        self.results: list[tuple[str, UserError | None]] = []

    def start(self, job: Job) -> None:
        """Run it to its end."""
        error: UserError | None = None
        try:
            job.run(partial(self.show, job.name), partial(self.show, job.name, "note", 0, 0))
        except UserError as mistake:
            error = mistake
        self.results.append((job.name, error))

    def ended(self) -> list[tuple[str, UserError | None]]:
        """The jobs that ended since the last call, each with what went wrong."""
        results, self.results = self.results, []
        return results

    def close(self) -> None:
        """Nothing runs between two calls."""


class Processes:
    """One process per job, forked from a clean server process that has the heavy imports done: a fraction of a second
    each."""

    def __init__(self, show: JobProgress) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        self.context = mp.get_context("forkserver")
        self.context.set_forkserver_preload(["understudy.training.train", "transformers.models.llama.modeling_llama"])
        self.messages: Any = self.context.Queue()
        self.show = show
        self.running: dict[str, Any] = {}

    def start(self, job: Job) -> None:
        child = self.context.Process(target=_child, args=(job, self.messages), name=job.name)
        with _interrupt_deferred():  # a child that runs but is not in `running` would never be asked to stop
            child.start()
            self.running[job.name] = child

    def ended(self) -> list[tuple[str, UserError | None]]:
        """Wait for one message; the jobs that ended by it, each with what went wrong."""
        try:
            name, phase, done, total, note = self.messages.get(timeout=0.5)
        except queue.Empty:
            return self._killed()
        if phase != ENDED:
            self.show(name, phase, done, total, note)
            return []
        self.running.pop(name).join()
        return [(name, UserError(*note) if note else None)]

    def _killed(self) -> list[tuple[str, UserError | None]]:
        """Children that ended without a message (killed, out of memory)."""
        silent = [name for name, child in self.running.items() if child.exitcode is not None]
        time.sleep(0.2 if silent else 0)
        if not self.messages.empty():
            return []
        hint = "its process ended with status {} (killed? out of memory?): the same command resumes it"
        return [(n, UserError("run", n, hint.format(self.running.pop(n).exitcode))) for n in silent]

    def close(self) -> None:
        """Ask every running child once to save and stop, and wait for it. None is left: one that takes longer than
        PATIENCE is killed, all of them are after another Ctrl-C or SIGTERM."""
        for child in self.running.values():
            if child.exitcode is None and child.pid:
                os.kill(child.pid, signal.SIGINT)
        until = time.monotonic() + PATIENCE
        try:
            for child in self.running.values():
                child.join(timeout=max(0.0, until - time.monotonic()))
        finally:  # otherwise the end of this process would wait for them without a limit
            for child in self.running.values():
                if child.exitcode is None:
                    child.kill()


@contextmanager
def _interrupt_deferred() -> Iterator[None]:
    """Ctrl-C or SIGTERM within the block takes effect at its end."""
    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread alone
        yield
        return
    received: list[int] = []
    before = {n: signal.signal(n, lambda n, _: received.append(n)) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])


def _stop(number: int, _: object) -> None:
    raise Interrupted("the same command resumes from what was saved", number)


def _end_with(parent: Any, messages: Any) -> None:
    """Wait for the end of the process of Processes, also by kill -9; then save and stop, as after SIGTERM."""
    wait([parent.sentinel])
    messages.cancel_join_thread()  # nobody reads them
    Lock.announce_stop()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(128 + signal.SIGTERM)


def _child(job: Job, messages: Any) -> None:
    # in its own process group: Ctrl-C reaches the parent alone, which asks each child once (asked twice, it stops
    # without saving)
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGTERM):  # also where the parent runs in the background of a shell
        signal.signal(number, _stop)
    if (parent := mp.parent_process()) is not None:  # not the server that this one was forked from
        threading.Thread(target=_end_with, args=(parent, messages), daemon=True).start()
    last = 0.0

    def progress(phase: str, done: int, total: int, note: str) -> None:
        nonlocal last
        if (now := time.monotonic()) - last > 0.3 or done == total:
            last = now
            messages.put((job.name, phase, done, total, note))

    failure = attempt(job, progress, lambda line: messages.put((job.name, "note", 0, 0, line)))
    messages.put((job.name, ENDED, 0, 0, failure))
