"""Runs that depend on runs on a Ray cluster: `--launcher ray`. Ray (an extra) places them; the runs do the rest.

Every machine must see the run directories under the same path. Ray moves each job's configuration there and a line
back; weights and logs never travel through it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from understudy.errors import UserError

Show = Callable[[str, str, int, int, str], None]


def run_ray(jobs: Sequence[Any], workers: int, done: set[str], show: Show, keep_going: bool = False) -> None:
    """Run `jobs` (jobs.Job or jobs.Work), at most `workers` at a time.

    done: names of jobs that need no run. The first failure lets what runs end, starts no more (keep_going: only none
    that needs the failed one), and is raised as the job's own UserError at the end. Ctrl-C ends the runs, which
    resume from their last checkpoint.
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
        while True:
            ready = [j for j in waiting if set(j.needs) <= done] if failure is None or keep_going else []
            if not running and not ready:
                break
            for job in ready[: max(0, workers - len(running))]:
                waiting.remove(job)
                place = {"num_cpus": _threads(job), "num_gpus": _gpus(job, gpus), "max_retries": 0}
                running[ray.remote(**place)(_run).remote(job)] = job
                show(job.name, "running on ray", 0, 1, "")
            for reference in ray.wait(list(running), num_returns=1, timeout=1.0)[0]:
                job = running.pop(reference)
                told = _result(ray, reference, job.name)
                if told is None:
                    done.add(job.name)
                    show(job.name, "done", 1, 1, "")
                else:
                    failure = failure or told
                    show(job.name, "failed", 0, 1, told.hint)
    finally:
        for reference in running:
            ray.cancel(reference)
        if started:
            ray.shutdown()
    if failure is not None:
        raise failure


def _threads(job: Any) -> int:
    config = getattr(job, "config", None)
    return int(config.threads) if config is not None else 1


def _gpus(job: Any, there: float) -> int:
    device = getattr(getattr(job, "config", None), "device", "cpu")
    return 1 if device.startswith("cuda") or (device == "auto" and there) else 0


def _result(ray: Any, reference: Any, name: str) -> UserError | None:
    try:
        words = ray.get(reference)
    except Exception as error:  # a worker that died, a machine that left
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
        return UserError("run", name, f"{reason}; the same command resumes it")
    return None if words is None else UserError(*words)


def _run(job: Any) -> tuple[str, str, str] | None:
    """One job, in Ray's process: nothing, or field, value and mend of what went wrong."""
    os.environ.setdefault("OMP_NUM_THREADS", str(_threads(job)))
    from understudy.training.train import Interrupted

    try:
        job.run(lambda *_: None, lambda line: print(f"note: {line}"))
    except UserError as error:
        return error.field, f"{error.value} (job {job.name})", error.hint
    except (Interrupted, KeyboardInterrupt):
        return "run", job.name, "interrupted; the same command resumes it"
    except Exception as error:
        return "run", job.name, f"{type(error).__name__}: {error}"
    return None
