"""understudy train"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy import distributed
from understudy.cli import options
from understudy.cli.several import processes
from understudy.config import TrainConfig, read_fields, resolve
from understudy.errors import Interrupted, UserError
from understudy.evaluation import intervals
from understudy.evaluation.numbers import count, duration, large
from understudy.methods.effects import without_effect_in_any
from understudy.routes.route import RouteConfig, RouteFields, checked, resolved_phases
from understudy.runs.hub import check_push, prepare_push, push
from understudy.runs.read import read_final, read_ledger, read_log
from understudy.specs import build, option
from understudy.terminal import Board, console
from understudy.training.guard import sentence

if TYPE_CHECKING:
    from understudy.routes.run import Plan


@dataclass(frozen=True)
class TrainOptions(RouteFields, TrainConfig):
    """A training, or a route of several."""

    push_to_hub: str = ""
    """OWNER/NAME: push the finished model to the hub, private; the token is read from HF_TOKEN. Off by default."""
    dry_run: bool = option(False, heading="before it runs")
    """Load the models, complete a few prompts, print what would be done and what it costs, and stop. Writes nothing."""


def load(path: str | Path) -> TrainOptions:
    """The configuration of a run or a route, or a JSON or YAML file of fields."""
    fields = read_fields(path)
    if fields.get("route"):
        fields.pop("method", None)  # there it is the route
    return build(TrainOptions, fields, "config")


def train_command(args: Sequence[str]) -> int:
    """understudy train"""
    config = options.parse(
        TrainOptions,
        args,
        "understudy train",
        "Train one student by one method of the table, or by a route of several. Everything is written to one\n"
        "directory; the same command resumes it after a kill, a full disk or Ctrl-C, and gives the same weights, bit\n"
        "for bit.",
        epilog="examples\n"
        "  understudy train --method sft --student PATH --expert solver --task countdown --out runs/a\n"
        "  understudy train --method opd --student PATH_OR_HUB_ID --expert PATH_OR_HUB_ID --task countdown\n"
        "  understudy train --route sft+opd_full --student PATH --expert solver --task countdown --budget-axis flops\n"
        "  understudy train --method opd --student PATH --expert PATH --task countdown --dry-run    (what it costs)\n"
        "  understudy train --config runs/a/config.json --out runs/a-again     (bit-identical on this machine)",
        read=load,
    )
    is_main = distributed.launched().rank == 0  # refuses a launcher whose processes do not know of each other
    route = _route(config)
    one = TrainConfig(**_fields(config, TrainConfig))
    if config.push_to_hub:
        check_push(config.push_to_hub)
    resolve(one) if route is None else checked(route)  # a mistake in the options is found at once
    if is_main:
        for line in _idle(config, one, route):
            print(f"note: {line}", file=sys.stderr)
    if config.push_to_hub and is_main:
        prepare_push(config.push_to_hub)  # what the hub refuses is found before the training
    try:
        with processes(), Board() as board:
            board.progress("loading", 0, 1, "libraries")
            from understudy.training.train import train  # seconds of imports, which --help does not need

            if config.dry_run:
                return _dry_run(one, route, board)
            if route is None:
                path = train(one, board.progress)
            else:
                from understudy.routes.run import train_route  # imports torch

                path = train_route(route, board.progress, announce=_announce)
    except Interrupted as stop:
        if distributed.is_main():
            console.print(f"interrupted: {stop}", markup=False)
        return stop.code
    if is_main:
        for line in _summary(path):
            console.print(line, markup=False)
        if config.push_to_hub:
            console.print(f"pushed: {push(path, config.push_to_hub)}", markup=False)
    return 0


def _idle(config: TrainOptions, one: TrainConfig, route: RouteConfig | None) -> Iterator[str]:
    """A line per option that was given and has no effect in this training."""
    given = [f.name for f in dataclasses.fields(config) if getattr(config, f.name) != f.default]
    trainings = [resolve(one)] if route is None else resolved_phases(checked(route))
    budget = one.budget if route is None else 1.0  # each phase has a part of the route's
    idle = without_effect_in_any([dataclasses.replace(c, budget=budget) for c in trainings], given)
    if route is None:
        alone = {"look_prompts": "there is no --route", "select_prompts": "there is no --route"}
        if not one.budget:
            alone["budget_axis"] = "there is no --budget"
        idle |= {name: why for name, why in alone.items() if name in given}
    if config.dry_run and config.push_to_hub:
        idle["push_to_hub"] = "a dry run trains nothing"
    for name, why in idle.items():
        yield f"--{name.replace('_', '-')} has no effect here: {why}"


def _fields(config: TrainOptions, cls: type) -> dict[str, Any]:
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(cls)}


def _route(config: TrainOptions) -> RouteConfig | None:
    """The route that was asked for. UserError: it is given together with a method."""
    if not config.route:
        return None
    if config.method != TrainConfig.method:
        raise UserError("method", config.method, "a route names its methods: leave it out, or drop --route")
    return RouteConfig(
        config.route, config.look_prompts, config.select_prompts,
        TrainConfig(**_fields(config, TrainConfig)), config.out,
    )  # fmt: skip


def _dry_run(config: TrainConfig, route: RouteConfig | None, board: Board) -> int:
    from understudy.routes.dry_run import dry_run  # these import torch
    from understudy.routes.run import plan_of
    from understudy.runs.directory import to_stderr

    if route is not None:
        _announce(plan_of(checked(route), board.progress, to_stderr))
        return 0
    for line in dry_run(config, board.progress, to_stderr):
        console.print(line, markup=False, soft_wrap=True)
    return 0


def _announce(plan: Plan) -> None:
    """What a route will do and cost."""
    several = "1 phase" if len(plan.phases) == 1 else f"{len(plan.phases)} phases"
    amount = duration(plan.total) if plan.axis.endswith("seconds") else f"{large(plan.total)} {plan.axis}"
    console.print(f"route {plan.route}: {several}, {amount.replace('_', ' ')} together", markup=False)
    for i, phase in enumerate(plan.phases, start=1):
        about = "" if phase.exact else "about "
        line = f"  {i}  {phase.name}: {about}{count(phase.expected_updates)} updates, {large(phase.flops)} FLOPs"
        console.print(line + (f", about {duration(phase.seconds)}" if phase.seconds else ""), markup=False)
    lengths = plan.measured.lengths
    completions = f"student {lengths.student:.0f}, expert {lengths.expert:.0f}"
    console.print(f"  mean tokens measured: prompt {lengths.prompt:.0f}, {completions}", markup=False)


def _summary(path: Path) -> list[str]:
    """A finished run in a few lines: accuracy, cost, where the model is."""
    final, ledger = read_final(path) or {}, read_ledger(path)
    lines = []
    for split, outcome in final.get("splits", {}).items():
        if outcome["sampled"] is None:
            loss = f"loss on held-out completions {outcome['loss']:.3f} nats per token; " if "loss" in outcome else ""
            lines.append(f"{split}: {loss}no accuracy, the task has no answers ({len(outcome['keys'])} prompts)")
            continue
        i = intervals.bootstrap_prompts(outcome["sampled"])
        line = f"{split}: sampled accuracy {i.value:.3f} [{i.low:.3f}, {i.high:.3f}]"
        if outcome.get("greedy"):
            line += f", greedy {sum(outcome['greedy']) / len(outcome['greedy']):.3f}"
        lines.append(f"{line} ({i.n_prompts} prompts)")
    if best := (final.get("selection") or {}).get("best"):
        lines.append(f"best model: {'the student before training' if best == 'start' else f'after phase {best}'}")
    if final.get("guard"):
        lines.append(sentence(final["guard"]))
    if parts := _times(path):
        lines.append(f"time: {parts}")
    spent = ", ".join(f"{k.replace('_', ' ')} {v:,.0f}" for k, v in ledger.items() if v)
    return [*lines, f"spent: {spent}", f"model: {path / 'final'}", f"page:  understudy report {path}"]


def _times(path: Path) -> str:
    """Seconds of the updates by part; "" where no record has them."""
    names = {"seconds_sample": "sampling", "seconds_score": "scoring", "seconds_learn": "learning"}
    records = [r for r in read_log(path, "metrics.jsonl") if "seconds_learn" in r]
    return ", ".join(f"{what} {duration(sum(r[n] for r in records))}" for n, what in names.items() if records)
