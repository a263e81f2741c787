"""understudy tasks: every task is described, and what can be asked of reasoning-gym is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from understudy.cli.main import main
from understudy.tasks import TASKS


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main(["tasks", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_task_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a task without a line, and options of another task."""
    tasks = shown(capsys)["tasks"]
    assert set(tasks) == set(TASKS)
    assert all(about for name, about in tasks.items() if name not in ("coin", "kinds"))  # tasks of these tests
    for name in TASKS:
        if name not in ("rg", "env"):
            assert shown(capsys, name)["options"]
    assert "max_number" in shown(capsys, "countdown")["options"]
    assert "test_share" in shown(capsys, "gsm8k")["options"]


def test_reasoning_gym(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("reasoning_gym")
    listed = shown(capsys, "rg")
    assert "chain_sum" in listed["data_sets"]["arithmetic"]
    assert "extract" in listed["options"]
    facts = shown(capsys, "rg:chain_sum")
    assert facts["options"]["max_terms"] == ["a whole number", "6"]
    assert facts["levels"] == 11
    assert len(facts["examples"]) == 2
    assert main(["tasks", "rg:chain_sum"]) == 0
    assert "levels 0 to 10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [(["nope"], "unknown; one of"), (["rg:chain_sm"], "did you mean chain_sum"), (["sort", "path"], "one at a time")],
)
def test_bad_input(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", *words]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
