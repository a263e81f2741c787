"""The child of mathpool.py: whether math-verify finds an answer equal to the gold one.

`python -m understudy.tasks.text.mathworker SECONDS`. Nothing here is imported by the rest of the library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from understudy.tasks.child import serve


def prepare() -> Callable[[dict[str, str]], bool]:
    from math_verify import parse, verify  # an optional extra, and seconds of imports

    if not verify(parse("$\\frac{1}{2}$"), parse("$0.5$")):
        raise ValueError("it does not find 1/2 equal to 0.5")
    return lambda pair: _right(parse, verify, pair)


def _right(parse: Any, verify: Any, pair: dict[str, str]) -> bool:
    try:
        gold, answer = (parse(f"${pair[name]}$", parsing_timeout=None) for name in ("gold", "answer"))
        return bool(gold) and bool(answer) and bool(verify(gold, answer, timeout_seconds=None))
    except Exception:  # an answer that breaks the library is wrong (MemoryError and RecursionError too)
        return False


if __name__ == "__main__":
    serve(prepare)
