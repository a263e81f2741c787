"""The child of mathpool.py: reads {"gold", "answer"} lines, writes {"right"} lines, and dies with its parent.

`python -m understudy.tasks.text.mathworker SECONDS`. Nothing here is imported by the rest of the library.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

MEMORY = 4 << 30  # bytes of address space: a tower of powers must not take the machine down


def main() -> None:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no verdict

    def say(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    try:
        from math_verify import parse, verify

        if not verify(parse("$\\frac{1}{2}$"), parse("$0.5$")):
            raise ValueError("it does not find 1/2 equal to 0.5")
    except BaseException as error:
        say({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"})
        return
    _limit_memory()
    # if the parent is gone it cannot kill us: then the system's alarm does
    patience = max(1, round(float(sys.argv[1]) * 4))
    say({"ready": True})
    for line in sys.stdin:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(patience)
        say({"right": _right(parse, verify, json.loads(line))})
        signal.alarm(0)


def _right(parse: Any, verify: Any, asked: dict[str, str]) -> bool:
    try:
        gold, answer = (parse(f"${asked[name]}$", parsing_timeout=None) for name in ("gold", "answer"))
        return bool(gold) and bool(answer) and bool(verify(gold, answer, timeout_seconds=None))
    except Exception:  # the answer is a model's: whatever it breaks, it is wrong (MemoryError and RecursionError too)
        return False


def _limit_memory() -> None:
    try:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        if soft == resource.RLIM_INFINITY or soft > MEMORY:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))
    except (ImportError, ValueError, OSError):
        pass  # a system without such limits still has the time limit


if __name__ == "__main__":
    main()
