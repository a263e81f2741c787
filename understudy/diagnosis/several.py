"""Which of several experts: each is diagnosed as one alone is, on the same prompts, and the best one is recommended.

runs/diagnose-a-b-0/
  config.json provenance.json status.json   as of any run
  experts/0-a/ experts/1-b/                 a diagnosis each (pipeline.py)
  experts.json                              prompts that all are measured on, and the experts that are left out
  diagnosis.json                            that of the best expert, with all candidates in their order

The task, the student and its completions are shared: the student is sampled once. All experts are in memory together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from understudy.diagnosis import pipeline
from understudy.diagnosis.candidates import ranked
from understudy.diagnosis.config import VOLATILE, DiagnoseConfig, one_by_one
from understudy.diagnosis.measures.collect import draw_for_all, draw_prompts
from understudy.diagnosis.pipeline import Opened
from understudy.diagnosis.plan import Plan
from understudy.diagnosis.types import FILE, Candidate, Cost, Diagnosis
from understudy.errors import UserError
from understudy.evaluation.numbers import count, duration, large
from understudy.policy import resolve_device
from understudy.runs.directory import RunDir, to_stderr
from understudy.runs.files import read_json, write_json
from understudy.runs.provenance import provenance
from understudy.terminal import Progress

SEEN = "experts.json"


@dataclass(frozen=True)
class Plans:
    """The plan of each expert, and why others are left out. Reads like a Plan."""

    plans: Mapping[str, Plan]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        return all(plan.fits for plan in self.plans.values())

    @property
    def refusal(self) -> str:
        """Of the expert that needs the largest budget; "" where all fit."""
        tight = {name: plan for name, plan in self.plans.items() if not plan.fits}
        if not tight:
            return ""
        name = max(tight, key=lambda n: tight[n].needed)
        return f"for expert {name}, {tight[name].refusal}"

    def lines(self) -> Iterator[str]:
        """For the screen."""
        stages = [stage for plan in self.plans.values() for stage in plan.stages]
        flops, seconds = sum(s.flops for s in stages), sum(s.seconds for s in stages)
        yield f"plan: {count(len(self.plans))} experts, {large(flops)} FLOPs in all, about {duration(seconds)}"
        for name, plan in self.plans.items():
            own, lasts = sum(s.flops for s in plan.stages), sum(s.seconds for s in plan.stages)
            of = f"{own / max(plan.both, 1):.1%} of both trainings with it"
            yield f"  {name}: {large(own)} FLOPs, {of} (budget {plan.share:.0%}), about {duration(lasts)}"
        for name, why in self.left_out.items():
            yield f"  {name} is left out: {why}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"experts": {name: plan.to_dict() for name, plan in self.plans.items()},
                "left_out": dict(self.left_out), "fits": self.fits}  # fmt: skip


Announce = Callable[[Plan | Plans], None]


def silent(plan: Plan | Plans) -> None:
    """An Announce that does nothing."""


def run(
    config: DiagnoseConfig, progress: Progress, note: Callable[[str], None] = to_stderr, announce: Announce = silent
) -> Diagnosis:
    """As pipeline.run; of several experts with `candidates`, the rest being the diagnosis of the first of them.

    UserError: as there, and where no expert can be imitated.
    """
    each = one_by_one(config)
    directory = Path(config.out)
    if not each or (directory / FILE).is_file():
        return pipeline.run(config, progress, note, announce)
    begun, left_out = _opened(each, progress)
    announce(Plans({name: one.plan for name, one in begun.items()}, left_out))

    def origin() -> dict[str, Any]:
        return provenance(device=str(resolve_device(config.device)))

    with RunDir.open(
        config.out, asdict(config), origin, volatile=VOLATILE, defaults=asdict(DiagnoseConfig()), note=note
    ) as opened:
        progress("measures", 0, 1, "student samples, for all experts")
        shared = _shared(config, opened, begun, left_out)
        found = {}
        for name, one in begun.items():

            def show(phase: str, done: int, total: int, text: str, name: str = name) -> None:
                progress(phase if phase == "note" else f"{name}: {phase}", done, total, text)

            found[name] = _diagnosed(each[name], one, show, note)
        result = chosen(config, found, {name: each[name].expert for name in each}, left_out, shared)
        write_json(directory / FILE, result.to_dict())
        opened.status("done")
    return result


def planned(config: DiagnoseConfig, progress: Progress, announce: Announce = silent) -> Plan | Plans:
    """What `run` would do and cost; nothing is written."""
    each = one_by_one(config)
    if not each:
        return pipeline.planned(config, progress, announce)
    begun, left_out = _opened(each, progress)
    plans = Plans({name: one.plan for name, one in begun.items()}, left_out)
    announce(plans)
    return plans


def _opened(each: Mapping[str, DiagnoseConfig], progress: Progress) -> tuple[dict[str, Opened], dict[str, str]]:
    """(what can be diagnosed, why the others cannot). UserError: fewer than one can."""
    begun: dict[str, Opened] = {}
    errors: dict[str, UserError] = {}
    for name, config in each.items():
        beside = next((one.setting for one in begun.values()), None)
        try:
            begun[name] = pipeline.opened(config, progress, beside=beside, grade=True)
        except UserError as error:
            if error.field not in ("expert", "vocabulary", "tokenizer") and not error.field.startswith("preflight"):
                raise
            errors[name] = error
    if not begun:
        first = next(iter(errors))
        why = errors[first]
        raise UserError(why.field, why.value, f"expert {first}: {why.hint} (none of the experts can be used)")
    return begun, {name: str(why) for name, why in errors.items()}


def _shared(config: DiagnoseConfig, run: RunDir, begun: Mapping[str, Opened], left_out: Mapping[str, str]) -> Cost:
    """What all experts have in common: as many prompts as the dearest one affords, and the student's completions, whose
    cost is returned."""
    file = run.path / SEEN
    n = read_json(file)["prompts"] if file.is_file() else min(one.plan.prompts for one in begun.values())
    write_json(file, {"prompts": n, "left_out": dict(left_out)})
    for one in begun.values():
        one.plan.prompts = n
    first = next(iter(begun.values()))
    prompts, _ = draw_prompts(first.setting, n, first.trained)
    return draw_for_all(first.setting, run, prompts, config.samples)


def _diagnosed(config: DiagnoseConfig, begun: Opened, progress: Progress, note: Callable[[str], None]) -> Diagnosis:
    folder = Path(config.out)
    if (folder / FILE).is_file():
        return Diagnosis.load(folder)
    result = pipeline.carried_out(config, begun, progress, note)
    write_json(folder / FILE, result.to_dict())
    return result


def chosen(
    config: DiagnoseConfig, found: Mapping[str, Diagnosis], specs: Mapping[str, str], left_out: Mapping[str, str],
    shared: Cost,
) -> Diagnosis:  # fmt: skip
    """The diagnosis of the best expert, with all candidates, and the cost of everything; shared: of what they have in
    common."""
    names = list(found)
    known = [candidate(name, specs[name], d) for name, d in found.items()]
    order = ranked(known)
    best = found[names[order[0]]]
    total = reduce(add, (d.costs["diagnosis"] for d in found.values()), shared)
    setting = best.setting | {
        "out": config.out,
        "experts": config.expert,
        "paces": best.setting["paces"] | {"diagnosis": total.to_dict()},
    }
    rest = tuple(Candidate(name, specs[name], why) for name, why in left_out.items())
    candidates = (*(known[i] for i in order), *rest)
    return dataclasses.replace(best, setting=setting, costs=best.costs | {"diagnosis": total}, candidates=candidates)


def candidate(name: str, spec: str, d: Diagnosis) -> Candidate:
    """What the order of the candidates reads of a diagnosis."""
    measures, advice = d.evidence.measures, d.recommendation
    row = advice.of(advice.route) if advice else None
    return Candidate(
        name, spec, "", measures.get("expert_accuracy"), measures.get("gradient_score"), advice.route if advice else "",
        row.expected if row else None, row.cost if row else None, d.costs.get("diagnosis"),
    )  # fmt: skip


def pages(directory: Path) -> Sequence[Path]:
    """Directories with a diagnosis of one expert of several."""
    return sorted(path.parent for path in (directory / "experts").glob(f"*/{FILE}"))
