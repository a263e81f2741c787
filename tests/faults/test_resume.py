"""Killed, interrupted or run again: the result is the uninterrupted run's, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import killed_run
import pytest
from killed_run import METHODS, PLACES, RUN, THOROUGH, results, words
from tiny import config

from understudy.train import train

SCRIPT = Path(killed_run.__file__)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everything that killed_run.py tried; it compares weights, optimizer and random state, metrics and samples."""
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), *METHODS],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("method", METHODS)
def test_killed_at_any_place(method: str, told: dict[str, Any]) -> None:
    """Catches state that lives only in memory: a round's samples, the place in a shuffled pool, the ledger, the
    optimizer, dropout's random numbers, lines that are logged twice. kill -9 inside an update, between an update and
    its checkpoint, while saving, in an evaluation, in the last one, and before the run is called done."""
    places = told[method]["places"]
    assert len(places) == (len(PLACES) if method in THOROUGH else 2)
    for place, (code, _, code_again, differing) in places.items():
        assert code == -signal.SIGKILL, f"{place} never came"
        assert code_again == 0, place
        assert differing == [], f"killed at {place}"
    assert len({at for _, at, _, _ in places.values()}) > 1, "all deaths were at the same step"


@pytest.mark.parametrize("method", THOROUGH)
def test_killed_at_random_moments(method: str, told: dict[str, Any]) -> None:
    """Catches what the places above do not foresee."""
    reached, differing = told[method]["random"]
    assert reached, "nothing was killed"
    assert differing == []


@pytest.mark.parametrize("method", METHODS)
def test_run_again_from_config_json(method: str, told: dict[str, Any]) -> None:
    """Catches a setting that is not in config.json, or one that means something else when it is read back."""
    assert told[method]["from config.json"] == [0, []]


@pytest.mark.parametrize("method", THOROUGH)
def test_ctrl_c(method: str, told: dict[str, Any]) -> None:
    """Catches a Ctrl-C that loses updates, leaves no way on, is called a failure, or changes the result."""
    code, said, status, saved, code_again, differing = told[method]["interrupted"]
    assert code == 130
    step = status["step"]
    assert f"saved at update {step} of 8; the same command resumes from there" in said
    assert status["state"] == "stopped"
    assert status["reason"] == "interrupted"
    assert step >= 3
    assert f"step-{step:08d}" in saved
    assert "Traceback" not in said
    assert (code_again, differing) == (0, [])


def test_a_process_of_its_own(models: dict[str, Path], tmp_path: Path) -> None:
    """Catches a difference between a fresh process and one that has done other things before (its random state, its
    threads), and what only `python -m understudy` goes through."""
    student = Path(shutil.copytree(models["qwen3"], tmp_path / "student"))
    shape = json.loads((student / "config.json").read_text())
    (student / "config.json").write_text(json.dumps(shape | {"attention_dropout": 0.2}))
    changes = RUN | {"task": "countdown", "student": str(student)}
    out = tmp_path / "run"
    command = [sys.executable, "-m", "understudy", *words(config("word_kd", out, **changes))]
    for kill in (True, False):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
            if kill:
                deadline = time.monotonic() + 120
                while (
                    not (out / "checkpoints").is_dir()
                    and time.monotonic() < deadline
                    and child.poll() is None
                ):
                    time.sleep(0.005)
                child.send_signal(signal.SIGKILL)
            said = child.communicate(timeout=200)[0]
        assert child.returncode == (-signal.SIGKILL if kill else 0), said
    want = results(train(config("word_kd", tmp_path / "whole", **changes)))
    assert results(out) == want
