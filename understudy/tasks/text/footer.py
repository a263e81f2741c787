"""What a parquet file says about its columns, without decoding any: the footer, in Thrift's compact protocol.

pyarrow's own access to it (`metadata.row_group(i).column(j)`) ends the process at a damaged one. Format:
https://github.com/apache/parquet-format (parquet.thrift: FileMetaData, RowGroup, ColumnChunk, ColumnMetaData).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BYTE_ARRAY = 6  # a physical type
DELTA = {6, 7}  # encodings: DELTA_LENGTH_BYTE_ARRAY; DELTA_BYTE_ARRAY, in which a value may repeat the one before


@dataclass
class Column:
    """One column over all row groups."""

    path: str
    texts: bool
    """Whether its values are texts or bytes."""
    values: int = 0
    uncompressed: int = 0
    """Bytes, encoded: texts that a dictionary repeats count once."""
    delta: bool = False
    """Whether texts have an encoding that pyarrow does not give as a dictionary."""
    chunks: list[tuple[int, int]] = field(default_factory=list)
    """(place in the file, bytes) of its pages, per row group."""


def columns_of(path: Path) -> tuple[int, list[Column]]:
    """(number of row groups, columns). ValueError: there is no footer, or a damaged one."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 8))
        end = file.read(8)
        length = int.from_bytes(end[:4], "little") if end[4:] == b"PAR1" else size
        if length + 12 > size:
            raise ValueError("the end of the file is missing or damaged")
        file.seek(size - 8 - length)
        data = file.read(length)
    out: dict[str, Column] = {}
    try:
        groups = _Thrift(data).structure().get(4, ())
        for group in groups:
            for chunk in group.get(1, ()):
                facts = chunk[3]
                name = b".".join(facts[3]).decode()
                column = out.setdefault(name, Column(name, facts[1] == BYTE_ARRAY))
                column.values += facts[5]
                column.uncompressed += facts[6]
                starts = [
                    facts[i] for i in (9, 11) if facts.get(i, 0) > 0
                ]  # of the data, of the dictionary before them
                column.chunks.append((min(starts), facts[7]))
                column.delta |= column.texts and not DELTA.isdisjoint(facts[2])
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, struct.error, RecursionError) as error:
        raise ValueError(f"its footer is damaged: {type(error).__name__}") from None
    return len(groups), list(out.values())


LARGEST_HEADER = 2**20
"""Bytes of the header of a page, which may hold its least and its largest value."""


def pages_of(path: Path, column: Column) -> Iterator[tuple[int, int]]:
    """(bytes in the file, bytes once decompressed) of each page, by its header: pyarrow allocates what that says.

    ValueError: a header is damaged, or a page does not lie in the file.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        for start, length in column.chunks:
            at, end = start, start + length
            if not 0 <= start <= end <= size:
                raise ValueError("its footer names bytes that it does not have")
            while at < end:
                header, page = _page(file, at)
                packed, whole = page.get(3), page.get(2)
                if not isinstance(packed, int) or not isinstance(whole, int) or min(packed, whole) < 0:
                    raise ValueError("the header of a page is damaged")
                yield packed, whole
                at += header + packed


def _page(file: Any, at: int) -> tuple[int, dict[int, Any]]:
    """(length, fields) of the header of a page."""
    length = 256
    while length <= LARGEST_HEADER:
        file.seek(at)
        reader = _Thrift(file.read(length))
        try:
            fields = reader.structure()
            return reader.at, fields
        except IndexError:  # it is longer
            length *= 8
        except (KeyError, TypeError, struct.error, RecursionError):
            break
    raise ValueError("the header of a page is damaged")


class _Thrift:
    """A reader of Thrift's compact protocol: structures as {number of the field: value}."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def structure(self) -> dict[int, Any]:
        out: dict[int, Any] = {}
        field = 0
        while head := self._byte():
            kind, step = head & 15, head >> 4
            field = field + step if step else self._whole()
            out[field] = kind == 1 if kind in (1, 2) else self._value(kind)
        return out

    def _value(self, kind: int) -> Any:
        if kind in (1, 2, 3):
            return self._byte()
        if kind in (4, 5, 6):
            return self._whole()
        if kind == 7:
            return struct.unpack("<d", self._bytes(8))[0]
        if kind == 8:
            return self._bytes(self._varint())
        if kind in (9, 10):
            head = self._byte()
            n = head >> 4 if head >> 4 != 15 else self._varint()
            return [self._value(head & 15) for _ in range(n)]
        if kind == 11:
            n = self._varint()
            kinds = self._byte() if n else 0
            return [(self._value(kinds >> 4), self._value(kinds & 15)) for _ in range(n)]
        if kind == 12:
            return self.structure()
        raise KeyError(kind)

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _bytes(self, n: int) -> bytes:
        self.at += n
        if self.at > len(self.data):
            raise IndexError
        return self.data[self.at - n : self.at]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise IndexError

    def _whole(self) -> int:
        value = self._varint()  # zigzag
        return (value >> 1) ^ -(value & 1)
