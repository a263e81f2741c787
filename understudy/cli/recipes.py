"""understudy run RECIPE: a dry run, the tiny stand-ins, or the real models."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoConfig

from understudy.cli.local_recipe import run_local
from understudy.config import resolve, to_dict
from understudy.errors import UserError
from understudy.experiments.plan import Plan, run_plan
from understudy.recipes import LOCAL, NAMES, check, discrepancy, figures, texts
from understudy.recipes.config import RunConfig
from understudy.recipes.cost import DEVICES, Machine
from understudy.recipes.loading import load_recipe
from understudy.recipes.memory import peak
from understudy.recipes.paper.fig2_discrepancy import KEYWORDS
from understudy.recipes.recipe import Drawing, Recipe, Scale
from understudy.recipes.tiny import FIRST_SEED
from understudy.report.comparison.load import load
from understudy.report.comparison.summary import summarise
from understudy.runs.files import write_bytes, write_json
from understudy.runs.read import is_done
from understudy.specs import unknown
from understudy.tasks import load_task
from understudy.terminal import console


def run_recipe(config: RunConfig) -> int:
    """Do what the options say; the exit status."""
    if len(config.recipe) != 1:
        raise UserError("recipe", " ".join(config.recipe), f"name one of {', '.join(NAMES + LOCAL)}")
    if config.dry_run + config.tiny + bool(config.script) > 1:
        raise UserError("tiny", "", "choose one of --dry-run, --tiny and --script")
    if config.recipe[0] in LOCAL:
        return run_local(config, _paths("model", config.model))
    recipe = load_recipe(config.recipe[0])
    scale = _scale(config, recipe)
    if recipe.plan is None:
        return _discrepancy(recipe, config, scale)
    if config.a or config.b or config.words:
        hint = f"{recipe.name} takes no files of completions: fig2_discrepancy does"
        raise UserError("a", config.a or config.b, hint)
    if config.tiny:
        return _tiny(recipe, scale, config.workers)
    machine, plan = _machine(config), recipe.plan(scale)
    if config.dry_run:
        return _dry_run(recipe, plan, machine, scale, config.json)
    if config.script:
        return _script(recipe, plan, Path(config.script), config)
    return _real(recipe, plan, machine, scale)


def _scale(config: RunConfig, recipe: Recipe) -> Scale:
    first = config.first_seed if config.first_seed >= 0 else FIRST_SEED if config.tiny else 0
    seeds = config.seeds or (recipe.tiny_seeds if config.tiny else recipe.real_seeds)
    out = config.out or ("runs/tiny/" if config.tiny else "runs/") + recipe.name
    return Scale(Path(out), seeds, first, config.share, _paths("data", config.data), _paths("model", config.model))


def _paths(field: str, items: Sequence[str]) -> dict[str, str]:
    paths: dict[str, str] = {}
    for item in items:
        name, equals, path = item.partition("=")
        if not equals or not name or not path or name in paths:
            raise UserError(field, item, "write a new NAME=PATH")
        if not Path(path).exists():
            raise UserError(field, path, "no such file or folder")
        paths[name] = path
    return paths


def _machine(config: RunConfig) -> Machine:
    if config.device not in DEVICES:
        raise UserError("device", config.device, f"{unknown(config.device, DEVICES)}, and --device-flops")
    device = DEVICES[config.device]
    if config.device_flops:
        device = replace(device, flops=config.device_flops)
    return Machine(device, config.gpus, config.utilisation)


def _dry_run(recipe: Recipe, plan: Plan, machine: Machine, scale: Scale, as_json: bool) -> int:
    result = check.dry_run(recipe, plan, machine, scale.data)
    print(json.dumps(result.to_dict()) if as_json else "\n".join(check.as_text(recipe, result, machine)))
    return 0 if result.passed else 1


def _tiny(recipe: Recipe, scale: Scale, workers: int) -> int:
    """Every phase on stand-ins, then the figure."""
    assert recipe.tiny is not None
    plan = recipe.tiny(scale)
    console.print(f"{len(plan.trainings())} tiny runs, {workers} at a time, in {plan.out}", markup=False)
    run_plan(plan, workers)
    _draw(recipe, plan, scale, recipe.stand_ins)
    return 0


def _discrepancy(recipe: Recipe, config: RunConfig, scale: Scale) -> int:
    """Fig. 2, which trains nothing: two files of completions are compared."""
    files, words = (Path(config.a), Path(config.b)), list(config.words)
    if config.tiny:
        if config.a or config.b:
            raise UserError("tiny", "", "makes its own two files: drop --a and --b, or --tiny")
        files, words = discrepancy.stand_ins(scale), words or ["ok", "no"]
    else:
        if config.dry_run:
            print("\n".join(discrepancy.requirements(recipe)))
            if not config.a and not config.b:
                return 0
        for field in ("a", "b"):
            if not getattr(config, field):
                raise UserError(field, "", "missing: a file of completions, JSON lines (docs/recipes.md)")
    result = texts.compare(texts.read(files[0], "a"), texts.read(files[1], "b"), words or list(KEYWORDS))
    if config.dry_run:
        print(f"both files can be read: {len(result.lengths_a)} and {len(result.lengths_b)} problems")
        return 0
    _write(recipe, discrepancy.draw(result), scale, recipe.stand_ins if config.tiny else "")
    return 0


def _draw(recipe: Recipe, plan: Plan, scale: Scale, stand_ins: str) -> None:
    assert recipe.draw is not None
    _write(recipe, recipe.draw(summarise(load([plan.out]))), scale, stand_ins)


def _write(recipe: Recipe, drawing: Drawing, scale: Scale, stand_ins: str) -> None:
    """figure.html and figure-N.svg; the claims are printed."""
    page = figures.write(recipe, drawing, scale.out, stand_ins)
    for line in figures.claim_lines(drawing.claims):
        console.print(f"- {line}", markup=False)
    console.print(f"figure: {page}", markup=False)


def _script(recipe: Recipe, plan: Plan, target: Path, config: RunConfig) -> int:
    """Every run's configuration as JSON and a shell script that starts them in order."""
    folder = target.parent / f"{target.stem}-jobs"
    plan.write()
    folder.mkdir(parents=True, exist_ok=True)
    note = f"# {recipe.name}: run from the folder where it was written. The same script resumes."
    lines = ["#!/bin/sh", note, "set -e"]
    start = f"torchrun --nproc-per-node {config.gpus} -m understudy" if config.gpus > 1 else "understudy"
    for i, job in enumerate(plan.trainings(), 1):
        path = folder / f"{i:02d}.json"
        write_json(path, to_dict(resolve(job.config)))
        name = " ".join(job.name.split())
        lines += [f"echo {shlex.quote(name)}", f"{start} train --config {shlex.quote(str(path))}"]
    lines.append(f"understudy report {shlex.quote(str(plan.out))}")
    again = shlex.join(("understudy", "run", *config.recipe, "--out", config.out or str(plan.out)))
    lines.append(f"{again}  # all runs are finished: it draws the figure")
    write_bytes(target, ("\n".join(lines) + "\n").encode())
    console.print(f"script: {target} ({len(plan.trainings())} runs)", markup=False)
    return 0


def _real(recipe: Recipe, plan: Plan, machine: Machine, scale: Scale) -> int:
    """The real runs, one after the other, on this machine's GPU, then the figure."""
    waiting = [job for job in plan.trainings() if not is_done(Path(job.out))]
    if waiting:
        _check_before_real(recipe, check.dry_run(recipe, plan, machine, scale.data))
        models = {m for job in waiting for m in (job.config.student, job.config.expert) if m.count("/") == 1}
        for model in sorted(models):
            _check_available(model)
        for task in sorted({job.config.task for job in waiting}):
            load_task(task)
    run_plan(plan, 1)
    _draw(recipe, plan, scale, "")
    return 0


def _check_before_real(recipe: Recipe, result: check.DryRun) -> None:
    """UserError: a check of the dry run failed, or this machine's GPU is too small."""
    failed = next((f for f in result.findings if not f.passed and not f.what.startswith("fits in")), None)
    if failed is not None:
        raise UserError("recipe", recipe.name, f"{failed.what}: {failed.hint}")
    need = max(peak(phase.memory) for phase in result.phases) / 1e9
    if not torch.cuda.is_available():
        hint = f"there is no GPU here; this recipe needs about {need:,.0f} GB of GPU memory and "
        hint += f"{result.total.gpu_hours:,.0f} GPU-hours: see --dry-run, try --tiny, or write a --script for torchrun"
        raise UserError("device", "cpu", hint)
    free = torch.cuda.mem_get_info()[0] / 1e9
    if need > free:
        hint = f"has {free:.0f} GB, the recipe needs about {need:,.0f}: write a --script with --gpus N for torchrun"
        raise UserError("device", torch.cuda.get_device_name(), hint)


def _check_available(hub_id: str) -> None:
    """UserError: the model is neither a folder, nor in the cache, nor on a hub that answers."""
    if Path(hub_id).exists():
        return
    try:
        AutoConfig.from_pretrained(hub_id)
    except Exception as error:  # many kinds, all with the same meaning
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        hint = f"is not here and cannot be fetched ({reason}): --model {hub_id}=PATH"
        raise UserError("model", hub_id, hint) from None
