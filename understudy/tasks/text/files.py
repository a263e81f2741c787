"""Rows from files and from the hub: JSON lines, JSON, csv, parquet, arrow, folders of them.

JSON and csv need nothing. Parquet and arrow need pyarrow and the hub needs datasets: both are the `hub` extra, imported
when used. A byte order mark is skipped, and NaN counts as no value.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from understudy.errors import UserError
from understudy.tasks.text.rows import Row, kind

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".tsv", ".parquet", ".arrow")
EXTRA = "pip install 'understudy[hub]'"
LARGEST_JSON = 2**30  # bytes of a file that is one JSON value
LARGEST_LINE = 2**26  # characters of a line
EXPANSION, EXPANDED = 200, 2**26
"""A compressed file may give EXPANDED characters, or EXPANSION times its bytes: real rows are far below."""
LARGEST_CELL = 2**24  # characters of a field in a csv file
ROWS_IN = ("data", "rows", "train", "examples", "instances", "samples")
"""Where a JSON object holds its rows."""
_ABOUT_FILES = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})
"""What the datasets library writes beside the data."""
SAME_SPLIT = {"test": ("validation", "valid", "val", "dev", "eval", "evaluation", "heldout", "held_out")}
"""A split of ours -> names that stand for it where no file has its own name."""


def data_files(root: Path) -> list[Path]:
    files = sorted(p for p in root.rglob("*") if p.name.endswith(SUFFIXES) and p.is_file())
    files = [p for p in files if p.name not in _ABOUT_FILES]
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


def own_by_split(folder: str, splits: Sequence[str]) -> tuple[dict[str, list[Path]], list[Path]]:
    """`by_split` for a user's own folder, where validation, val, dev or eval stand for a test split that has no file of
    its own; and the files that are not read."""
    also = [name for split in splits for name in SAME_SPLIT.get(split, ())]
    named = by_split(folder, [*splits, *also])
    out = {split: named[split] for split in splits if split in named}
    for split, names in SAME_SPLIT.items():
        stand_in = next((named[name] for name in names if name in named), None)
        if split in splits and split not in out and stand_in:
            out[split] = stand_in
    read = {file for files in out.values() for file in files}
    return out, [file for file in data_files(Path(folder)) if out and file not in read]


def _named(path: str, splits: Sequence[str]) -> str:
    best = (-1, 0, "")
    for split in splits:
        for match in re.finditer(rf"(?<![a-zA-Z]){re.escape(split)}(?![a-zA-Z])", path, re.I):
            best = max(best, (match.end(), len(split), split))
    return best[2]


def read_files(files: Sequence[Path], columns: Sequence[str], limit: int = 0) -> Iterator[Row]:
    """The rows of these files in order, at most `limit` (0 = all).

    Parquet and arrow give only `columns`, where they have them; () = every column.
    """
    n = 0
    for file in files:
        for row in _rows(file, columns):
            yield row
            n += 1
            if n == limit:
                return


def _rows(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    name = file.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        return _parquet(file, columns)
    if name.endswith(".arrow"):
        return _arrow(file, columns)
    if name.endswith((".csv", ".tsv")):
        return _separated(file, "\t" if name.endswith(".tsv") else ",")
    return _json(file) if name.endswith(".json") and _is_one_value(file) else _json_lines(file)


def clean(values: Mapping[str, Any]) -> dict[str, Any]:
    """The record without NaN, which stands for a missing value in what pandas writes."""
    return {str(k): None if isinstance(v, float) and v != v else v for k, v in values.items()}


# ---------------------------------------------------------------- text files


def _open(path: Path, newline: str | None = None) -> TextIO:
    _most(path)
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline=newline)
    return path.open(encoding="utf-8-sig", newline=newline)


def _most(path: Path) -> int:
    """Characters that a file may give. UserError: it is a pipe or a device, which has no end."""
    if not path.is_file():
        raise UserError("task.path", path, "is not a file (pipes and devices are not read)")
    return max(EXPANDED, EXPANSION * path.stat().st_size) if path.suffix == ".gz" else 2**63


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    """The lines; UserError at one that is too long, and where a compressed file gives more than real rows would."""
    total, most = 0, _most(path)
    while line := file.readline(LARGEST_LINE + 1):
        total += len(line)
        if len(line) > LARGEST_LINE:
            raise UserError("task.path", path, f"has a line of more than {LARGEST_LINE >> 20} million characters")
        if total > most:
            raise UserError("task.path", path, f"expands to more than {EXPANSION} times its size: no rows do")
        yield line


def _unreadable(path: Path, error: Exception) -> UserError:
    encoding = isinstance(error, UnicodeDecodeError)
    return UserError("task.path", path, "cannot be read: it is not UTF-8" if encoding else f"cannot be read ({error})")


def _json_lines(path: Path) -> Iterator[Row]:
    try:
        with _open(path) as file:
            for i, line in enumerate(_lines(file, path), 1):
                if line.strip():
                    yield Row(f"{path}, line {i}", _object(line, path, i))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _object(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise UserError("task.data", f"{path}, line {number}", "is not JSON: one object per line") from None
    if not isinstance(value, dict):
        raise UserError("task.data", f"{path}, line {number}", "must be a JSON object, one per line")
    return clean(value)


def _is_one_value(path: Path) -> bool:
    """Whether a .json file is one value, a list or a table, and not an object per line."""
    try:
        with _open(path) as file:
            most = min(LARGEST_JSON, _most(path)) + 1
            lines = (line for line in iter(lambda: file.readline(most), "") if line.strip())
            first, second = next(lines, ""), next(lines, "")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None
    try:
        return not isinstance(json.loads(first), dict) or not second
    except (ValueError, RecursionError):
        return first.lstrip().startswith(("[", "{"))


def _json(path: Path) -> Iterator[Row]:
    """A list of objects, an object that holds such a list (ROWS_IN), or one object."""
    try:
        with _open(path) as file:
            most = min(LARGEST_JSON, _most(path))
            text = file.read(most + 1)
        if most < len(text) <= LARGEST_JSON:
            raise UserError("task.path", path, f"expands to more than {EXPANSION} times its size: no rows do")
        if len(text) > LARGEST_JSON:
            raise UserError("task.path", path, "is one JSON value of more than 1 GiB: write one object per line")
        value = json.loads(text)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        hint = f"is neither JSON nor an object per line ({_first(error)})"
        raise UserError("task.path", path, hint) from None
    if isinstance(value, dict):
        value = next((value[name] for name in ROWS_IN if isinstance(value.get(name), list)), [value])
    for i, values in enumerate(value, 1):
        if not isinstance(values, dict):
            raise UserError("task.data", f"{path}, row {i}", f"must be a JSON object, not {kind(values)}")
        yield Row(f"{path}, row {i}", clean(values))


def _separated(path: Path, separator: str) -> Iterator[Row]:
    """csv or tsv with a header; an empty cell is no value."""
    csv.field_size_limit(LARGEST_CELL)
    try:
        with _open(path, newline="") as file:
            reader = csv.DictReader(_lines(file, path), delimiter=separator, strict=True)
            names = reader.fieldnames or []
            if len(set(names)) != len(names) or not all(name.strip() for name in names):
                raise UserError("task.path", path, "needs a header: the first line must name each column once")
            for values in reader:
                where = f"{path}, line {reader.line_num}"
                if None in values:
                    raise UserError("task.data", where, f"has more cells than the header's {len(names)}: quote commas")
                yield Row(where, {k.strip(): v or None for k, v in values.items()})
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None
    except csv.Error as error:
        raise UserError("task.path", path, f"cannot be read as csv ({_first(error)})") from None


# ---------------------------------------------------------------- columns


def _numbered(path: Path, batches: Iterable[Any]) -> Iterator[Row]:
    """The rows of pyarrow's record batches."""
    for i, values in enumerate((values for batch in batches for values in batch.to_pylist()), start=1):
        yield Row(f"{path}, row {i}", clean(values))


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise UserError("task.path", path, f"parquet needs pyarrow: {EXTRA}, or write JSON lines") from None
    try:
        with parquet.ParquetFile(path) as file:
            # a file that has none of the columns is read whole: the schema then says what is missing
            have = [c for c in file.schema_arrow.names if c in columns] or file.schema_arrow.names
            yield from _numbered(path, file.iter_batches(batch_size=1024, columns=have))
    except (OSError, ValueError) as error:  # pyarrow's errors are subclasses of these two
        raise UserError("task.path", path, f"cannot be read as parquet ({_first(error)})") from None


def _arrow(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """A file that `Dataset.save_to_disk` has written."""
    try:
        import pyarrow
    except ImportError:
        raise UserError("task.path", path, f"arrow needs pyarrow: {EXTRA}, or write JSON lines") from None
    try:
        with pyarrow.memory_map(str(path)) as source, pyarrow.ipc.open_stream(source) as reader:
            have = [c for c in reader.schema.names if c in columns] or reader.schema.names
            yield from _numbered(path, (batch.select(have) for batch in reader))
    except (OSError, ValueError) as error:
        raise UserError("task.path", path, f"cannot be read as arrow ({_first(error)})") from None


def read_hub(hub: str, subset: str, split: str, revision: str, columns: Sequence[str], limit: int = 0) -> Iterator[Row]:
    """The rows of one split of a data set on the hub (or in its cache)."""
    datasets = _datasets(hub)
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
            yield Row(f"{hub} {split}, row {i}", clean(dict(zip(part, values))))


def hub_splits(hub: str, subset: str, revision: str) -> list[str]:
    """Names of the splits of a data set on the hub."""
    datasets = _datasets(hub)
    try:
        return list(datasets.get_dataset_split_names(hub, subset or None, revision=revision or None))
    except Exception as error:
        hint = f"cannot be loaded from the hub ({_first(error)}): give path=FILE_OR_FOLDER"
        raise UserError("task", hub, hint) from None


def _datasets(hub: str) -> Any:
    try:
        import datasets
    except ImportError:
        hint = f"reading from the hub needs datasets: {EXTRA}, or give path=FILE_OR_FOLDER"
        raise UserError("task", hub, hint) from None
    return datasets


def _first(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
