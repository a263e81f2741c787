"""The page of architectures: its format, two of its rows, and a walk that survives what it tries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools import compatibility
from tools.compatibility_checks import examine

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = {"transformers": "5.0", "torch": "2.9", "peft": "0.20"}
EXACT = dict.fromkeys(compatibility.COLUMNS, "exact")
ROWS = {
    "b": {"model": "BForCausalLM", "loads": "yes", **EXACT, "sampling": "slower", "merge": "partly: x cannot | y"},
    "a": {"model": "AForCausalLM", "loads": "yes", **EXACT},
    "c": {"model": "CForCausalLM", "loads": "refused: is not causal: it is <C>"},
    "d": {"model": "", "loads": "not made: needs timm"},
}


@pytest.mark.parametrize("kind", ["llama", "mamba"])
def test_two_architectures(kind: str, tmp_path: Path) -> None:
    """Catches a check that finds nothing, or fails on a model that works."""
    row = examine(kind, tmp_path)
    assert row.pop("loads") == "yes"
    assert row.pop("model") == f"{kind.capitalize()}ForCausalLM"
    found = {name: compatibility.kind(cell) for name, cell in row.items()}
    wanted = dict.fromkeys(compatibility.COLUMNS, "exact")
    if kind == "mamba":
        wanted |= {"sampling": "slower", "merge": "partly"}
    assert found == wanted


def test_the_page() -> None:
    text = compatibility.page(VERSIONS, ["e", "f"], ROWS)
    assert "4 model types, 3 made tiny, 2 of them accepted" in text
    assert "batched scoring: 2 exact; sampling, rows dropped: 1 exact, 1 slower; resume: 2 exact;" in text
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("| a |"))
    assert lines[at] == "| a | AForCausalLM | exact | exact | exact | exact | exact |  |"
    assert lines[at + 1] == r"| b | BForCausalLM | exact | slower | exact | partly | exact | x cannot \| y |"
    assert "| c | is not causal: it is &lt;C> |" in lines
    assert "| d | needs timm |" in lines
    assert lines[-1] == "The same command goes on with these: e, f."
    assert "Not tried yet" not in compatibility.page(VERSIONS, [], ROWS)
    assert len({line.count("|") - line.count(r"\|") for line in lines[at - 2 : at + 2]}) == 1
    assert not any(compatibility.is_wrong(row) for row in ROWS.values())
    for cell in ("WRONG: 2", "FAILS: ValueError", "anything"):
        assert compatibility.is_wrong({"loads": "yes", **EXACT, "resume": cell})
        assert compatibility.is_wrong({"loads": cell})


def test_the_committed_page_is_that_of_the_committed_results() -> None:
    """Catches a page that was edited, and an architecture that computes something wrong."""
    data = json.loads((ROOT / compatibility.RESULTS).read_text(encoding="utf-8"))
    assert (ROOT / compatibility.PAGE).read_text(encoding="utf-8") == compatibility.page(**data)
    assert not [name for name, row in data["rows"].items() if compatibility.is_wrong(row)]


def test_a_walk_goes_on_after_a_crash_and_a_standstill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches results that are lost, or given to another architecture, when a child ends or does not answer."""
    child = tmp_path / "child"
    monkeypatch.setattr(compatibility.sys, "executable", str(child))
    child.write_text('#!/bin/sh\necho noise\necho \'{"model": "A", "loads": "yes"}\'\n')
    child.chmod(0o755)
    found = dict(compatibility.tried(["a", "b", "c"]))
    assert list(found) == ["a", "b", "c"]
    assert [row["loads"] for row in found.values()] == ["yes", "FAILS: the process that tried it ended", "yes"]
    monkeypatch.setattr(compatibility, "LIMIT", 0.2)
    child.write_text("#!/bin/sh\nexec sleep 20\n")
    assert dict(compatibility.tried(["a"]))["a"]["loads"] == "FAILS: no result within 0.2 s"
