"""--dry-run of compare and of calibrate run: every route with its cost and time, and nothing on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import STUDENT

from understudy.cli.main import main


def test_compare_says_what_it_would_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a comparison whose cost is seen only after it has been paid."""
    out = tmp_path / "compare"
    words = ["compare", "--student", STUDENT, "--experts", "search=solver", "--task", "coin", "--out", str(out),
             "--routes", "sft", "sft+opd_full", "--seeds", "0", "1", "--set", "updates=4", "prompts_per_update=4",
             "max_new_tokens=12", "device=cpu"]  # fmt: skip
    assert main([*words, "--axis", "updates", "--budget", "4", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert f"4 runs in {out}, 0 of them finished before" in text
    assert "sft on search: 2 runs of 4 updates" in text
    assert "sft+opd_full on search: 2 runs of 2 + 2 updates" in text
    assert "together" in text
    assert not out.exists()


def test_calibrate_run_says_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["calibrate", "run", "--dry-run", "--only", "rl"]) == 0
    assert "minutes" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
