"""Rows from parquet and arrow files. What a file expands to is counted before it becomes Python objects.

A few kilobytes can stand for terabytes: a text that a dictionary repeats, a list of a billion nulls, one value that is
compressed well. Text columns are therefore read as dictionaries, and a batch is measured, then cut into small pieces.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from understudy.errors import UserError
from understudy.tasks.text import expansion
from understudy.tasks.text.footer import Column, columns_of, pages_of

EXTRA = "pip install 'understudy[hub]'"
"""What installs pyarrow and datasets."""
ROWS = 1024  # of a batch
PIECE = 2**23  # bytes of what is turned into Python objects at a time
VALUES, VALUES_PER_BYTE = 2**24, 8
"""A column may hold VALUES values, or VALUES_PER_BYTE of the file's bytes: real ones need more room."""


def parquet(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The records of a parquet file: `columns` where it has any of them, else all."""
    arrow = _pyarrow(path, "parquet")
    import pyarrow.parquet

    try:
        groups, described = columns_of(path)
        rows = _rows_at_once(path, described)
        with pyarrow.parquet.ParquetFile(path) as file:
            plain = file.schema_arrow
        have = [c for c in plain.names if c in columns] or plain.names  # the schema then says what is missing
        for column in described:
            if column.path.partition(".")[0] in have:
                _check_pages(path, column)
        texts = [column.path for column in described if column.texts and not column.delta]
        with pyarrow.parquet.ParquetFile(path, read_dictionary=texts) as file:
            batches = (b for g in range(groups) for b in file.iter_batches(rows, [g], columns=have))
            yield from _records(path, batches, arrow.schema([plain.field(c) for c in have]))
    except (OSError, ValueError, OverflowError, MemoryError, KeyError, arrow.ArrowException) as error:
        raise _refused(path, "parquet", error) from None


def arrow_stream(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The records of a file that `Dataset.save_to_disk` has written, likewise."""
    arrow = _pyarrow(path, "arrow")
    try:
        with arrow.memory_map(str(path)) as source:
            messages = arrow.ipc.MessageReader.open_stream(source)
            if any(_compressed(message.metadata.to_pybytes()) for message in messages):
                raise UserError("task.path", path, "is compressed: write it without, or as parquet")
        with arrow.memory_map(str(path)) as source, arrow.ipc.open_stream(source) as reader:
            have = [c for c in reader.schema.names if c in columns] or reader.schema.names
            yield from _records(path, (_checked(batch.select(have)) for batch in reader))
    except (OSError, ValueError, OverflowError, MemoryError, struct.error, arrow.ArrowException) as error:
        raise _refused(path, "arrow", error) from None


def _pyarrow(path: Path, kind: str) -> Any:
    try:
        import pyarrow  # the `hub` extra
    except ImportError:
        raise UserError("task.path", path, f"{kind} needs pyarrow: {EXTRA}, or write JSON lines") from None
    return pyarrow


def _refused(path: Path, kind: str, error: BaseException) -> UserError:
    text = "its footer names a column that it has not" if isinstance(error, KeyError) else str(error).strip()
    first = text.splitlines()[0][:200] if text else type(error).__name__
    return UserError("task.path", path, f"cannot be read as {kind} ({first})")


def _rows_at_once(path: Path, columns: Sequence[Column]) -> int:
    """Rows per batch that are safe. UserError: by its own numbers the file holds more than real rows would."""
    size = path.stat().st_size
    if sum(column.uncompressed for column in columns) > expansion.most_characters(size):
        raise expansion.too_large(path)
    values = max((column.values for column in columns), default=0)
    if values > max(VALUES, VALUES_PER_BYTE * size):
        raise UserError("task.path", path, f"holds {values:,} values in {size:,} bytes: no rows do")
    delta = [column.path for column in columns if column.delta]
    if inside := next((name for name in delta if "." in name), ""):
        raise UserError("task.path", path, f"column {inside} has a delta encoding inside a list: write it without")
    return 16 if delta else ROWS


def _check_pages(path: Path, column: Column) -> None:
    """UserError: a page says that it expands to more than those of real rows, whatever the footer says."""
    for packed, whole in pages_of(path, column):
        if whole > expansion.most_characters(packed):
            raise expansion.too_large(path)


def _records(path: Path, batches: Iterator[Any], plain: Any = None) -> Iterator[dict[str, Any]]:
    """The rows of record batches. plain: the schema without the dictionaries that were asked for."""
    total, most, n = 0, expansion.most_characters(path.stat().st_size), 0
    for batch in batches:
        total += _cost_of(batch)
        if total > most:
            raise expansion.too_large(path)
        for piece in _pieces(batch):
            if piece.num_rows == 1 and _cost_of(piece) > expansion.LARGEST_LINE:
                raise expansion.too_long(path, f"row {n + 1}")
            yield from (piece if plain is None else piece.cast(plain)).to_pylist()
            n += piece.num_rows


def _pieces(batch: Any) -> Iterator[Any]:
    """The batch, cut in halves until each is small."""
    if batch.num_rows <= 1 or _cost_of(batch) <= PIECE:
        yield batch
        return
    half = batch.num_rows // 2
    yield from _pieces(batch.slice(0, half))
    yield from _pieces(batch.slice(half))


def _cost_of(batch: Any) -> int:
    return sum(_cost(column) for column in batch.columns)


def _cost(array: Any) -> int:
    """Least bytes of the values as Python objects: 8 of each, and its text. ValueError: a type that no row has."""
    import pyarrow as arrow
    from pyarrow import compute, types

    kind, n = array.type, len(array)
    if isinstance(kind, arrow.BaseExtensionType):
        return _cost(array.storage)
    if types.is_dictionary(kind):
        if not _has_length(kind.value_type):
            return 8 * n + _cost(array.dictionary)
        lengths = compute.binary_length(array.dictionary)
        return 8 * n + (compute.sum(lengths.take(array.indices)).as_py() or 0)
    if _has_length(kind):
        return 8 * n + (compute.sum(compute.binary_length(array)).as_py() or 0)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or types.is_map(kind):
        return 8 * n + _cost(array.flatten())
    if types.is_struct(kind):
        return 8 * n + sum(_cost(array.field(i)) for i in range(kind.num_fields))
    if types.is_nested(kind) or types.is_run_end_encoded(kind) or "view" in str(kind):
        raise ValueError(f"has a column of type {kind}, which rows of text do not have")
    return 8 * n


def _has_length(kind: Any) -> bool:
    from pyarrow import types

    plain = types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind)
    return plain or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)


# ---------------------------------------------------------------- arrow's messages


def _checked(batch: Any) -> Any:
    """The batch; ValueError where its offsets lead outside its buffers, which would be read."""
    batch.validate(full=True)
    return batch


def _compressed(message: bytes) -> bool:
    """Whether the buffers of a message are compressed: such a one is as large as it says, whatever the file's size.

    The metadata are a flatbuffer (arrow/format/Message.fbs): Message{version, header_type, header, ...},
    DictionaryBatch{id, data, ...}, RecordBatch{length, nodes, buffers, compression}.
    """
    (table,) = struct.unpack_from("<I", message, 0)
    kind = _field(message, table, 1)
    header = _table(message, table, 2)
    if not kind or not header or message[kind] not in (2, 3):
        return False
    batch = _table(message, header, 1) if message[kind] == 2 else header
    return bool(batch and _field(message, batch, 3))


def _field(data: bytes, table: int, index: int) -> int:
    """Where a field of a flatbuffer's table is; 0: it has none."""
    (back,) = struct.unpack_from("<i", data, table)
    (size,) = struct.unpack_from("<H", data, table - back)
    at = 4 + 2 * index
    offset = struct.unpack_from("<H", data, table - back + at)[0] if at < size else 0
    return table + offset if offset else 0


def _table(data: bytes, table: int, index: int) -> int:
    at = _field(data, table, index)
    return at + struct.unpack_from("<I", data, at)[0] if at else 0
