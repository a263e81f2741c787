"""Rows that a program holds, as a task: written once to a file that is named by a hash of them.

So a training that they are given to can be resumed, by the same program or by the command line, and other processes
find them: `config.json` names the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from understudy.errors import UserError
from understudy.tasks.text.files import SUFFIXES

CACHE = "UNDERSTUDY_CACHE"
"""Environment variable with the folder for such files. Default: ~/.cache/understudy."""


def data_task(rows: Any, test_rows: Any = None, **options: Any) -> str:
    """The task, as text, whose prompts are these rows: for `TrainConfig.task`, `compare`, `diagnose`, `auto`.

    rows: a list of dicts, a datasets.Dataset, DatasetDict or IterableDataset, a pandas DataFrame; or the path of a file
    or folder, or a hub id. test_rows: likewise, the split `test`. options: of the task `data` (docs/tasks.md), or
    `reward`. UserError: something else, or an option that holds a comma.
    """
    places = {}
    for name, given in (("train_dataset", rows), ("eval_dataset", test_rows)):
        if given is not None:
            places[name] = _place(given, name)
    hub = places["train_dataset"][0] == "hub"
    args = {"hub" if hub else "path": places["train_dataset"][1]}
    if "eval_dataset" in places:
        kind, text = places["eval_dataset"]
        if kind == "hub":
            raise UserError("eval_dataset", text, "no such file or folder: give a path, or rows")
        args["test_path"] = text
    args |= {name: _text(name, value) for name, value in options.items() if value is not None}
    for name, value in args.items():
        if "," in value:
            raise UserError(name, value, "a comma is not possible here: rename the file, or write @FILE for a text")
    return "data:" + ",".join(f"{name}={value}" for name, value in args.items())


def _place(given: Any, field: str) -> tuple[str, str]:
    """(path or hub, text)."""
    if isinstance(given, os.PathLike):
        return "path", str(given)
    if isinstance(given, str):
        is_hub = given.count("/") == 1 and not Path(given).exists() and not given.endswith(SUFFIXES)
        return "hub" if is_hub else "path", given
    return "path", str(written(given, field))


def written(rows: Any, field: str = "train_dataset") -> Path:
    """The file with these rows, or the folder with a file per split. UserError: not rows, or not JSON."""
    if isinstance(rows, Mapping):
        splits = {str(name): _lines(part, field) for name, part in rows.items()}
        if not splits or not all(splits.values()):
            raise UserError(field, type(rows).__name__, "must hold rows for each split: {'train': ..., 'test': ...}")
        folder = _folder() / _hash("".join(f"{name}\n{lines}" for name, lines in sorted(splits.items())))
        for name, lines in splits.items():
            _write(folder / f"{name}.jsonl", lines)
        return folder
    lines = _lines(rows, field)
    path = _folder() / f"{_hash(lines)}.jsonl"
    _write(path, lines)
    return path


def _lines(rows: Any, field: str) -> str:
    """JSON lines."""
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # pandas
        rows = rows.to_dict(orient="records")
    if isinstance(rows, (str, bytes)) or not isinstance(rows, Iterable):
        kinds = "a list of dicts, a datasets.Dataset, a DataFrame, a path or a hub id"
        raise UserError(field, type(rows).__name__, f"must be {kinds}")
    out = []
    for i, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise UserError(field, f"row {i}", f"must be a dict of fields, not {type(row).__name__}")
        try:
            out.append(json.dumps(dict(row), default=_plain))
        except (TypeError, ValueError, RecursionError) as error:
            raise UserError(field, f"row {i}", f"holds what JSON cannot: {error}") from None
    if not out:
        raise UserError(field, type(rows).__name__, "holds no row")
    return "\n".join(out) + "\n"


def _plain(value: Any) -> Any:
    """Numbers and arrays of numpy, torch and pandas as Python's."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__}: text and numbers are read")


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float, os.PathLike)):
        return str(value)
    raise UserError(name, type(value).__name__, "must be text, a number, true or false")


def _folder() -> Path:
    named = os.environ.get(CACHE)
    return (Path(named) if named else Path.home() / ".cache" / "understudy") / "rows"


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _write(path: Path, lines: str) -> None:
    """The file, whole or not at all; one that is there already has the same bytes."""
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=".tmp", delete=False) as file:
            file.write(lines)
        os.replace(file.name, path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            "train_dataset", path, f"rows cannot be kept there ({reason}): set {CACHE} to a folder"
        ) from None
