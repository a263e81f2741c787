"""A training that is stopped at any of its checks saves what it can, and resumes to the same bits."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import CoinTask, config
from understudy import running, tasks
from understudy.errors import Interrupted
from understudy.runs.read import is_done, read_metrics, read_status
from understudy.training.session import Session
from understudy.training.train import train

METHODS: dict[str, dict[str, Any]] = {"opd_full": {}, "grpo": {"updates_per_rollout": 2}, "sft": {"prompt_pool": 8}}
COMMON = {"updates": 6, "eval_every": 2, "save_every": 4, "prompts_per_update": 2, "eval_expert": True}


@pytest.fixture(autouse=True)
def _coin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tasks.TASKS, "coin", CoinTask.from_spec)


def untimed(path: Path) -> list[Any]:
    return [{k: v for k, v in r.items() if k != "ledger" and not k.startswith("seconds")} for r in read_metrics(path)]


@pytest.mark.parametrize("method", METHODS)
def test_stopped_at_any_check_it_resumes_bit_for_bit(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = [0]
    at = [0]

    def check() -> None:
        counted[0] += 1
        if counted[0] == at[0]:
            raise Interrupted("", signal.SIGTERM)

    monkeypatch.setattr(running, "check", check)
    changes = COMMON | METHODS[method]
    whole = train(config(method, tmp_path / "whole", **changes))
    n = counted[0]
    assert n > 100
    weights = (whole / "final" / "model.safetensors").read_bytes()
    for place in random.Random(method).sample(range(1, n + 1), 4):
        out = tmp_path / f"cut-{place}"
        counted[0], at[0] = 0, place
        with pytest.raises(Interrupted) as stop:
            train(config(method, out, **changes))
        assert stop.value.code == 143
        assert read_status(out)["state"] == "stopped"
        at[0] = 0
        train(config(method, out, **changes))
        assert (out / "final" / "model.safetensors").read_bytes() == weights, place
        assert (out / "final.json").read_bytes() == (whole / "final.json").read_bytes(), place
        assert untimed(out) == untimed(whole), place


def test_little_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped inside an update without a checkpoint before: the update's beginning is saved."""

    def progress(phase: str, done: int, total: int, note: str) -> None:
        if (phase, done) == ("train", 3):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="saved at update 3 of 6"):
        train(config("opd_full", tmp_path, **COMMON | {"save_every": 0}), progress)


@pytest.mark.parametrize("moment", ["evaluation", "finish"])
def test_a_signal_at_the_end_is_not_lost(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the program, also where the run was finished while it came."""
    finish = Session.finish

    def late(self: Session, final: dict[str, Any]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        finish(self, final)

    def progress(phase: str, done: int, total: int, note: str) -> None:
        if moment == "evaluation" and phase == "final evaluation" and done == 0:
            os.kill(os.getpid(), signal.SIGINT)

    if moment == "finish":
        monkeypatch.setattr(Session, "finish", late)
    with pytest.raises(Interrupted) as stop:
        train(config("opd_full", tmp_path, **COMMON), progress)
    assert stop.value.code == 130
    assert is_done(tmp_path) == (moment == "finish")
    assert ("finished before" in str(stop.value)) == (moment == "finish")
