"""Scores on disk, addressed by what was scored: hash(expert, token ids of prompt and completion, kind) -> arrays.

A folder with one append-only shard of JSON lines per writing process, and one file per expert that identifies it. A
line holds the key, the arrays (float32 and int32, base64) and a checksum. A line that is cut short or damaged counts as
absent and is reported; nothing is unpickled; many processes may read and write at once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from understudy.errors import UserError, check_file
from understudy.runs.files import describe_os_error, dumps, read_json, write_json

FORMAT = 1
LARGEST_LINE = 1 << 28  # bytes
_TYPES = {"f4": np.dtype("<f4"), "i4": np.dtype("<i4")}


def key(expert: str, prompt: Sequence[int], completion: Sequence[int], kind: str) -> str:
    """Hex name of one entry. expert: its `identity_name`. kind: "score" or "top_k:16".

    Scores are always of the plain softmax, however samples were transformed: the name includes that.
    """
    total = hashlib.sha256(f"understudy-scores {FORMAT} {expert} {kind} softmax ".encode())
    for ids in (prompt, completion):
        total.update(len(ids).to_bytes(8, "little"))
        total.update(np.asarray(ids, dtype="<i8").tobytes())
    return total.hexdigest()[:40]


def identity_name(identity: Mapping[str, Any]) -> str:
    """Short hash of an expert's identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


class ScoreCache:
    """One folder of scores. Opening it reads every shard once; `put` appends to a shard of this process's own."""

    def __init__(self, folder: Path | str, note: Callable[[str], None] = lambda line: None) -> None:
        """UserError when `folder` is not a folder, or holds anything but scores."""
        self.folder, self.note = Path(folder), note
        self._where: dict[bytes, tuple[Path, int, int]] = {}
        self._shard: Any = None
        self.damaged = 0
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError("score_cache", folder, "is a file; give a folder")
        try:
            names = sorted(os.listdir(self.folder)) if self.folder.is_dir() else []
        except OSError as error:
            raise UserError("score_cache", folder, f"cannot be read: {describe_os_error(error)}") from None
        strange = [n for n in names if not n.startswith(("scores-", "expert-", "."))]
        if strange:
            raise UserError("score_cache", folder, f"is not a score cache (it holds {strange[0]}); give another")
        for name in names:
            if name.startswith("scores-"):
                self._index(self.folder / name)
        if self.damaged:
            note(f"{self.folder}: {self.damaged} damaged lines were left out; their completions are scored again")

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, name: str) -> bool:
        return bytes.fromhex(name) in self._where

    def _index(self, path: Path) -> None:
        check_file(path, "score_cache", 1 << 50)
        with open(path, "rb") as file:
            at = 0
            for line in iter(lambda: file.readline(LARGEST_LINE), b""):
                entry = _read(line)
                if entry is not None:
                    self._where[bytes.fromhex(entry[0])] = (path, at, len(line))
                elif line.endswith(b"\n"):
                    self.damaged += 1  # without its newline it is only cut short, by a killed writer
                at += len(line)

    def get(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays of one entry, or None. The checksum is verified again: files may have changed."""
        place = self._where.get(bytes.fromhex(name))
        if place is None:
            return None
        path, at, size = place
        try:
            with open(path, "rb") as file:
                file.seek(at)
                entry = _read(file.read(size))
        except OSError:
            entry = None
        if entry is None or entry[0] != name:
            self.note(f"{path.name}: the entry {name[:12]} is damaged; scoring it again")
            del self._where[bytes.fromhex(name)]
            return None
        return entry[1]

    def put(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Append one entry. It survives a killed process at once, a power cut after `flush`."""
        body: dict[str, Any] = {"key": name, "arrays": {}}
        for label, array in arrays.items():
            kind = "f4" if array.dtype.kind == "f" else "i4"
            flat = np.ascontiguousarray(array, dtype=_TYPES[kind])
            body["arrays"][label] = [kind, list(flat.shape), base64.b64encode(flat.tobytes()).decode("ascii")]
        text = json.dumps(body, sort_keys=True)
        line = f'{{"sum": "{_sum(text)}", "entry": {text}}}\n'.encode("ascii")
        try:
            if self._shard is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                path = self.folder / f"scores-{os.getpid()}-{uuid.uuid4().hex[:12]}.jsonl"
                self._shard = (path, open(path, "ab", buffering=0))  # noqa: SIM115 - closed in close()
            path, file = self._shard
            at = file.tell()
            file.write(line)
        except OSError as error:
            hint = f"{describe_os_error(error)}; earlier scores are kept"
            raise UserError("score_cache", self.folder, hint) from None
        self._where[bytes.fromhex(name)] = (path, at, len(line))

    def flush(self) -> None:
        if self._shard is not None:
            os.fsync(self._shard[1].fileno())

    def close(self) -> None:
        if self._shard is not None:
            self.flush()
            self._shard[1].close()
            self._shard = None

    # -- which expert scored ------------------------------------------------------------------------------------

    def write_expert(self, record: Mapping[str, Any]) -> None:
        """Keep the facts of an expert, so that its scores can be used without it. record: JSON-able, has `identity`."""
        path = self.folder / f"expert-{identity_name(record['identity'])}.json"
        record = {"format": FORMAT} | dict(record)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.read_bytes() != dumps(record, readable=True):
                write_json(path, record)
        except OSError as error:
            raise UserError("score_cache", self.folder, str(describe_os_error(error))) from None

    def experts(self) -> list[dict[str, Any]]:
        """The records that `write_expert` has kept."""
        paths = sorted(self.folder.glob("expert-*.json")) if self.folder.is_dir() else []
        return [read_json(path, "score_cache") for path in paths]


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def _read(line: bytes) -> tuple[str, dict[str, np.ndarray]] | None:
    """(key, arrays) of one line; None unless every byte is as written."""
    start, middle = b'{"sum": "', b'", "entry": '
    if not (line.startswith(start) and line.endswith(b"}\n") and line[25 : 25 + len(middle)] == middle):
        return None
    try:
        text = line[25 + len(middle) : -2].decode("ascii")
        if _sum(text) != line[len(start) : 25].decode("ascii"):
            return None
        entry = json.loads(text)
        arrays = {}
        for label, (kind, shape, data) in entry["arrays"].items():
            arrays[label] = np.frombuffer(base64.b64decode(data, validate=True), _TYPES[kind]).reshape(shape)
        bytes.fromhex(entry["key"])
        return entry["key"], arrays
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, RecursionError):
        return None
