"""Child processes that answer one request at a time, under a time limit; one that takes too long or dies is replaced.

For code that this process must not run itself: math-verify, reasoning_gym's scorers, a reward function of the user.
Processes, not threads: nothing else can interrupt code that does not end. They are plain children that exchange JSON
lines over pipes: nothing is pickled, nothing of this process is forked, and a script or notebook needs no guard. The
other side is `understudy/tasks/child.py`.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from understudy import running
from understudy.errors import UserError

START = 120.0  # seconds that the imports of a child may take on a busy machine
Refuse = Callable[[str], UserError]
"""refuse(why): the error that a pool which cannot work raises."""


class Worker:
    """One child process. It answers one request at a time."""

    def __init__(self, module: str, args: Sequence[str]) -> None:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # with a fixed hash seed the order of a set, and so what a generator draws, is the same in every process
            env=os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": "0"},
            start_new_session=True,  # Ctrl-C stops this process only: the run saves, and needs its verifier until then
        )
        self.read = b""
        self.request: int | None = None
        self.deadline = time.monotonic() + START
        self.ready = False

    def ask(self, i: int, request: Any, limit: float) -> None:
        line = json.dumps(request).encode() + b"\n"
        self.request, self.deadline = i, time.monotonic() + limit
        with contextlib.suppress(OSError):  # it died: the pool sees that its output is closed
            assert self.process.stdin is not None
            self.process.stdin.write(line)
            self.process.stdin.flush()

    def lines(self) -> list[dict[str, Any]] | None:
        """Messages that have arrived; None once it has died."""
        assert self.process.stdout is not None
        data = os.read(self.process.stdout.fileno(), 65536)
        if not data:
            return None
        *whole, self.read = (self.read + data).split(b"\n")
        return [json.loads(line) for line in whole]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


class Pool:
    """The answers of `python -m module SECONDS ARGS`, `workers` processes at a time, `limit` seconds per request."""

    def __init__(self, module: str, args: Sequence[str], refuse: Refuse, workers: int = 2, limit: float = 5.0) -> None:
        self.module, self.args, self.refuse = module, tuple(args), refuse
        self.size, self.limit = workers, limit
        self.workers: list[Worker] = []
        self.killed = 0
        self._begun = limit

    def run(self, requests: Sequence[Any], limit: float | None = None) -> list[Any]:
        """The answer to each request; None where its process ran out of time or died.

        limit: seconds from when a child says that it has begun the work proper (child.begun); before, the pool's.
        """
        self._begun = limit or self.limit
        answers: list[Any] = [None] * len(requests)
        todo = list(range(len(requests)))[::-1]
        try:
            while todo or any(w.request is not None for w in self.workers):
                while len(self.workers) < min(self.size, len(todo) + len(self.workers)) and todo:
                    self.workers.append(self._started())
                for worker in self.workers:
                    if worker.ready and worker.request is None and todo:
                        i = todo.pop()
                        worker.ask(i, requests[i], self.limit)
                running.check()
                self._wait(answers)
        except BaseException:  # the reply to an open request would be taken for the next one's
            self.close()
            raise
        return answers

    def start(self) -> None:
        """Start the first process now, so that its imports run beside what comes next."""
        if not self.workers:
            self.workers.append(self._started())

    def _started(self) -> Worker:
        return Worker(self.module, (str(self.limit), *self.args))

    def _wait(self, answers: list[Any]) -> None:
        busy = [w for w in self.workers if w.request is not None or not w.ready]
        if not busy:
            return
        with selectors.DefaultSelector() as selector:
            for w in busy:
                assert w.process.stdout is not None
                selector.register(w.process.stdout, selectors.EVENT_READ, w)
            left = max(0.0, min(w.deadline for w in busy) - time.monotonic())
            # a signal does not end the wait: Ctrl-C is looked for once a second
            ready = [key.data for key, _ in selector.select(min(left, 1.0))]
        for w in ready:
            messages = w.lines()
            if messages is None:
                self._lost(w, "ended")
                continue
            for message in messages:
                if "error" in message:
                    self._drop(w)
                    raise self.refuse(message["error"])
                if message.get("ready"):
                    w.ready = True
                elif message.get("begun"):
                    w.deadline = time.monotonic() + self._begun
                elif w.request is not None:
                    answers[w.request], w.request = message["answer"], None
        now = time.monotonic()
        for w in list(self.workers):
            if (w.request is not None or not w.ready) and now > w.deadline and w not in ready:
                self._lost(w, f"sent nothing for {START:g} seconds")

    def _lost(self, w: Worker, why: str) -> None:
        """It hung or died: its request has no answer, and the next one gets a new process."""
        self.killed += 1
        started = w.ready
        self._drop(w)
        if not started:
            raise self.refuse(f"a process {why} before it was ready")

    def _drop(self, w: Worker) -> None:
        self.workers.remove(w)
        w.kill()

    def close(self) -> None:
        for w in self.workers:
            w.kill()
        self.workers = []


P = TypeVar("P", bound=Pool)
_POOLS: dict[Hashable, Pool] = {}


def shared(key: Hashable, make: Callable[[], P]) -> P:
    """One pool per process and key; its children end with this process."""
    place = (os.getpid(), key)
    if place not in _POOLS:
        _POOLS[place] = make()
        atexit.register(_POOLS[place].close)
    return _POOLS[place]  # type: ignore[return-value]
