"""Files that are either whole or absent: atomic writes, valid JSON, checksums. Loads no torch.

A file is written beside its place under a `.tmp-` name, flushed to the disk, and renamed into place.
A process that dies at any moment leaves the old file or the new one, and perhaps a leftover that no reader opens.
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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from understudy.errors import UserError, check_file

TMP = ".tmp-"  # safetensors names its own temporary files .tmpXXXXXX

_OS_ERRORS = {
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
    """What the operating system refused and how to fix it, in plain words; None when `error` is something else.

    safetensors wraps the number of an operating system error in its own exception: "... (os error 28)".
    """
    if isinstance(error, OSError):
        number = error.errno
    else:
        match = re.search(r"\(os error (\d+)\)", str(error))
        if type(error).__name__ != "SafetensorError" or match is None:
            return None
        number = int(match.group(1))
    if number in _OS_ERRORS:
        return _OS_ERRORS[number]
    return f"{os.strerror(number) if number else error}; check the folder"


@contextlib.contextmanager
def os_errors_explained(path: Path, after: str = "", field: str = "out") -> Iterator[None]:
    """Turn an error of the operating system into a UserError about `path`, with `after` at the end of its line."""
    try:
        yield
    except Exception as error:
        message = describe_os_error(error)
        if message is None:
            raise
        raise UserError(field, path, message + after) from error


def plain(value: Any) -> Any:
    """`value` as JSON can hold it. NaN and infinities become None (JSON cannot express them).

    Takes mappings, sequences, sets, dataclasses, paths, numpy and torch scalars and arrays.
    Raises TypeError on anything else.
    """
    if value is None or isinstance(value, (bool, int, str)):
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
    encode = _readable if readable else _compact
    try:
        return encode(value, False).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair, from hostile data: escaped, so that it stays UTF-8
        return encode(value, True).encode() + b"\n"


def _compact(value: Any, ascii_only: bool) -> str:
    return json.dumps(value, ensure_ascii=ascii_only, allow_nan=False)


def _readable(value: Any, ascii_only: bool, margin: str = "") -> str:
    """One field per line; a list of plain values on one line, so that results of many prompts stay readable."""
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
    check_file(path, field)
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
    """A temporary path whose file becomes `path` when the block ends without an error, and is deleted otherwise.

    durable: the file also survives a power cut, not only a killed process; this costs about a millisecond.
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


def write_output(path: str | Path, data: bytes, begins: bytes, what: str, field: str = "out") -> None:
    """Replace a file that the user names. UserError: it is there and not `what`, which begins with these bytes, or it
    cannot be written. A link is replaced, not followed."""
    path = Path(path)
    check_file(path, field)
    with os_errors_explained(path, field=field):
        if path.exists():
            with path.open("rb") as file:
                head = file.read(len(begins))
            if head and head.lower() != begins:
                raise UserError(field, path, f"exists and is not {what}: give another file, or delete it")
        write_bytes(path, data)


def write_json(path: Path, value: Any, durable: bool = True) -> None:
    """Write `value` as JSON, one field per line, atomically."""
    write_bytes(path, dumps(value, readable=True), durable)


def sync(path: Path) -> None:
    """Flush one file or folder to the disk (the names in a folder are flushed with the folder, not with the files)."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows cannot open folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def files_in(folder: Path) -> list[Path]:
    """Every regular file under `folder`, sorted, so that checksums have one order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def set_default_mode(path: Path, folder: Path) -> None:
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
    """A temporary folder that becomes `target` when the block ends without an error, and is deleted otherwise.

    An existing `target` is moved to `.old-NAME` between two renames; `recover` undoes that if the process dies there.
    """
    tmp = target.with_name(f"{TMP}{target.name}-{os.getpid()}")
    old = target.with_name(f".old-{target.name}")
    shutil.rmtree(tmp, ignore_errors=True)
    moved = False
    try:
        tmp.mkdir(parents=True)
        yield tmp
        for path in files_in(tmp):
            set_default_mode(path, tmp)
        sync_tree(tmp)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(target, old)
            moved = True
        os.rename(tmp, target)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(tmp, ignore_errors=True)
        if moved:
            _put_back(target, old)
        raise
    if moved:
        shutil.rmtree(old, ignore_errors=True)


WRITTEN = re.compile(
    r"(config|provenance|status|ledger|final|decisions|route|compare|diagnosis|refused)\.json|report\.html|final"
)
"""What a run directory holds and replaces as a whole. `recover` touches the leftovers of such names only."""
STEPS = re.compile(r"step-\d+")
TENSORS = re.compile(r"[^/]+\.safetensors")
_SAFETENSORS = re.compile(r"\.tmp[A-Za-z0-9]{6}")  # what safetensors writes before it renames


def is_leftover(name: str, ours: re.Pattern[str] = WRITTEN) -> bool:
    """Whether a name is one of a temporary file or folder of ours, for a name that matches `ours`."""
    match = re.fullmatch(r"\.tmp-(.+)-(\d+|gone)", name)
    return match is not None and ours.fullmatch(match[1]) is not None


def recover(folder: Path, ours: re.Pattern[str] = WRITTEN) -> None:
    """Put back what `new_folder` had moved aside when it died, and delete its leftovers, of names that match `ours`.

    Other people's entries stay, and so do symbolic links. Call it only while no other process writes into `folder`.
    """
    if not folder.is_dir() or folder.is_symlink():
        return
    for entry in sorted(folder.iterdir()):
        if entry.is_symlink():
            continue
        name = entry.name.removeprefix(".old-")
        if name != entry.name and ours.fullmatch(name) and entry.is_dir():
            _put_back(folder / name, entry)
        elif is_leftover(entry.name, ours):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        elif ours is not WRITTEN and _SAFETENSORS.fullmatch(entry.name) and entry.is_file():
            entry.unlink(missing_ok=True)


def _put_back(target: Path, old: Path) -> None:
    """`old` becomes `target` again where that is not there; else it is deleted."""
    if not old.is_dir():
        return
    if os.path.lexists(target):
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.rename(old, target)


def refuse_links(folder: Path, inside: tuple[str, ...] = (), field: str = "out") -> None:
    """UserError: an entry of `folder`, or of its folders `inside`, is a symbolic link, a pipe or a device.

    A run appends to, cuts and deletes what has its names; through a link that would be another person's file, and a
    pipe is waited for.
    """
    for place in (folder, *(folder / name for name in inside)):
        if not place.is_dir():
            continue
        for entry in sorted(place.iterdir()):
            if entry.is_symlink():
                hint = (
                    f"holds the symbolic link {entry.relative_to(folder)}, through which a run would write elsewhere: "
                    "put what it points to in its place, or choose another folder"
                )
                raise UserError(field, folder, hint)
            if not entry.is_file() and not entry.is_dir():
                hint = f"holds {entry.relative_to(folder)}, which is a pipe or a device: remove it"
                raise UserError(field, folder, hint)
