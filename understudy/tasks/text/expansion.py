"""How much a file of rows may hold: small files that expand without end, and values that no memory holds."""

from __future__ import annotations

from pathlib import Path

from understudy.errors import UserError

LARGEST_LINE = 2**24
"""Characters of a row, and of a line."""
LARGEST_JSON = 2**28
"""Characters of a file that is one JSON object."""
EXPANSION, EXPANDED = 200, 2**26
"""A compressed file may give EXPANDED characters, or EXPANSION times its bytes: real rows are far below."""


def most_characters(size: int) -> int:
    """What a compressed file of `size` bytes may give."""
    return max(EXPANDED, EXPANSION * size)


def too_large(path: Path) -> UserError:
    return UserError("task.path", path, f"expands to more than {EXPANSION} times its size: no rows do")


def too_long(path: Path, what: str) -> UserError:
    return UserError("task.path", path, f"has a {what} of more than {LARGEST_LINE >> 20} million characters")
