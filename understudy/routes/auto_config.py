"""Options of `understudy auto`, and what an auto directory's config.json holds. Needs no torch."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from typing import Any

from understudy.config import TrainConfig, continued, resolve, to_dict
from understudy.errors import UserError
from understudy.methods import table
from understudy.methods.effects import without_effect_in_any
from understudy.routes.budget import Budget, parse_budget
from understudy.routes.policy import REWARDED
from understudy.runs.trackers import names_of
from understudy.specs import ROWS, build, check, names_several, option, parse_several, together

RECIPE: dict[str, Any] = {"schedule": "cosine", "warmup": 10, "save_every": 25}
"""What every phase has unless `set` says otherwise: a gentle start, and a rate that ends at zero."""
METHODS = ("sft", "opd_full", "gkd", REWARDED, "opd")
"""What a phase may be."""
_FIXED = ("method", "updates", "budget", "budget_axis", "first_prompt", "eval_splits", "eval_during", "eval_every",
          "final_prompts", "final_samples", "guard")  # fmt: skip
"""Fields of a phase that are auto's own."""


@dataclass(frozen=True)
class AutoConfig:
    student: str = option("", heading="models and task")
    """Model to train: a model directory, run directory, hub id, or `scratch:width=64,layers=2`."""
    expert: str = option("", several=True)
    """Expert to imitate (= teacher): a model, a task's programmatic expert such as `solver`, or a server's address. Of
    several (a=SPEC b=SPEC) the one that is right most often on fresh prompts; with --expert-of, each its prompts."""
    expert_of: str = ""
    """With several experts: field of a prompt's row whose value is the name of its expert (docs/experts.md)."""
    task: str = "countdown"
    """Prompts and verifier, with options, such as `countdown:max_number=9`."""
    budget: str = ""
    """What may be spent: a time (2h, 30m), FLOPs (3e15), money ($40), a column of the ledger (updates=300), or so many
    updates of a method in FLOPs (opd_full:200)."""
    price_per_hour: float = option(0.0, least=0)
    """Money per hour of this machine."""
    price_per_million: float = option(0.0, least=0)
    """Money per million tokens of an expert that is a server."""
    imitate_only: bool = option(False, heading="how it trains")
    """No phase learns from the verifier's reward (gkd_reward)."""
    set: tuple[str, ...] = ()
    """field=value for every phase (see understudy train --help): lr=2e-4 prompts_per_update=32."""
    seed: int = 0
    """Seed of everything random."""
    look_prompts: int = option(256, least=16, most=ROWS)
    """Fresh training prompts on which student, expert and every phase's model are compared."""
    final_prompts: int = option(256, least=1, most=ROWS)
    """Held-out prompts of the final evaluation."""
    final_samples: int = option(4, least=1, most=ROWS)
    """Samples per prompt there."""
    out: str = option("", heading="machine", volatile=True)
    """Directory of everything. Default: runs/auto-SEED. The same command again resumes."""
    push_to_hub: str = ""
    """OWNER/NAME: push the model to the hub at the end, private; the token is read from HF_TOKEN. Off by default."""
    threads: int = option(1, least=1, most=1024)
    """CPU threads."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0, mps."""
    dtype: str = "float32"
    """float32, bfloat16 or mixed."""
    trust_remote_code: bool = False
    """Run code that comes with a model. Off by default."""
    dry_run: bool = False
    """Look, print what would be done first and what it costs, and stop."""


def checked(config: AutoConfig) -> tuple[AutoConfig, Budget, TrainConfig]:
    """With its directory named; its budget; what all phases share. UserError: what could not run."""
    check(config)
    together(config, "final_prompts", "final_samples")
    budget = parse_budget(config.budget, config.price_per_hour, config.price_per_million)
    if not config.student:
        raise UserError("student", "", "missing: give a model directory, a hub id, or scratch:width=64,layers=2")
    if not config.expert:
        raise UserError("expert", "", "missing: give a model, or `solver`")
    fields: dict[str, Any] = dict(RECIPE)
    own = {f.name for f in dataclasses.fields(AutoConfig)}
    for item in config.set:
        name, equals, value = item.partition("=")
        if not equals or name in _FIXED or name in own:
            raise UserError("set", item, "write field=value of the recipe: models, task and sizes have own options")
        fields[name] = value
    shared = ("student", "expert", "expert_of", "task", "seed", "threads", "device", "dtype", "trust_remote_code")
    fields |= {name: getattr(config, name) for name in shared}
    train = build(TrainConfig, fields, "set")
    for name, spec in (to_choose_from(config) or {"": config.expert}).items():
        try:
            resolve(dataclasses.replace(train, expert=spec, method="sft"))
        except UserError as error:
            raise (UserError(error.field, error.value, f"expert {name}: {error.hint}") if name else error) from None
    _check_effects(config, train)
    out = config.out or f"runs/auto-{config.seed}"
    return dataclasses.replace(config, out=out), budget, continued(dataclasses.replace(train, out=out))


def phase_of(shared: TrainConfig, method: str) -> TrainConfig:
    """`shared` as a phase of `method`. An update has about as many completions in every phase, so fewer prompts where
    a method compares completions of one prompt."""
    samples = int(table.TABLE[method].defaults.get("samples_per_prompt", 1)) if shared.samples_per_prompt is None else 1
    return dataclasses.replace(shared, method=method, prompts_per_update=max(1, shared.prompts_per_update // samples))


def to_choose_from(config: AutoConfig) -> dict[str, str]:
    """Name -> expert, where there are several to choose one from; {}: there is one, or each prompt has its own."""
    return {} if config.expert_of or not names_several(config.expert) else parse_several(config.expert)


def _check_effects(config: AutoConfig, train: TrainConfig) -> None:
    """UserError: a field that `set` changes has no effect in any phase that auto may choose."""
    given = {item.partition("=")[0]: item for item in config.set}
    phases = []
    for method in METHODS:
        if method == REWARDED and config.imitate_only:
            continue
        with contextlib.suppress(UserError):  # a phase of this kind is not chosen then, or is refused where it is
            phases.append(dataclasses.replace(resolve(dataclasses.replace(train, method=method)), budget=1.0))
    for name, why in without_effect_in_any(phases, list(given)).items() if phases else ():
        raise UserError("set", given[name], f"has no effect in any phase of auto ({why}): leave it out")
    names_of(train.tracker)


def recorded(config: AutoConfig, train: TrainConfig) -> dict[str, Any]:
    """What config.json of an auto directory holds: a training whose method is `auto`, and its own fields."""
    own = ("price_per_hour", "price_per_million", "look_prompts", "final_prompts", "final_samples")
    auto = {name: getattr(config, name) for name in own} | {"budget": config.budget}
    auto |= {"imitate_only": True} if config.imitate_only else {}
    return to_dict(dataclasses.replace(train, out=config.out)) | {"method": "auto", "auto": auto}
