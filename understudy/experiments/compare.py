"""Experts x methods x seeds at equal budgets, in parallel, finished runs re-used; then one report.

A comparison is fair when its runs differ only in what is studied. What else a method is told to change is put on
record as a flag, or refused with --strict.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.config import TrainConfig, resolve, to_dict
from understudy.diagnosis.config import BUDGET, share
from understudy.errors import UserError
from understudy.experiments.diagnosis_job import diagnosis, fields_of
from understudy.experiments.job import Job, training
from understudy.experiments.jobs import run_all
from understudy.experts import is_programmatic
from understudy.methods import table
from understudy.runs.files import write_json
from understudy.runs.read import is_run, read_config
from understudy.specs import build, parse_spec
from understudy.terminal import Board, console

STUDIED = frozenset({"method", "expert", "seed", "out", "student"})
_ROW = frozenset({"behavior", "target", "weight", "replay", "importance", "divergence"})


@dataclass(frozen=True)
class CompareConfig:
    student: str = ""
    """Where every student starts: a model directory, run directory or hub id. {seed} stands for the seed."""
    experts: tuple[str, ...] = ()
    """LABEL=SPEC each: a model or a programmatic expert. {seed} stands for the seed."""
    methods: tuple[str, ...] = ("sft", "opd_full")
    """Rows of the table; NAME:field=value,... changes a field for one of them, on record: sft:updates=1000."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds: prompts, samples and order."""
    task: str = "countdown"
    """Prompts and verifier, with options."""
    out: str = "runs/compare"
    """Where the runs and the report go."""
    axis: str = "updates"
    """What is held equal: updates (and prompts), or any ledger column, up to --budget of it."""
    budget: float = 0.0
    """How much of the axis each run may spend. 0 = the runs' --updates."""
    set: tuple[str, ...] = ()
    """field=value for every run (see understudy train --help): updates=200 lr=1e-3."""
    diagnose: bool = True
    """Ask the diagnosis before the runs, for each expert, and show its verdict beside what then happened (where sft and
    opd_full, or opd, are compared at equal updates). --no-diagnose leaves it out."""
    diagnose_budget: str = BUDGET
    """What a diagnosis may cost, as a share of both trainings (FLOPs)."""
    workers: int = 2
    """Runs at a time."""
    launcher: str = "local"
    """Where runs go: local processes, or a ray cluster (RAY_ADDRESS, or one on this machine)."""
    strict: bool = False
    """Refuse runs that differ in more than the studied field, instead of flagging them."""


@dataclass(frozen=True)
class Arm:
    """One expert x method x seed, as the report reads it."""

    expert: str
    method: str
    seed: int
    budget: float
    config: TrainConfig


@dataclass(frozen=True)
class Plan:
    """A comparison before it runs. `experts`: label -> {"spec", "mechanism", "realizable"}."""

    title: str
    out: Path
    axis: str
    experts: dict[str, dict[str, Any]]
    arms: list[Arm]
    base: dict[str, dict[str, str]]
    settings: dict[str, Any]
    command: list[str]
    before: tuple[Job, ...] = ()  # runs that make the base and the experts
    diagnose: str = ""  # what a diagnosis may cost, as a share of both trainings; "" = none is made

    def jobs(self) -> list[Job]:
        """What makes the base and the experts, the diagnoses, the runs."""
        asked = [
            diagnosis(f"diagnosis of {arm.expert}, seed {arm.seed}",
                          fields_of(arm.config, self.diagnose, str(place)), self._needs(arm), may_refuse=True)
            for arm, place in self.diagnoses()
        ]  # fmt: skip
        return [*self.before, *asked, *self.trainings()[len(self.before) :]]

    def trainings(self) -> list[Job]:
        """The same without the diagnoses."""
        return [*self.before, *(training(_name(arm), arm.config, self._needs(arm)) for arm in self.arms)]

    def _needs(self, arm: Arm) -> tuple[str, ...]:
        names = {str(Path(j.out)): j.name for j in self.before}
        both = (str(Path(p)) for p in (arm.config.student, arm.config.expert))
        return tuple(names[p] for p in both if p in names)

    def diagnoses(self) -> list[tuple[Arm, Path]]:
        """(the offline arm that is asked about, the diagnosis's directory): where both routes are trained alike."""
        if not self.diagnose:
            return []
        plain = {(a.expert, a.seed, a.method): a for a in self.arms if a.budget == 1 and not a.config.budget}
        found = []
        for (expert, seed, method), arm in plain.items():
            if method == "sft" and any((expert, seed, online) in plain for online in ("opd_full", "opd")):
                found.append((arm, Path(arm.config.out).parent / f"diagnosis-{slug(expert)}-{seed}"))
        return found

    def write(self) -> None:
        """compare.json: what the report reads."""
        self.out.mkdir(parents=True, exist_ok=True)
        runs = [
            {"expert": a.expert, "method": a.method, "seed": a.seed, "budget": a.budget,
             "path": os.path.relpath(a.config.out, self.out)}
            for a in self.arms
        ]  # fmt: skip
        write_json(
            self.out / "compare.json",
            {
                "title": self.title, "axis": self.axis, "experts": self.experts,
                "methods": list(dict.fromkeys(a.method for a in self.arms)), "runs": runs, "base": self.base,
                "settings": self.settings, "command": self.command, "flags": flags(self.arms),
                "diagnoses": [
                    {"expert": arm.expert, "seed": arm.seed, "path": os.path.relpath(place, self.out)}
                    for arm, place in self.diagnoses()
                ],
            },
        )  # fmt: skip


def _name(arm: Arm) -> str:
    times = "" if arm.budget == 1 else f" x{arm.budget:g}"
    return f"{arm.method}{times} on {arm.expert}, seed {arm.seed}"


def flags(arms: Sequence[Arm]) -> list[str]:
    """Fields, beyond the studied ones and the cells of the method's row, in which arms on one expert differ."""
    out = []
    for expert in dict.fromkeys(a.expert for a in arms):
        group = [a for a in arms if a.expert == expert]
        configs = [to_dict(resolve(a.config)) for a in group]
        for name in configs[0]:
            values = {str(c[name]): a for c, a in zip(configs, group)}
            if name in STUDIED | _ROW or len(values) == 1:
                continue
            told = "; ".join(f"{_name(a)}: {v}" for v, a in values.items())
            out.append(f"{expert}: runs differ in {name} ({told})")
    return out


def run(plan: Plan, workers: int, quiet: bool = False, launcher: str = "local") -> Path:
    """Run what is not finished and draw the report; the page's path."""
    from understudy import report

    plan.write()
    jobs = plan.jobs()
    with Board(total_jobs=len(jobs), quiet=quiet) as board:
        run_all(jobs, workers, board.show, launcher=launcher)
    page = report.build([plan.out])
    if not quiet:
        _print(plan, page)
    return page


def _print(plan: Plan, page: Path) -> None:
    from understudy import report

    comparison = report.load([plan.out])
    console.print(report.terminal(comparison, console.width))
    if said := report.terminal_beforehand(comparison):
        console.print(said)
    for sentence in report.finding(comparison):
        console.print(f"- {sentence}", markup=False)
    console.print(f"report: {page}", markup=False)


def plan_of(config: CompareConfig, command: Sequence[str]) -> Plan:
    """The runs of a comparison; UserError for anything that could not run."""
    if not config.student:
        raise UserError("student", "", "missing: the model from which every student starts")
    if not config.experts:
        raise UserError("experts", "", "missing: give LABEL=SPEC, for example --experts search=solver rl=runs/grpo-0")
    share(config.diagnose_budget)
    if len(set(config.seeds)) != len(config.seeds) or not config.seeds:
        raise UserError("seeds", config.seeds, "must be different numbers, at least one")
    common: dict[str, Any] = {"task": config.task, "budget_axis": config.axis, "budget": config.budget}
    for item in config.set:
        name, equals, value = item.partition("=")
        if not equals or name in STUDIED:
            raise UserError(
                "set", item, "write field=value; method, expert, seed, student and out are the comparison's"
            )
        common[name] = value
    experts: dict[str, dict[str, Any]] = {}
    arms = []
    for item in config.experts:
        label, equals, spec = item.partition("=")
        if not equals or not label or not spec or label in experts:
            raise UserError("experts", item, "write a new LABEL=SPEC")
        first_spec, first_student = (text.replace("{seed}", str(config.seeds[0])) for text in (spec, config.student))
        experts[label] = describe_expert(first_spec, first_student, config.task)
        for text in config.methods:
            method = parse_spec(text, "methods")
            for seed in config.seeds:
                known = {"method": method.name, "expert": spec.replace("{seed}", str(seed)),
                         "student": config.student.replace("{seed}", str(seed)), "seed": seed}  # fmt: skip
                known["out"] = str(Path(config.out) / f"{slug(label)}-{slug(text)}-{seed}")
                train = build(TrainConfig, common | dict(method.args) | known, "methods")
                reference = build(TrainConfig, common | known, "set")
                arms.append(
                    Arm(label, method_label(method.name, method.args), seed, train.updates / reference.updates, train)
                )
                resolve(train)
    found = flags(arms)
    if config.strict and found:
        raise UserError("methods", found[0], "differ in more than the studied field: drop the change, or --strict")
    settings = {k: v for k, v in to_dict(resolve(arms[0].config)).items() if k not in STUDIED | _ROW}
    base = {str(s): {"path": config.student.replace("{seed}", str(s))} for s in config.seeds}
    return Plan(
        "Offline or online imitation",
        Path(config.out),
        config.axis,
        experts,
        arms,
        base,
        settings,
        list(command),
        diagnose=config.diagnose_budget if config.diagnose else "",
    )


def compare(config: CompareConfig, quiet: bool = False) -> Path:
    """Plan, run what is not finished, draw the report; the page's path. UserError for what could not run."""
    return run(plan_of(config, ["understudy", "compare"]), config.workers, quiet, config.launcher)


def method_label(name: str, args: Any) -> str:
    """A method's name; changes other than the budget are part of it."""
    rest = {k: v for k, v in args.items() if k != "updates"}
    return name + (":" + ",".join(f"{k}={v}" for k, v in rest.items()) if rest else "")


def slug(text: str) -> str:
    return "".join(c if c.isalnum() or c in "._" else "-" for c in text).strip("-")


def describe_expert(spec: str, student: str, task_text: str) -> dict[str, Any]:
    """Who an expert is and, where it can be known, by which mechanism it is in or out of the student's reach."""
    if is_programmatic(spec):
        from understudy.tasks import load_task

        task = load_task(task_text)
        known = task.expert(parse_spec(spec, "experts"), task.tokenizer()).provenance
        return {"spec": spec, "mechanism": known.get("mechanism", ""), "realizable": known.get("realizable")}
    folder = Path(spec)
    made = read_config(folder) if is_run(folder) else {}
    if made.get("method") in table.TABLE and _same_model(str(made.get("student", "")), student):
        how = "the student can represent it exactly (same class, same start)"
        told = f"{made['method']} from the student's own base: {how}"
        return {"spec": spec, "mechanism": told, "realizable": True}
    return {
        "spec": spec,
        "mechanism": "another model: whether the student can represent it is not known",
        "realizable": None,
    }


def _same_model(a: str, b: str) -> bool:
    """Whether two paths mean one model; a run directory stands for its final/."""
    one, other = (Path(x).resolve() for x in (a, b))
    return one == other or one / "final" == other or one == other / "final"


__all__ = ["Arm", "CompareConfig", "Plan", "compare", "describe_expert", "flags", "plan_of", "run"]
