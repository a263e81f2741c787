"""The child of mathpool.py: reads {"gold", "answer"} lines, writes {"right"} lines, and dies with its parent.

`python -m understudy.tasks.text.mathworker SECONDS`. Nothing here is imported by the rest of the library.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

MEMORY = 4 << 30  # bytes of address space: a tower of powers must not exhaust the machine


def main() -> None:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no verdict

    def send(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    try:
        from math_verify import parse, verify

        if not verify(parse("$\\frac{1}{2}$"), parse("$0.5$")):
            raise ValueError("it does not find 1/2 equal to 0.5")
    except BaseException as error:
        send({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"})
        return
    _limit_memory()
    # if the parent has died it cannot kill this process: the system's alarm does
    patience = max(1, round(float(sys.argv[1]) * 4))
    send({"ready": True})
    for line in sys.stdin:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(patience)
        send({"right": _right(parse, verify, json.loads(line))})
        signal.alarm(0)


def _right(parse: Any, verify: Any, pair: dict[str, str]) -> bool:
    try:
        gold, answer = (parse(f"${pair[name]}$", parsing_timeout=None) for name in ("gold", "answer"))
        return bool(gold) and bool(answer) and bool(verify(gold, answer, timeout_seconds=None))
    except Exception:  # an answer that breaks the library is wrong (MemoryError and RecursionError too)
        return False


def _limit_memory() -> None:
    try:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        if soft == resource.RLIM_INFINITY or soft > MEMORY:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))
    except (ImportError, ValueError, OSError):
        pass  # on a system without such limits the time limit remains


if __name__ == "__main__":
    main()
