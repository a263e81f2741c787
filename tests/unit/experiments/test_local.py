"""Jobs in local processes: order, one stop signal, and a parent or child that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from understudy.errors import UserError
from understudy.experiments.job import Job
from understudy.experiments.jobs import run_all


def leave(name, progress, note):
    """A job that leaves a file."""
    note(f"note of {name}")
    progress("work", 1, 1, "")
    Path(name).write_text("done")


def fail(name, progress, note):
    raise UserError("student", "x", "broken on purpose")


def die(name, progress, note):
    os.kill(os.getpid(), signal.SIGKILL)


def work_until_stopped(name, progress, note):
    """Writes each signal that it receives, and keeps working, as a training that saves does."""

    def stop(number, frame):
        with open(name + ".signals", "a") as file:
            file.write(f"{signal.Signals(number).name}\n")

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    Path(name + ".started").write_text(str(os.getpid()))
    while not Path(name + ".signals").exists():
        progress("work", 0, 1, "")
        time.sleep(0.05)
    time.sleep(0.5)  # a second signal would arrive now


def work_silently(name, progress, note):
    """Reports nothing, as one long pass of a large model does; leaves a file when it is asked to stop."""
    Path(name + ".started").write_text(str(os.getpid()))
    try:
        while True:
            time.sleep(0.05)
    except KeyboardInterrupt as stop:
        Path(name + ".saved").write_text(type(stop).__name__)
        raise


def work_deaf(name, progress, note):
    """Cannot be asked to stop."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    Path(name + ".started").write_text(str(os.getpid()))
    while True:
        time.sleep(0.05)


def job(folder, name, call=leave, needs=()):
    return Job(name, call, (str(folder / name),), str(folder / name), needs)


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, f"{path.name} was never written"
        time.sleep(0.05)


def test_jobs_in_their_order_then_re_used(tmp_path):
    jobs = [job(tmp_path, "last", needs=("first",)), job(tmp_path, "first")]
    shown = []
    assert run_all(jobs, 2, lambda *line: shown.append(line)) == []
    ends = [name for name, phase, *_ in shown if phase == "done"]
    assert ends == ["first", "last"]
    assert ("first", "note", 0, 0, "note of " + str(tmp_path / "first")) in shown
    assert run_all(jobs, 2, lambda *_: None) == ["last", "first"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_starts_no_more_unless_told_to_keep_going(tmp_path, workers):
    jobs = [job(tmp_path, "bad", fail), job(tmp_path, "after", needs=("bad",)), job(tmp_path, "other", needs=("good",)),
            job(tmp_path, "good")]  # fmt: skip
    with pytest.raises(UserError, match="broken on purpose"):
        run_all(jobs[:2], workers, lambda *_: None)
    with pytest.raises(UserError, match="broken on purpose"):
        run_all(jobs, workers, lambda *_: None, keep_going=True)
    assert [(tmp_path / n).exists() for n in ("after", "good", "other")] == [False, True, True]


def test_a_killed_child_is_a_failure(tmp_path):
    with pytest.raises(UserError, match=r"its process ended with status -9 .*the same command resumes it"):
        run_all([job(tmp_path, "killed", die)], 2, lambda *_: None)


SCRIPT = """
import signal
import sys
from pathlib import Path
{first}
sys.path.insert(0, {here!r})
from test_local import job, run_all, {work}
from understudy.experiments import local
local.PATIENCE = {patience}
if __name__ == "__main__":
    run_all([job(Path({folder!r}), "a", {work})], 2, lambda *_: None)
"""
# a suite in the background of a shell ignores SIGINT
ANSWERS = "signal.signal(signal.SIGINT, signal.default_int_handler)"


def script_of(folder: Path, work: str = "work_until_stopped", first: str = ANSWERS, patience: float = 60) -> str:
    """A program that runs one job of this file, as text."""
    here = str(Path(__file__).parent)
    return SCRIPT.format(here=here, folder=str(folder), work=work, first=first, patience=patience)


def is_gone(pid: int, within: float = 20) -> bool:
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


OUTLIVING = {
    "killed": (signal.SIGKILL, "work_silently", ANSWERS),
    "hung up": (signal.SIGHUP, "work_silently", f"{ANSWERS}\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)"),
    "terminated": (signal.SIGTERM, "work_silently", "from understudy.cli.main import _terminate\n"
                   "signal.signal(signal.SIGTERM, _terminate)"),
    "terminated in the background of a shell": (
        signal.SIGTERM, "work_silently", "from understudy.cli.main import _terminate\n"
        "signal.signal(signal.SIGTERM, _terminate)\nsignal.signal(signal.SIGINT, signal.SIG_IGN)",
    ),
    "terminated, and the child is deaf": (signal.SIGTERM, "work_deaf", "from understudy.cli.main import _terminate\n"
                                          "signal.signal(signal.SIGTERM, _terminate)"),
}  # fmt: skip


@pytest.mark.parametrize("how", OUTLIVING)
def test_no_child_outlives_its_parent(tmp_path, how):
    """Whatever ends the parent, also where the job reports nothing: what can be saved is, and no process is left."""
    number, work, first = OUTLIVING[how]
    script = tmp_path / "script.py"
    script.write_text(script_of(tmp_path, work, first, patience=1 if work == "work_deaf" else 60))
    parent = subprocess.Popen([sys.executable, str(script)], start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        wait_for(tmp_path / "a.started")
        os.kill(parent.pid, number)
        parent.wait(timeout=60)
        assert is_gone(int((tmp_path / "a.started").read_text()))
        assert (tmp_path / "a.saved").exists() == (work == "work_silently")
    finally:
        parent.kill()
        parent.wait()


@pytest.mark.parametrize(("to", "expected"), [("group", "SIGINT"), ("killed", "SIGTERM")])
def test_a_child_is_asked_once_to_stop(tmp_path, to, expected):
    """Ctrl-C reaches the whole group of the terminal, but a child gets one signal; a killed parent stops it too."""
    script = tmp_path / "script.py"
    script.write_text(script_of(tmp_path))
    parent = subprocess.Popen([sys.executable, str(script)], start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        wait_for(tmp_path / "a.started")
        if to == "group":
            os.killpg(parent.pid, signal.SIGINT)
        else:
            parent.kill()
        parent.wait(timeout=60)
        wait_for(tmp_path / "a.signals")
        time.sleep(1)
        assert (tmp_path / "a.signals").read_text().split() == [expected]
    finally:
        parent.kill()
        parent.wait()


EARLY = """
import os, signal, time
from multiprocessing.context import ForkServerProcess
start = ForkServerProcess.start
def start_and_interrupt(self):
    start(self)
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.3)
ForkServerProcess.start = start_and_interrupt
"""


def test_an_interrupt_while_a_child_starts_stops_that_child(tmp_path):
    """Catches a child that runs before its parent has registered it: the parent waited for its end without a limit."""
    script = tmp_path / "script.py"
    script.write_text(EARLY + script_of(tmp_path))
    parent = subprocess.Popen([sys.executable, str(script)], start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        assert parent.wait(timeout=60) != 0
    finally:
        parent.kill()
        if (started := tmp_path / "a.started").exists():
            with pytest.raises(ProcessLookupError):
                os.kill(int(started.read_text()), 0)
