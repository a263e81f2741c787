"""Stops are noted by a handler and raised at checks; they are no Exception, and end a program with their status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import torch

from understudy import running
from understudy.cli.main import main
from understudy.errors import Interrupted
from understudy.policy import load_policy
from understudy.tasks import load_task


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_raised_at_the_next_check_and_the_second_at_once(number: int) -> None:
    before = signal.getsignal(number)
    with running.interruptible(lambda: True, lambda _: True):
        running.check()
        os.kill(os.getpid(), number)
        assert running.requested() == number
        with pytest.raises(Interrupted) as stop:
            running.check()
        assert stop.value.code == 128 + number
        with pytest.raises(KeyboardInterrupt) as second:
            os.kill(os.getpid(), number)
        assert not isinstance(second.value, Interrupted)
    running.check()
    assert not running.requested()
    assert signal.getsignal(number) is before


def test_several_processes_only_note_it() -> None:
    with running.interruptible(lambda: False, lambda _: False):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        running.check()
        assert running.requested()


@pytest.mark.parametrize(("number", "status"), [(2, 130), (15, 143)])
def test_a_generic_handler_does_not_go_on(number: int, status: int) -> None:
    """The caller's `except Exception` must not train on; nobody handles it: the program ends with its status."""
    code = f"""
from understudy.errors import Interrupted
try:
    raise Interrupted("saved", {number})
except Exception:
    pass
print("went on")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (status, "")


def test_the_command_line_ends_with_the_status_of_the_signal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(args: object) -> int:
        raise Interrupted("saved at update 3 of 9; the same command resumes from there", signal.SIGTERM)

    monkeypatch.setattr("understudy.cli.main.find", lambda *_: stopped)
    assert main(["train"]) == 143
    assert "saved at update 3" in capsys.readouterr().err


def test_a_pass_stops_between_two_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward each have a check per block: a pass through a large model takes minutes."""
    spec = "scratch:width=16,layers=3,heads=2,context=32"
    model = load_policy(spec, "student", load_task("countdown").tokenizer(), device="cpu").model
    checks: list[int] = []
    monkeypatch.setattr(running, "check", lambda: checks.append(1))
    loss = model(input_ids=torch.tensor([[1, 2, 3]])).logits.sum()
    assert len(checks) == 3
    loss.backward()
    assert len(checks) == 6

    def stop() -> None:
        raise Interrupted

    loss = model(input_ids=torch.tensor([[1, 2, 3]])).logits.sum() if not monkeypatch.undo() else loss
    monkeypatch.setattr(running, "check", stop)
    with pytest.raises(Interrupted):
        loss.backward()


def test_reports_reach_the_innermost_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "EVERY", 0.0)
    outer: list[int] = []
    inner: list[int] = []
    with running.reporting(lambda done, total, left: outer.append(done)):
        with running.reporting(lambda done, total, left: inner.append(done)):
            running.report(1, 4, 0.0)
        running.report(2, 4, 0.0)
    running.report(3, 4, 0.0)
    assert (outer, inner) == ([2], [1])
