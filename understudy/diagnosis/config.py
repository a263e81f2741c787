"""Configuration of a diagnosis, the same for the command line and the library. Needs no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from understudy.config import Resolved, TrainConfig, resolve
from understudy.errors import UserError
from understudy.specs import ROWS, build, check, experts_in, names_several, option, parse_several, together

BUDGET = "9%"
"""What the rule was calibrated with: planned at that, diagnoses stay below 10% of what the trainings then cost."""


@dataclass(frozen=True)
class DiagnoseConfig:
    student: str = option("", heading="models and task")
    """Model to train: a model directory, run directory, hub id, or `scratch:width=64,layers=2`."""
    expert: str = option("", several=True)
    """Expert to imitate (= teacher): a model, or a task's programmatic expert such as `solver`. Several
    (a=SPEC b=SPEC): which of them to imitate; with --expert-of, each its own prompts."""
    expert_of: str = ""
    """With several experts: field of a prompt's row whose value is the name of its expert (docs/experts.md)."""
    task: str = "countdown"
    """Prompts and verifier, with options, such as `countdown:max_number=9`."""
    budget: str = BUDGET
    """Largest cost, as a share of both full trainings together (FLOPs); of several experts, for each. Long trainings
    need a smaller share."""
    updates: int = option(200, heading="the training that you consider")
    """Updates of the full training that you consider, offline or online."""
    prompts_per_update: int = 64
    """Prompts per update of the full training."""
    set: tuple[str, ...] = ()
    """field=value for the full training and its pilots (see understudy train --help): lr=1.5e-3 schedule=cosine."""
    controls: str = option("budget", heading="measurement")
    """Controls of the pilots (twice the steps, self-retraining, capacity): budget (if they fit), all, none."""
    pilots: bool = True
    """Train the pilots. Without them, final accuracies cannot be predicted."""
    verifier: bool = True
    """Use the task's verifier. --no-verifier: judge as if no reward were known."""
    prompts: int = option(192, least=8, most=ROWS)
    """Largest number of prompts to measure on; fewer where the budget is small."""
    samples: int = option(4, least=2, most=ROWS)
    """Student samples per prompt."""
    expert_samples: int = option(2, least=1, most=ROWS)
    """Expert samples per prompt."""
    seed: int = 0
    """Seed of prompts, samples and pilots."""
    out: str = ""
    """Output directory. Default: runs/diagnose-EXPERT-SEED. The same command again resumes."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0, mps."""
    trust_remote_code: bool = False
    """Run code that comes with a model. Off by default."""
    expert_parameters: float = 0.0
    """Number of weights of an expert that does not report it (a server). 0 = as loaded; a program has none."""
    device_flops: float = 0.0
    """FLOPs per second that your accelerator sustains, to compute hours. 0 = as measured on this machine."""
    price_per_hour: float = option(0.0, least=0)
    """Money per hour of this machine: the routes are shown with what they cost."""
    price_per_million: float = option(0.0, least=0)
    """Money per million tokens of an expert that is a server, likewise."""
    dry_run: bool = False
    """Look at a few completions, print the plan with its cost and time, and stop. Writes nothing."""
    json: bool = False
    """Print the diagnosis as JSON."""


VOLATILE = frozenset({"out", "device_flops", "json", "price_per_hour", "price_per_million", "dry_run"})
"""Fields that may differ when a diagnosis is resumed."""

_FIXED = {f.name for f in dataclasses.fields(DiagnoseConfig)} | {"method", "samples_per_prompt"}
"""Fields of the training that `set` may not change: they are the diagnosis's own options, or its choice."""


def share(text: str) -> float:
    """ "5%" or 0.05 -> 0.05; UserError unless it lies in (0, 10]."""
    number = text.strip()
    try:
        value = float(number[:-1]) / 100 if number.endswith("%") else float(number)
    except ValueError:
        raise UserError("budget", text, "must be a share such as 5% or 0.05") from None
    if not 0 < value <= 10:
        raise UserError("budget", text, f"must be above 0 and at most 10 (= 1000%): {BUDGET} is usual")
    return value


def full_training(config: DiagnoseConfig, method: str) -> Resolved:
    """The training that the diagnosis is about, resolved; UserError for one that could not run."""
    fields: dict[str, Any] = {
        "method": method, "student": config.student, "expert": config.expert, "expert_of": config.expert_of,
        "task": config.task, "seed": config.seed, "updates": config.updates,
        "prompts_per_update": config.prompts_per_update, "device": config.device,
        "trust_remote_code": config.trust_remote_code,
    }  # fmt: skip
    for item in config.set:
        name, equals, value = item.partition("=")
        if not equals or name in _FIXED:
            hint = "write field=value of the recipe; models, task, seed, updates and prompts have options of their own"
            raise UserError("set", item, hint)
        fields[name] = value
    return resolve(build(TrainConfig, fields, "set"))


def checked(config: DiagnoseConfig) -> DiagnoseConfig:
    """With its directory named; UserError for what could not run, before anything is loaded."""
    check(config)
    if not config.student:
        raise UserError("student", "", "missing: give a model directory, a hub id, or scratch:width=64,layers=2")
    if not config.expert:
        raise UserError("expert", "", "missing: give a model, or `solver`")
    share(config.budget)
    if config.controls not in ("budget", "all", "none"):
        raise UserError("controls", config.controls, "unknown; one of budget, all, none")
    together(config, "prompts", "samples")
    together(config, "prompts", "expert_samples")
    for name in ("expert_parameters", "device_flops"):
        if getattr(config, name) < 0:
            raise UserError(name, getattr(config, name), "must not be negative")
    if not config.out:
        of = "-".join(experts_in(config.expert)) if names_several(config.expert) else config.expert
        label = "".join(c if c.isalnum() or c in "._" else "-" for c in of).strip("-")
        config = dataclasses.replace(config, out=f"runs/diagnose-{label[-60:].strip('-')}-{config.seed}")
    for name, each in (one_by_one(config) or {"": config}).items():
        try:
            full_training(each, "sft")
        except UserError as error:
            raise (UserError(error.field, error.value, f"expert {name}: {error.hint}") if name else error) from None
    return config


def one_by_one(config: DiagnoseConfig) -> dict[str, DiagnoseConfig]:
    """Name -> the diagnosis of one of several experts, in a directory of its own; {}: `expert` names one, or several
    of which each prompt has its own, which are diagnosed as one.

    UserError: a name twice, an expert without a name.
    """
    if config.expert_of or not names_several(config.expert):
        return {}
    return {
        name: dataclasses.replace(config, expert=spec, out=f"{config.out}/experts/{i}-{name}")
        for i, (name, spec) in enumerate(parse_several(config.expert).items())
    }
