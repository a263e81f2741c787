"""Output that outlives its reader: `understudy train | head -1` trains to its end. Imports nothing large."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


class _Raw(io.FileIO):
    """A file descriptor that goes to nothing once it cannot be written: its reader has gone, or its disk is full."""

    lost: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            if isinstance(error, BlockingIOError):
                raise
            self.lost = error
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self.fileno())
            os.close(nothing)
            return len(data)


def _robust(stream: Any, fd: int) -> tuple[Any, _Raw | None]:
    """`stream` with such a file below it; a character that its encoding lacks is written as an escape."""
    if stream is None:  # closed by the caller (>&-)
        return open(os.devnull, "w", encoding="utf-8"), None
    raw = _Raw(fd, "wb", closefd=False)
    errors = "backslashreplace" if stream.errors == "strict" else stream.errors
    text = io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=stream.encoding, errors=errors, line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )  # fmt: skip
    return text, raw


class Streams:
    """sys.stdout and sys.stderr, made robust."""

    def __init__(self) -> None:
        sys.stdout, self._out = _robust(sys.stdout, 1)
        sys.stderr, _ = _robust(sys.stderr, 2)

    def end(self) -> OSError | None:
        """Write what is left. What kept the output from being written, unless its reader has had enough of it."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        lost = self._out.lost if self._out else None
        return None if lost is None or isinstance(lost, BrokenPipeError) else lost
