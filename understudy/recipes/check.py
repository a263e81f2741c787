"""A dry run: everything about a plan that can be checked without weights, and what it would cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from understudy.config import Resolved, resolve
from understudy.errors import UserError
from understudy.experiments.job import Job
from understudy.experiments.plan import Plan, flags
from understudy.experts import is_programmatic
from understudy.methods import table
from understudy.recipes import cost, models
from understudy.recipes.cost import GIB, Cost, Machine
from understudy.recipes.models import Shape
from understudy.recipes.recipe import Lengths, Recipe
from understudy.specs import build, parse_spec

HOST_TABLES = 64 * GIB
"""More than this of expert distributions kept for one update is refused."""
GENERATED = ("countdown", "addition", "classify", "pair")
"""Tasks that make their own problems, so that making one reads nothing."""
UNKNOWN = Lengths(200, 1000)


@dataclass(frozen=True)
class Finding:
    """One check: `passed`, what it looked at, and the hint where it failed."""

    passed: bool
    what: str
    hint: str = ""


@dataclass(frozen=True)
class Phase:
    """Jobs that differ only in their seed."""

    name: str
    runs: int
    config: Resolved
    each: Cost
    memory: Mapping[str, float]


@dataclass(frozen=True)
class DryRun:
    findings: tuple[Finding, ...]
    phases: tuple[Phase, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return all(f.passed for f in self.findings)

    @property
    def total(self) -> Cost:
        total = Cost()
        for phase in self.phases:
            total = total + phase.each * phase.runs
        return total


def dry_run(recipe: Recipe, plan: Plan, machine: Machine, data: Mapping[str, str] | None = None) -> DryRun:
    """Checks and costs of a plan; mistakes are findings, not exceptions."""
    jobs = plan.trainings()
    made = {str(Path(j.out)): j for j in jobs}
    findings: list[Finding] = []

    def check(what: str, hint: object) -> None:
        """One finding of each kind; `hint` is None, a string, or a UserError."""
        found = Finding(hint is None, what, "" if hint is None else str(hint))
        if found not in findings:
            findings.append(found)

    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(_without_seed(job), []).append(job)
    phases = []
    for name, group in groups.items():
        try:
            config = resolve(group[0].config)
            check("configurations resolve, cells legal", None)
            _check_task(config)
            check(f"task {parse_spec(config.task, 'task').name}: options parse", None)
            student = shape(config.student, made, "student")
            expert = None
            if config.expert and not is_programmatic(config.expert):
                expert = shape(config.expert, made, "expert")
                _same_language(config, student, expert, made)
                check("students and experts speak one language", None)
            missing = table.capabilities(config) - _capabilities(config)
            if missing:
                raise UserError("expert", config.expert, f"method {config.method} needs it to {', '.join(missing)}")
            check("experts can do what the methods ask", None)
        except UserError as error:
            check(name, error)
            continue
        spec = parse_spec(config.task, "task").name
        lengths = recipe.lengths.get(spec, UNKNOWN)
        recorded = config.expert.partition(":")[0] == "recorded"
        each = cost.train_cost(config, student, expert, lengths, machine, recorded)
        needed = cost.memory(config, student, expert, lengths, machine)
        phases.append(Phase(name, len(group), config, each, needed))
        tables = _tables(config, student, lengths)
        if expert is not None:
            check(
                "no table of whole distributions outgrows the machine",
                None if tables <= HOST_TABLES else f"{name}: {tables / GIB:,.0f} GiB for one update: use method opd",
            )
        worst = cost.peak(needed)
        check(f"fits in {machine.device.memory / 1e9:.0f} GB of {machine.gpus} x {machine.device.name}",
              None if worst <= machine.device.memory else
              f"{name}: {worst / 1e9:,.0f} GB a GPU: more --gpus, LoRA, or activation checkpointing")  # fmt: skip
    for known, path in (data or {}).items():
        check(f"data {known} at {path}", _check_data(known, path))
    return DryRun(tuple(findings), tuple(phases), tuple(flags(plan.runs)))


def _without_seed(job: Job) -> str:
    return job.name.rpartition(", seed ")[0] or job.name


def shape(spec: str, made: Mapping[str, Job], field: str) -> Shape:
    """Of a model, or of what another job of the plan will make of its own student."""
    for _ in range(len(made) + 1):
        job = made.get(str(Path(spec)))
        if job is None:
            break
        spec = job.config.student
    return models.shape_of(spec, field)


def _same_language(config: Resolved, student: Shape, expert: Shape, made: Mapping[str, Job]) -> None:
    if student.tokenizer and expert.tokenizer and student.tokenizer != expert.tokenizer:
        raise UserError("expert", config.expert,
                        f"its tokenizer is {expert.tokenizer}'s, the student's {student.tokenizer}'s")  # fmt: skip
    if expert.vocabulary < student.vocabulary:
        raise UserError("expert", config.expert, f"its embedding has {expert.vocabulary} rows, the student's "
                        f"{student.vocabulary}: it could not score every token of the student")  # fmt: skip


def _capabilities(config: Resolved) -> frozenset[str]:
    if not config.expert or not is_programmatic(config.expert):
        return frozenset({"sample", "score", "distribution"})
    spec = parse_spec(config.expert, "expert")
    if spec.name == "recorded":
        return frozenset({"sample"})
    from understudy.tasks import make_task

    task = make_task(config.task)
    return task.expert(spec, task.tokenizer()).capabilities


def _check_task(config: Resolved) -> None:
    """The task's options, without reading data or enumerating problems. UserError."""
    from understudy.tasks import TASKS, make_task

    spec = parse_spec(config.task, "task")
    if spec.name not in TASKS:
        raise UserError("task", config.task, f"unknown; one of {', '.join(TASKS)}")
    if spec.name in GENERATED:
        if "data" not in spec.args:
            make_task(config.task)
        return
    from understudy.tasks.text import TextConfig

    build(TextConfig, spec.args, "task")


def _check_data(name: str, path: str) -> UserError | None:
    """The rows of a local file in the schema of this data set, and its gold answers."""
    from understudy.tasks import load_task

    try:
        load_task(f"countdown:format=answer,ops=+-*/,data={path}" if name == "countdown" else f"{name}:path={path}")
    except UserError as error:
        return error
    return None


def _tables(config: Resolved, student: Shape, lengths: Lengths) -> float:
    """Bytes of expert distributions that one update keeps."""
    if config.target != "distribution":
        return 0.0
    rows = config.prompts_per_update * config.samples_per_prompt
    return rows * float(config.max_new_tokens or lengths.completion) * student.vocabulary * 4


# --- as text -------------------------------------------------------------------------------------------------


def told(recipe: Recipe, plan: Plan, run: DryRun, machine: Machine) -> list[str]:
    """The lines that --dry-run prints."""
    out = [f"{recipe.name}: {recipe.title}", f"{recipe.figure} of arXiv 2606.30445. {recipe.shows}", "", "settings"]
    out += [f"  {s.name}: {s.value} ({s.source})" for s in recipe.settings]
    out += [f"  {recipe.unknown}", "", "checks (no weights were read)"]
    out += [f"  {'ok    ' if f.passed else 'FAILED'}  {f.what}{': ' + f.hint if f.hint else ''}" for f in run.findings]
    out += [f"  note    {note}" for note in run.notes]
    out += ["", f"phases, on {machine.gpus} x {machine.device.name} ({machine.device.flops / 1e12:.0f} TFLOPS, "
            f"{machine.device.bandwidth / 1e12:.2f} TB/s), utilisation {machine.utilisation:g} (assumed)"]  # fmt: skip
    head = ("phase", "runs", "sampled", "scored", "trained", "evaluated", "PFLOPs", "GPU-hours", "GB/GPU")
    rows = [_row(p) for p in run.phases]
    total = run.total
    rows.append(("total", "", *_tokens(total), f"{total.flops / 1e15:,.1f}", f"{total.gpu_hours:,.1f}", ""))
    out += _aligned([head, *rows])
    out += [
        "",
        "Tokens (millions), PFLOPs and GPU-hours are of all runs of a phase; sampled counts expert and student.",
    ]
    out += ["Mean lengths assumed: " + "; ".join(
        f"{name} {x.prompt:,} prompt and {x.completion:,} completion tokens" for name, x in recipe.lengths.items()
    ) + "."]  # fmt: skip
    hours = total.gpu_hours / machine.gpus
    out += [f"{total.gpu_hours:,.1f} GPU-hours, {hours:,.1f} hours on this machine if every phase scaled.", ""]
    return [*out, *cost.FORMULA.splitlines()]


def _row(phase: Phase) -> tuple[str, ...]:
    all_ = phase.each * phase.runs
    return (
        phase.name, str(phase.runs), *_tokens(all_), f"{all_.flops / 1e15:,.1f}", f"{all_.gpu_hours:,.1f}",
        f"{cost.peak(phase.memory) / 1e9:,.0f}",
    )  # fmt: skip


def _tokens(c: Cost) -> tuple[str, ...]:
    values = (c.student_sampled + c.expert_sampled, c.expert_scored, c.trained, c.evaluated)
    return tuple(f"{v / 1e6:,.1f}" if v else "-" for v in values)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    return [
        "  " + "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths)))
        for row in rows
    ]


def as_dict(run: DryRun) -> dict[str, object]:
    """For programs: the checks, every phase, the total."""
    return {
        "passed": run.passed,
        "findings": [dataclasses.asdict(f) for f in run.findings],
        "phases": [
            {"name": p.name, "runs": p.runs, "each": dataclasses.asdict(p.each), "memory_bytes": dict(p.memory)}
            for p in run.phases
        ],
        "total": dataclasses.asdict(run.total) | {"gpu_hours": run.total.gpu_hours},
        "notes": list(run.notes),
    }
