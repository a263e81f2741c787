"""A finished run keeps large weights once, and no optimizer state: nothing resumes it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.tiny import CoinTask, config
from understudy import tasks
from understudy.errors import UserError
from understudy.policy import load_policy
from understudy.runs import checkpoint
from understudy.runs.read import checkpoints
from understudy.training.train import train


@pytest.fixture(autouse=True)
def _coin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tasks.TASKS, "coin", CoinTask.from_spec)


def test_large_files_are_there_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "LARGE", 1000)
    asked = config("sft", tmp_path / "run", updates=4, save_every=2, keep=2)
    run = train(asked)
    older, newest = checkpoints(run)
    assert not list(run.rglob("state.safetensors"))
    final = run / "final" / "model.safetensors"
    assert os.path.samefile(newest / "model.safetensors", final)
    assert not os.path.samefile(older / "model.safetensors", final)
    for folder in (older, newest, run / "final"):
        load_policy(str(folder), "student", device="cpu")
    assert not [p for p in run.rglob("*") if p.name.startswith(".tmp")]
    assert train(asked) == run


def test_small_files_stay(tmp_path: Path) -> None:
    run = train(config("sft", tmp_path / "run"))
    assert (checkpoints(run)[-1] / "state.safetensors").is_file()


def test_it_is_not_extended(tmp_path: Path) -> None:
    """In words: where to go on from, not only that a field differs."""
    train(config("sft", tmp_path / "run"))
    with pytest.raises(UserError, match=r"is finished, and is not extended .* --student"):
        train(config("sft", tmp_path / "run", updates=3))
