"""Train a route: a look, a plan, its phases one after the other, and the best model of all as its result.

    config.json provenance.json status.json    as of any run; the method is the route
    route.json                                 what was measured, the plan, what each phase spent, the selection
    phases/0-sft/ phases/1-opd_full/ ...       run directories like any other
    final/ final.json ledger.json              the best model, its evaluation, what everything cost together

What happens next is a function of these files, so that a route can be killed anywhere and resumed.
"""

from __future__ import annotations

import dataclasses
import gc
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from understudy import distributed
from understudy.config import VOLATILE, Resolved, TrainConfig, resolve
from understudy.policy import resolve_device
from understudy.routes.look import Measured, load_models, look, route_here
from understudy.routes.plan import PlannedPhase, budget_left, plan, usual_total
from understudy.routes.route import DEFAULTS, RouteConfig, checked, phase_config, recorded, resolved_phases
from understudy.routes.selection import CARD, START, copy_model, evaluate_start, route_card, select
from understudy.runs.directory import RunDir, to_stderr
from understudy.runs.files import read_json, write_json
from understudy.runs.provenance import provenance
from understudy.runs.read import is_done, is_run, read_config, read_final, read_ledger, read_provenance, route_file
from understudy.runs.shared import SharedRun
from understudy.terminal import Progress, no_progress
from understudy.training.train import train
from understudy.types import Ledger

VERSION = 1
"""Of route.json."""
LEAST = 1e-9
"""Share of the budget of a phase for which those before it left nothing: it ends after one update."""
Announce = Callable[["Plan"], None]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A route with its budget: what route.json holds before the first phase."""

    route: str
    axis: str
    total: float
    """What the phases may spend together."""
    measured: Measured
    phases: tuple[PlannedPhase, ...]

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"phases": [dataclasses.asdict(p) for p in self.phases]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        names = [field.name for field in dataclasses.fields(PlannedPhase)]  # beside them: what the phase has spent
        phases = tuple(PlannedPhase(**{name: phase[name] for name in names}) for phase in data["phases"])
        return cls(data["route"], data["axis"], data["total"], Measured.from_dict(data["measured"]), phases)


def train_route(
    config: RouteConfig,
    progress: Progress = no_progress,
    note: Callable[[str], None] = to_stderr,
    announce: Announce = lambda plan: None,
) -> Path:
    """Train a route to its end, or resume it, and return its directory. A finished route is returned at once.

    announce: called with the plan before the first phase. Raises UserError for a mistake that the user can correct
    (nothing is lost), Interrupted after Ctrl-C.
    """
    config = checked(config)
    distributed.join(config.train.processes)
    if not distributed.is_main():  # the first process reports for all
        progress, note, announce = no_progress, lambda _: None, lambda _: None
    torch.set_num_threads(config.train.threads)
    folder = Path(config.out)
    with ExitStack() as stack:
        begun, planned = distributed.first(lambda: (is_run(folder), route_file(folder).is_file()))
        run = stack.enter_context(_open(config, note)) if begun else None
        if run is not None and run.done:
            return folder
        if run is not None and planned:
            made = distributed.first(lambda: Plan.from_dict(read_json(route_file(folder))))
        else:
            made = plan_of(config, progress, note)
            run = run or stack.enter_context(_open(config, note))
            distributed.first(lambda: write_json(route_file(folder), {"version": VERSION} | made.to_dict()))
        announce(made)
        _Route(config, made, run, progress, note).finish()
    return folder


def plan_of(config: RouteConfig, progress: Progress, note: Callable[[str], None]) -> Plan:
    """Look at the models and plan; nothing is written. config: as `checked` returns it. UserError: it cannot run."""
    phases = resolved_phases(config)
    c = config.train
    models = load_models(route_here(config), note)
    measured = look(route_here(config), models, progress)
    if models.student.device.type != "cpu":  # the first phase loads its own, and memory there is scarce
        del models
        gc.collect()
    numbered = all(phase.updates for phase in config.phases)
    total = c.budget
    if not total and not numbered:
        total = float(c.updates)
        if c.budget_axis != "updates":
            total = usual_total(c.budget_axis, c.updates, reference_method(c), measured.lengths, measured.sizes)
    planned = plan(
        list(zip(config.phases, phases)), c.budget_axis, total, measured.lengths, measured.sizes, measured.paces
    )  # fmt: skip
    total = total or sum(phase.budget for phase in planned)
    return Plan(config.route, c.budget_axis, total, measured, tuple(planned))


def reference_method(config: TrainConfig) -> Resolved:
    """opd_full with this training's sizes: the usual budget of a route is what it is expected to spend."""
    sizes = {name: getattr(config, name) for name in ("student", "prompts_per_update", "samples_per_prompt")}
    return resolve(TrainConfig(method="opd_full", expert=config.expert or "none", **sizes))


def _open(config: RouteConfig, note: Callable[[str], None]) -> RunDir:
    def facts() -> dict[str, Any]:
        return provenance(device=str(resolve_device(config.train.device)))

    kind = RunDir if distributed.size() == 1 else SharedRun
    return kind.open(config.out, recorded(config), facts, volatile=VOLATILE, defaults=DEFAULTS, note=note)


class _Route:
    """An open route directory, after its plan.

    Of several processes the first one reads and writes its files and decides; all of them train and look.
    """

    def __init__(
        self, config: RouteConfig, made: Plan, run: RunDir, progress: Progress, note: Callable[[str], None]
    ) -> None:
        self.config, self.plan, self.run, self.progress, self.note = config, made, run, progress, note
        self.folder = Path(config.out)

    def finish(self) -> None:
        """Train the phases that are left, choose the best model, and write the result."""
        self.run.restore()
        paths: list[Path] = []
        for index, planned in enumerate(self.plan.phases):
            paths.append(self.phase(index, planned, paths))
            distributed.first(lambda: self._record(paths))
            self.run.status("running", step=index + 1, updates=len(self.plan.phases))
        state = distributed.first(lambda: read_json(route_file(self.folder)))
        if "selection" not in state:
            size = self.plan.measured.sizes.student
            seen = self.config.train.first_prompt + distributed.first(lambda: prompts_seen(paths))
            chosen = select(route_here(self.config), paths, seen, size, self.progress)
            state["selection"], state["selection_ledger"] = distributed.agreed(chosen)
            distributed.first(lambda: write_json(route_file(self.folder), state))
            distributed.first(lambda: self._record(paths))
            state = distributed.first(lambda: read_json(route_file(self.folder)))
        self._result(state, {path.name: path for path in paths})

    def phase(self, index: int, planned: PlannedPhase, before: list[Path]) -> Path:
        """Train phase `index`, or what is left of it."""
        config = distributed.first(lambda: phase_training(self.config, self.plan, index, before))
        distributed.first(lambda: _follow(Path(config.out), config.student))
        label = f"phase {index + 1} of {len(self.plan.phases)}, {planned.method}"

        def show(phase: str, done: int, total: int, note: str) -> None:
            self.progress(f"{label}: {phase}" if phase != "note" else phase, done, total, note)

        return train(config, show, self.note)

    def _record(self, paths: Iterable[Path]) -> None:
        """Write what the finished phases have spent into route.json, and the sum into ledger.json."""
        state = read_json(route_file(self.folder))
        for phase, path in zip(state["phases"], paths):
            phase |= {"folder": path.name, "spent": read_ledger(path)}
        write_json(route_file(self.folder), state)
        write_json(self.folder / "ledger.json", spent_by(state))

    def _result(self, state: dict[str, Any], paths: Mapping[str, Path]) -> None:
        best = state["selection"]["best"]
        source = next(iter(paths.values())) if best == START else paths[best]
        facts, final, described = distributed.first(
            lambda: (read_provenance(source), read_final(source) or {}, read_config(source))
        )
        self.run.describe(**{name: facts[name] for name in ("student", "expert") if name in facts})
        student = None
        if best == START:
            student, final = evaluate_start(route_here(self.config), self.run, self.progress)
            # the evaluation has a ledger of its own
            distributed.first(lambda: write_json(self.folder / "ledger.json", spent_by(state)))
        described |= {"method": self.config.route, "student": self.config.train.student}
        described |= {"budget": self.plan.total, "updates": self.config.train.updates}

        def write(target: Path) -> None:
            if not distributed.is_main():
                return
            if student is not None:
                student.save(target)
            else:
                copy_model(source / "final", target)
            text = route_card(described, read_provenance(self.folder), final, state, spent_by(state))
            (target / CARD).write_text(text, encoding="utf-8")

        self.run.finish(write, final | {"selection": {"best": best, "prompts": state["selection"]["prompts"]}})


def spent_by(state: Mapping[str, Any]) -> dict[str, Any]:
    """The ledger of a route: its phases, the look before them and the selection after them. state: route.json."""
    phases = [phase["spent"] for phase in state["phases"] if "spent" in phase]
    ledgers = [*phases, state["measured"]["ledger"], state.get("selection_ledger", {})]
    return {name: sum(ledger.get(name, 0) for ledger in ledgers) for name in Ledger().as_dict()}


def phase_training(config: RouteConfig, made: Plan, index: int, before: list[Path]) -> TrainConfig:
    """The training of phase `index` of a route, after the phases in `before`: a function of their ledgers.

    A phase of a share may spend what it and those before it were to spend, less what those did. One of a number of
    updates is limited by these, and by the whole budget where that is given. It begins with the model and in the stream
    of prompts where the phase before ended: on prompts that have been trained on, rewards say nothing.
    """
    planned, phase, axis = made.phases[index], config.phases[index], made.axis
    spent = [float(read_ledger(path).get(axis, 0)) for path in before]
    left = max(budget_left([p.budget for p in made.phases], spent), LEAST * made.total)
    updates, budget = planned.updates, 0.0
    if not phase.updates and axis == "updates":
        updates = max(1, round(left))
    elif not phase.updates:
        updates, budget = math.ceil(planned.updates * max(1.0, left / planned.budget)), left
    elif config.train.budget and axis != "updates":
        budget = max(made.total - sum(spent), LEAST * made.total)
    return phase_config(
        config, phase, student=str(before[-1]) if before else config.train.student, updates=updates, budget=budget,
        budget_axis=axis, first_prompt=config.train.first_prompt + prompts_seen(before),
        out=str(Path(config.out) / "phases" / f"{index}-{phase.method}"),
    )  # fmt: skip


def prompts_seen(phases: Iterable[Path]) -> int:
    """How far in the stream of training prompts these phases have come."""
    return sum(int(read_ledger(p).get("updates", 0)) * int(read_config(p)["prompts_per_update"]) for p in phases)


def _follow(path: Path, student: str) -> None:
    """A route directory that was moved moves its phases' starts too: their config.json names the new place."""
    if not is_run(path) or is_done(path):
        return
    config = read_config(path)
    if config.get("student") != student:
        write_json(path / "config.json", config | {"student": student})
