"""Which of several experts an auto imitates: the one that is right most often on fresh prompts.

Each is loaded, looked at and let go again; the looks are part of the budget. `understudy diagnose` compares experts
by more than their accuracy, for more than a look costs.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Mapping, Sequence
from typing import Any

from understudy.config import TrainConfig, resolve
from understudy.diagnosis.candidates import ranked
from understudy.diagnosis.types import Candidate, Estimate
from understudy.errors import UserError
from understudy.experts import load_expert
from understudy.methods.price import Lengths
from understudy.policy import check_same_language
from understudy.routes.auto_config import AutoConfig, to_choose_from
from understudy.routes.auto_look import first_look, rewards_of, value_of
from understudy.routes.budget import Budget
from understudy.routes.decisions import Money
from understudy.routes.look import Measured, Models, here
from understudy.routes.policy import OFFLINE, START, Value, methods_for
from understudy.tasks import load_task
from understudy.terminal import Progress
from understudy.training.session import load_model

MOST_TRAINED = 20_000
"""Training prompts that the looks' prompts are not among: no training's length is known yet."""
MOST = 0.5
"""Share of the budget that the looks at the experts may take."""


def look_at_all(config: AutoConfig, budget: Budget, shared: TrainConfig, progress: Progress) -> dict[str, Any]:
    """What look.json holds: `first_look` of the chosen expert; `experts`, what was seen of each; `chosen`, its name.

    UserError: no expert can be used, or told from the others; looks that take too much of the budget.
    """
    specs = to_choose_from(config)
    seen: dict[str, dict[str, Any]] = {name: {"expert": spec} for name, spec in specs.items()}
    task = load_task(shared.task)
    if not task.verified:
        hint = f"nothing verifies task {task.name}, so auto cannot tell them apart: choose one (understudy diagnose)"
        raise UserError("expert", ", ".join(specs), hint)
    plain = {
        name: resolve(dataclasses.replace(here(shared), expert=spec, method=OFFLINE)) for name, spec in specs.items()
    }
    first = next(iter(plain.values()))
    student = load_model(shared.student, "student", first, task)
    for i, (name, c) in enumerate(plain.items()):
        progress("look", i, len(plain), f"expert {name}")
        try:
            expert = load_expert(c.expert_spec, task, student)
            check_same_language(student, expert, c.expert)
            if not methods_for(expert.capabilities):
                raise UserError("expert", c.expert, "can neither be sampled nor score: no method can imitate it")
        except UserError as error:
            seen[name] |= {"left_out": str(error)}
            continue
        models = Models(task, student, expert)
        one = dataclasses.replace(shared, expert=c.expert)
        entry = rewards_of(config, one, models, True, MOST_TRAINED, Measured(Lengths(0, 0, 0), models.sizes, {}, {}))
        seen[name] |= {"look": entry} if entry else {"left_out": "it cannot be sampled on prompts of its own choice"}
        del models, expert
        gc.collect()
        _affordable(config, budget, seen)
    name = _best(seen)
    chosen = dataclasses.replace(config, expert=specs[name])
    looked = first_look(chosen, budget, dataclasses.replace(shared, expert=specs[name]), progress, seen)
    return looked | {"experts": seen, "chosen": name}


def _affordable(config: AutoConfig, budget: Budget, seen: Mapping[str, Any]) -> None:
    """UserError as soon as the looks so far show that all of them would take too much."""
    spent = [budget.spent(one["look"]["ledger"]) for one in seen.values() if "look" in one]
    if budget.method or not spent:
        return
    expected = sum(spent) / len(spent) * sum("left_out" not in one for one in seen.values())
    if expected > MOST * budget.amount:
        hint = f"the looks at {len(seen)} experts take about {budget.shown(expected)}, more than half of it"
        raise UserError("budget", config.budget, f"{hint}: give more, fewer experts, or fewer --look-prompts")


def _best(seen: Mapping[str, Any]) -> str:
    names = [name for name, one in seen.items() if "look" in one]
    if not names:
        name, one = next(iter(seen.items()))
        raise UserError("expert", name, f"{one['left_out']} (none of the experts can be used)")
    return names[ranked([_candidate(name, seen[name]) for name in names])[0]]


def _candidate(name: str, one: Mapping[str, Any]) -> Candidate:
    v = value_of(one["look"])
    assert v is not None
    return Candidate(name, one["expert"], accuracy=Estimate(v.mean, v.low, v.high, v.prompts, "accuracy", ""))


def with_expert(seen: Mapping[str, Any], config: AutoConfig, shared: TrainConfig) -> tuple[AutoConfig, TrainConfig]:
    """Both with the chosen expert; as they are where there is one."""
    if "chosen" not in seen:
        return config, shared
    spec = seen["experts"][seen["chosen"]]["expert"]
    return dataclasses.replace(config, expert=spec), dataclasses.replace(shared, expert=spec)


def others(seen: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Name -> the look at an expert that was not chosen."""
    experts = seen.get("experts") or {}
    return {name: one["look"] for name, one in experts.items() if "look" in one and name != seen["chosen"]}


def lines_of(seen: Mapping[str, Any]) -> list[str]:
    """Each expert in words; [] where there is one."""
    out = []
    for name, one in (seen.get("experts") or {}).items():
        mark = " (chosen)" if name == seen["chosen"] else ""
        v = value_of(one.get("look"))
        what = _shown(v) if v else f"left out: {one['left_out']}"
        out.append(f"expert {name}{mark}: {what}")
    return out


def _shown(v: Value) -> str:
    return f"{100 * v.mean:.1f}% [{100 * v.low:.1f}, {100 * v.high:.1f}] on {v.prompts} fresh prompts"


def decision(seen: Mapping[str, Any], money: Money) -> dict[str, Any]:
    """The line of decisions.jsonl that says which expert was chosen, and why."""
    values = {name: value_of(one.get("look")) for name, one in seen["experts"].items()}
    known = {name: v for name, v in values.items() if v is not None}
    name = seen["chosen"]
    best = known[name]
    rest: Sequence[tuple[str, Value]] = sorted(
        ((n, v) for n, v in known.items() if n != name), key=lambda pair: -pair[1].mean
    )  # fmt: skip
    why, change = f"{name} is the only expert that can be imitated here", ""
    if rest:
        second, v = rest[0]
        gap = 100 * (best.mean - v.mean)
        why = f"it is right most often: {100 * best.mean:.1f}% against {100 * v.mean:.1f}% of {second}"
        change = f"{second} right {gap:.1f} points more often" if gap else f"any difference to {second}"
    facts = [
        {"what": f"accuracy of expert {n}", "value": v.mean, "low": v.low, "high": v.high, "unit": "accuracy"}
        for n, v in known.items()
    ]
    left_out = [
        {"what": f"expert {n} is left out: {one['left_out']}", "value": None, "low": None, "high": None, "unit": ""}
        for n, one in seen["experts"].items() if "left_out" in one
    ]  # fmt: skip
    options = [
        {"action": f"imitate {n}", "method": "", "parent": "", "budget": 0.0, "expected": None, "low": None,
         "high": None, "probability": None} for n in (name, *(n for n, _ in rest))
    ]  # fmt: skip
    return {
        "number": 0, "at": START, "spent": money.spent, "left": max(0.0, money.total - money.spent),
        "known": [*facts, *left_out], "options": options, "chosen": f"imitate {name}", "why": why,
        "would_change": change, "cost": money.evidence, "seconds": money.seconds, "trial": False, "training": None,
        "expert": name,
    }  # fmt: skip
