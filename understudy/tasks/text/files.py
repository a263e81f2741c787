"""Rows from files and from the hub: JSON lines, JSON, csv, parquet, arrow, folders of them.

JSON and csv need nothing. Parquet and arrow need pyarrow and the hub needs datasets: both are the `hub` extra, imported
when used. A byte order mark is skipped, and NaN counts as no value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from understudy.errors import UserError
from understudy.tasks.text.columns import EXTRA, arrow_stream, parquet
from understudy.tasks.text.rows import Row
from understudy.tasks.text.text_files import clean, first_line, is_one_value, json_lines, json_rows, separated

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".tsv", ".parquet", ".arrow")
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
    if not file.is_file():
        raise UserError("task.path", file, "is not a file (pipes and devices are not read)")
    name = file.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        return _numbered(file, parquet(file, columns))
    if name.endswith(".arrow"):
        return _numbered(file, arrow_stream(file, columns))
    if name.endswith((".csv", ".tsv")):
        return separated(file, "\t" if name.endswith(".tsv") else ",")
    return json_rows(file) if name.endswith(".json") and is_one_value(file) else json_lines(file)


# ---------------------------------------------------------------- the hub


def _numbered(path: Path, records: Iterator[dict[str, Any]]) -> Iterator[Row]:
    for i, values in enumerate(records, start=1):
        yield Row(f"{path}, row {i}", clean(values))


def read_hub(hub: str, subset: str, split: str, revision: str, columns: Sequence[str], limit: int = 0) -> Iterator[Row]:
    """The rows of one split of a data set on the hub (or in its cache)."""
    datasets = _datasets(hub)
    try:
        table = datasets.load_dataset(hub, subset or None, split=split, revision=revision or None)
        table = table.select_columns([c for c in table.column_names if c in columns] or table.column_names)
    except Exception as error:  # network, name or split: the data are not available
        hint = f"cannot be loaded from the hub ({first_line(error)}): give path=FILE_OR_FOLDER"
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
        hint = f"cannot be loaded from the hub ({first_line(error)}): give path=FILE_OR_FOLDER"
        raise UserError("task", hub, hint) from None


def _datasets(hub: str) -> Any:
    try:
        import datasets
    except ImportError:
        hint = f"reading from the hub needs datasets: {EXTRA}, or give path=FILE_OR_FOLDER"
        raise UserError("task", hub, hint) from None
    return datasets
