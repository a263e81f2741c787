"""Whatever ends a command, nothing that it started goes on: no training, no process of a verifier."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from understudy.errors import UserError
from understudy.runs.lock import Lock
from understudy.runs.read import checkpoints, read_metrics, read_status

ROOT = Path(__file__).parents[2]
ENV = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
METHODS = ("sft", "opd_full")
COMMAND = [
    sys.executable, "-m", "understudy", "compare", "--student", "scratch:width=16,layers=1,heads=2", "--experts",
    "s=solver", "--routes", *METHODS, "--seeds", "0", "--axis", "updates", "--no-diagnose", "--workers", "2",
    "--set", "updates=100000", "prompts_per_update=2", "max_new_tokens=8", "eval_every=0", "save_every=0",
    "final_prompts=4", "eval_expert=false",
]  # fmt: skip


def until(true, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def started(out: Path, log: Path, more: int) -> subprocess.Popen[bytes]:
    """The comparison, once each of its trainings has gone on by some updates."""
    runs = [out / f"s-{m}-0" for m in METHODS]
    before = [len(read_metrics(run, "train")) if (run / "metrics.jsonl").exists() else 0 for run in runs]
    with log.open("wb") as file:
        process = subprocess.Popen([*COMMAND, "--out", str(out)], env=ENV, stdout=file, stderr=file,
                                   start_new_session=True)  # fmt: skip

    def further() -> bool:
        assert process.poll() is None, log.read_text()
        return all(
            (run / "metrics.jsonl").exists() and len(read_metrics(run, "train")) >= n + more
            for run, n in zip(runs, before)
        )

    until(further)
    return process


def test_a_comparison_that_is_killed_or_terminated_ends_its_trainings(tmp_path: Path) -> None:
    """kill -9, then the same command at once, then SIGTERM: each time both trainings end saved, and it resumes."""
    out, log = tmp_path / "out", tmp_path / "log"
    runs = [out / f"s-{m}-0" for m in METHODS]
    for number, status in ((signal.SIGKILL, -9), (signal.SIGTERM, 143)):
        process = started(out, log, 2)
        children = [int((run / ".lock").read_text().split()[0]) for run in runs]
        os.kill(process.pid, number)
        assert process.wait(timeout=60) == status, log.read_text()
        if number == signal.SIGTERM:
            assert not any(map(alive, children))
    until(lambda: not any(map(alive, children)), 30)
    for run in runs:
        assert read_status(run)["state"] == "stopped"
        steps = [m["step"] for m in read_metrics(run, "train")]
        assert steps == list(range(1, len(steps) + 1))
        assert checkpoints(run)[-1].name == f"step-{len(steps):08}"
    assert "in use" not in log.read_text()


HOLD = """
import sys, time
from pathlib import Path
from understudy.runs.lock import Lock
lock = Lock(Path(sys.argv[1]))
lock.acquire()
if sys.argv[2] == "stopping":
    Lock.announce_stop()
print("held", flush=True)
time.sleep(float(sys.argv[3]))
"""


@pytest.mark.parametrize(("state", "hold"), [("stopping", 2.5), ("working", 60)])
def test_a_lock_is_waited_for_where_its_owner_saves_and_ends(tmp_path: Path, state: str, hold: float) -> None:
    path = tmp_path / ".lock"
    owner = subprocess.Popen([sys.executable, "-c", HOLD, str(path), state, str(hold)], env=ENV, stdout=subprocess.PIPE)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"held\n"
        lock = Lock(path)
        if state == "stopping":
            lock.acquire()
            lock.release()
        else:
            with pytest.raises(UserError, match=f"in use by process {owner.pid}; wait"):
                lock.acquire()
    finally:
        owner.kill()
        owner.wait()


PARENT = """
import sys, time
from pathlib import Path
from understudy.tasks.workers import Worker
worker = Worker("busy_child", ["100"])
while not worker.ready:
    worker.ready = any(m.get("ready") for m in worker.lines() or [])
worker.ask(0, "x", 100)
Path(sys.argv[1]).write_text(str(worker.process.pid))
time.sleep(100)
"""
BUSY = """
import time
from understudy.tasks.child import serve
serve(lambda: lambda request: time.sleep(100))
"""


def test_a_verifier_that_works_ends_with_its_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "busy_child.py").write_text(BUSY)
    env = ENV | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "pid")], env=env)
    try:
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        time.sleep(0.2)
        parent.kill()
        parent.wait()
        until(lambda: not alive(int((tmp_path / "pid").read_text())), 10)
    finally:
        parent.kill()
        parent.wait()


UNDER_TORCHRUN = """
import os, signal, sys, time
from pathlib import Path
from understudy.distributed import _end_with
child = os.fork()
if not child:
    _end_with(os.getppid())
    os._exit(0)
Path(sys.argv[1]).write_text(str(child))
time.sleep(100)
"""


def test_a_process_of_torchrun_ends_with_it(tmp_path: Path) -> None:
    """Catches processes that train to their end after kill -9 of torchrun."""
    file = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", UNDER_TORCHRUN, str(file)], env=ENV)
    try:
        until(lambda: file.exists() and file.read_text())
        child = int(file.read_text())
        assert alive(child)
        parent.kill()
        parent.wait()
        until(lambda: not alive(child), 30)
    finally:
        parent.kill()
        parent.wait()
