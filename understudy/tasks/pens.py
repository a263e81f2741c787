"""How a completion is written symbol by symbol: what comes next after any text, what a slip writes, what takes it back.

Experts (experts/programs/writer.py) draw from this; a student may write anything, so every text has a next symbol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

BACK = "<"
"""Takes back the last symbol, in tasks whose completions are typed."""

Ahead = tuple[str, str, str]
"""What comes next (one symbol; "" = the end), the symbols that a slip writes instead ("" = it cannot slip here), and
the symbol that takes a mistake back ("" = there is none)."""


class Pen(Protocol):
    """A position in a completion."""

    choices: int
    """Places of the flawless completion where a slip is possible."""
    made: int
    """How many of those lie behind this position."""

    def ahead(self) -> Ahead:
        """What can be written here."""
        ...

    def push(self, symbol: str) -> None:
        """Advance by any symbol. "" = one that the task does not know."""
        ...


class TypingPen:
    """Completions that are typed: BACK takes back the last symbol.

    follow(text): what comes next after `text`, and what a slip writes. A symbol is a mistake if it was not what came
    next; while there is one in the text, it can be taken back, with everything after it.
    """

    def __init__(self, follow: Callable[[str], tuple[str, str]], choices: int) -> None:
        self.follow, self.choices = follow, choices
        self.text = ""
        self._kinds: list[tuple[bool, bool]] = []  # of each symbol: whether it is a mistake, whether it was a choice
        self._mistakes = self.made = 0
        self._following: tuple[str, str] | None = None  # of the text as it stands

    def ahead(self) -> Ahead:
        return (*self._follow(), BACK if self._mistakes else "")

    def _follow(self) -> tuple[str, str]:
        if self._following is None:
            self._following = self.follow(self.text)
        return self._following

    def push(self, symbol: str) -> None:
        if symbol == BACK:
            if self._kinds:
                self._count(*self._kinds.pop(), -1)
                self.text, self._following = self.text[:-1], None
            return
        following, slips = self._follow()
        kind = symbol != following, bool(slips)
        self._kinds.append(kind)
        self._count(*kind, 1)
        self.text, self._following = self.text + (symbol or "?"), None

    def _count(self, mistake: bool, choice: bool, sign: int) -> None:
        self._mistakes += sign * mistake
        self.made += sign * choice


def typed(text: str) -> str | None:
    """What `text` leaves once every BACK has taken back a symbol; None if one finds nothing to take back."""
    left: list[str] = []
    for symbol in text:
        if symbol != BACK:
            left.append(symbol)
        elif left:
            left.pop()
        else:
            return None
    return "".join(left)
