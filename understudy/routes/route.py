"""What a route is: its text, and the configuration of each phase. Needs no torch.

sft                        one phase
sft+opd_full               two, with half of the budget each
sft:150+gkd:100            with so many updates
sft:40%+gkd:lr=2e-4        shares of the budget, and fields of one phase
"""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.config import Resolved, TrainConfig, before_it_was_open, continued, read_fields, resolve, to_dict
from understudy.config.defaults import FIELDS
from understudy.errors import UserError
from understudy.methods import table
from understudy.methods.effects import without_effect
from understudy.specs import ROWS, build, check, option, unknown

SHARED = ("task", "student", "expert", "expert_of", "seed", "out")
"""Fields that are the same in all phases of a route."""
_OF_THE_ROUTE = {"method": "write METHOD:...", "updates": "write METHOD:150", "budget": "write METHOD:40%",
                 "budget_axis": "the route has one"}  # fmt: skip


@dataclass(frozen=True)
class Phase:
    """One method, trained for a part of the route's budget."""

    method: str
    updates: int = 0
    """So many updates. 0 = as many as its part of the budget allows."""
    share: float | None = None
    """Share of the route's budget. None = an equal part of what the other phases leave."""
    fields: tuple[tuple[str, str], ...] = ()
    """Fields of TrainConfig that this phase changes."""

    def __str__(self) -> str:
        size = [str(self.updates)] if self.updates else [] if self.share is None else [f"{100 * self.share:g}%"]
        items = size + [f"{name}={value}" for name, value in self.fields]
        return self.method + (":" + ",".join(items) if items else "")


@dataclass(frozen=True)
class RouteFields:
    """What a route has beside its training."""

    route: str = option("", heading="route")
    """Phases in their order, each from the best model of the one before: `sft+opd_full`, `sft:150+gkd:100` (updates),
    `sft:40%+gkd:lr=2e-4` (a share of the budget, a field of the phase). --budget, --budget-axis and --updates are then
    the route's; a budget of 0 is what --updates updates of opd_full are expected to cost."""
    look_prompts: int = option(64, least=2, most=ROWS)
    """Of a route: training prompts on which lengths and pace are measured before the first phase."""
    select_prompts: int = option(256, least=0, most=ROWS)
    """Of a route: fresh training prompts by which the best of start and phases is chosen. 0 = the last phase is the
    result, whatever it did."""


@dataclass(frozen=True)
class RouteConfig(RouteFields):
    """A route and everything that its phases share."""

    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    """Shared by all phases, but `method`, which is not read."""
    out: str = ""
    """Route directory. Default: train.out, else runs/ROUTE-SEED."""

    @property
    def phases(self) -> tuple[Phase, ...]:
        return parse(self.route)


def parse(text: str) -> tuple[Phase, ...]:
    """The phases of a route. UserError: an unknown method, a phase that is no phase, shares above 100%."""
    if not text.strip():
        raise UserError("route", text, "missing: write methods joined by +, for example sft+opd_full")
    phases = tuple(_phase(part, text) for part in parts(text))
    shares = sum(phase.share or 0 for phase in phases)
    if shares > 1 + 1e-9:
        raise UserError("route", text, f"its shares sum to {100 * shares:g}%: at most 100%")
    if shares > 1 - 1e-9 and any(phase.share is None and not phase.updates for phase in phases):
        raise UserError("route", text, "its shares leave nothing for the phases without one")
    return phases


def parts(text: str) -> list[str]:
    """The text of each phase."""
    return [part.strip() for part in re.split(r"\+(?![\d.])", text)]  # lr=1e+3 is one number


def _phase(part: str, text: str) -> Phase:
    method, _, rest = part.partition(":")
    if method not in table.TABLE:
        raise UserError("method", method, f"{unknown(method, table.TABLE)}; in route {text}")
    updates, share, fields = 0, None, {}
    for item in filter(None, (piece.strip() for piece in rest.split(","))):
        name, equals, value = (piece.strip() for piece in item.partition("="))
        if equals:
            if name in SHARED:
                raise UserError("route", part, f"all phases of a route share {name}: leave it out")
            if name in _OF_THE_ROUTE or name in fields:
                hint = _OF_THE_ROUTE.get(name, "it is there twice")
                raise UserError("route", part, f"{name} is no field of a phase: {hint}")
            fields[name] = value
        elif updates or share is not None:
            raise UserError("route", part, "has two sizes: give a number of updates or a share, not both")
        elif re.fullmatch(r"\d+", item) and int(item):
            updates = int(item)
        elif re.fullmatch(r"\d+(\.\d*)?%", item) and float(item[:-1]):
            share = float(item[:-1]) / 100
        else:
            hint = f"{item!r} is neither a number of updates (150), nor a share (40%), nor field=value (lr=2e-4)"
            raise UserError("route", part, hint)
    return Phase(method, updates, share, tuple(fields.items()))


def normal(text: str) -> str:
    """The route with every blank and every redundant zero gone, so that one route has one text."""
    return "+".join(map(str, parse(text)))


def slug(text: str) -> str:
    """A route as part of a file name: `sft:40%+gkd` is sft-40-gkd."""
    return re.sub(r"[^\w.]+", "-", text).strip("-")


def phase_config(config: RouteConfig, phase: Phase, **place: Any) -> TrainConfig:
    """The training that a phase is; place: student, out, updates, budget and budget_axis. UserError: not legal."""
    shared = {f.name: getattr(config.train, f.name) for f in dataclasses.fields(TrainConfig)}
    return build(TrainConfig, shared | {"method": phase.method} | dict(phase.fields) | place, "route")


def resolved_phases(config: RouteConfig) -> list[Resolved]:
    """Every phase with nothing left open, as if it began at the route's student. UserError: one is not legal."""
    return [resolve(phase_config(config, phase)) for phase in config.phases]


def check_effects(phase: Phase, trained: Resolved, plain: Resolved, field: str = "route") -> None:
    """UserError: a field of the phase changes nothing in its training, so that its text would say what it is not.

    trained, plain: the training with and without the fields of the phase.
    """
    changed = [name for name, _ in phase.fields if getattr(trained, name) != getattr(plain, name)]
    for name, why in without_effect(trained, changed).items():
        raise UserError(field, str(phase), f"{name} has no effect there ({why}): leave it out")


def checked(config: RouteConfig) -> RouteConfig:
    """With its text in its normal form and its directory named. UserError for what shows without loading anything."""
    check(config)
    text = normal(config.route)
    out = config.out or config.train.out or f"runs/{slug(text)}-{config.train.seed}"
    train = continued(dataclasses.replace(config.train, out=out))
    config = dataclasses.replace(config, route=text, out=out, train=train)
    for phase, trained in zip(config.phases, resolved_phases(config)):
        plain = resolve(phase_config(config, dataclasses.replace(phase, fields=())))
        part = 1.0  # of the route's budget, which each phase gets
        check_effects(phase, dataclasses.replace(trained, budget=part), dataclasses.replace(plain, budget=part))
    return config


def recorded(config: RouteConfig) -> dict[str, Any]:
    """What config.json of a route directory holds: a training whose method is the route, and the route's own fields."""
    own = {f.name: getattr(config, f.name) for f in dataclasses.fields(RouteFields)}
    return to_dict(config.train) | {"method": config.route} | own


DEFAULTS = recorded(RouteConfig()) | {name: before_it_was_open()[name] for name in FIELDS}
"""What an earlier version's config.json lacks."""


def load_route(path: str | Path) -> RouteConfig:
    """The configuration in the config.json of a route directory. UserError: it is none."""
    fields = read_fields(path)
    if "route" not in fields:
        where = os.fspath(path)
        raise UserError("config", where, "is not a route: give a folder that `understudy train --route` wrote")
    own = {f.name: fields.pop(f.name) for f in dataclasses.fields(RouteFields) if f.name in fields}
    fields.pop("method", None)
    route = build(RouteFields, own, "config")
    return RouteConfig(route.route, route.look_prompts, route.select_prompts, build(TrainConfig, fields, "config"))
