"""A comparison before it runs: its trainings, in their order, and what the report must know about them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from understudy.config import TrainConfig, resolve, to_dict
from understudy.errors import UserError
from understudy.experiments.diagnosis_job import diagnosis, fields_of
from understudy.experiments.job import Job, decided, routed, training
from understudy.experiments.jobs import check_launcher, run_all
from understudy.methods.cells import CELLS
from understudy.routes.auto_config import AutoConfig
from understudy.routes.auto_config import checked as checked_auto
from understudy.routes.route import RouteConfig, checked, phase_config, resolved_phases
from understudy.runs.files import is_leftover, os_errors_explained, refuse_links, write_json
from understudy.terminal import Board, console

STUDIED = frozenset({"method", "expert", "seed", "out", "student"})


@dataclass(frozen=True)
class PlannedRun:
    """One expert x route x seed. budget: what it may spend over what the others may."""

    expert: str
    method: str
    """The method, or the route, with the fields that it changes."""
    seed: int
    budget: float
    config: TrainConfig
    """Of a route: of its first phase, as if it were the whole training."""
    route: RouteConfig | None = None
    auto: AutoConfig | None = None

    @property
    def name(self) -> str:
        times = "" if self.budget == 1 else f" x{self.budget:g}"
        return f"{self.method}{times} on {self.expert}, seed {self.seed}"


def route_run(expert: str, config: RouteConfig, budget: float = 1) -> PlannedRun:
    """A route as a run of a plan. UserError: it could not run."""
    route = checked(config)
    first = phase_config(route, route.phases[0])
    return PlannedRun(expert, route.route, first.seed, budget, first, route)


def auto_run(expert: str, config: AutoConfig) -> PlannedRun:
    """`understudy auto` as a run of a plan. UserError: it could not run."""
    config, _, shared = checked_auto(config)
    first = replace(shared, method="sft", out=config.out)
    return PlannedRun(expert, "auto", config.seed, 1, first, auto=config)


@dataclass(frozen=True)
class Plan:
    """`experts`: label -> {"spec", "mechanism", "realizable", "expect"}; `base`: seed -> {"path"}."""

    title: str
    out: Path
    experts: dict[str, dict[str, Any]]
    runs: Sequence[PlannedRun]
    base: dict[str, dict[str, str]] = field(default_factory=dict)
    command: Sequence[str] = ("understudy", "run")
    axis: str = "updates"
    before: Sequence[Job] = ()
    """Trainings that make the base and the experts."""
    diagnose: str = ""
    """What a diagnosis may cost, as a share of both trainings; "": none is made."""

    def jobs(self) -> list[Job]:
        """What makes the base and the experts, the diagnoses, the compared runs."""
        return [*self.before, *self._diagnosis_jobs(), *self._run_jobs()]

    def trainings(self) -> list[Job]:
        """The same without the diagnoses."""
        return [*self.before, *self._run_jobs()]

    def _run_jobs(self) -> list[Job]:
        def job(r: PlannedRun) -> Job:
            if r.auto is not None:
                return decided(r.name, r.auto, self._needs(r))
            needs = self._needs(r)
            return training(r.name, r.config, needs) if r.route is None else routed(r.name, r.route, needs)

        return [job(r) for r in self.runs]

    def _diagnosis_jobs(self) -> list[Job]:
        jobs = []
        for r, place in self.diagnoses():
            fields = fields_of(r.config, self.diagnose, str(place))
            name = f"diagnosis of {r.expert}, seed {r.seed}"
            jobs.append(diagnosis(name, fields, self._needs(r), may_refuse=True))
        return jobs

    def _needs(self, r: PlannedRun) -> tuple[str, ...]:
        names = {Path(j.out): j.name for j in self.before}
        return tuple(names[p] for p in (Path(r.config.student), Path(r.config.expert)) if p in names)

    def diagnoses(self) -> list[tuple[PlannedRun, Path]]:
        """(offline run, directory of its diagnosis), where offline and online are trained at equal budgets."""
        if not self.diagnose:
            return []
        plain = {(r.expert, r.seed, r.method): r for r in self.runs if r.budget == 1 and not r.config.budget}
        slugs = distinct(list(dict.fromkeys(r.expert for r in self.runs)))
        return [
            (r, Path(r.config.out).parent / f"diagnosis-{slugs[expert]}-{seed}")
            for (expert, seed, method), r in plain.items()
            if method == "sft" and any((expert, seed, online) in plain for online in ("opd_full", "opd"))
        ]

    def _places(self) -> set[str]:
        """Names in `out` that its jobs make."""
        made = [os.path.relpath(job.out, self.out) for job in self.jobs()]
        return {Path(place).parts[0] for place in made if not place.startswith("..")}

    def write(self) -> None:
        """compare.json: what the report reads. UserError: the folder holds other things than a comparison, or cannot be
        written."""
        with os_errors_explained(self.out):
            check_folder(self.out, self._places())
            self.out.mkdir(parents=True, exist_ok=True)
            self._write()

    def _write(self) -> None:
        def entry(r: PlannedRun, path: str | Path) -> dict[str, Any]:
            return {"expert": r.expert, "seed": r.seed, "path": os.path.relpath(path, self.out)}

        config = to_dict(resolve(self.runs[0].config))
        write_json(
            self.out / "compare.json",
            {
                "title": self.title, "axis": self.axis, "experts": self.experts,
                "methods": list(dict.fromkeys(r.method for r in self.runs)),
                "runs": [entry(r, r.config.out) | {"method": r.method, "budget": r.budget} for r in self.runs],
                "base": self.base, "settings": {k: v for k, v in config.items() if k not in STUDIED | CELLS.keys()},
                "command": list(self.command), "flags": flags(self.runs),
                "diagnoses": [entry(r, place) for r, place in self.diagnoses()],
            },
        )  # fmt: skip


def flags(runs: Iterable[PlannedRun]) -> list[str]:
    """Fields, beyond the studied ones and the cells of the method's row, in which runs on one expert differ."""
    out = []
    groups: dict[str, list[tuple[PlannedRun, dict[str, Any]]]] = {}
    for r in (r for r in runs if r.auto is None):  # what auto changes is its decision
        groups.setdefault(r.expert, []).append((r, _fields(r)))
    for expert, group in groups.items():
        for name in group[0][1]:
            values = {str(config[name]): r.name for r, config in group}
            if name not in STUDIED | CELLS.keys() and len(values) > 1:
                listed = "; ".join(f"{run}: {value}" for value, run in values.items())
                out.append(f"{expert}: runs differ in {name} ({listed})")
    return out


def _fields(r: PlannedRun) -> dict[str, Any]:
    """Field -> its value in the run; where the phases of a route differ, all of them."""
    if r.route is None:
        return to_dict(resolve(r.config))
    phases = [to_dict(phase) for phase in resolved_phases(r.route)]
    values = {name: list(dict.fromkeys(str(phase[name]) for phase in phases)) for name in phases[0]}
    return {name: " then ".join(each) for name, each in values.items()}


def run_plan(plan: Plan, workers: int, quiet: bool = False, launcher: str = "local") -> Path:
    """Run what is not finished and draw the report; the page's path."""
    from understudy import report  # imports matplotlib
    from understudy.report import auto

    check_launcher(launcher, workers)
    plan.write()
    jobs = plan.jobs()
    with Board(total_jobs=len(jobs), quiet=quiet) as board:
        run_all(jobs, workers, board.show, launcher=launcher)
    page = report.build([plan.out])
    if not quiet:
        comparison = report.load([plan.out])
        console.print(report.terminal(comparison, console.width))
        if forecasts := report.terminal_beforehand(comparison):
            console.print(forecasts)
        for sentence in report.finding(comparison):
            console.print(f"- {sentence}", markup=False)
        for r in plan.runs:
            if r.auto is not None:
                for sentence in auto.finding(Path(r.auto.out))[:2]:
                    console.print(f"- auto, {r.expert}, seed {r.seed}: {sentence}", markup=False)
                console.print(f"  its page: {Path(r.auto.out) / 'report.html'}", markup=False)
        console.print(f"report: {page}", markup=False)
    return page


def slug(text: str) -> str:
    """A text as part of a file name."""
    return "".join(c if c.isalnum() or c in "._" else "-" for c in text).strip("-")


def distinct(texts: Sequence[str]) -> dict[str, str]:
    """A name of a folder for each text: `slug` of its parts between \\0, with a digest where an earlier text has the
    same (a/b and a-b)."""
    out: dict[str, str] = {}
    for text in texts:
        name = "-".join(map(slug, text.split("\0")))
        if not name or name.lower() in {other.lower() for other in out.values()}:
            name = f"{name}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}".strip("-")
        out[text] = name
    return out


def check_folder(out: Path, places: Set[str]) -> None:
    """UserError unless a comparison may write into `out`: it is new, empty, or holds its own runs and nothing else.

    A folder with compare.json is one of a comparison. Through symbolic links nothing is written.
    """
    if not out.is_dir():
        return
    refuse_links(out)
    names = {entry.name for entry in out.iterdir() if not is_leftover(entry.name)}
    foreign = names - places
    if "compare.json" in names or not foreign:
        return
    hint = f"is not empty and not a comparison (it holds {sorted(foreign)[0]}): choose another folder"
    raise UserError("out", out, hint)
