"""The two files of a run that grow: lines are appended whole, and a resume cuts them back to its checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from understudy.runs.files import dumps, sync

METRICS, SAMPLES = "metrics.jsonl", "samples.jsonl"


class Logs:
    """The logs in `folder`; each is opened at its first line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._handles: dict[str, int] = {}

    def append(self, name: str, records: Iterable[Mapping[str, Any]]) -> None:
        """Append one line per record. After an OSError the file is as long as before."""
        data = b"".join(dumps(record) for record in records)
        if name not in self._handles:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
            self._handles[name] = os.open(self.folder / name, flags, 0o666)
        handle = self._handles[name]
        before = os.fstat(handle).st_size
        try:
            while data:  # os.write may write only the beginning
                data = data[os.write(handle, data) :]
        except OSError:
            os.ftruncate(handle, before)
            raise

    def flush(self) -> dict[str, int]:
        """Flush the logs to the disk; the length of each in bytes."""
        for handle in self._handles.values():
            os.fsync(handle)
        return self.lengths()

    def lengths(self) -> dict[str, int]:
        """The length of each log in bytes, as far as this process has written it."""
        return {name: _length(self.folder / name) for name in (METRICS, SAMPLES)}

    def cut(self, lengths: Mapping[str, int], note: Callable[[str], None]) -> None:
        """Cut each log back to its length in bytes (0 where absent). `note` is called for a log that is shorter."""
        for name in (METRICS, SAMPLES):
            path, wanted = self.folder / name, lengths.get(name, 0)
            length = _length(path)
            if length > wanted:
                os.truncate(path, wanted)
                sync(path)
            elif length < wanted:
                note(f"{path}: has {length} bytes, the checkpoint saw {wanted}; lines before it are missing")
                whole_lines = path.read_bytes().rfind(b"\n") + 1 if length else 0
                if whole_lines < length:
                    os.truncate(path, whole_lines)

    def close(self) -> None:
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
