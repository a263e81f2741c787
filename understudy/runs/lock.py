"""One writer at a time: an advisory lock on a file, which names the process that holds it. Loads no torch."""

from __future__ import annotations

import os
import time
import weakref
from pathlib import Path
from typing import ClassVar

from understudy.errors import UserError

try:
    import fcntl
except ImportError:  # no advisory locks on this system (Windows): a second writer is not noticed
    fcntl = None  # type: ignore[assignment]


class Lock:
    """An exclusive lock on a file. The system frees it when the process ends, even when it is killed."""

    STOPPING = 60.0
    """Seconds that `acquire` waits for a process which has announced that it saves and ends."""
    _held: ClassVar[weakref.WeakSet[Lock]] = weakref.WeakSet()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def acquire(self, timeout: float = 1.0) -> None:
        """Take the lock, or raise UserError that names the process that holds it. `timeout` in seconds."""
        # not through a link: what it points to would be cut to nothing
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        now = time.monotonic()
        deadline, patience = now + timeout, now + max(timeout, self.STOPPING)
        while fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                owner, *stopping = os.pread(handle, 32, 0).decode("ascii", "replace").split() or ["unknown"]
                if time.monotonic() >= (patience if stopping else deadline):
                    os.close(handle)
                    hint = f"in use by process {owner}; wait for it to end, or choose another folder"
                    raise UserError("out", self.path.parent, hint) from None
                time.sleep(0.05)
            except OSError:  # a file system without locks: go on without one
                break
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        self._handle = handle
        Lock._held.add(self)

    def release(self) -> None:
        """Free the lock; nothing to do when it is not held."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        Lock._held.discard(self)

    @classmethod
    def announce_stop(cls) -> None:
        """Write into the locks of this process that it saves and ends within seconds."""
        for lock in list(cls._held):
            if lock._handle is not None:
                os.pwrite(lock._handle, f"{os.getpid()} stopping\n".encode(), 0)

    @staticmethod
    def is_held(path: Path) -> bool:
        """Whether some process holds the lock at `path`; False when that cannot be determined."""
        if fcntl is None:
            return False
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(handle)
        return False


def _release_in_child() -> None:
    # A forked child shares its parent's lock; without this, a child that outlives a killed parent keeps it.
    for lock in list(Lock._held):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)
