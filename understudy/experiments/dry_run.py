"""What a comparison would do and cost, from a short look at the models of its first seed. Nothing is written."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator

from understudy.evaluation.numbers import count, duration, large
from understudy.experiments.plan import Plan, PlannedRun
from understudy.routes.route import RouteConfig, checked
from understudy.routes.run import plan_of
from understudy.terminal import Progress

LOOK = 16
"""Prompts that student and expert complete for the estimate."""


def dry_run(plan: Plan, workers: int, progress: Progress, note: Callable[[str], None]) -> Iterator[str]:
    """Some lines: every route on every expert with its updates, FLOPs and time, and all of them together.

    UserError: a run that could not run.
    """
    finished = sum(job.is_done() for job in plan.trainings())
    yield f"{len(plan.runs)} runs in {plan.out}, {finished} of them finished before; {workers} at a time"
    arms: dict[tuple[str, str], list[PlannedRun]] = {}
    for run in plan.runs:
        arms.setdefault((run.expert, run.method), []).append(run)
    flops = seconds = 0.0
    for (expert, method), runs in arms.items():
        planned = plan_of(_route(runs[0]), progress, note)
        updates = " + ".join(count(phase.expected_updates) for phase in planned.phases)
        f, s = (sum(getattr(phase, name) for phase in planned.phases) for name in ("flops", "seconds"))
        flops, seconds = flops + f * len(runs), seconds + s * len(runs)
        each = f"{updates} updates, {large(f)} FLOPs, about {duration(s)} each"
        yield f"  {method} on {expert}: {len(runs)} run{'s' * (len(runs) > 1)} of {each}"
    together = duration(seconds / workers) if math.isfinite(seconds) else "an unknown time"
    diagnoses = len(plan.diagnoses())
    extra = f", {diagnoses} diagnoses of {plan.diagnose} of the cost of two trainings each" if diagnoses else ""
    yield f"  together {large(flops)} FLOPs of training, about {together}; evaluations come on top{extra}"
    yield "  nothing was written"


def _route(run: PlannedRun) -> RouteConfig:
    """A run as a route: a method alone is one of one phase."""
    if run.route is not None:
        return dataclasses.replace(run.route, look_prompts=LOOK)
    c = run.config
    return checked(RouteConfig(f"{c.method}:{c.updates}", LOOK, 0, dataclasses.replace(c, budget=0.0), c.out))
