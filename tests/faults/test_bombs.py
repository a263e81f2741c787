"""Files that are small and expand without end, and files that have no end: refused within seconds, in one line."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from understudy.errors import UserError
from understudy.tasks.text import files
from understudy.tasks.text.files import read_files


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz", "a.json.gz"])
@pytest.mark.parametrize("piece", ["x", '{"prompt": "1"}\n', "\n"], ids=["one line", "rows", "empty lines"])
def test_what_expands(name: str, piece: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "EXPANDED", 1 << 16)
    monkeypatch.setattr(files, "LARGEST_LINE", 1 << 20)
    path = tmp_path / name
    path.write_bytes(gzip.compress((piece * (1 << 22))[: 1 << 22].encode()))
    assert path.stat().st_size * files.EXPANSION < 1 << 22
    with pytest.raises(UserError, match=r"expands to more than|has a line of more|neither JSON|csv"):
        list(read_files([path], ()))


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.json"])
def test_what_has_no_end(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    (tmp_path / f"zero-{name}").symlink_to("/dev/zero")
    for path in (tmp_path / name, tmp_path / f"zero-{name}"):
        with pytest.raises(UserError, match="is not a file"):
            list(read_files([path], ()))
