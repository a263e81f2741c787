"""Experts x methods x seeds at equal budgets, in parallel; finished runs are re-used; then one report.

A comparison is fair when its runs differ only in what is studied. Every other field in which they differ is a flag in
the report, or an error with --strict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.config import TrainConfig, resolve
from understudy.diagnosis.config import share
from understudy.errors import UserError
from understudy.experiments.config import CompareConfig
from understudy.experiments.plan import STUDIED, Plan, PlannedRun, flags, run_plan, slug
from understudy.experts import is_programmatic
from understudy.methods import table
from understudy.runs.read import is_run, read_config
from understudy.specs import build, parse_spec


def compare(config: CompareConfig, quiet: bool = False) -> Path:
    """Plan, run what is not finished, draw the report; the page's path. UserError: something that could not run."""
    return run_plan(plan_of(config, ["understudy", "compare"]), config.workers, quiet, config.launcher)


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
    experts: dict[str, dict[str, Any]] = {}
    runs = []
    for item in config.experts:
        label, _, spec = item.partition("=")
        if not label or not spec or label in experts:
            raise UserError("experts", item, "write a new LABEL=SPEC")
        first = str(config.seeds[0])
        experts[label] = describe_expert(
            spec.replace("{seed}", first), config.student.replace("{seed}", first), config.task
        )
        for text in config.methods:
            for seed in config.seeds:
                place = {
                    "expert": spec.replace("{seed}", str(seed)), "student": config.student.replace("{seed}", str(seed)),
                    "seed": seed, "out": str(Path(config.out) / f"{slug(label)}-{slug(text)}-{seed}"),
                }  # fmt: skip
                runs.append(_run(label, text, common, place))
    differing = flags(runs)
    if config.strict and differing:
        raise UserError("methods", differing[0], "differ in more than the studied field: drop the change, or --strict")
    base = {str(s): {"path": config.student.replace("{seed}", str(s))} for s in config.seeds}
    return Plan("Offline or online imitation", Path(config.out), experts, runs, base, command, config.axis,
                diagnose=config.diagnose_budget if config.diagnose else "")  # fmt: skip


def _common(config: CompareConfig) -> dict[str, Any]:
    """Fields of every run."""
    fields: dict[str, Any] = {"task": config.task, "budget_axis": config.axis, "budget": config.budget}
    for item in config.set:
        name, equals, value = item.partition("=")
        if not equals or name in STUDIED:
            hint = "write field=value; method, expert, seed, student and out are the comparison's"
            raise UserError("set", item, hint)
        fields[name] = value
    return fields


def _run(label: str, text: str, common: Mapping[str, Any], place: Mapping[str, Any]) -> PlannedRun:
    """`text`: a method and the fields that it changes."""
    method = parse_spec(text, "methods")
    changes = {k: v for k, v in method.args.items() if k != "updates"}
    name = method.name + (":" + ",".join(f"{k}={v}" for k, v in changes.items()) if changes else "")
    place = {**place, "method": method.name}
    config = build(TrainConfig, {**common, **method.args, **place}, "methods")
    updates = build(TrainConfig, {**common, **place}, "set").updates
    resolve(config)
    return PlannedRun(label, name, int(place["seed"]), config.updates / updates, config)


def describe_expert(spec: str, student: str, task_text: str) -> dict[str, Any]:
    """Its spec and, where they are known: by which mechanism it is in or out of the student's reach, and whether it is
    realizable."""
    if is_programmatic(spec):
        from understudy.tasks import load_task  # imports torch

        task = load_task(task_text)
        known = task.expert(parse_spec(spec, "experts"), task.tokenizer()).provenance
        return {"spec": spec, "mechanism": known.get("mechanism", ""), "realizable": known.get("realizable")}
    made = read_config(Path(spec)) if is_run(Path(spec)) else {}
    if made.get("method") in table.TABLE and _same_model(str(made.get("student", "")), student):
        how = "from the student's own base: the student can represent it exactly (same class, same start)"
        return {"spec": spec, "mechanism": f"{made['method']} {how}", "realizable": True}
    how = "another model: whether the student can represent it is not known"
    return {"spec": spec, "mechanism": how, "realizable": None}


def _same_model(a: str, b: str) -> bool:
    """Whether two paths mean one model; a run directory stands for its final/."""
    one, other = (Path(x).resolve() for x in (a, b))
    return one == other or one / "final" == other or one == other / "final"
