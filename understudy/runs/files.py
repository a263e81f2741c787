"""Files that are either whole or absent: atomic writes, valid JSON, checksums, a lock. No torch in here.

A file is written beside its place under a `.tmp-` name, flushed to the disk, and renamed into place.
A process that dies at any moment leaves the old file or the new one, and maybe a leftover that nobody reads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import math
import os
import re
import shutil
import time
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from understudy.errors import UserError

try:
    import fcntl
except ImportError:  # no advisory locks here (Windows): a second writer is then not noticed
    fcntl = None  # type: ignore[assignment]

TMP = ".tmp-"  # safetensors names its own temporary files .tmpXXXXXX

_TROUBLE = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "a file grew past the size limit (ulimit -f); raise the limit",
    errno.EROFS: "the file system is read-only; choose a writable folder",
    errno.EACCES: "permission denied; choose a writable folder",
    errno.EPERM: "permission denied; choose a writable folder",
    errno.ENOTDIR: "a part of this path is a file, not a folder; choose another folder",
    errno.EEXIST: "this is a file, not a folder; choose another folder",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.EIO: "the disk reports an input/output error; check it",
}


def describe_os_error(error: BaseException) -> str | None:
    """What the operating system refused, in plain words with the mend; None when `error` is something else.

    safetensors wraps the number of an operating system error in its own exception: "... (os error 28)".
    """
    if isinstance(error, OSError):
        number = error.errno
    elif type(error).__name__ == "SafetensorError":
        found = re.search(r"\(os error (\d+)\)", str(error))
        if not found:
            return None
        number = int(found.group(1))
    else:
        return None
    if number in _TROUBLE:
        return _TROUBLE[number]
    return f"{os.strerror(number) if number else error}; check the folder"


def plain(value: Any) -> Any:
    """`value` as JSON can hold it. NaN and infinities become None (JSON has no word for them).

    Takes mappings, sequences, sets, dataclasses, paths, numpy and torch scalars and arrays.
    Raises TypeError on anything else.
    """
    if value is None or isinstance(value, (bool, int, str)):
        # bool and int subclasses (enums, numpy bools are not among them) print as their base type
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=repr)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "tolist"):  # numpy and torch, scalars included
        return plain(value.tolist())
    raise TypeError(f"JSON cannot hold a {type(value).__name__}: {value!r}")


def _key(key: Any) -> str:
    if isinstance(key, bool) or key is None or not isinstance(key, (str, int)):
        raise TypeError(f"a JSON key must be text or a whole number, not {key!r}")
    return str(key)


def dumps(value: Any, readable: bool = False) -> bytes:
    """One JSON value, UTF-8, newline at the end; always valid (see `plain`). One line unless `readable`."""
    value = plain(value)
    lay_out = _readable if readable else _compact
    try:
        return lay_out(value, False).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair, from hostile data: escaped, so that it stays UTF-8
        return lay_out(value, True).encode() + b"\n"


def _compact(value: Any, ascii_only: bool) -> str:
    return json.dumps(value, ensure_ascii=ascii_only, allow_nan=False)


def _readable(value: Any, ascii_only: bool, margin: str = "") -> str:
    """A field a line; lists of plain values on one line, so that results of many prompts stay readable."""
    inner = margin + "  "
    if isinstance(value, dict) and value:
        rows = [f"{_compact(key, ascii_only)}: {_readable(item, ascii_only, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(inner + row for row in rows) + f"\n{margin}}}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        rows = [_compact(item, ascii_only) for item in value]
        return "[\n" + ",\n".join(inner + row for row in rows) + f"\n{margin}]"
    return _compact(value, ascii_only)


def read_json(path: Path, field: str = "run") -> dict[str, Any]:
    """The JSON object in `path`. UserError when it is missing, unreadable, or not an object."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(field, path, "this file is missing") from None
    except OSError as error:
        raise UserError(field, path, f"cannot be read: {describe_os_error(error)}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(field, path, f"is not valid JSON ({error}); restore the file") from error
    if not isinstance(value, dict):
        raise UserError(field, path, "should hold one JSON object; restore the file")
    return value


@contextlib.contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """A temporary path whose file becomes `path` when the block ends well, and vanishes otherwise.

    `durable` also survives a power cut, not only a killed process; it costs about a millisecond.
    """
    tmp = path.with_name(f"{TMP}{path.name}-{os.getpid()}")
    try:
        yield tmp
        if durable:
            sync(tmp)
        os.replace(tmp, path)
    except BaseException:
        with contextlib.suppress(OSError):
            tmp.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def write_bytes(path: Path, data: bytes, durable: bool = True) -> None:
    """Replace `path` by `data` atomically."""
    with replacing(path, durable) as tmp:
        tmp.write_bytes(data)


def write_json(path: Path, value: Any, durable: bool = True) -> None:
    """Write `value` as JSON, a field a line, atomically."""
    write_bytes(path, dumps(value, readable=True), durable)


def sync(path: Path) -> None:
    """Flush one file or folder to the disk (a folder's names are data of their own)."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def files_in(folder: Path) -> list[Path]:
    """Every regular file under `folder`, sorted, so that checksums have one order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def open_up(path: Path, folder: Path) -> None:
    """Give `path` the permissions of any new file in `folder` (safetensors makes its files private, 0600)."""
    os.chmod(path, folder.stat().st_mode & 0o666)


def sync_tree(folder: Path) -> None:
    for path in files_in(folder):
        sync(path)
    for path in sorted(path for path in folder.rglob("*") if path.is_dir()):
        sync(path)
    sync(folder)


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target` when the block ends well, and vanishes otherwise.

    An existing `target` is moved to `.old-NAME` for the instant between two renames; `recover` undoes that
    if the process dies there.
    """
    tmp = target.with_name(f"{TMP}{target.name}-{os.getpid()}")
    old = target.with_name(f".old-{target.name}")
    shutil.rmtree(tmp, ignore_errors=True)
    try:
        tmp.mkdir(parents=True)
        yield tmp
        for path in files_in(tmp):
            open_up(path, tmp)
        sync_tree(tmp)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(target, old)
        os.rename(tmp, target)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(tmp, ignore_errors=True)
        recover(target.parent)
        raise
    shutil.rmtree(old, ignore_errors=True)


def recover(folder: Path) -> None:
    """Put back what `new_folder` had moved aside when it died, and delete its leftovers.

    Call it only while no other process writes into `folder`.
    """
    if not folder.is_dir():
        return
    for old in folder.glob(".old-*"):
        target = folder / old.name.removeprefix(".old-")
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(old, target)
    for leftover in folder.glob(".tmp*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


class Lock:
    """One writer at a time. The system frees the lock when the process ends, however it ends."""

    _held: ClassVar[weakref.WeakSet[Lock]] = weakref.WeakSet()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def acquire(self, patience: float = 1.0) -> None:
        """Take the lock, or raise UserError that names the process that holds it. `patience` in seconds."""
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        deadline = time.monotonic() + patience
        while fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    owner = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
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
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        Lock._held.discard(self)

    @staticmethod
    def is_held(path: Path) -> bool:
        """Whether some process holds the lock at `path`; False when nothing can be said."""
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


def _forget_in_child() -> None:
    # A forked child shares its parent's lock; without this, a child that outlives a killed parent keeps it.
    for lock in list(Lock._held):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
