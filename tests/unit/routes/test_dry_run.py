"""What a training would do and cost, without writing anything."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import STUDENT
from understudy.cli.main import main
from understudy.config import TrainConfig
from understudy.routes.dry_run import dry_run
from understudy.terminal import no_progress


def config(method: str, **changes: Any) -> TrainConfig:
    fields: dict[str, Any] = {
        "method": method, "student": STUDENT, "expert": "solver", "task": "countdown", "updates": 30,
        "prompts_per_update": 4, "max_new_tokens": 16, "device": "cpu",
    }  # fmt: skip
    return TrainConfig(**(fields | changes))


@pytest.mark.parametrize("method", ["sft", "opd_full", "grpo"])
def test_it_says_what_would_happen(method: str) -> None:
    lines = dry_run(config(method), no_progress, lambda line: None)
    text = "\n".join(lines)
    samples = 8 if method == "grpo" else 1
    assert f"30 updates of 4 prompts x {samples} completions, learning rate 0.001 (constant" in text
    assert "at most 16 tokens" in text
    trained = re.search(r"training: ([\d.]+)k tokens trained", text)
    assert trained
    assert 0 < float(trained[1]) * 1e3 <= 30 * 4 * samples * 17
    assert ("by the expert" in text) == (method != "grpo")
    assert "evaluations: 2 of 128 prompts" in text


def test_a_budget_limits_the_updates() -> None:
    text = "\n".join(dry_run(config("sft", budget_axis="updates", budget=7), no_progress, lambda line: None))
    assert "7 updates" in text


def test_the_command_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    common = ["--student", STUDENT, "--expert", "solver", "--device", "cpu", "--max-new-tokens", "16", "--dry-run"]
    sizes = ["--prompts-per-update", "4", "--updates", "12"]
    assert main(["train", "--method", "sft", *common, *sizes, "--out", "a"]) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert main(["train", "--route", "sft+opd_full", "--look-prompts", "4", *common, *sizes, "--out", "b"]) == 0
    assert "2 phases" in capsys.readouterr().out
    assert not os.listdir(tmp_path)
