"""Files that are small and expand without end, and files that have no end: refused within seconds, in one line."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from understudy.errors import UserError
from understudy.tasks.text import columns, expansion, gzipped
from understudy.tasks.text.files import SUFFIXES, read_files
from understudy.tasks.text.footer import columns_of, pages_of


@pytest.mark.fault("bombs in rows")
@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz", "a.json.gz"])
@pytest.mark.parametrize("piece", ["x", '{"prompt": "1"}\n', "\n"], ids=["one line", "rows", "empty lines"])
def test_what_expands(name: str, piece: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expansion, "EXPANDED", 1 << 16)
    monkeypatch.setattr(expansion, "LARGEST_LINE", 1 << 18)
    path = tmp_path / name
    path.write_bytes(gzip.compress((piece * (1 << 20))[: 1 << 20].encode()))
    assert path.stat().st_size * expansion.EXPANSION < 1 << 20
    with pytest.raises(UserError, match=r"expands to more than|has a line of more|neither JSON|csv"):
        list(read_files([path], ()))


@pytest.mark.fault("files without an end")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_has_no_end(suffix: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"a{suffix}")
    (tmp_path / f"zero{suffix}").symlink_to("/dev/zero")
    for path in (tmp_path / f"a{suffix}", tmp_path / f"zero{suffix}"):
        with pytest.raises(UserError, match="is not a file"):
            list(read_files([path], ()))


@pytest.mark.fault("files without an end")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_empty_for_gigabytes(suffix: str, tmp_path: Path) -> None:
    """A sparse file of 1 TiB, which takes no room on the disk."""
    with (tmp_path / f"a{suffix}").open("wb") as file:
        file.truncate(1 << 40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"has a line of more|cannot be read|needs a header"):
        list(read_files([tmp_path / f"a{suffix}"], ()))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "KiB"


# -- JSON -----------------------------------------------------------------------------------------------------------


@pytest.mark.fault("bombs in rows")
@pytest.mark.parametrize("text", ["[" * 100_000, '[{"a": ' * 100_000, "5", "null", '"abc"', "[1]", "[{},{}}", "[{}] {}",
                                  '[{"a": ' + "9" * 5000 + "}]"])  # fmt: skip
def test_json_that_is_no_rows(text: str, tmp_path: Path) -> None:
    """Catches a traceback of one that is deep, and of a number or a text where the rows should be."""
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=r"neither JSON nor|is not JSON|must be a JSON object"):
        list(read_files([tmp_path / "a.json"], ()))


def test_a_list_of_rows_is_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the blocks that it is read in; catches a list that is in memory as a whole."""
    rows = [{"a": "x" * n, "b": [n, {"c": "],[{\\"}]} for n in range(40)]
    for text in (json.dumps(rows), json.dumps(rows, indent=2), " \n[ ] ", json.dumps({"n": 1, "data": rows})):
        (tmp_path / "a.json").write_text(text)
        for block in (1, 7, 2**20):
            monkeypatch.setattr("understudy.tasks.text.text_files._Reader.BLOCK", block)
            got = [dict(row.values) for row in read_files([tmp_path / "a.json"], ())]
            assert got == ([] if text == " \n[ ] " else rows)
    (tmp_path / "a.json").write_text(json.dumps(rows)[:-1])
    with pytest.raises(UserError, match="neither JSON"):
        list(read_files([tmp_path / "a.json"], ()))
    monkeypatch.setattr(expansion, "LARGEST_LINE", 30)
    monkeypatch.setattr("understudy.tasks.text.text_files._Reader.BLOCK", 8)
    with pytest.raises(UserError, match="has a row of more"):
        list(read_files([tmp_path / "a.json"], ()))


@pytest.mark.fault("bombs in rows")
@pytest.mark.parametrize("between", [b"", b"\0" * 30], ids=["members", "zeros between them"])
def test_gzip_of_many_members(between: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches 40 MB of empty members, which took 24 s; several with rows, and zeros after the last, are read."""
    monkeypatch.setattr(gzipped, "MEMBERS", 50)
    path, rows = tmp_path / "a.jsonl.gz", [{"prompt": "x" * i, "answer": "1"} for i in range(40)]
    members = [gzip.compress(json.dumps(row).encode() + b"\n") for row in rows]
    path.write_bytes(b"".join(members) + b"\0" * 512)
    assert [dict(row.values) for row in read_files([path], ())] == rows
    path.write_bytes((gzip.compress(b"") + between) * 60)
    with pytest.raises(UserError, match="has more members than compressed rows need"):
        list(read_files([path], ()))
    for damaged in (members[0][:-3], b"".join(members)[:-9], members[0] + b"x", b"no gzip"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="cannot be read"):
            list(read_files([path], ()))


def test_damaged_gzip(tmp_path: Path) -> None:
    """Catches zlib's own error."""
    good = gzip.compress(b'{"prompt": "1"}\n' * 1000)
    for at in (3, 11, 20, len(good) - 6):
        (tmp_path / "a.jsonl.gz").write_bytes(good[:at] + bytes([good[at] ^ 255]) + good[at + 1 :])
        with contextlib.suppress(UserError):
            list(read_files([tmp_path / "a.jsonl.gz"], ()))


# -- columns --------------------------------------------------------------------------------------------------------


def repeated(n: int) -> pa.Array:
    """A text of 64 KiB, n times, as a dictionary holds it."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array(["x" * (1 << 16)]))


BOMBS: dict[str, Callable[[], dict[str, Any]]] = {
    "a text that is repeated": lambda: {"prompt": repeated(2000)},
    "one inside a conversation": lambda: {
        "messages": pa.ListArray.from_arrays(
            pa.array([0, 200]), pa.StructArray.from_arrays([repeated(200), repeated(200)], ["role", "content"])
        )
    },
    "nothing, often": lambda: {"prompt": pa.nulls(1 << 21)},
    "a list of nothing": lambda: {"prompt": pa.ListArray.from_arrays(pa.array([0, 1 << 21]), pa.nulls(1 << 21))},
    "one long text": lambda: {"prompt": ["x" * (1 << 19)]},
}


def write(kind: str, path: Path, table: pa.Table, **options: Any) -> None:
    if kind == "parquet":
        pq.write_table(table, path, compression="zstd", **options)
        return
    with pa.ipc.new_stream(str(path), table.schema) as stream:
        stream.write_table(table)


@pytest.mark.fault("bombs in rows")
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("name", BOMBS)
def test_columns_that_expand(name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a size that is looked at after everything has become Python objects."""
    path = tmp_path / f"a.{kind}"
    monkeypatch.setattr(expansion, "EXPANDED", 1 << 22)
    monkeypatch.setattr(expansion, "EXPANSION", 2)
    monkeypatch.setattr(expansion, "LARGEST_LINE", 1 << 19)
    monkeypatch.setattr(columns, "VALUES", 1 << 20)
    write(kind, path, pa.table(BOMBS[name]()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"expands to more than|no rows do|has a row 1 of more"):
        list(read_files([path], ()))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "KiB"


def test_compressed_arrow(tmp_path: Path) -> None:
    """Catches a buffer as large as it says: of some bytes, gigabytes."""
    table = pa.table({"prompt": ["x" * 1000] * 10})
    for codec, refused in (("zstd", True), ("lz4", True), (None, False)):
        options = pa.ipc.IpcWriteOptions(compression=codec)
        with pa.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema, options=options) as stream:
            stream.write_table(table)
        if refused:
            with pytest.raises(UserError, match="is compressed"):
                list(read_files([tmp_path / "a.arrow"], ()))
        else:
            assert len(list(read_files([tmp_path / "a.arrow"], ()))) == 10


ORDINARY = {
    "messages": [[{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "a"}] for i in range(300)],
    "prompt": [None if i % 7 == 0 else f"p{i % 5}" for i in range(300)],
    "ids": [list(range(i % 4)) for i in range(300)],
    "n": list(range(300)),
    "x": [i / 3 for i in range(300)],
    "raw": [b"\xff"] * 300,
    "flag": [True, False] * 150,
}


@pytest.mark.parametrize(
    "options",
    [
        {}, {"use_dictionary": False, "column_encoding": {"prompt": "DELTA_BYTE_ARRAY"}}, {"row_group_size": 7},
        {"data_page_size": 50, "dictionary_pagesize_limit": 90},
    ],
)  # fmt: skip
def test_ordinary_columns_come_back(options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "PIECE", 2000)  # several pieces per batch
    table = pa.table(ORDINARY)
    want = table.to_pylist()
    for kind in ("parquet", "arrow"):
        write(kind, tmp_path / f"a.{kind}", table, **(options if kind == "parquet" else {}))
        assert [dict(row.values) for row in read_files([tmp_path / f"a.{kind}"], ())] == want
        only = list(read_files([tmp_path / f"a.{kind}"], ("prompt", "absent"), limit=3))
        assert [dict(row.values) for row in only] == [{"prompt": row["prompt"]} for row in want[:3]]


def test_a_delta_encoding_inside_a_list(tmp_path: Path) -> None:
    """It can repeat a text without end, and pyarrow does not count it: refused."""
    encoding = {"messages.list.element.content": "DELTA_BYTE_ARRAY"}
    pq.write_table(pa.table(ORDINARY), tmp_path / "a.parquet", use_dictionary=False, column_encoding=encoding)
    with pytest.raises(UserError, match="has a delta encoding inside a list"):
        list(read_files([tmp_path / "a.parquet"], ()))


def test_the_footer_is_what_pyarrow_says(tmp_path: Path) -> None:
    pq.write_table(pa.table(ORDINARY), tmp_path / "a.parquet", row_group_size=50)
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    groups, described = columns_of(tmp_path / "a.parquet")
    found = {c.path: c for c in described}
    assert groups == metadata.num_row_groups == 6
    for j in range(metadata.num_columns):
        chunks = [metadata.row_group(i).column(j) for i in range(metadata.num_row_groups)]
        column = found.pop(chunks[0].path_in_schema)
        assert column.texts == (chunks[0].physical_type == "BYTE_ARRAY")
        assert column.values == sum(c.num_values for c in chunks)
        assert column.uncompressed == sum(c.total_uncompressed_size for c in chunks)
    assert not found


@pytest.mark.fault("bombs in rows")
@pytest.mark.parametrize("compression", ["snappy", "gzip", "zstd"])
def test_a_page_that_says_too_much(compression: str, tmp_path: Path) -> None:
    """Catches memory of 2 GB for a page of some bytes: the footer is right, the page's own header is not."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"prompt": ["x" * 1000 + str(i) for i in range(99)]}), path, compression=compression)
    pages = list(pages_of(path, columns_of(path)[1][0]))
    assert len(pages) == 2
    data, (packed, whole) = path.read_bytes(), pages[0]
    start = columns_of(path)[1][0].chunks[0][0]
    old = b"\x15" + varint(whole) + b"\x15" + varint(packed)
    at = data.index(old, start)
    assert at - start < 8
    new = b"\x15" + varint(2**31 - 1) + b"\x15" + varint(packed)
    assert len(new) > len(old), "the pages move, and nothing else is read before the header"
    path.write_bytes(data[:at] + new + data[at + len(new) :])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"expands to more than|damaged"):
        list(read_files([path], ()))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "KiB"


def varint(value: int) -> bytes:
    """As Thrift writes a positive whole number: zigzag, seven bits at a time."""
    value, out = 2 * value, b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_damaged_columns(kind: str, tmp_path: Path) -> None:
    """Each is refused in words, or read: none ends the process, which pyarrow's access to a damaged footer does."""
    dice, path = random.Random(kind), tmp_path / f"a.{kind}"
    write(kind, path, pa.table({k: v[:40] for k, v in ORDINARY.items()}))
    whole = path.read_bytes()
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(dice.randrange(1, 6)):
            data[-1 - dice.randrange(len(data))] = dice.choice([0, 1, 127, 255, dice.randrange(256)])
        path.write_bytes(data[: dice.choice([len(data), len(data), dice.randrange(len(data))])])
        with contextlib.suppress(UserError):
            list(read_files([path], ()))
