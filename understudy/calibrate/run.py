"""understudy calibrate run: diagnose every scenario from a few percent of its trainings, then train both to their end.

runs/calibrate/
  results.jsonl                  a line per finished (scenario, seed): outcomes, evidence, verdict, costs
  seed-400/models/NAME/          bases and experts, shared between scenarios: run directories
  seed-400/looks/...json         the students before training, on the held-out prompts
  seed-400/SCENARIO/sft/ opd/    both full trainings; diagnosis/: the diagnosis made before them

Killed at any time, the same command resumes. Finished work is not repeated.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from understudy.calibrate import outcomes
from understudy.calibrate.models import MODELS
from understudy.calibrate.scenario import Scenario
from understudy.calibrate.scenarios import CALIBRATED, SCENARIOS
from understudy.config import TrainConfig
from understudy.diagnosis.config import BUDGET, share
from understudy.errors import UserError
from understudy.experiments.diagnosis_job import FILE, diagnosis, fields_of, run_diagnosis
from understudy.experiments.job import Job, training
from understudy.experiments.jobs import check_launcher, run_all
from understudy.randomness import seed_from
from understudy.runs.files import dumps, os_errors_explained, read_json, write_bytes
from understudy.runs.read import read_lines
from understudy.terminal import Board, JobProgress

METHODS = {"sft": "sft", "opd": "opd_full"}
"""Outcome -> method of the table. Every expert here gives whole distributions."""
RESULTS = "results.jsonl"


@dataclass(frozen=True)
class CalibrateConfig:
    only: tuple[str, ...] = ()
    """Scenarios, by name (see understudy calibrate list). Default: all but the later ones of the bank."""
    seeds: int = 3
    """Independent repetitions, each with its own models."""
    first_seed: int = 0
    """Seeds are first_seed, first_seed + 1, ... 0: as each scenario has it."""
    budget: str = BUDGET
    """What a diagnosis may cost, as a share of both full trainings (FLOPs)."""
    quick: bool = False
    """A rehearsal: a quarter of the updates, fewer prompts. Its numbers mean nothing."""
    out: str = ""
    """Where everything goes. Default: runs/calibrate, runs/calibrate-quick."""
    diagnose: bool = True
    """Without it, only the trainings: the same command without --no-diagnose adds the diagnoses."""
    launcher: str = "local"
    """Where trainings go: local processes, or a ray cluster (docs/scaling.md)."""
    workers: int = 2
    """Runs at a time: one per core."""
    dry_run: bool = False
    """Print what would be trained and about how long it takes, and stop."""


@dataclass(frozen=True)
class Effort:
    """How much of everything. share: of all updates; diagnosis: more options of the diagnosis."""

    share: float = 1.0
    prompts: int = 240
    samples: int = 4
    diagnosis: tuple[tuple[str, Any], ...] = ()

    def shrunk(self, config: TrainConfig) -> TrainConfig:
        if self.share == 1:
            return config
        pool = max(64, round(config.prompt_pool * self.share)) if config.prompt_pool else config.prompt_pool
        updates = max(2, round(config.updates * self.share))
        warmup = None if config.warmup is None else round(config.warmup * self.share)
        return replace(config, updates=updates, prompt_pool=pool, warmup=warmup)


FULL, QUICK = Effort(), Effort(0.25, 64, 2, (("prompts", 48),))


@dataclass(frozen=True)
class Unit:
    """One scenario with one seed: its runs and where they are. Models are shared by the units of one root."""

    scenario: Scenario
    seed: int
    root: Path
    size: Effort
    budget: str

    @property
    def folder(self) -> Path:
        """Of everything of this seed."""
        return self.root / f"seed-{self.seed}"

    @property
    def place(self) -> Path:
        return self.folder / self.scenario.name

    @property
    def name(self) -> str:
        return f"{self.scenario.name}, seed {self.seed}"

    def model(self, name: str) -> str:
        return str(self.folder / "models" / name)

    @property
    def expert(self) -> str:
        spec = self.scenario.expert
        return self.model(spec[1:]) if spec.startswith("@") else spec

    def training(self, outcome: str) -> TrainConfig:
        """Full training `sft` or `opd`. Evaluated once, at its end; `sft` evaluates the expert too."""
        s = self.scenario
        config = TrainConfig(
            method=METHODS[outcome], student=self.model(s.student), expert=self.expert, task=s.task, seed=self.seed,
            out=str(self.place / outcome), eval_every=0, eval_splits="test", eval_expert=outcome == "sft",
            final_prompts=self.size.prompts, final_samples=self.size.samples, keep=1, **s.imitate,
        )  # fmt: skip
        return self.size.shrunk(config)

    @property
    def look(self) -> str:
        """The file about the student before training; scenarios of one student and task share it."""
        s, size = self.scenario, self.size
        key = seed_from(s.student, s.task, size.prompts, size.samples, self.seed)
        return str(self.folder / "looks" / f"{s.student}-{key:016x}.json")

    def diagnosis(self) -> dict[str, Any]:
        """Fields of the DiagnoseConfig that asks about this training."""
        fields = fields_of(self.training("sft"), self.budget, str(self.place / "diagnosis"))
        return fields | dict(self.size.diagnosis)

    def jobs(self) -> Iterator[Job]:
        """Its models first. Jobs of one name are the same job."""
        s = self.scenario
        for name in s.models():
            model = MODELS[name]
            config = self.size.shrunk(model.config(self.model(name), self.seed, self.model))
            config = replace(config, eval_every=0, eval_splits="test", eval_expert=False, final_prompts=64,
                             final_samples=1, keep=1)  # fmt: skip
            yield training(f"model {name}, seed {self.seed}", config, tuple(self._job(n) for n in model.needs))
        needs = tuple(self._job(n) for n in s.models())
        base = tuple(self._job(n) for n in replace(s, expert="").models())
        yield Job(
            f"look {Path(self.look).stem}", outcomes.look,
            (self.model(s.student), s.task, self.size.prompts, self.size.samples, self.seed, self.look),
            self.look, base,
        )  # fmt: skip
        yield diagnosis(f"diagnosis {self.name}", self.diagnosis(), needs, may_refuse=False)
        for outcome in METHODS:
            yield training(f"{outcome} {self.name}", self.training(outcome), needs)

    def _job(self, model: str) -> str:
        return f"model {model}, seed {self.seed}"

    def seconds(self, name: str) -> float:
        """About what a job takes on one core."""
        kind, _, rest = name.partition(" ")
        if kind == "model":
            return MODELS[rest.partition(",")[0]].seconds * self.size.share
        share = {"look": 0.05, "diagnosis": 0.25, "sft": 0.25, "opd": 0.45}[kind]
        return share * self.scenario.seconds * self.size.share + 1

    def is_done(self) -> bool:
        return all(job.is_done() for job in self.jobs())

    def line(self) -> dict[str, Any]:
        """Its line of results.jsonl, once it is done."""
        s = self.scenario
        before = read_json(self.place / "diagnosis" / FILE, "diagnosis")
        trained = {outcome: str(self.place / outcome) for outcome in METHODS}
        ends = outcomes.outcomes(trained["sft"], trained["opd"], self.look)
        costs = before["costs"] | {outcome: outcomes.cost(path).to_dict() for outcome, path in trained.items()}
        full = self.training("sft")
        return {
            "scenario": s.name, "kind": s.kind, "set": s.set, "seed": self.seed, "task": s.task, "student": s.student,
            "expert": s.expert, "updates": full.updates, "prompts_per_update": full.prompts_per_update,
            "share": self.size.share, "budget": self.budget,
            "outcome": {name: value.to_dict() for name, value in ends.items()},
            "evidence": before["evidence"], "verdict": before["verdict"], "costs": costs,
            "cost_share": costs["diagnosis"]["flops"] / sum(costs[outcome]["flops"] for outcome in METHODS),
        }  # fmt: skip


def units_of(config: CalibrateConfig, size: Effort | None = None) -> list[Unit]:
    """All work, seed by seed. UserError: an unknown scenario."""
    unknown = [name for name in config.only if name not in SCENARIOS]
    if unknown:
        raise UserError("only", unknown[0], f"unknown; one of {', '.join(SCENARIOS)}")
    for name in ("seeds", "workers"):
        if getattr(config, name) < 1:
            raise UserError(name, getattr(config, name), "must be at least 1")
    share(config.budget)
    check_launcher(config.launcher, config.workers)
    root = Path(config.out or ("runs/calibrate-quick" if config.quick else "runs/calibrate"))
    size = size or (QUICK if config.quick else FULL)
    scenarios = [SCENARIOS[name] for name in config.only or CALIBRATED]
    return [
        Unit(s, (config.first_seed or s.first_seed) + i, root, size, config.budget)
        for i in range(config.seeds) for s in scenarios
    ]  # fmt: skip


def run(config: CalibrateConfig, size: Effort | None = None, quiet: bool = False) -> Path:
    """Train and diagnose what is not finished; the path of results.jsonl, which holds every unit that is done.

    A unit that fails does not stop the others; its error is raised at the end, when their results are written.
    """
    units = units_of(config, size)
    jobs: dict[str, Job] = {}
    seconds: dict[str, float] = {}
    for unit in units:
        for job in unit.jobs():
            if job.call is run_diagnosis and not config.diagnose:
                continue
            jobs.setdefault(job.name, job)
            seconds.setdefault(job.name, unit.seconds(job.name))
    out = units[0].root / RESULTS
    with os_errors_explained(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(out.parent, os.W_OK):
            raise PermissionError(errno.EACCES, "")
    waiting = list(units)

    def settle() -> None:
        """Write the lines of the units that have just been completed."""
        ready = [u for u in waiting if u.is_done()]
        if ready:
            waiting[:] = [u for u in waiting if u not in ready]
            write(out, [u.line() for u in ready])

    run_settling(jobs, seconds, config.workers, settle, quiet, config.launcher)
    return out


def run_settling(
    jobs: Mapping[str, Job], seconds: dict[str, float], workers: int, settle: Callable[[], None], quiet: bool,
    launcher: str = "local",
) -> None:  # fmt: skip
    """Run the jobs, with the time left in all, and call `settle` before, after each job that is done, and at the end.

    seconds: about what each takes. A job that fails stops only those that need it; its error is raised at the end.
    """
    with Board(total_jobs=len(jobs), quiet=quiet) as board:
        clock = Clock(seconds, workers, board.show)

        def show(job: str, phase: str, done: int, total: int, note: str) -> None:
            clock.show(job, phase, done, total, note)
            if phase == "done":
                settle()

        settle()
        try:
            run_all(list(jobs.values()), workers, show, keep_going=True, launcher=launcher)
        finally:
            settle()


def write(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Add lines to results.jsonl, in the order of the scenarios; a line of the same scenario and seed is replaced."""
    by_unit = {(line["scenario"], line["seed"]): line for line in [*read_lines(path), *lines]}
    order = list(SCENARIOS)

    def place(line: dict[str, Any]) -> tuple[int, int]:
        name = line["scenario"]
        return order.index(name) if name in order else len(order), line["seed"]

    ordered = sorted(by_unit.values(), key=place)
    write_bytes(path, b"".join(dumps(line) for line in ordered))


class Clock:
    """The time left, from the estimates of the jobs and the time that the finished ones took."""

    def __init__(self, seconds: dict[str, float], workers: int, show: JobProgress) -> None:
        self.seconds, self.workers, self._show = seconds, workers, show
        self.left = dict(seconds)
        self.done, self.began = 0.0, time.monotonic()

    def show(self, job: str, phase: str, done: int, total: int, note: str) -> None:
        """`show` with the time left in the note."""
        if phase == "note" or job not in self.seconds:
            self._show(job, phase, done, total, note)
            return
        if phase in ("done", "finished before", "failed"):
            estimated = self.left.pop(job, 0.0)
            self.done += estimated if phase == "done" else 0.0
        self._show(job, phase, done, total, f"{note} {self.time_left()}".strip())

    def time_left(self) -> str:
        pace = (time.monotonic() - self.began) / self.done if self.done > 30 else 1 / self.workers
        ended = len(self.seconds) - len(self.left)
        minutes = pace * sum(self.left.values()) / 60
        return f"({ended} of {len(self.seconds)} jobs, about {minutes:.0f} min left in all)"


def estimate(units: Sequence[Unit]) -> float:
    """Core seconds of the unfinished jobs."""
    return sum(
        {job.name: unit.seconds(job.name) for unit in units for job in unit.jobs() if not job.is_done()}.values()
    )


def outline(config: CalibrateConfig) -> list[str]:
    """Before a long run: what will be done, and about how long it takes."""
    units = units_of(config)
    minutes = estimate(units) / 60 / config.workers
    names = {u.scenario.name for u in units}
    return [
        f"{len(names)} scenarios x {config.seeds} seeds in {units[0].root}: each diagnosed, and trained both ways",
        f"about {minutes:.0f} minutes, up to three times as long on a slow machine; {config.workers} runs at a time",
    ]
