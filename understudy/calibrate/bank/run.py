"""understudy calibrate bank: train every scenario along all branches, and keep one row of each.

runs/bank/
  bank.jsonl                     a row per finished (scenario, seed)
  bank-diagnoses.jsonl           its diagnosis, with --diagnoses
  bank-autos.jsonl               what `auto` did there, with --autos
  seed-400/models/NAME/          bases and experts, shared between scenarios: run directories
  seed-400/SCENARIO/start.json   the student before training, and the expert
  seed-400/SCENARIO/BRANCH/      a run directory per branch

Killed at any time, the same command resumes. Finished work is not repeated. No guard: a branch shows what a method
does when nothing stops it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from understudy.calibrate.bank import autos as autos_file
from understudy.calibrate.bank import diagnoses as diagnoses_file
from understudy.calibrate.bank.branches import BRANCHES, START, Branch, path
from understudy.calibrate.bank.diagnoses import Diagnosed, from_run
from understudy.calibrate.bank.rows import FILE, Look, Row, look_of, trained, write
from understudy.calibrate.run import Effort, Unit, run_settling
from understudy.calibrate.scenarios import SCENARIOS, Scenario
from understudy.config import TrainConfig
from understudy.diagnosis.config import BUDGET
from understudy.errors import UserError
from understudy.experiments import diagnosis_job
from understudy.experiments.job import Job, Note, run_auto
from understudy.methods.price import Lengths, Sizes, flops_per_update
from understudy.routes.auto_config import AutoConfig, phase_of
from understudy.runs.files import read_json, write_json
from understudy.runs.read import is_done
from understudy.specs import check, option, unknown
from understudy.terminal import Progress

LOOKS = 10
"""Looks at a branch while it trains."""
AHEAD = 1.3
"""A branch stops when its budget is spent; its updates are a limit, this factor above what is expected."""
SPLITS = ("test", "train")


@dataclass(frozen=True)
class BankConfig:
    only: tuple[str, ...] = ()
    """Scenarios, by name (see understudy calibrate list). Default: all."""
    seeds: int = 0
    """Independent repetitions, each with its own models. 0 = one for scenarios that set rules, three for those that
    score them."""
    group: str = ""
    """set or score: only these scenarios. Default: both."""
    out: str = "runs/bank"
    """Where everything goes. The same command again resumes."""
    rows: str = ""
    """File of the finished rows. Default: OUT/bank.jsonl."""
    quick: bool = False
    """A rehearsal: a tenth of the updates, fewer prompts. Its numbers mean nothing."""
    diagnoses: str = option("no", choices=("no", "also", "only"))
    """Diagnose every scenario too, by the defaults of `understudy diagnose`, into bank-diagnoses.jsonl beside the rows:
    also, or only that (for rows that exist already)."""
    autos: str = option("no", choices=("no", "also", "only"))
    """Run `understudy auto` on every scenario too, with the same budget, into bank-autos.jsonl: also, or only that."""
    workers: int = 2
    """Runs at a time: one per core."""
    dry_run: bool = False
    """Print what would be done and how long it takes, and stop."""


@dataclass(frozen=True)
class BankUnit:
    """One scenario with one seed: its models (calibrate.run.Unit), and its branches."""

    unit: Unit

    @property
    def place(self) -> Path:
        return self.unit.place

    @property
    def start_file(self) -> Path:
        return self.place / "start.json"

    def folder(self, branch: str) -> Path:
        return self.place / branch

    def common(self) -> dict[str, Any]:
        """Fields of every branch."""
        u, s = self.unit, self.unit.scenario
        full = u.size.shrunk(replace(u.training("opd"), method="opd_full"))
        keep = {"expert": u.expert, "task": s.task, "seed": u.seed, "warmup": full.warmup, "lr": full.lr,
                "schedule": full.schedule, "prompts_per_update": full.prompts_per_update, "micro_batch": 0}  # fmt: skip
        looks = {"eval_prompts": 128 if u.size.share == 1 else 16, "eval_samples": 1, "eval_during": "train",
                 "final_prompts": u.size.prompts, "final_samples": u.size.samples, "eval_splits": ",".join(SPLITS),
                 "eval_seed": EVAL_SEED, "eval_expert": False, "eval_divergences": False}  # fmt: skip
        return keep | looks | {"keep": 1, "save_every": 100, "guard": False}

    def updates(self) -> int:
        """Of the full online training, whose FLOPs are the budget."""
        return self.unit.size.shrunk(self.unit.training("opd")).updates

    def config(self, branch: Branch, start: dict[str, Any], first_prompt: int) -> TrainConfig:
        """Of one branch; start: what start.json holds; first_prompt: where the branch before it ended in the stream."""
        common = self.common()
        fields = dict(branch.fields)
        if "lr" in fields:
            fields["lr"] = fields["lr"] * common["lr"]
        updates = max(2, round(AHEAD * branch.share * start["budget"] / start["update"][branch.name]))
        student = self.unit.model(self.unit.scenario.student)
        parent = student if branch.parent == START else str(self.folder(branch.parent))
        plain = phase_of(TrainConfig(**common | fields), branch.method)
        return replace(
            plain, first_prompt=first_prompt, student=parent, updates=updates,
            out=str(self.folder(branch.name)), budget_axis="flops", budget=branch.share * start["budget"],
            eval_every=max(1, round(updates / AHEAD / LOOKS)),
        )  # fmt: skip

    def models(self) -> list[Job]:
        return [job for job in self.unit.jobs() if job.is_training and job.name.startswith("model ")]

    def jobs(self) -> Iterator[Job]:
        """Its models first."""
        models = self.models()
        yield from models
        needs, name = tuple(j.name for j in models), self.unit.name
        yield Job(f"start {name}", run_start, (self,), str(self.start_file), needs)
        for b in BRANCHES.values():
            before = f"start {name}" if b.parent == START else f"{b.parent} {name}"
            yield Job(f"{b.name} {name}", run_branch, (self, b.name), str(self.folder(b.name)), (before,))

    @property
    def auto_folder(self) -> Path:
        return self.place / "auto"

    def auto_config(self, start: Mapping[str, Any]) -> AutoConfig:
        """With the budget of every route, evaluated as every branch is. start: what start.json holds."""
        u, common = self.unit, self.common()
        return AutoConfig(
            student=u.model(u.scenario.student), expert=u.expert, task=u.scenario.task, seed=u.seed,
            budget=str(start["budget"]), set=autos_file.options_of(common), out=str(self.auto_folder),
            final_prompts=common["final_prompts"], final_samples=common["final_samples"],
        )  # fmt: skip

    def auto_jobs(self) -> Iterator[Job]:
        """Its models and its first look first."""
        models = self.models()
        yield from models
        start, name = f"start {self.unit.name}", self.unit.name
        yield Job(start, run_start, (self,), str(self.start_file), tuple(j.name for j in models))
        yield Job(f"auto {name}", run_unit_auto, (self,), str(self.auto_folder), (start,))

    def ran(self) -> autos_file.Ran:
        return autos_file.from_run(self.unit.scenario.name, self.unit.seed, self.auto_folder)

    def diagnosis(self) -> Unit:
        """The same with the budget that `understudy diagnose` has by default."""
        return replace(self.unit, budget=BUDGET)

    @property
    def diagnosis_file(self) -> Path:
        return Path(self.diagnosis().diagnosis()["out"]) / diagnosis_job.FILE

    def diagnosis_jobs(self) -> Iterator[Job]:
        """Its models first."""
        models = self.models()
        yield from models
        name, needs = f"diagnosis {self.unit.name}", tuple(j.name for j in models)
        yield diagnosis_job.diagnosis(name, self.diagnosis().diagnosis(), needs, may_refuse=False)

    def diagnosed(self) -> Diagnosed:
        return from_run(self.unit.scenario.name, self.unit.seed, self.diagnosis_file)

    def seconds(self, name: str) -> float:
        """About what a job takes on one core. A scenario's own number is that of both its trainings."""
        if name.startswith(("model ", "diagnosis ")):
            return self.unit.seconds(name)
        kind = name.partition(" ")[0]
        share = 1.0 if kind == "auto" else BRANCHES[kind].share if kind in BRANCHES else 0.07
        return self.unit.size.share * self.unit.scenario.seconds * 1.4 * share + 2

    def is_done(self) -> bool:
        return all(is_done(self.folder(name)) for name in BRANCHES)

    def row(self) -> Row:
        s, start = self.unit.scenario, read_json(self.start_file)
        return Row(
            s.name, s.kind, s.set, self.unit.seed, start["budget"], s.prompts_per_update, tuple(start["weights"]),
            tuple(start["lengths"]), start["room"], Look(**start["start"]), Look(**start["expert"]),
            {name: trained(self.folder(name)) for name in BRANCHES},
        )  # fmt: skip


EVAL_SEED = 77
"""Of the prompts that looks are taken on: no training has this seed, so they are fresh to it."""


def run_start(unit: BankUnit, progress: Progress, note: Note) -> None:
    """Write start.json: student and expert on both splits, lengths, the budget and the FLOPs per update."""
    import torch  # here: the plan of a bank needs none of this

    from understudy.config import resolve
    from understudy.evaluation.sampled import held_out, sample_expert, sample_policy, sampling_seed
    from understudy.experts import load_expert
    from understudy.policy import load_policy
    from understudy.tasks import load_task

    torch.set_num_threads(1)
    u, n, k = unit.unit, unit.unit.size.prompts, unit.unit.size.samples
    plain = TrainConfig(**unit.common(), student=u.model(u.scenario.student))
    c = resolve(replace(plain, method="opd_full"))
    task = load_task(c.task)
    policy = load_policy(c.student, "student", task.tokenizer(), c.seed).add_stop_tokens(task.stop)
    expert = load_expert(c.expert_spec, task, policy)
    room, seed = task.max_new_tokens, sampling_seed(c.seed, EVAL_SEED)
    ends, lengths, prompts = {}, {}, {}
    for who in ("student", "expert"):
        outcomes = {}
        for split in SPLITS:
            chosen = prompts[split] = held_out(task, policy, split, n, EVAL_SEED, room)
            done = (
                sample_policy(policy, task, chosen, k, seed, room, greedy=False)
                if who == "student"
                else sample_expert(expert, task, chosen, k, seed, room)
            )
            outcomes[split] = done.outcome()
        ends[who] = look_of(outcomes)
        mean = [sum(map(sum, o["lengths"])) / sum(map(len, o["lengths"])) for o in outcomes.values()]
        lengths[who] = sum(mean) / len(mean)
    prompt = sum(len(p.ids) for p in prompts["train"]) / len(prompts["train"])
    weights = (policy.describe()["parameters"], expert.provenance.get("parameters") or 0)
    known, sizes = Lengths(prompt, lengths["student"], lengths["expert"]), Sizes(*weights)
    update = {
        name: flops_per_update(resolve(phase_of(replace(plain, **_cells(b)), b.method)), known, sizes)
        for name, b in BRANCHES.items()
    }
    unit.place.mkdir(parents=True, exist_ok=True)
    write_json(
        unit.start_file,
        {
            "budget": unit.updates() * update["opd"], "update": update, "weights": weights, "room": room,
            "lengths": [round(x, 2) for x in (prompt, *lengths.values())],
            "start": ends["student"].__dict__, "expert": ends["expert"].__dict__,
        },
    )  # fmt: skip


def _cells(branch: Branch) -> dict[str, Any]:
    """What a branch changes of its row."""
    return {name: value for name, value in branch.fields.items() if name != "lr"}


def run_branch(unit: BankUnit, name: str, progress: Progress, note: Note) -> None:
    from understudy.routes.run import prompts_seen  # imports torch: only the process that trains waits for it
    from understudy.training.train import train

    before = [unit.folder(b.name) for b in path(name)[:-1]]
    train(unit.config(BRANCHES[name], read_json(unit.start_file), prompts_seen(before)), progress, note)


def run_unit_auto(unit: BankUnit, progress: Progress, note: Note) -> None:
    run_auto(unit.auto_config(read_json(unit.start_file)), progress, note)


FULL, QUICK = Effort(1.0, 240, 3), Effort(0.1, 16, 2)


def units_of(config: BankConfig) -> list[BankUnit]:
    """All work, first seeds first. UserError: an unknown scenario or group."""
    check(config)
    for name in config.only:
        if name not in SCENARIOS:
            raise UserError("only", name, unknown(name, SCENARIOS))
    if config.group not in ("", "set", "score"):
        raise UserError("group", config.group, unknown(config.group, ("set", "score")))
    for name, least in (("seeds", 0), ("workers", 1)):
        if getattr(config, name) < least:
            raise UserError(name, getattr(config, name), f"must be at least {least}")
    scenarios = [SCENARIOS[name] for name in config.only or SCENARIOS]
    scenarios = [s for s in scenarios if config.group in ("", s.set)]
    size, root = QUICK if config.quick else FULL, Path(config.out)

    def repetitions(s: Scenario) -> int:
        return config.seeds or (3 if s.set == "score" else 1)

    return [
        BankUnit(Unit(s, s.first_seed + i, root, size, ""))
        for i in range(max(map(repetitions, scenarios), default=0)) for s in scenarios if i < repetitions(s)
    ]  # fmt: skip


def run(config: BankConfig, quiet: bool = False) -> Path:
    """Train what is not finished; the path of the rows. A branch that fails does not stop the other scenarios."""
    units = units_of(config)
    jobs: dict[str, Job] = {}
    seconds: dict[str, float] = {}
    for unit in units:
        for job in jobs_of(unit, config):
            jobs.setdefault(job.name, job)
            seconds.setdefault(job.name, unit.seconds(job.name))
    out = Path(config.rows) if config.rows else Path(config.out) / FILE
    diagnoses, autos = out.with_name(diagnoses_file.FILE), out.with_name(autos_file.FILE)
    rows, diagnosed, ran = asked(config)
    waiting, undiagnosed, running = (list(units) if wanted else [] for wanted in (rows, diagnosed, ran))

    def settle() -> None:
        """Write the rows and diagnoses of the units that have just been completed."""
        ready = [u for u in waiting if u.is_done()]
        if ready:
            waiting[:] = [u for u in waiting if u not in ready]
            write(out, [u.row() for u in ready], list(SCENARIOS))
        ready = [u for u in undiagnosed if u.diagnosis_file.is_file()]
        if ready:
            undiagnosed[:] = [u for u in undiagnosed if u not in ready]
            diagnoses_file.write(diagnoses, [u.diagnosed() for u in ready], list(SCENARIOS))
        ready = [u for u in running if is_done(u.auto_folder)]
        if ready:
            running[:] = [u for u in running if u not in ready]
            autos_file.write(autos, [u.ran() for u in ready], list(SCENARIOS))

    run_settling(jobs, seconds, config.workers, settle, quiet)
    return out if rows else diagnoses if diagnosed else autos


def asked(config: BankConfig) -> tuple[bool, bool, bool]:
    """Whether rows, diagnoses and autos are made."""
    return "only" not in (config.diagnoses, config.autos), config.diagnoses != "no", config.autos != "no"


def jobs_of(unit: BankUnit, config: BankConfig) -> Iterator[Job]:
    """What the configuration asks of a unit."""
    rows, diagnosed, ran = asked(config)
    if rows:
        yield from unit.jobs()
    if diagnosed:
        yield from unit.diagnosis_jobs()
    if ran:
        yield from unit.auto_jobs()


def outline(config: BankConfig) -> list[str]:
    """Before a long run: what will be done, and about how long it takes."""
    units = units_of(config)
    left = {job.name: u.seconds(job.name) for u in units for job in jobs_of(u, config) if not job.is_done()}
    parts = zip(asked(config), (f"{len(BRANCHES)} branches", "a diagnosis", "an auto"))
    what = " and ".join(part for wanted, part in parts if wanted) + " each"
    hours, names = sum(left.values()) / 3600, {u.unit.scenario.name for u in units}
    return [
        f"{len(names)} scenarios, {len(units)} units of scenario and seed, {what}, in {config.out}",
        f"about {hours:.1f} core-hours are left, {hours / config.workers:.1f} hours with {config.workers} runs at a "
        "time; up to three times as long on a slow machine",
    ]
