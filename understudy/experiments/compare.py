"""Experts x routes x seeds at equal budgets, in parallel; finished runs are re-used; then one report.

A comparison is fair when its runs differ only in what is studied. Every other field in which they differ is a flag in
the report, or an error with --strict.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.config import TrainConfig, resolve
from understudy.diagnosis.config import share
from understudy.errors import UserError
from understudy.experiments.config import CompareConfig
from understudy.experiments.plan import STUDIED, Plan, PlannedRun, distinct, flags, route_run, run_plan
from understudy.experts import is_programmatic
from understudy.methods import table
from understudy.methods.effects import without_effect_in_any
from understudy.routes.route import Phase, RouteConfig, RouteFields, check_effects, parse, parts, resolved_phases
from understudy.runs.read import is_run, read_config
from understudy.servers.urls import names_server
from understudy.specs import build, experts_in, names_self, names_several, parse_spec


def compare(config: CompareConfig, quiet: bool = False) -> Path:
    """Plan, run what is not finished, draw the report; the page's path. UserError: something that could not run."""
    plan = plan_of(config, ["understudy", "compare"])
    check_inputs(config)
    return run_plan(plan, config.workers, quiet, config.launcher)


def check_inputs(config: CompareConfig) -> None:
    """UserError: a task or a model that is not there or cannot be read, before anything is written."""
    from understudy.policy.reader import load_reader  # these import torch
    from understudy.tasks import load_task

    task = load_task(config.task)
    tokenizer = task.tokenizer() if config.student.startswith("scratch") else None
    trust = any(item.strip().lower() in ("trust_remote_code=true", "trust_remote_code=1") for item in config.set)
    for seed in config.seeds:
        models = [("student", config.student.replace("{seed}", str(seed)))]
        for item in config.experts:
            for spec in experts_in(item.partition("=")[2].replace("{seed}", str(seed)), "experts").values():
                if not is_programmatic(spec) and not names_server(spec) and not names_self(spec):
                    models.append(("expert", spec))
        for field, name in models:
            load_reader(name, field, tokenizer, trust)


def plan_of(config: CompareConfig, command: Sequence[str]) -> Plan:
    """The runs of a comparison. UserError: something that could not run."""
    if not config.student:
        raise UserError("student", "", "missing: the model from which every student starts")
    if not config.experts:
        raise UserError("experts", "", "missing: give LABEL=SPEC, for example --experts search=solver rl=runs/grpo-0")
    share(config.diagnose_budget)
    if len(set(config.seeds)) != len(config.seeds) or not config.seeds:
        raise UserError("seeds", config.seeds, "must be different numbers, at least one")
    common = _common(config)
    arms = [_Arm.read(text, common) for text in config.routes]
    keys = [arm.key for arm in arms]
    if not arms:
        raise UserError("routes", "", "missing: give at least one method or route")
    for text, key in zip(config.routes, keys):
        if keys.count(key) > 1:
            raise UserError("routes", text, "is there twice")
    routes = config.axis == "flops" or any(len(arm.phases) > 1 or arm.sized for arm in arms)
    experts: dict[str, dict[str, Any]] = {}
    labels = [item.partition("=")[0] for item in config.experts]
    places = distinct([f"{label}\0{text}" for label in labels for text in config.routes])
    runs = []
    for item in config.experts:
        label, _, spec = item.partition("=")
        if not label or not spec or label in experts:
            raise UserError("experts", item, "write a new LABEL=SPEC")
        first = str(config.seeds[0])
        experts[label] = describe_expert(
            spec.replace("{seed}", first), config.student.replace("{seed}", first), config.task
        )
        for text, arm in zip(config.routes, arms):
            pair = f"{label}\0{text}"
            for seed in config.seeds:
                place = {
                    "expert": spec.replace("{seed}", str(seed)), "student": config.student.replace("{seed}", str(seed)),
                    "seed": seed, "out": str(Path(config.out) / f"{places[pair]}-{seed}"),
                }  # fmt: skip
                if not names_several(spec) and any(names_several(item.partition("=")[2]) for item in config.experts):
                    place["expert_of"] = ""  # it is of the others
                runs.append((_route if routes else _run)(label, arm, common, place))
    _check_set(config, runs)
    differing = flags(runs)
    if config.strict and differing:
        raise UserError("routes", differing[0], "differ in more than the studied field: drop the change, or --strict")
    base = {str(s): {"path": config.student.replace("{seed}", str(s))} for s in config.seeds}
    return Plan("Offline or online imitation", Path(config.out), experts, runs, base, command, config.axis,
                diagnose=config.diagnose_budget if config.diagnose else "")  # fmt: skip


_OWN = {"task": "--task", "budget": "--budget", "budget_axis": "--axis"}
"""Fields of a training that have an option of their own."""


def _common(config: CompareConfig) -> dict[str, Any]:
    """Fields of every run."""
    fields: dict[str, Any] = {"task": config.task, "budget_axis": config.axis, "budget": config.budget}
    set_before: set[str] = set()
    for item in config.set:
        name, equals, value = item.partition("=")
        if not equals or name in STUDIED | {"route"}:
            hint = "write field=value; method, expert, seed, student and out are the comparison's"
            raise UserError("set", item, hint)
        if name in _OWN:
            raise UserError("set", item, f"the comparison has an option of its own: {_OWN[name]} {value}")
        if name in set_before:
            raise UserError("set", item, f"{name} is there twice")
        set_before.add(name)
        fields[name] = value
    return fields


def _check_set(config: CompareConfig, runs: Sequence[PlannedRun]) -> None:
    """UserError: a field that --set changes has no effect in any run."""
    plain, trainings = TrainConfig(), []
    for r in runs:
        trainings += [resolve(r.config)] if r.route is None else resolved_phases(r.route)
    given = {item.partition("=")[0]: item for item in config.set}
    changed = [n for n in given if any(getattr(c, n, None) != getattr(plain, n, None) for c in trainings)]
    trainings = [dataclasses.replace(c, budget=1.0) for c in trainings]  # the arms of a comparison have one
    for name, why in without_effect_in_any(trainings, changed).items():
        raise UserError("set", given[name], f"has no effect in any of these runs ({why}): leave it out")


@dataclass(frozen=True)
class _Arm:
    """A route of the comparison."""

    phases: tuple[Phase, ...]
    updates: int | None
    """In place of the comparison's, for a method alone: NAME:updates=1000."""

    @classmethod
    def read(cls, text: str, common: Mapping[str, Any]) -> _Arm:
        head, _, rest = text.partition(":")
        items = rest.split(",")
        own = [item for item in items if item.strip().startswith("updates=")]
        if not own or len(parts(text)) > 1:
            return cls(parse(text), None)
        others = [item for item in items if item not in own]
        phases = parse(head + (":" + ",".join(others) if others else ""))
        if len(own) > 1:
            raise UserError("routes", text, "updates is there twice")
        value = own[0].partition("=")[2]
        return cls(phases, build(TrainConfig, {"updates": value}, "routes").updates)

    @property
    def sized(self) -> bool:
        return any(phase.updates or phase.share is not None for phase in self.phases)

    @property
    def name(self) -> str:
        return "+".join(map(str, self.phases))

    @property
    def key(self) -> tuple[str, int | None]:
        """Two arms of one key are the same."""
        return self.name, self.updates


def _run(label: str, arm: _Arm, common: Mapping[str, Any], place: Mapping[str, Any]) -> PlannedRun:
    """A method alone, as one training."""
    (phase,) = arm.phases
    place = {**place, "method": phase.method}
    usual = build(TrainConfig, {**common, **place}, "set").updates
    fields = {**common, "updates": arm.updates or usual, **dict(phase.fields), **place}
    config = build(TrainConfig, fields, "routes")
    plain = build(TrainConfig, {**common, "updates": config.updates, **place}, "routes")
    check_effects(phase, resolve(config), resolve(plain), "routes")
    return PlannedRun(label, arm.name, int(place["seed"]), config.updates / usual, config)


def _route(label: str, arm: _Arm, common: Mapping[str, Any], place: Mapping[str, Any]) -> PlannedRun:
    """A route in a directory of its own, with the budget of all."""
    own = {f.name: common[f.name] for f in dataclasses.fields(RouteFields) if f.name in common}
    shared = {name: value for name, value in common.items() if name not in own}
    train = build(TrainConfig, {**shared, **place}, "set")
    times = (arm.updates or train.updates) / train.updates
    train = dataclasses.replace(train, updates=arm.updates or train.updates, budget=train.budget * times)
    fields = build(RouteFields, own, "set")
    return route_run(label, RouteConfig(arm.name, fields.look_prompts, fields.select_prompts, train), times)


def describe_expert(spec: str, student: str, task_text: str) -> dict[str, Any]:
    """Its spec and, where they are known: by which mechanism it is in or out of the student's reach, and whether it is
    realizable."""
    if names_several(spec):
        return {"spec": spec, "mechanism": "several experts, each for its own prompts", "realizable": None}
    if names_self(spec):
        return {"spec": spec, "mechanism": "the student with a context that it does not see", "realizable": None}
    if is_programmatic(spec):
        from understudy.tasks import load_task  # imports torch

        task = load_task(task_text)
        known = task.expert(parse_spec(spec, "experts"), task.tokenizer()).provenance
        return {"spec": spec, "mechanism": known.get("mechanism", ""), "realizable": known.get("realizable")}
    made = read_config(Path(spec)) if is_run(Path(spec)) else {}
    if (made.get("method") in table.TABLE or made.get("route")) and _same_model(str(made.get("student", "")), student):
        how = "from the student's own base: the student can represent it exactly (same class, same start)"
        return {"spec": spec, "mechanism": f"{made['method']} {how}", "realizable": True}
    how = "another model: whether the student can represent it is not known"
    return {"spec": spec, "mechanism": how, "realizable": None}


def _same_model(a: str, b: str) -> bool:
    """Whether two paths mean one model; a run directory stands for its final/."""
    one, other = (Path(x).resolve() for x in (a, b))
    return one == other or one / "final" == other or one == other / "final"
