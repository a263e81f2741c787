"""`understudy eval`: what it keeps, how it is stopped and resumed, its options, its mistakes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from understudy.cli.main import main
from understudy.errors import Interrupted, UserError
from understudy.evaluation import model
from understudy.evaluation.config import EvalConfig
from understudy.evaluation.model import evaluate_model
from understudy.runs.read import read_lines
from understudy.terminal import no_progress

FIELDS: dict[str, Any] = {
    "model": "scratch:width=16,layers=1,heads=2", "task": "countdown", "prompts": 10, "samples": 2, "k": (1, 2),
    "max_new_tokens": 8, "device": "cpu",
}  # fmt: skip


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "PART", 6)  # three prompts


def test_kept_completions_and_resume(tmp_path: Path) -> None:
    """Catches an evaluation whose result depends on --out, on how it was cut into parts, or on where it was stopped; a
    half-written line; and a finished one that is drawn again."""
    whole = evaluate_model(EvalConfig(**FIELDS))
    shown: list[tuple[str, int, int, str]] = []

    def stop(phase: str, done: int, total: int, note: str) -> None:
        shown.append((phase, done, total, note))
        if phase == "evaluation" and done >= 9:
            os.kill(os.getpid(), signal.SIGTERM)

    out = tmp_path / "kept"
    config = EvalConfig(**FIELDS, out=str(out))
    with pytest.raises(Interrupted, match=r"of 10 prompts are in .*resumes") as stopped:
        evaluate_model(config, stop)
    assert stopped.value.code == 143
    assert any("accuracy" in note and "left" in note for *_, note in shown)
    lines = read_lines(out / "completions.jsonl")
    assert 0 < len(lines) < 30
    with (out / "completions.jsonl").open("a") as file:
        file.write(json.dumps(lines[0] | {"prompt_number": 9}) + '\n{"prompt_number": 9, "ki')
    assert evaluate_model(config) == whole
    lines = read_lines(out / "completions.jsonl")
    assert len(lines) == 10 * (2 + 1)
    assert json.loads((out / "results.json").read_text())["measures"] == whole["measures"]
    assert {"prompt", "rendered", "completion", "reward", "ended", "tokens"} <= set(lines[0])
    calls: list[str] = []
    assert evaluate_model(config, lambda phase, *_: calls.append(phase)) == whole
    assert "evaluation" not in calls
    with pytest.raises(UserError, match="belongs to another configuration: temperature"):
        evaluate_model(EvalConfig(**FIELDS, out=str(out), temperature=0.5), no_progress)


def test_a_nucleus_of_one_token_is_greedy(tmp_path: Path) -> None:
    """Catches --top-p and --temperature that reach no sampler."""
    for i, changes in enumerate(({"top_p": 1e-9}, {"temperature": 1e-4})):
        out = tmp_path / str(i)
        evaluate_model(EvalConfig(**FIELDS | changes, out=str(out)))
        rows = read_lines(out / "completions.jsonl")
        greedy = {row["key"]: row["completion"] for row in rows if row["kind"] == "greedy"}
        assert [row["completion"] for row in rows] == [greedy[row["key"]] for row in rows]


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--prompts", "0"], "prompts: 0: must be at least 1"),
        (["--samples", "0"], "samples: 0: must be at least 1"),
        (["--max-new-tokens", "-3"], "max_new_tokens: -3: must be at least 0"),
        (["--temperature", "0"], "temperature: 0.0: must be positive: greedy accuracy is always reported"),
        (["--top-p", "1.5"], "top_p: 1.5: must lie in"),
        (["--dtype", "int8"], "dtype: int8: unknown; one of"),
        (["--k", "9"], r"k: 9: must be 1..samples=4"),
        (["--model", ""], "model: missing"),
        (["--split", "tset"], "split: tset: unknown"),
        (["--model", "solver", "--temperature", "0.5"], "a programmatic expert samples"),
    ],
)
def test_wrong_values(args: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a traceback, an evaluation of nothing, and a mistake that is found after a directory was made."""
    out = tmp_path / "out"
    assert main(["eval", "--model", FIELDS["model"], "--task", "countdown", "--out", str(out), "--json", *args]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_folder_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an evaluation that writes into the user's folder."""
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["eval", "--model", FIELDS["model"], "--json", "--out", str(tmp_path)]) == 2
    assert "not empty and not a run" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
