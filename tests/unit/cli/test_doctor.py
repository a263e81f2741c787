"""`understudy doctor` reports packages, devices and commands, as text and as JSON, and never fails."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from understudy.cli import doctor
from understudy.cli.commands import COMMANDS
from understudy.cli.main import main


def output(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["doctor", *words]) == 0
    return capsys.readouterr().out


def test_json_and_words_agree(capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads(output(capsys, "--json"))
    text = output(capsys)
    assert report["packages"]["torch"] in text
    assert set(COMMANDS) <= set(report["commands"])
    lines = text.split("\ncommands\n")[1].splitlines()
    for name, command in report["commands"].items():
        (line,) = [x for x in lines if x[6:].split("  ")[0].strip() == name]
        assert line.split()[0] == ("yes" if command["works"] else "no")
        assert command["works"] or command["note"], "no reason"
    assert report["devices"]["cpu"]["works"]
    assert report["devices"]["auto"]["name"] in ("cpu", "cuda")
    machine = report["machine"]
    assert machine["cores"] >= 1
    assert 0 < machine["free_memory_gib"] <= machine["memory_gib"]
    assert machine["free_disk_gib"] >= 0


def test_an_engine_that_is_missing_is_named_with_its_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else there(name))
    command = doctor.examine()["commands"]["train --lora-rank"]
    assert command == {"works": False, "note": "needs peft: pip install 'understudy[lora]'"}


def missing(name: str) -> str:
    raise importlib.metadata.PackageNotFoundError(name)


def test_a_broken_machine_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a doctor that crashes on the fault that it should report."""
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    monkeypatch.setattr(importlib.metadata, "version", missing)
    report: dict[str, Any] = json.loads(output(capsys, "--json"))
    assert not report["devices"]["cpu"]["works"]
    assert [n for n, c in report["commands"].items() if c["works"]] == ["doctor"]
    assert "missing: torch" in report["commands"]["train"]["note"]


def test_every_extra_that_it_names_exists() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    extras = {extra for _, extra in doctor.ENGINES.values()} - {"", "math"}
    assert extras <= set(project["optional-dependencies"])
