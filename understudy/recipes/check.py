"""A dry run: the checks of a plan that need no weights, and what the plan would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from understudy.config import Resolved, resolve
from understudy.errors import UserError
from understudy.experiments.job import Job
from understudy.experiments.plan import Plan, flags
from understudy.experts import is_programmatic
from understudy.methods import table
from understudy.recipes import cost, memory, models
from understudy.recipes.cost import Machine, PhaseCost
from understudy.recipes.models import Shape
from understudy.recipes.recipe import Lengths, Recipe
from understudy.specs import build, parse_spec
from understudy.tasks import TASKS, load_task, make_task
from understudy.tasks.text import TextConfig

GENERATED = ("countdown", "addition", "classify", "sort", "path", "chain", "pair")
"""Tasks that make their own problems, so that making one reads nothing."""
UNKNOWN = Lengths(200, 1000)


@dataclass(frozen=True)
class DryCheck:
    """One check: `passed`, what it looked at, and the hint where it failed."""

    passed: bool
    what: str
    hint: str = ""


@dataclass(frozen=True)
class Phase:
    """Jobs that differ only in their seed. memory: bytes per GPU, by part."""

    name: str
    runs: int
    each: PhaseCost
    memory: Mapping[str, float]

    @property
    def cost(self) -> PhaseCost:
        return self.each * self.runs


@dataclass(frozen=True)
class DryRun:
    findings: tuple[DryCheck, ...]
    phases: tuple[Phase, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return all(f.passed for f in self.findings)

    @property
    def total(self) -> PhaseCost:
        return sum((phase.cost for phase in self.phases), PhaseCost())

    def to_dict(self) -> dict[str, object]:
        return {
            "passed": self.passed,
            "findings": [asdict(f) for f in self.findings],
            "phases": [
                {"name": p.name, "runs": p.runs, "each": asdict(p.each), "memory_bytes": dict(p.memory)}
                for p in self.phases
            ],
            "total": asdict(self.total) | {"gpu_hours": self.total.gpu_hours},
            "notes": list(self.notes),
        }


def dry_run(recipe: Recipe, plan: Plan, machine: Machine, data: Mapping[str, str] | None = None) -> DryRun:
    """Checks and costs of a plan. Errors become findings, not exceptions. data: data set -> local file."""
    jobs = plan.trainings()
    outputs = {Path(j.out): j for j in jobs}
    findings: dict[DryCheck, None] = {}  # each once, in order

    def check(what: str, hint: object = None) -> None:
        """`hint` is None where the check passed, else a string or a UserError."""
        findings[DryCheck(hint is None, what, "" if hint is None else str(hint))] = None

    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.name.rpartition(", seed ")[0] or job.name, []).append(job)
    phases = []
    for name, group in groups.items():
        try:
            config = resolve(group[0].config)
            check("configurations resolve, cells legal")
            _check_task(config)
            check(f"task {parse_spec(config.task, 'task').name}: options parse")
            student = shape(config.student, outputs, "student")
            expert = None
            if config.expert and not is_programmatic(config.expert):
                expert = shape(config.expert, outputs, "expert")
                _check_vocabulary(config, student, expert)
                check("students and experts speak one language")
            missing = table.capabilities(config) - _capabilities(config)
            if missing:
                raise UserError("expert", config.expert, f"method {config.method} needs it to {', '.join(missing)}")
            check("experts can do what the methods ask")
        except UserError as error:
            check(name, error)
            continue
        lengths = recipe.lengths.get(parse_spec(config.task, "task").name, UNKNOWN)
        recorded = config.expert.partition(":")[0] == "recorded"
        parts = memory.memory(config, student, expert, lengths, machine)
        each = cost.train_cost(config, student, expert, lengths, machine, recorded)
        phases.append(Phase(name, len(group), each, parts))
        worst = memory.peak(parts)
        check(f"fits in {machine.device.memory / 1e9:.0f} GB of {machine.gpus} x {machine.device.name}",
              None if worst <= machine.device.memory else
              f"{name}: {worst / 1e9:,.0f} GB per GPU: more --gpus, LoRA, or activation checkpointing")  # fmt: skip
    for known, path in (data or {}).items():
        check(f"data {known} at {path}", _check_data(known, path))
    return DryRun(tuple(findings), tuple(phases), tuple(flags(plan.runs)))


def shape(spec: str, outputs: Mapping[Path, Job], field: str) -> Shape:
    """Of a model, or of the model that another job of the plan makes from its own student."""
    for _ in outputs:
        job = outputs.get(Path(spec))
        if job is None:
            break
        spec = job.config.student
    return models.shape_of(spec, field)


def _check_vocabulary(config: Resolved, student: Shape, expert: Shape) -> None:
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
    task = make_task(config.task)
    return task.expert(spec, task.tokenizer()).capabilities


def _check_task(config: Resolved) -> None:
    """The task's options, without reading data or enumerating problems. UserError: an illegal one."""
    spec = parse_spec(config.task, "task")
    if spec.name not in TASKS:
        raise UserError("task", config.task, f"unknown; one of {', '.join(TASKS)}")
    if spec.name not in GENERATED:
        build(TextConfig, spec.args, "task")
    elif "data" not in spec.args:
        make_task(config.task)


def _check_data(name: str, path: str) -> UserError | None:
    """The rows of a local file in the schema of this data set, and its gold answers."""
    try:
        load_task(f"countdown:format=answer,ops=+-*/,data={path}" if name == "countdown" else f"{name}:path={path}")
    except UserError as error:
        return error
    return None


# --- as text -------------------------------------------------------------------------------------------------


def as_text(recipe: Recipe, run: DryRun, machine: Machine) -> list[str]:
    """The lines that --dry-run prints."""
    device, total = machine.device, run.total
    head = ("phase", "runs", "sampled", "scored", "trained", "evaluated", "PFLOPs", "GPU-hours", "GB/GPU")
    rows = [_cells(p.name, str(p.runs), p.cost, f"{memory.peak(p.memory) / 1e9:,.0f}") for p in run.phases]
    lengths = (f"{k} {x.prompt:,} prompt and {x.completion:,} completion tokens" for k, x in recipe.lengths.items())
    return [
        f"{recipe.name}: {recipe.title}", f"{recipe.figure} of arXiv 2606.30445. {recipe.shows}", "",
        "settings", *(f"  {s.name}: {s.value} ({s.source})" for s in recipe.settings), f"  {recipe.unknown}", "",
        "checks (no weights were read)",
        *(f"  {'ok    ' if f.passed else 'FAILED'}  {f.what}{': ' + f.hint if f.hint else ''}" for f in run.findings),
        *(f"  note    {note}" for note in run.notes), "",
        f"phases, on {machine.gpus} x {device.name} ({device.flops / 1e12:.0f} TFLOPS, {device.bandwidth / 1e12:.2f} "
        f"TB/s), utilisation {machine.utilisation:g} (assumed)",
        *_aligned([head, *rows, _cells("total", "", total, "")]), "",
        "Tokens (millions), PFLOPs and GPU-hours are of all runs of a phase; sampled counts expert and student.",
        f"Mean lengths assumed: {'; '.join(lengths)}.",
        f"{total.gpu_hours:,.1f} GPU-hours, {total.gpu_hours / machine.gpus:,.1f} hours on this machine if every phase "
        "scaled.", "", *cost.FORMULA.splitlines(),
    ]  # fmt: skip


def _cells(name: str, runs: str, c: PhaseCost, memory: str) -> tuple[str, ...]:
    tokens = (c.student_sampled + c.expert_sampled, c.expert_scored, c.trained, c.evaluated)
    columns = (f"{v / 1e6:,.1f}" if v else "-" for v in tokens)
    return name, runs, *columns, f"{c.flops / 1e15:,.1f}", f"{c.gpu_hours:,.1f}", memory


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  " + "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths))) for row in rows
    ]
