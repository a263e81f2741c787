"""The other side of workers.py: a process that answers JSON lines, and ends with its parent."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

MEMORY = 4 << 30  # bytes of address space: a tower of powers must not exhaust the machine


_send: list[Callable[[dict[str, Any]], None]] = []


def begun() -> None:
    """Tell the parent that what a request's own time limit is for begins now."""
    for send in _send:
        send({"begun": True})


def serve(prepare: Callable[[], Callable[[Any], Any]], memory: int = MEMORY) -> None:
    """`prepare()` imports what is needed and returns the function that answers a request.

    Its first argument on the command line is the time limit of a request, in seconds. memory: bytes of address space
    after the imports; 0 = no limit. Whatever goes wrong in `prepare` is sent as {"error": text}.
    """
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer

    def send(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    _send.append(send)
    try:
        answer = prepare()
    except BaseException as error:
        send({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"})
        return
    if memory:
        _limit_memory(memory)
    # if the parent has died it cannot kill this process, and code that never lets another thread run hides that from
    # _end_with: the system's alarm does
    patience = max(1, round(float(sys.argv[1]) * 4))
    send({"ready": True})
    for line in sys.stdin:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(patience)
        send({"answer": answer(json.loads(line))})
        signal.alarm(0)


def _end_with(parent: int) -> None:
    """End this process within a second of its parent, whatever it works on."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _limit_memory(memory: int) -> None:
    try:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        if soft == resource.RLIM_INFINITY or soft > memory:
            resource.setrlimit(resource.RLIMIT_AS, (memory, hard))
    except (ImportError, ValueError, OSError):
        pass  # on a system without such limits the time limit remains
