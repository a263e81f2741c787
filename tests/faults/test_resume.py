"""A run that is killed, interrupted or started again has the result of the uninterrupted run, bit for bit."""

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

from understudy.training.train import train

SCRIPT = Path(killed_run.__file__)
GROUPS = [("sft", "opd", "dropout", "base_opd"), ("grpo", "dagger", "rft", "gkd")]


@pytest.mark.parametrize("methods", GROUPS, ids=" ".join)
def test_killed_in_every_way(methods: tuple[str, ...], tmp_path: Path) -> None:
    """Catches state that lives only in memory: a round's samples, the place in a shuffled pool, the ledger, the
    optimizer, dropout's random numbers, lines that are logged twice, a setting that is not in config.json.

    killed_run.py compares weights, optimizer, random state, metrics without times, samples and final results. Several
    methods share a process, because imports are most of the cost.
    """
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), *methods],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = json.loads(done.stdout)
    assert list(outcomes) == list(methods)
    for method, ways in outcomes.items():
        assert ways["from config.json"] == [0, []], method
        killed_at_places(method, ways["places"])
        if method in THOROUGH:
            reached, differing = ways["random"]
            assert reached, "nothing was killed"
            assert differing == [], f"{method}, killed at random after updates {reached}"
            ctrl_c(*ways["interrupted"])


def killed_at_places(method: str, places: dict[str, Any]) -> None:
    """kill -9 inside an update, between an update and its checkpoint, while saving, in an evaluation, in the last one,
    and before the run is called done."""
    assert len(places) == (len(PLACES) if method in THOROUGH else 2)
    for place, (code, _, code_again, differing) in places.items():
        assert code == -signal.SIGKILL, f"{method}: {place} was never reached"
        assert code_again == 0, f"{method}: {place}"
        assert differing == [], f"{method}, killed at {place}"
    assert len({at for _, at, _, _ in places.values()}) > 1, "all deaths were at the same step"


def ctrl_c(code: int, output: str, status: dict[str, Any], saved: list[str], again: int, differing: list[str]) -> None:
    """Ctrl-C loses no update, prints how to continue, is not reported as a failure, and does not change the result."""
    assert code == 130
    step = status["step"]
    assert f"saved at update {step} of 8; the same command resumes from there" in output
    assert (status["state"], status["reason"]) == ("stopped", "interrupted")
    assert step >= 2  # what was finished when the signal came: the running update is not waited for
    assert f"step-{step:08d}" in saved
    assert "Traceback" not in output
    assert (again, differing) == (0, [])


def test_no_method_is_forgotten() -> None:
    """Catches a method that was added to killed_run.py and is never run."""
    assert sorted(m for group in GROUPS for m in group) == sorted(METHODS)


def test_a_process_of_its_own(models: dict[str, Path], tmp_path: Path) -> None:
    """Catches a difference between a fresh process and one that has run other code before (random state, threads), and
    code that only `python -m understudy` executes."""
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
                while not (out / "checkpoints").is_dir() and time.monotonic() < deadline and child.poll() is None:
                    time.sleep(0.005)
                child.send_signal(signal.SIGKILL)
            output = child.communicate(timeout=200)[0]
        assert child.returncode == (-signal.SIGKILL if kill else 0), output
    want = results(train(config("word_kd", tmp_path / "whole", **changes)))
    assert results(out) == want
