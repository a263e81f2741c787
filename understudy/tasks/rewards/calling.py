"""One call of a reward function, as TRL calls its `reward_funcs`, and what is wrong with what it returns.

f(prompts, completions, **columns) -> a list of numbers, or None for a completion that it does not grade. Prompts and
completions are texts; of a chat template, lists of messages. columns: what else the rows hold, a list per name.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

Function = Callable[..., Any]


class Fault(Exception):
    """What went wrong, and at which completion of the call (None: not known)."""

    def __init__(self, what: str, at: int | None = None) -> None:
        self.what, self.at = " ".join(what.split())[:300], at
        super().__init__(self.what)


def call(function: Function, prompts: Sequence[Any], completions: Sequence[Any], columns: dict[str, list[Any]]) -> Any:
    """(n,) floats or None. Fault: it raises, or returns something else."""
    rows = _accepted(function, {"prompts": list(prompts), "completions": list(completions)} | columns)
    try:
        out = _returned(function, rows)
    except Exception as error:
        raise Fault(_says(error), _culprit(function, rows, len(completions))) from None
    if hasattr(out, "tolist"):  # an array or a tensor
        out = out.tolist()
    if out is None or isinstance(out, (str, bytes, dict)) or not hasattr(out, "__len__"):
        kind = "nothing" if out is None else f"a {type(out).__name__}"
        raise Fault(f"returned {kind}: it must return a list with a number for each completion")
    if len(out) != len(completions):
        raise Fault(f"returned {len(out)} rewards for {len(completions)} completions")
    return [_number(value, i) for i, value in enumerate(out)]


def _accepted(function: Function, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """What of the rows it takes. Fault: it needs more."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return rows
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    missing = [p.name for p in named if p.default is p.empty and p.name not in rows]
    if missing:
        raise Fault(f"needs {', '.join(missing)}: there is only {', '.join(rows)}")
    if any(p.kind == p.VAR_KEYWORD for p in parameters):
        return rows
    names = {p.name for p in named}
    return {name: values for name, values in rows.items() if name in names}


def _returned(function: Function, rows: dict[str, list[Any]]) -> Any:
    out = function(**rows)
    return asyncio.run(out) if inspect.iscoroutine(out) else out


def _culprit(function: Function, rows: dict[str, list[Any]], n: int) -> int | None:
    """Which of `n` completions makes it raise alone, too."""
    for i in range(n):
        try:
            _returned(function, {name: values[i : i + 1] for name, values in rows.items()})
        except Exception:
            return i
    return None


def _number(value: Any, at: int) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise Fault(f"returned {value!r}, which is no number", at) from None
    if not math.isfinite(number):
        raise Fault(f"returned {number}", at)
    return number


def _says(error: Exception) -> str:
    return f"raised {type(error).__name__}: {error}" if str(error) else f"raised {type(error).__name__}"
