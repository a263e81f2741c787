"""understudy calibrate bank"""

from __future__ import annotations

from collections.abc import Sequence

from understudy.calibrate.bank.run import BankConfig, outline, run
from understudy.cli import options
from understudy.terminal import console


def calibrate_bank(args: Sequence[str]) -> int:
    """understudy calibrate bank"""
    config = options.parse(
        BankConfig,
        args,
        "understudy calibrate bank",
        "Train every scenario once along all the branches that decisions need: offline and online from the student,\n"
        "and every second phase from its offline model, each for a stated share of one budget in FLOPs. Keeps rewards\n"
        "per update and outcomes per prompt. Stopped at any time, the same command resumes.",
        epilog="examples\n"
        "  understudy calibrate bank --dry-run\n"
        "  understudy calibrate bank --only rl search label-secret --workers 1\n"
        "  understudy calibrate bank --diagnoses only",
    )
    for line in outline(config):
        console.print(line, markup=False)
    if not config.dry_run:
        console.print(f"rows: {run(config)}", markup=False)
    return 0
