"""Rows from text files: JSON lines, JSON, csv; plain or in gzip. A byte order mark is skipped."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from understudy.errors import UserError
from understudy.tasks.text import expansion
from understudy.tasks.text.gzipped import Gzip
from understudy.tasks.text.rows import Row, kind

ROWS_IN = ("data", "rows", "train", "examples", "instances", "samples")
"""Where a JSON object holds its rows."""


def clean(values: Mapping[str, Any]) -> dict[str, Any]:
    """The record without NaN, which stands for a missing value in what pandas writes."""
    return {str(k): None if isinstance(v, float) and v != v else v for k, v in values.items()}


def first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def _open(path: Path, newline: str | None = None) -> TextIO:
    if path.suffix == ".gz":
        return io.TextIOWrapper(io.BufferedReader(Gzip(path), 1 << 16), encoding="utf-8-sig", newline=newline)
    return path.open(encoding="utf-8-sig", newline=newline)


def _most(path: Path) -> int:
    """Characters that a file may give."""
    return expansion.most_characters(path.stat().st_size) if path.suffix == ".gz" else 2**63


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    """The lines; UserError at one that is too long, and where a compressed file gives more than real rows would."""
    total, most = 0, _most(path)
    while line := file.readline(expansion.LARGEST_LINE + 1):
        total += len(line)
        if len(line) > expansion.LARGEST_LINE:
            raise expansion.too_long(path, "line")
        if total > most:
            raise expansion.too_large(path)
        yield line


_DAMAGED = (OSError, EOFError, UnicodeDecodeError, zlib.error)


def _unreadable(path: Path, error: Exception) -> UserError:
    encoding = isinstance(error, UnicodeDecodeError)
    return UserError("task.path", path, "cannot be read: it is not UTF-8" if encoding else f"cannot be read ({error})")


def json_lines(path: Path) -> Iterator[Row]:
    try:
        with _open(path) as file:
            for i, line in enumerate(_lines(file, path), 1):
                if line.strip():
                    yield Row(f"{path}, line {i}", _object(line, path, i))
    except _DAMAGED as error:
        raise _unreadable(path, error) from None


def _object(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise UserError("task.data", f"{path}, line {number}", "is not JSON: one object per line") from None
    if not isinstance(value, dict):
        raise UserError("task.data", f"{path}, line {number}", "must be a JSON object, one per line")
    return clean(value)


class _Reader:
    """JSON values of a file one after the other: no more of it is in memory than one of them needs."""

    BLOCK = 2**20
    _space = re.compile(r"[ \t\n\r]*")
    _decode = json.JSONDecoder().raw_decode

    def __init__(self, file: TextIO, path: Path) -> None:
        self.file, self.path, self.most = file, path, _most(path)
        self.text, self.at, self.total = "", 0, 0

    def symbol(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            self.at = self._space.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._more():
                return ""

    def value(self) -> Any:
        """The next value. ValueError: it is none, also where the file ends within it; UserError: it is too long."""
        while True:
            try:
                value, self.at = self._decode(self.text, self.at)
                return value
            except ValueError:
                if len(self.text) - self.at > expansion.LARGEST_LINE:
                    raise expansion.too_long(self.path, "row") from None
                if not self._more():
                    raise

    def elements(self) -> Iterator[Any]:
        """The values of a list, whose bracket is next."""
        self.at += 1
        first = True
        while (symbol := self.symbol()) != "]":
            if not first:
                if symbol != ",":
                    raise ValueError("Expecting a comma between rows")
                self.at += 1
                self.symbol()
            yield self.value()
            first = False
        self.at += 1
        if self.symbol():
            raise ValueError("Something follows the list")

    def rest(self, most: int) -> str:
        """All that follows, up to `most` characters and one more."""
        text = self.text[self.at :] + self.file.read(most)
        if len(text) > self.most:
            raise expansion.too_large(self.path)
        return text[: most + 1]

    def _more(self) -> bool:
        """As much again as waits."""
        piece = self.file.read(max(self.BLOCK, len(self.text) - self.at))
        self.total += len(piece)
        if self.total > self.most:
            raise expansion.too_large(self.path)
        self.text, self.at = self.text[self.at :] + piece, 0
        return bool(piece)


def is_one_value(path: Path) -> bool:
    """Whether a .json file is one value, a list or an object, and not an object per line."""
    try:
        with _open(path) as file:
            reader = _Reader(file, path)
            if reader.symbol() != "{":
                return reader.symbol() == "["
            with contextlib.suppress(ValueError, RecursionError, UserError):  # its reader reports these
                reader.value()
                return reader.symbol() != "{"
            return True
    except _DAMAGED as error:
        raise _unreadable(path, error) from None


def json_rows(path: Path) -> Iterator[Row]:
    """A list of objects, an object that holds such a list (ROWS_IN), or one object."""
    i = 0
    try:
        with _open(path) as file:
            for i, values in enumerate(_values(_Reader(file, path)), 1):
                if not isinstance(values, dict):
                    raise UserError("task.data", f"{path}, row {i}", f"must be a JSON object, not {kind(values)}")
                yield Row(f"{path}, row {i}", clean(values))
    except _DAMAGED as error:
        raise _unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        hint = f"is neither JSON nor an object per line (row {i + 1}: {getattr(error, 'msg', '') or first_line(error)})"
        raise UserError("task.path", path, hint) from None


def _values(reader: _Reader) -> Iterator[Any]:
    if reader.symbol() == "[":
        yield from reader.elements()
        return
    text = reader.rest(expansion.LARGEST_JSON)
    if len(text) > expansion.LARGEST_JSON:
        most = f"{expansion.LARGEST_JSON >> 20} million characters"
        raise UserError("task.path", reader.path, f"is one JSON object of more than {most}: write one per line")
    value = json.loads(text)
    yield from next((value[name] for name in ROWS_IN if isinstance(value.get(name), list)), [value])


def separated(path: Path, separator: str) -> Iterator[Row]:
    """csv or tsv with a header; an empty cell is no value."""
    csv.field_size_limit(expansion.LARGEST_LINE)
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
    except _DAMAGED as error:
        raise _unreadable(path, error) from None
    except csv.Error as error:
        raise UserError("task.path", path, f"cannot be read as csv ({first_line(error)})") from None
