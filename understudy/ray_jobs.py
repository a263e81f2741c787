"""Runs that depend on runs on a Ray cluster: `--launcher ray`. Ray (an extra) places them; the runs do the rest.

Every machine must see the run directories under the same path. Ray moves each job's configuration there and a line
back; weights and logs never travel through it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from understudy.config import TrainConfig
from understudy.errors import UserError

Show = Callable[[str, str, int, int, str], None]


def run_ray(jobs: Sequence[Any], workers: int, done: set[str], show: Show) -> None:
    """Run `jobs` (jobs.Job), at most `workers` at a time (0 = as many as Ray has room for).

    done: names of jobs that need no run. The first failure lets what runs end, starts no more, and is raised as the
    job's own UserError. Ctrl-C ends the runs, which resume from their last checkpoint.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("launcher", "ray", f"needs ray ({error}): pip install 'understudy[ray]'") from None
    started = not ray.is_initialized()
    if started:  # RAY_ADDRESS names a cluster; without it Ray starts one on this machine
        ray.init(address=os.environ.get("RAY_ADDRESS"), log_to_driver=False, logging_level="warning")
    waiting = list(jobs)
    running: dict[Any, Any] = {}  # Ray's reference -> job
    failure: UserError | None = None
    try:
        gpus = float(ray.cluster_resources().get("GPU", 0))
        while running or (waiting and failure is None):
            for job in [j for j in waiting if set(j.needs) <= done]:
                if failure is not None or (workers and len(running) >= workers):
                    break
                waiting.remove(job)
                remote = ray.remote(
                    num_cpus=job.config.threads, num_gpus=_gpu(job.config, gpus), max_retries=0
                )(_run)
                running[remote.remote(job.config)] = job
                show(job.name, "running on ray", 0, 1, "")
            ready, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
            for reference in ready:
                job = running.pop(reference)
                told = _result(ray, reference, job.name)
                if told is None:
                    done.add(job.name)
                    show(job.name, "done", 1, 1, "")
                else:
                    failure = failure or told
                    show(job.name, "failed", 0, 1, told.mend)
    finally:
        for reference in running:
            ray.cancel(reference)
        if started:
            ray.shutdown()
    if failure is not None:
        raise failure


def _gpu(config: TrainConfig, there: float) -> int:
    return 1 if config.device.startswith("cuda") or (config.device == "auto" and there) else 0


def _result(ray: Any, reference: Any, name: str) -> UserError | None:
    try:
        words = ray.get(reference)
    except Exception as error:  # a worker that died, a machine that left
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
        return UserError("run", name, f"{reason}; the same command resumes it")
    return None if words is None else UserError(*words)


def _run(config: TrainConfig) -> tuple[str, str, str] | None:
    """One run, in Ray's process: nothing, or field, value and mend of what went wrong."""
    os.environ.setdefault("OMP_NUM_THREADS", str(config.threads))
    from understudy.train import Interrupted, train

    try:
        train(config)
    except UserError as error:
        return error.field, f"{error.value} (run {config.out})", error.mend
    except (Interrupted, KeyboardInterrupt):
        return "run", config.out, "interrupted; the same command resumes it"
    except Exception as error:
        return "run", config.out, f"{type(error).__name__}: {error}"
    return None
