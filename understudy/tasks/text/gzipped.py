"""A gzip file as a stream of bytes, with a limit on its members.

A member costs microseconds even where it is empty, and Python's own reader takes any number of them: 40 MB of empty
ones keep it busy for half a minute.
"""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

from understudy.errors import UserError

MEMBERS, BYTES = 2**16, 2**12
"""A file may have MEMBERS members, or one per BYTES bytes: bgzip writes one per 64 KiB of text."""
_BLOCK = 2**14


class Gzip(io.RawIOBase):
    """The bytes that `path` holds. Zeros may follow a member.

    UserError: too many members. EOFError, zlib.error: it ends within a member, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, path.open("rb")
        self.left = max(MEMBERS, path.stat().st_size // BYTES)
        self.rest = b""
        self.member: Any = None
        self.begun = False

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        while True:
            data = self.rest or self.file.read(_BLOCK)
            self.rest = b""
            if self.member is None:
                if not data:
                    return 0
                data = data.lstrip(b"\0") if self.begun else data
                self._count()  # zeros too: a sparse file has terabytes of them
                if not data:
                    continue
                self.member, self.begun = zlib.decompressobj(31), True
            elif not data:
                raise EOFError("it ends within a member")
            out = self.member.decompress(data, len(buffer))
            if self.member.eof:
                self.member, self.rest = None, self.member.unused_data
            else:
                self.rest = self.member.unconsumed_tail
            if out:
                buffer[: len(out)] = out
                return len(out)

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            hint = "has more members than compressed rows need: decompress it, and compress it as one"
            raise UserError("task.path", self.path, hint)
