"""What an export is made from: a run, a route, `auto`'s or a diagnosis's folder, or a file of options -> its phases."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.config import Resolved, load, resolve
from understudy.diagnosis.config import DiagnoseConfig, full_training
from understudy.diagnosis.types import FILE, Diagnosis
from understudy.errors import UserError
from understudy.routes import route as routes
from understudy.routes.route import Phase as Part
from understudy.routes.route import RouteConfig
from understudy.runs.files import read_json
from understudy.runs.read import is_done, is_route, is_run, read_ledger, read_lines, route_file
from understudy.specs import build

NOTHING = "nothing"  # the route of a diagnosis that advises not to train
START = "start"  # auto's name of the student


@dataclass(frozen=True)
class Phase:
    """One training of a target."""

    config: Resolved
    run: Path | None = None
    """The run directory whose completions of the expert can be used; None: there is none yet."""


@dataclass(frozen=True)
class Source:
    """Phases in their order, each from the model of the one before."""

    path: Path
    kind: str
    """run, route, auto, diagnosis or configuration."""
    route: str
    """The phases as `understudy train --route` writes them."""
    phases: tuple[Phase, ...]
    words: str = ""
    """What the source says of this choice; empty: nothing."""


def read(path: str) -> Source:
    """UserError: nothing of ours, a diagnosis that advises not to train, or a part that is missing or damaged."""
    folder = Path(path)
    if not os.path.exists(folder):
        raise UserError("source", path, "no such folder: give a run, a route, or a folder of auto or diagnose")
    if os.path.isfile(folder / "decisions.jsonl") and is_run(folder):
        return _auto(folder)
    if is_route(folder) or (is_run(folder) and "route" in read_json(folder / "config.json", "source")):
        return _route(folder)
    if os.path.isfile(folder / FILE):  # such a folder has what a run has, too
        return _diagnosis(folder)
    if is_run(folder, damaged=True):
        return _run(folder)
    if folder.name == FILE:
        return _diagnosis(folder.parent)
    if folder.is_file() and folder.suffix in (".json", ".yaml", ".yml"):
        config = resolve(load(folder))
        return Source(folder, "configuration", config.method, (Phase(config),))
    hint = "is neither a run, a route, a diagnosis nor a folder of auto (a file of options can be .json or .yaml)"
    raise UserError("source", path, hint)


def _run(folder: Path) -> Source:
    config = resolve(load(folder))
    return Source(folder, "run", config.method, (Phase(config, folder),))


def _route(folder: Path) -> Source:
    config = routes.load_route(folder)
    plan = read_json(route_file(folder))["phases"] if is_route(folder) else None
    phases = _phases(config, plan, folder)
    return Source(folder, "route", config.route, phases)


def _phases(config: RouteConfig, plan: Sequence[Mapping[str, Any]] | None, folder: Path | None) -> tuple[Phase, ...]:
    """The phases of a route, as long as planned; without a plan an equal part of its updates each."""
    parts, out = config.phases, []
    for i, part in enumerate(parts):
        updates = (
            int(plan[i]["expected_updates"]) if plan else part.updates or _share(part, parts, config.train.updates)
        )
        resolved = resolve(
            routes.phase_config(config, part, updates=max(1, updates), budget=0.0, budget_axis="updates")
        )
        place = folder / "phases" / f"{i}-{part.method}" if folder else None
        out.append(Phase(resolved, place if place and is_run(place) else None))
    return tuple(out)


def _share(part: Part, parts: Sequence[Part], total: int) -> int:
    fixed = sum(p.updates or round(total * (p.share or 0)) for p in parts)
    free = sum(not p.updates and p.share is None for p in parts)
    return round(total * part.share) if part.share is not None else max(1, (total - fixed) // max(1, free))


def _auto(folder: Path) -> Source:
    """The phases that lead to auto's best model."""
    lines = read_lines(folder / "decisions.jsonl")
    training = {f"{x['number']}-{x['training']['method']}": x["training"] for x in lines if x.get("training")}
    summary = read_json(folder / "auto.json", "source")
    best = str(summary.get("best") or next(reversed(training), START))
    names: list[str] = []
    while best in training:
        names.insert(0, best)
        best = str(training[best]["parent"])
    if not names:
        raise UserError("source", folder, "auto has kept the student as it was: there is no training to export")
    phases = []
    for name in names:
        place = folder / "phases" / name
        config = resolve(load(place))
        done = int(read_ledger(place).get("updates") or 0) if is_done(place) else 0
        config = dataclasses.replace(config, updates=done or config.updates, budget=0.0, budget_axis="updates")
        phases.append(Phase(config, place))
    return Source(folder, "auto", "+".join(f"{p.config.method}:{p.config.updates}" for p in phases), tuple(phases))


def _diagnosis(folder: Path) -> Source:
    """The recommended route, with the updates that it is expected to have."""
    found = Diagnosis.load(folder)
    advice = found.recommendation
    if advice is None:
        hint = "gives a verdict but no route (an earlier version wrote it): run `understudy diagnose` again"
        raise UserError("source", folder, hint)
    if advice.route == NOTHING:
        raise UserError("source", folder, "advises not to train: there is no route to export")
    names = {f.name for f in dataclasses.fields(DiagnoseConfig)}
    setting = build(DiagnoseConfig, {k: v for k, v in found.setting.items() if k in names}, "diagnosis")
    forecast = advice.of(advice.route)
    updates = forecast.updates if forecast else ()
    phases = []
    for i, part in enumerate(routes.parse(advice.route)):
        config = full_training(setting, part.method)
        count = updates[i] if i < len(updates) else config.updates
        phases.append(Phase(dataclasses.replace(config, updates=max(1, count))))
    accuracy = forecast.expected if forecast else None
    expects = f", {accuracy.value:.0%} expected" if accuracy is not None else ""
    return Source(folder, "diagnosis", advice.route, tuple(phases), f"the diagnosis advises {advice.route}{expects}")
