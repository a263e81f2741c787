"""understudy run RECIPE: a dry run, the tiny stand-ins, or the real thing."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from understudy.cli import options
from understudy.config import resolve, to_dict
from understudy.errors import UserError
from understudy.experiments.plan import Plan, run_plan
from understudy.recipes import NAMES, Recipe, load_recipe
from understudy.recipes.cost import DEVICES, Machine
from understudy.recipes.recipe import Scale
from understudy.runs.files import write_bytes, write_json
from understudy.terminal import console


@dataclass(frozen=True)
class RunConfig:
    recipe: tuple[str, ...] = ()
    """Which recipe; or a Python file that defines RECIPE."""
    dry_run: bool = False
    """Check all that can be checked without weights, and print the plan and what it costs. Exit status 1: a
    check failed."""
    tiny: bool = False
    """Run every phase on tiny stand-ins (minutes on two cores) and draw the figure."""
    out: str = ""
    """Where everything goes. Default: runs/RECIPE, runs/tiny/RECIPE with --tiny."""
    seeds: int = 0
    """Repetitions. 0 = the recipe's."""
    first_seed: int = -1
    """Seeds are first_seed, first_seed + 1, ... Default: 0, or 300 with --tiny."""
    workers: int = 2
    """Runs at a time (--tiny)."""
    share: float = 1.0
    """Share of all updates and evaluation prompts, to try the plumbing."""
    data: tuple[str, ...] = ()
    """NAME=PATH: a local file or folder instead of the hub: gsm8k=rows/gsm8k mmlu=rows/mmlu."""
    model: tuple[str, ...] = ()
    """HUB_ID=PATH: a local model directory instead of the hub."""
    script: str = ""
    """Write the runs as a shell script for torchrun, with their configurations beside it, and run nothing."""
    a: str = ""
    """fig2_discrepancy: the expert's completions, JSON lines."""
    b: str = ""
    """fig2_discrepancy: the student's completions."""
    words: tuple[str, ...] = ()
    """fig2_discrepancy: keywords, fixed before the texts were seen. Default: the recipe's."""

    device: str = "h100"
    """What the plan is priced for: a100, h100 or h200."""
    device_flops: float = 0.0
    """Dense bfloat16 FLOPs a second of one GPU. 0 = the device's data sheet."""
    gpus: int = 8
    """GPUs of each run."""
    utilisation: float = 0.4
    """Share of the peak that training and scoring reach: an assumption."""
    json: bool = False
    """Print the dry run as JSON."""


def run_command(args: Sequence[str]) -> int:
    """understudy run"""
    config = options.parse(
        RunConfig,
        args,
        "understudy run",
        "One of the paper's experiments as a recipe: " + ", ".join(NAMES) + ".",
        epilog="examples\n  understudy run fig6_two_experts --dry-run --gpus 8\n  understudy run "
        "fig6_two_experts --tiny\n"
        "  understudy run fig2_discrepancy --a expert.jsonl --b student.jsonl\n"
        "  understudy run fig1_gsm8k --script runs/fig1_gsm8k/run.sh --gpus 8",
        sections={"what the dry run is priced for": "device"},
        positional="recipe",
    )
    if len(config.recipe) != 1:
        raise UserError("recipe", " ".join(config.recipe), f"name one of {', '.join(NAMES)}")
    if config.dry_run + config.tiny + bool(config.script) > 1:
        raise UserError("tiny", "", "choose one of --dry-run, --tiny and --script")
    recipe = load_recipe(config.recipe[0])
    scale = scale_of(config, recipe)
    if recipe.plan is None:
        from understudy.recipes.discrepancy import command

        return command(recipe, config.a, config.b, config.words, scale, config.tiny, config.dry_run)
    if config.a or config.b or config.words:
        raise UserError(
            "a", config.a or config.b, f"{recipe.name} takes no files of completions: fig2_discrepancy does"
        )
    if config.tiny:
        return tiny(recipe, scale, config.workers)
    machine, plan = machine_of(config), recipe.plan(scale)
    if config.dry_run:
        return dry(recipe, plan, machine, scale, config.json)
    if config.script:
        return script(recipe, plan, Path(config.script), config)
    return real(recipe, plan, machine, scale)


def scale_of(config: RunConfig, recipe: Recipe) -> Scale:
    from understudy.recipes.tiny import FIRST_SEED

    first = config.first_seed if config.first_seed >= 0 else FIRST_SEED if config.tiny else 0
    seeds = config.seeds or (recipe.tiny_seeds if config.tiny else recipe.real_seeds)
    out = config.out or ("runs/tiny/" if config.tiny else "runs/") + recipe.name
    return Scale(Path(out), seeds, first, config.share, _pairs("data", config.data), _pairs("model", config.model))


def _pairs(field: str, items: Sequence[str]) -> dict[str, str]:
    found = {}
    for item in items:
        name, equals, path = item.partition("=")
        if not equals or not name or not path or name in found:
            raise UserError(field, item, "write a new NAME=PATH")
        if not Path(path).exists():
            raise UserError(field, path, "no such file or folder")
        found[name] = path
    return found


def machine_of(config: RunConfig) -> Machine:
    if config.device not in DEVICES:
        raise UserError("device", config.device, f"unknown; one of {', '.join(DEVICES)}, and --device-flops")
    device = DEVICES[config.device]
    if config.device_flops:
        device = replace(device, flops=config.device_flops)
    return Machine(device, config.gpus, config.utilisation)


def dry(recipe: Recipe, plan: Plan, machine: Machine, scale: Scale, as_json: bool) -> int:
    from understudy.recipes.check import as_dict, dry_run, told

    found = dry_run(recipe, plan, machine, scale.data)
    if as_json:
        print(json.dumps(as_dict(found)))
    else:
        print("\n".join(told(recipe, plan, found, machine)))
    return 0 if found.passed else 1


def tiny(recipe: Recipe, scale: Scale, workers: int, quiet: bool = False) -> int:
    """Every phase on stand-ins, then the figure."""
    assert recipe.tiny is not None
    plan = recipe.tiny(scale)
    if not quiet:
        console.print(f"{len(plan.trainings())} tiny runs, {workers} at a time, in {plan.out}", markup=False)
    run_plan(plan, workers, quiet)
    draw(recipe, plan, scale, recipe.tiny_told, quiet)
    return 0


def draw(recipe: Recipe, plan: Plan, scale: Scale, stand_ins: str, quiet: bool = False) -> Path:
    """figure.html and figure-N.svg from the finished runs."""
    from understudy.recipes import figures
    from understudy.report.comparison.load import load
    from understudy.report.comparison.summary import summarise

    assert recipe.draw is not None
    made = recipe.draw(summarise(load([plan.out])))
    page = figures.write(recipe, made, scale.out, stand_ins)
    if not quiet:
        for line in figures.told(made.claims):
            console.print(f"- {line}", markup=False)
        console.print(f"figure: {page}", markup=False)
    return page


def script(recipe: Recipe, plan: Plan, target: Path, config: RunConfig) -> int:
    """Every run's configuration as JSON and a shell script that starts them in order."""
    folder = target.parent / f"{target.stem}-jobs"
    folder.mkdir(parents=True, exist_ok=True)
    plan.write()
    lines = [
        "#!/bin/sh",
        f"# {recipe.name}: run from the folder where it was written. The same script resumes.",
        "set -e",
    ]
    for i, job in enumerate(plan.trainings(), 1):
        path = folder / f"{i:02d}.json"
        write_json(path, to_dict(resolve(job.config)))
        name = " ".join(job.name.split())
        start = f"torchrun --nproc-per-node {config.gpus} -m understudy" if config.gpus > 1 else "understudy"
        lines += [f"echo {shlex.quote(name)}", f"{start} train --config {shlex.quote(str(path))}"]
    lines.append(f"understudy report {shlex.quote(str(plan.out))}")
    again = " ".join(
        shlex.quote(x) for x in ("understudy", "run", *config.recipe, "--out", config.out or str(plan.out))
    )
    lines.append(f"{again}  # all runs are finished: it draws the figure")
    write_bytes(target, ("\n".join(lines) + "\n").encode())
    console.print(f"script: {target} ({len(plan.trainings())} runs)", markup=False)
    return 0


def real(recipe: Recipe, plan: Plan, machine: Machine, scale: Scale) -> int:
    """The real runs, one after the other, on this machine's GPU. UserError: what is missing, before anything starts."""
    import torch

    from understudy.recipes.check import dry_run
    from understudy.recipes.cost import peak
    from understudy.runs.read import is_done

    waiting = [j for j in plan.trainings() if not is_done(Path(j.out))]
    if waiting:
        found = dry_run(recipe, plan, machine, scale.data)
        failed = next((f for f in found.findings if not f.passed and not f.what.startswith("fits in")), None)
        if failed is not None:
            raise UserError("recipe", recipe.name, f"{failed.what}: {failed.hint}")
        need = max(peak(p.memory) for p in found.phases) / 1e9
        if not torch.cuda.is_available():
            raise UserError(
                "device", "cpu", f"there is no GPU here; this recipe needs about {need:,.0f} GB of GPU memory and "
                f"{found.total.gpu_hours:,.0f} GPU-hours: see --dry-run, try --tiny, or write a --script for torchrun"
            )  # fmt: skip
        _, free = torch.cuda.mem_get_info()
        if need * 1e9 > free:
            raise UserError(
                "device", torch.cuda.get_device_name(), f"has {free / 1e9:.0f} GB, the recipe needs about {need:,.0f}: "
                "write a --script with --gpus N for torchrun"
            )  # fmt: skip
        for spec in sorted({s for j in waiting for s in (j.config.student, j.config.expert) if s.count("/") == 1}):
            _present(spec)
        from understudy.tasks import load_task

        for task in sorted({j.config.task for j in waiting}):
            load_task(task)
    run_plan(plan, 1)
    draw(recipe, plan, scale, "")
    return 0


def _present(hub_id: str) -> None:
    """Whether a model can be had here. UserError: neither a folder, nor in the cache, nor on a hub that answers."""
    if Path(hub_id).exists():
        return
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(hub_id)
    except Exception as error:  # many kinds, all meaning: not to be had
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            "model", hub_id, f"is not here and cannot be fetched ({reason}): --model {hub_id}=PATH"
        ) from None
