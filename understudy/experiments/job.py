"""A job: what one process does, a training or any function that leaves a file."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.config import GUARD_FIELDS, TrainConfig, before_it_was_open, continued, resolve, to_dict
from understudy.errors import UserError
from understudy.routes.auto_config import AutoConfig
from understudy.routes.route import DEFAULTS, RouteConfig, checked, recorded
from understudy.runs.read import is_done
from understudy.terminal import Progress

Note = Callable[[str], None]
Failure = tuple[str, str, str]
"""Field, value and hint of a UserError, as they cross from one process to another."""


@dataclass(frozen=True)
class Job:
    """`call(*args, progress, note)`, once the jobs in `needs` have finished."""

    name: str
    call: Callable[..., None]
    """A function of a module, not of a class or another function, because another process imports it."""
    args: tuple[Any, ...]
    out: str
    """What it leaves: a run directory, or a file. A file that exists is not made again, so its name should state all
    that its content depends on."""
    needs: tuple[str, ...] = ()

    def is_done(self) -> bool:
        path = Path(self.out)
        return path.is_file() or is_done(path)

    def run(self, progress: Progress, note: Note) -> None:
        self.call(*self.args, progress, note)

    @property
    def is_training(self) -> bool:
        """Whether it is a training, or a route of several."""
        return self.call in (run_training, run_route)

    @property
    def config(self) -> TrainConfig:
        """Of a training; of a route what its phases share. TypeError: the job is neither."""
        if not self.is_training:
            raise TypeError(f"{self.name} is no training")
        config: TrainConfig | RouteConfig = self.args[0]
        return config.train if isinstance(config, RouteConfig) else config

    @property
    def recorded(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(what config.json of its run holds, the defaults of what an earlier version's lacks)."""
        if self.call is run_route:
            return recorded(checked(self.args[0])), DEFAULTS
        now = to_dict(
            resolve(continued(self.config))
        )  # a run of a version without a guard had none, whatever is asked for now
        return now, before_it_was_open() | {name: now[name] for name in GUARD_FIELDS}


def training(name: str, config: TrainConfig, needs: tuple[str, ...] = ()) -> Job:
    return Job(name, run_training, (config,), config.out, needs)


def routed(name: str, config: RouteConfig, needs: tuple[str, ...] = ()) -> Job:
    return Job(name, run_route, (config,), config.out, needs)


def decided(name: str, config: AutoConfig, needs: tuple[str, ...] = ()) -> Job:
    return Job(name, run_auto, (config,), config.out, needs)


def run_auto(config: AutoConfig, progress: Progress, note: Note) -> None:
    from understudy.report.auto import build  # imports matplotlib
    from understudy.routes.auto import auto  # imports torch, see run_training

    build(auto(config, progress, lambda line: None))


def run_route(config: RouteConfig, progress: Progress, note: Note) -> None:
    from understudy.routes.run import train_route  # imports torch, see run_training

    train_route(config, progress, note)


def run_training(config: TrainConfig, progress: Progress, note: Note) -> None:
    from understudy.training.train import train  # imports torch: only the process that trains waits for it

    train(config, progress, note)


def attempt(job: Job, progress: Progress, note: Note) -> Failure | None:
    """Run a job in a process of its own; None, or what went wrong."""
    try:
        job.run(progress, note)
    except UserError as error:
        return error.field, f"{error.value} (job {job.name})", error.hint
    except KeyboardInterrupt:  # Interrupted is one
        return "run", job.name, "interrupted; the same command resumes it"
    except BaseException as error:
        traceback.print_exc(file=sys.stderr)
        return "run", job.name, f"{type(error).__name__}: {error}"
    return None
