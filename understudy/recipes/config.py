"""Options of `understudy run`. Without torch, so that --help is fast."""

from __future__ import annotations

from dataclasses import dataclass

from understudy.specs import option


@dataclass(frozen=True)
class RunConfig:
    recipe: tuple[str, ...] = ()
    """Name of the recipe, or a Python file that defines RECIPE."""
    dry_run: bool = False
    """Check everything that can be checked without weights; print the plan and its cost. Exit status 1: a check
    failed."""
    tiny: bool = False
    """Run every phase on tiny stand-ins (minutes on two cores) and draw the figure."""
    out: str = ""
    """Output directory. Default: runs/RECIPE, or runs/tiny/RECIPE with --tiny."""
    seeds: int = 0
    """Number of repetitions. 0 = as the recipe has it."""
    first_seed: int = -1
    """Seeds are first_seed, first_seed + 1, ... Default: 0, or 300 with --tiny."""
    workers: int = 2
    """Runs at the same time (--tiny, smollm2_arithmetic)."""
    share: float = 1.0
    """Share of all updates and evaluation prompts, for a short trial of the whole pipeline."""
    data: tuple[str, ...] = ()
    """NAME=PATH: a local file or folder instead of the hub: gsm8k=rows/gsm8k mmlu=rows/mmlu."""
    model: tuple[str, ...] = ()
    """HUB_ID=PATH: a local model directory instead of the hub."""
    script: str = ""
    """Write the runs as a shell script for torchrun, with their configurations beside it; run nothing."""
    a: str = ""
    """fig2_discrepancy: the expert's completions, JSON lines."""
    b: str = ""
    """fig2_discrepancy: the student's completions."""
    words: tuple[str, ...] = ()
    """fig2_discrepancy: keywords, chosen before the texts were seen. Default: the recipe's."""

    device: str = option("h100", heading="machine of the dry run")
    """Device for which costs are computed: a100, h100 or h200."""
    device_flops: float = 0.0
    """Dense bfloat16 FLOPs per second of one GPU. 0 = from the device's data sheet."""
    gpus: int = 8
    """GPUs per run."""
    utilisation: float = 0.4
    """Share of the peak that training and scoring reach: an assumption."""
    json: bool = False
    """Print the dry run as JSON."""
