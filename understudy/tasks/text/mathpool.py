"""math-verify in a few persistent worker processes; one that takes too long or dies is replaced.

Processes, not threads: math-verify's own limit is SIGALRM, which only a main thread receives, and sympy cannot be
interrupted in another way. Workers are plain child processes that exchange JSON lines over pipes: nothing is pickled,
nothing of this process is forked, and a script or notebook needs no guard.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import selectors
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from understudy.errors import UserError

START = 120.0  # seconds that importing sympy may take on a busy machine
REMEMBERED = 50_000  # verdicts kept


def require() -> None:
    """UserError unless math-verify is installed."""
    if importlib.util.find_spec("math_verify") is None:
        hint = "needs math-verify: pip install 'understudy[math]', or choose verifier=number or exact"
        raise UserError("task.verifier", "math", hint)


class Worker:
    """One child process. It checks one pair at a time."""

    def __init__(self, limit: float) -> None:
        root = str(Path(__file__).resolve().parents[3])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "understudy.tasks.text.mathworker", str(limit)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C stops this process only: the run saves, and needs its verifier until then
        )
        self.read = b""
        self.pair: int | None = None
        self.deadline = time.monotonic() + START
        self.ready = False

    def ask(self, i: int, gold: str, answer: str, limit: float) -> None:
        line = json.dumps({"gold": gold, "answer": answer}).encode() + b"\n"
        self.pair, self.deadline = i, time.monotonic() + limit
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
    """Verdicts of math-verify on (gold, answer) pairs, `workers` at a time, `limit` seconds each."""

    def __init__(self, workers: int = 2, limit: float = 5.0) -> None:
        self.size, self.limit = workers, limit
        self.workers: list[Worker] = []
        self.killed = 0
        self._known: OrderedDict[tuple[str, str], bool] = OrderedDict()

    def check(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether math-verify accepts each answer for its gold; False where it ran out of time, died or failed."""
        new = [p for p in dict.fromkeys(pairs) if p not in self._known]
        for pair, verdict in zip(new, self._run(new) if new else []):
            self._known[pair] = verdict
        out = [self._known[p] for p in pairs]
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return out

    def _run(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        verdicts = [False] * len(pairs)
        todo = list(range(len(pairs)))[::-1]
        try:
            while todo or any(w.pair is not None for w in self.workers):
                while len(self.workers) < min(self.size, len(todo) + len(self.workers)) and todo:
                    self.workers.append(Worker(self.limit))
                for worker in self.workers:
                    if worker.ready and worker.pair is None and todo:
                        i = todo.pop()
                        worker.ask(i, *pairs[i], self.limit)
                self._wait(verdicts)
        except BaseException:  # the reply to an open pair would be taken for the next one's
            self.close()
            raise
        return verdicts

    def _wait(self, verdicts: list[bool]) -> None:
        busy = [w for w in self.workers if w.pair is not None or not w.ready]
        if not busy:
            return
        with selectors.DefaultSelector() as selector:
            for w in busy:
                assert w.process.stdout is not None
                selector.register(w.process.stdout, selectors.EVENT_READ, w)
            left = max(0.0, min(w.deadline for w in busy) - time.monotonic())
            ready = [key.data for key, _ in selector.select(left)]
        for w in ready:
            messages = w.lines()
            if messages is None:
                self._lost(w, "ended")
                continue
            for message in messages:
                if "error" in message:
                    self._drop(w)
                    raise UserError("task.verifier", "math", f"math-verify cannot be used here ({message['error']})")
                if message.get("ready"):
                    w.ready = True
                elif w.pair is not None:
                    verdicts[w.pair], w.pair = bool(message.get("right")), None
        now = time.monotonic()
        for w in list(self.workers):
            if (w.pair is not None or not w.ready) and now > w.deadline and w not in ready:
                self._lost(w, f"sent nothing for {START:g} seconds")

    def _lost(self, w: Worker, why: str) -> None:
        """It hung or died: its pair counts as wrong, and the next one gets a new process."""
        self.killed += 1
        started = w.ready
        self._drop(w)
        if not started:
            raise UserError("task.verifier", "math", f"a math-verify process {why} before it was ready")

    def _drop(self, w: Worker) -> None:
        self.workers.remove(w)
        w.kill()

    def close(self) -> None:
        for w in self.workers:
            w.kill()
        self.workers = []


_POOLS: dict[tuple[int, int, float], Pool] = {}


def shared(workers: int, limit: float) -> Pool:
    """One pool per process and setting; its children end with this process."""
    key = (os.getpid(), workers, limit)
    if key not in _POOLS:
        _POOLS[key] = Pool(workers, limit)
        atexit.register(_POOLS[key].close)
    return _POOLS[key]
