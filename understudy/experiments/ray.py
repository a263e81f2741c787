"""Jobs on a Ray cluster: `--launcher ray`. Ray (an extra) places them.

Every machine must see the run directories under the same path. Ray sends each job's configuration to its machine and
one line back; weights and logs never pass through it.
"""

from __future__ import annotations

import os
from typing import Any

from understudy.errors import UserError
from understudy.experiments.job import Failure, Job, attempt
from understudy.terminal import JobProgress, no_progress


class RayCluster:
    """The cluster of RAY_ADDRESS; without it, one that Ray starts on this machine."""

    def __init__(self, show: JobProgress) -> None:
        try:
            import ray  # an extra that most installations lack
        except ImportError as error:
            raise UserError("launcher", "ray", f"needs ray ({error}): pip install 'understudy[ray]'") from None
        self.ray: Any = ray
        self.show = show
        self.running: dict[Any, Job] = {}  # Ray's reference -> job
        self.started = not ray.is_initialized()
        if self.started:
            ray.init(address=os.environ.get("RAY_ADDRESS"), log_to_driver=False, logging_level="warning")
        self.gpus = float(ray.cluster_resources().get("GPU", 0))

    def start(self, job: Job) -> None:
        place = {"num_cpus": _threads(job), "num_gpus": self._gpus(job), "max_retries": 0}
        self.running[self.ray.remote(**place)(_run).remote(job)] = job
        self.show(job.name, "running on ray", 0, 1, "")

    def ended(self) -> list[tuple[str, UserError | None]]:
        ready, _ = self.ray.wait(list(self.running), num_returns=1, timeout=1.0)
        return [(self.running[r].name, self._error(r, self.running.pop(r).name)) for r in ready]

    def close(self) -> None:
        for reference in self.running:
            self.ray.cancel(reference)
        if self.started:
            self.ray.shutdown()

    def _gpus(self, job: Job) -> int:
        device = job.config.device if job.is_training else "cpu"
        return 1 if device.startswith("cuda") or (device == "auto" and self.gpus) else 0

    def _error(self, reference: Any, name: str) -> UserError | None:
        try:
            failure = self.ray.get(reference)
        except Exception as error:  # a worker that died, a machine that left
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
            return UserError("run", name, f"{reason}; the same command resumes it")
        return None if failure is None else UserError(*failure)


def _threads(job: Job) -> int:
    return int(job.config.threads) if job.is_training else 1


def _run(job: Job) -> Failure | None:
    """One job, in Ray's process."""
    os.environ.setdefault("OMP_NUM_THREADS", str(_threads(job)))
    return attempt(job, no_progress, lambda line: print(f"note: {line}"))
