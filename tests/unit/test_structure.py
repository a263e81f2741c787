"""tools/structure.py reports what it must refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import structure


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_circles_are_the_groups_that_import_each_other() -> None:
    edges = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d", "a"}, "e": set()}
    assert structure.circles(edges) == [["b", "c"], ["d"]]
    acyclic = {"a": {"b", "c"}, "b": {"c"}, "c": set(), "d": set()}
    assert structure.circles(acyclic) == []
    assert structure.layers(acyclic) == [["c", "d"], ["b"], ["a"]]


def test_hidden_imports_long_modules_and_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a tool that misses imports inside functions or under TYPE_CHECKING, or circles of folders alone."""
    monkeypatch.syspath_prepend(str(tmp_path))
    checking = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house_one import a\n"
    write(tmp_path, {
        "house_one/__init__.py": "", "house_one/a.py": "def f():\n    from house_one import b\n",
        "house_one/b.py": checking, "house_one/long.py": "x = 1\n" * 401,
    })  # fmt: skip
    assert structure.main(tmp_path, "house_one") == 1
    out = capsys.readouterr().out
    assert "house_one.a <-> house_one.b" in out
    assert "house_one/long.py (401 lines)" in out
    write(tmp_path, {
        "house_two/__init__.py": "", "house_two/x/__init__.py": "", "house_two/y/__init__.py": "",
        "house_two/x/a.py": "from house_two.y import b\n", "house_two/y/b.py": "",
        "house_two/y/c.py": "from house_two.x import d\n", "house_two/x/d.py": "",
    })  # fmt: skip
    assert structure.main(tmp_path, "house_two") == 1
    assert "in house_two: x <-> y" in capsys.readouterr().out
    (tmp_path / "house_two/y/c.py").unlink()
    assert structure.main(tmp_path, "house_two") == 0
