"""understudy calibrate list | run: the scenarios, and their trainings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from understudy.calibrate.run import CalibrateConfig, outline, run
from understudy.calibrate.scenarios import SCENARIOS
from understudy.cli import options
from understudy.terminal import console


@dataclass(frozen=True)
class NoOptions:
    """A command without options."""


def calibrate_list(args: Sequence[str]) -> int:
    """understudy calibrate list"""
    options.parse(NoOptions, args, "understudy calibrate list", "The scenarios, their set and the expected verdict.")
    width = max(map(len, SCENARIOS)) + 2
    for s in SCENARIOS.values():
        console.print(f"{s.set:<7}{s.name:<{width}}{s.kind}", markup=False, soft_wrap=True)
        console.print(f"{'':<7}{'':<{width}}{s.expect}", markup=False, style="dim", soft_wrap=True)
    return 0


def calibrate_run(args: Sequence[str]) -> int:
    """understudy calibrate run"""
    config = options.parse(
        CalibrateConfig,
        args,
        "understudy calibrate run",
        "Diagnose every scenario at a few percent of the cost of its trainings, then train it to the end: full SFT\n"
        "and full OPD. Models are trained here and shared. Stopped at any time, the same command resumes.",
        epilog="examples\n"
        "  understudy calibrate run --dry-run\n"
        "  understudy calibrate run --only rl search label-secret --seeds 1\n"
        "  understudy calibrate run --quick",
    )
    for line in outline(config):
        console.print(line, markup=False)
    if not config.dry_run:
        console.print(f"results: {run(config)}", markup=False)
    return 0
