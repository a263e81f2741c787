"""What the monitor of a phase takes from its rollouts, and what it leaves out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import config

from understudy.runs.read import read_metrics
from understudy.training.monitor import Monitor, Seen, seen, wilson
from understudy.training.train import train
from understudy.types import Prompt, Rollout


def rollout(key: str, sample: int, reward: float, ended: bool, actor: str = "student") -> Rollout:
    return Rollout(Prompt(key, ""), sample, (1,), (0.0,), ended, "", actor, reward)


def test_prompts_are_the_unit() -> None:
    """Four samples of one prompt are one value: they share its difficulty."""
    rows = [rollout("a", i, float(i < 3), i > 0) for i in range(4)] + [rollout("b", i, 0.0, True) for i in range(4)]
    assert seen(rows, True) == Seen(2, 0.75, 0.25)
    assert seen(rows, False) == Seen(2, None, 0.25)


@pytest.mark.parametrize("actor", ["expert", "mixture_token", "base"])
def test_completions_of_others_are_left_out(actor: str) -> None:
    assert seen([rollout("a", 0, 1.0, True, actor)], True) is None


def test_band_of_the_last_updates() -> None:
    monitor = Monitor()
    for total in (64, 8, 16, 32, 48, 56):
        monitor.add(Seen(64, total, 0.0))
    assert monitor.band == wilson(8 + 16 + 32 + 48 + 56, 5 * 64)
    again = Monitor(json.loads(json.dumps(monitor.as_list())))
    assert again.band == monitor.band
    assert monitor.shown == "reward 0.50 [0.45, 0.55]"
    mean, low, high = wilson(0, 10)
    assert (mean, low) == (0.0, 0.0)
    assert 0.2 < high < 0.3


def test_records_of_a_training(tmp_path: Path) -> None:
    """Every update of a phase records entropies and how completions end; the expert's batches of a mixture do not."""
    notes: list[str] = []
    train(
        config("gkd", tmp_path, updates=6, eval_expert=True),
        lambda phase, done, total, note: notes.append(note) if phase == "train" else None,
    )
    records = read_metrics(tmp_path, "train")
    assert all(r["entropy"] > 0 and r["expert_entropy"] > 0 for r in records)
    own = [r for r in records if r["at_limit"] is not None]
    assert 0 < len(own) < 6, "a coin per batch"
    assert all(r["at_limit"] + r["ended"] == 1 for r in own)
    assert "reward" in notes[-1]
    assert "left" not in notes[-1]
    assert "left" in notes[-2]
