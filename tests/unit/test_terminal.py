"""What a board shows without a terminal, and how far it takes a job to be."""

from __future__ import annotations

import pytest
from rich.console import Console

from understudy import terminal
from understudy.terminal import Board


def test_plain_lines_name_what_a_silent_time_is_spent_on(capsys: pytest.CaptureFixture[str]) -> None:
    """Each loading step at once; a long job every EVERY seconds; what is finished at once."""
    board = Board()
    for what in ("libraries", "student A", "expert B"):
        board.progress("loading", 0, 1, what)
    board.progress("evaluation", 1, 8, "test")
    board.progress("evaluation", 8, 8, "accuracy 0.50")
    lines = [line.split("] ")[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "loading 0/1 libraries", "loading 0/1 student A", "loading 0/1 expert B", "evaluation 8/8 accuracy 0.50"
    ]  # fmt: skip


def test_a_step_that_begins_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a minute of silence after the last loading step: an evaluation began too soon after it to be shown."""
    board = Board()
    for phase, done in (("train", 3), ("evaluation", 0), ("evaluation", 0), ("evaluation", 4), ("train", 4)):
        board.progress(phase, done, 8, "")
    lines = [line.split("] ")[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["train 3/8", "evaluation 0/8"]


def test_an_evaluation_does_not_set_a_job_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "console", Console(force_terminal=True, quiet=True))
    board = Board(total_jobs=2)
    with board:
        board.show("a", "train", 5, 10, "")
        for phase in ("evaluation", "sampling", "phase 1 of 2, sft: evaluation", "loading"):
            board.show("a", phase, 0, 8, "")
        assert board.fraction == {"a": 0.5}
        board.show("a", "done", 1, 1, "")
        assert board.fraction == {"a": 1.0}
