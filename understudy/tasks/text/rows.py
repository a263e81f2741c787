"""Rows of a data set, from a JSON lines or parquet file, a folder of them, or the hub.

JSON lines need nothing. Parquet needs pyarrow and the hub needs datasets: both are the `hub` extra, imported when used.
Every row knows its source, so that an error names file, line and field.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.errors import UserError

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".parquet")
EXTRA = "pip install 'understudy[hub]'"


@dataclass(frozen=True)
class Row:
    """One record and its source: "FILE, line 3"."""

    where: str
    values: Mapping[str, Any]

    def refuse(self, field: str, hint: str) -> UserError:
        return UserError("task.data", f"{self.where}, field `{field}`", hint)

    def has(self, field: str) -> bool:
        return self.values.get(field) is not None

    def get(self, field: str) -> Any:
        if field not in self.values:
            have = ", ".join(f"`{k}`" for k in list(self.values)[:8])
            raise self.refuse(field, f"is missing; this row has {have or 'no fields'}: is it this data set?")
        return self.values[field]

    def text(self, field: str) -> str:
        """Text that is not empty and can be written."""
        return self.as_text(field, self.get(field))

    def as_text(self, field: str, value: Any) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self.refuse(field, f"must be text that is not empty, not {_kind(value)}")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.refuse(field, "holds half a surrogate pair: write the file as UTF-8") from None
        return value

    def answer(self, field: str) -> str:
        """Text, or a number as text."""
        value = self.get(field)
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise self.refuse(field, f"must be text or a number, not {_kind(value)}")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return self.as_text(field, str(value))

    def whole(self, field: str, least: int, most: int) -> int:
        value = self.get(field)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.refuse(field, f"must be a whole number from {least} to {most}, not {value!r}")
        return value

    def texts(self, field: str) -> list[str]:
        return [self.as_text(f"{field}[{i}]", x) for i, x in enumerate(self.items(field))]

    def items(self, field: str) -> list[Any]:
        value = self.get(field)
        if not isinstance(value, (list, tuple)):
            raise self.refuse(field, f"must be a list, not {_kind(value)}")
        return list(value)

    def inner(self, field: str) -> Row:
        value = self.get(field)
        if not isinstance(value, Mapping):
            raise self.refuse(field, f"must be an object, not {_kind(value)}")
        return Row(f"{self.where}, in `{field}`", value)

    def messages(self, field: str) -> list[tuple[str, str]]:
        """A conversation [{"role", "content"}, ...] as (role, content) pairs."""
        out = []
        for i, item in enumerate(self.items(field)):
            name = f"{field}[{i}]"
            if not isinstance(item, Mapping) or not isinstance(item.get("role"), str):
                raise self.refuse(name, 'must be {"role": ..., "content": ...}')
            out.append((item["role"], self.as_text(f"{name}.content", item.get("content"))))
        if not out:
            raise self.refuse(field, "holds no message")
        return out


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return "empty text"
    return {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}.get(
        type(value), type(value).__name__
    )


def data_files(root: Path) -> list[Path]:
    files = sorted(p for p in root.rglob("*") if p.name.endswith(SUFFIXES) and p.is_file())
    if not files:
        raise UserError("task.path", root, f"holds no data file ({', '.join(SUFFIXES)})")
    return files


def by_split(folder: str, splits: Sequence[str], subset: str = "") -> dict[str, list[Path]]:
    """The data files under `folder` by the official split that each names; files that name none are left out.

    A file belongs to the split that its path below the folder names (train-00000-of-00001.parquet, main/test.jsonl):
    the last one named counts, and the longest of the names that end there. If there is a folder named like the subset,
    only files in it count. UserError: no data file.
    """
    root = Path(folder)
    files = data_files(root)
    inside = [p for p in files if subset and subset in p.relative_to(root).parts[:-1]]
    out: dict[str, list[Path]] = {}
    for file in inside or files:
        name = _named(str(file.relative_to(root)), splits)
        if name:
            out.setdefault(name, []).append(file)
    return out


def _named(path: str, splits: Sequence[str]) -> str:
    best = (-1, 0, "")
    for split in splits:
        for match in re.finditer(rf"(?<![a-zA-Z]){re.escape(split)}(?![a-zA-Z])", path):
            best = max(best, (match.end(), len(split), split))
    return best[2]


def read_files(files: Sequence[Path], columns: Sequence[str], limit: int = 0) -> Iterator[Row]:
    """The rows of these files in order, at most `limit` (0 = all); parquet gives only `columns` (where it has them)."""
    n = 0
    for file in files:
        rows = _parquet(file, columns) if file.name.endswith(".parquet") else _json_lines(file)
        for row in rows:
            yield row
            n += 1
            if n == limit:
                return


def _json_lines(path: Path) -> Iterator[Row]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for i, line in enumerate(file, 1):
                if line.strip():
                    yield Row(f"{path}, line {i}", _object(line, path, i))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError("task.path", path, f"cannot be read ({error})") from None


def _object(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        whole = " (a .json file must hold one object per line too)" if path.suffix == ".json" else ""
        raise UserError("task.data", f"{path}, line {number}", f"is not JSON: one object per line{whole}") from None
    if not isinstance(value, dict):
        raise UserError("task.data", f"{path}, line {number}", "must be a JSON object, one per line")
    return value


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise UserError("task.path", path, f"parquet needs pyarrow: {EXTRA}, or write JSON lines") from None
    try:
        with parquet.ParquetFile(path) as file:
            have = [c for c in file.schema_arrow.names if c in columns]
            if not have:  # let the schema say what is missing
                have = file.schema_arrow.names
            i = 0
            for batch in file.iter_batches(batch_size=1024, columns=have):
                for values in batch.to_pylist():
                    i += 1
                    yield Row(f"{path}, row {i}", values)
    except (OSError, ValueError) as error:  # pyarrow's errors are subclasses of these two
        raise UserError("task.path", path, f"cannot be read as parquet ({_first(error)})") from None


def read_hub(hub: str, subset: str, split: str, revision: str, columns: Sequence[str], limit: int = 0) -> Iterator[Row]:
    """The rows of one split of a data set on the hub (or in its cache)."""
    try:
        import datasets
    except ImportError:
        hint = f"reading from the hub needs datasets: {EXTRA}, or give path=FILE_OR_FOLDER"
        raise UserError("task", hub, hint) from None
    try:
        table = datasets.load_dataset(hub, subset or None, split=split, revision=revision or None)
        table = table.select_columns([c for c in table.column_names if c in columns] or table.column_names)
    except Exception as error:  # network, name or split: the data are not available
        hint = f"cannot be loaded from the hub ({_first(error)}): give path=FILE_OR_FOLDER"
        raise UserError("task", hub, hint) from None
    n = min(limit, len(table)) if limit else len(table)
    for at in range(0, n, 1024):  # batches are read much faster than single rows
        part = table[at : min(at + 1024, n)]
        for i, values in enumerate(zip(*part.values()), at + 1):
            yield Row(f"{hub} {split}, row {i}", dict(zip(part, values)))


def _first(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
