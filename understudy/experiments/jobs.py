"""Run jobs that depend on jobs, several at a time; finished ones are re-used."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence

from understudy.config import VOLATILE
from understudy.errors import UserError
from understudy.experiments.job import Job
from understudy.experiments.local import Processes, ThisProcess
from understudy.experiments.ray import RayCluster
from understudy.runs.read import differences, read_config
from understudy.terminal import JobProgress

LAUNCHERS = ("local", "ray")
Launcher = ThisProcess | Processes | RayCluster


def run_all(
    jobs: Sequence[Job], workers: int, show: JobProgress, keep_going: bool = False, launcher: str = "local"
) -> list[str]:
    """Run every job, at most `workers` at a time; the names of those that had finished before and are re-used.

    launcher: `local` (processes here; with one worker, this process) or `ray`. After the first failure the running jobs
    end and no other starts (keep_going: only the jobs that need the failed one do not start); it is raised at the end
    as the job's own UserError. Ctrl-C lets every running job save and raises KeyboardInterrupt.
    """
    check_launcher(launcher, workers)
    names = {j.name for j in jobs}
    if len(names) != len(jobs):
        raise ValueError("two jobs have one name")
    if unknown := {n for j in jobs for n in j.needs} - names:
        raise ValueError(f"jobs need unknown jobs: {sorted(unknown)}")
    reused = [j for j in jobs if j.is_done()]
    for job in reused:
        if job.is_training:
            _check_same(job)
        show(job.name, "finished before", 1, 1, "re-used")
    waiting = [j for j in jobs if j not in reused]
    if waiting:
        where = RayCluster(show) if launcher == "ray" else Processes(show) if workers > 1 else ThisProcess(show)
        try:
            _run(waiting, {j.name for j in reused}, max(1, workers), where, show, keep_going)
        finally:
            where.close()
    return [j.name for j in reused]


def check_launcher(launcher: str, workers: int) -> None:
    """UserError: jobs cannot be started so."""
    if launcher not in LAUNCHERS:
        raise UserError("launcher", launcher, f"unknown; one of {', '.join(LAUNCHERS)}")
    if launcher == "ray" and "ray" not in sys.modules and importlib.util.find_spec("ray") is None:
        raise UserError("launcher", "ray", "needs ray, which is not installed: pip install 'understudy[ray]'")
    if not 1 <= workers <= 1024:
        raise UserError("workers", workers, "must be at least 1 and at most 1024")


def _run(
    waiting: list[Job], done: set[str], workers: int, where: Launcher, show: JobProgress, keep_going: bool
) -> None:
    running: set[str] = set()
    failure: UserError | None = None
    while True:
        ready = [j for j in waiting if set(j.needs) <= done] if failure is None or keep_going else []
        if not running and not ready:
            break
        for job in ready[: workers - len(running)]:
            waiting.remove(job)
            running.add(job.name)
            where.start(job)
        for name, error in where.ended():
            running.remove(name)
            if error is None:
                done.add(name)
                show(name, "done", 1, 1, "")
            else:
                failure = failure or error
                show(name, "failed", 0, 1, error.hint)
    if failure is not None:
        raise failure


def _check_same(job: Job) -> None:
    """A finished run is re-used only if it is of this very configuration."""
    config, defaults = job.recorded
    changed = differences(read_config(job.out), config, VOLATILE, defaults)
    if changed:
        raise UserError("out", job.out, f"holds another run ({', '.join(changed[:4])}): choose another --out")
