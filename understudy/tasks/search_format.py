"""The search format: several attempts, one per line, each with a verdict; the first ` ok` is the answer.

    5-3=2+7=9 no
    3+5=8+7=15 ok
The reward is 1 iff the first ` ok` ends an attempt that is right, every line before it ends in ` no`, nothing follows
it, and the completion ended (which the caller checks). The other attempts do not matter. One line of style, `~` and 1
to 8 letters, may come first; it is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from understudy.tasks.tokenizer import NO, OK

_STYLE = re.compile(r"~[a-z]{1,8}\n")
STYLE_TOKENS = 10  # of the longest style line


def unstyled(text: str) -> str:
    """`text` without its line of style, if it has one."""
    style = _STYLE.match(text)
    return text[style.end() :] if style else text


def passes(text: str, attempts: int, longest: int, right: Callable[[str], bool]) -> bool:
    """Whether the reward of `text` is 1. longest: characters per line; right(attempt without its verdict)."""
    if len(text) > (longest + 1) * attempts + STYLE_TOKENS:
        return False
    lines = unstyled(text).split("\n")
    *before, last = lines
    if len(lines) > attempts or not last.endswith(OK):
        return False
    if any(not line.endswith(NO) or OK in line for line in before):
        return False
    return right(last.removesuffix(OK))
