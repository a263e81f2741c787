"""understudy export: a run, route or diagnosis as ready configurations for TRL, verl, ms-swift or tinker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from understudy.cli import confirm, options
from understudy.errors import UserError
from understudy.export.config import EVALUATION_TARGETS, ExportConfig
from understudy.terminal import Board, console


def export_command(args: Sequence[str]) -> int:
    """understudy export"""
    config = options.parse(
        ExportConfig,
        args,
        "understudy export",
        "Write what a run, a route or a diagnosis trains as ready configurations, a script and the data for another\n"
        "tool. Defaults that would change the training are pinned and explained; what the tool cannot do is refused.\n"
        "An evaluation is written as a log of Inspect or as results of lm-evaluation-harness.",
        epilog="examples\n"
        "  understudy export runs/diagnose-EXPERT-0 --to trl --devices 8\n"
        "  understudy export runs/sft-opd_full-0 --to ms-swift --out cluster\n"
        "  understudy export runs/opd-0 --to tinker --student Qwen/Qwen3-8B --expert Qwen/Qwen3-32B\n"
        "  understudy export evals/a --to inspect",
        positional="source",
    )
    if config.to in EVALUATION_TARGETS:
        return _evaluation(config)
    from understudy.export.write import checked, export  # seconds of imports, which --help does not need

    for phase in checked(config)[0].phases:
        confirm.of_source(vars(config), vars(phase.config), config.sample_expert)

    with Board() as board:
        done = export(config, board.progress)
    for job in done.jobs:
        console.print(
            f"{job.name}: {job.config.updates} updates of {job.batch} completions", markup=False, soft_wrap=True
        )
        for limit in job.differences:
            console.print(f"  difference: {limit.reason}; {limit.nearest}", markup=False, soft_wrap=True)
    notes = sum(len(part.notes) for part in done.written)
    told = f", {notes} notes on what differs in numbers" if notes else ""
    console.print(f"{done.folder}: read README.md{told}, then: sh run.sh", markup=False, soft_wrap=True)
    return 0


def _evaluation(config: ExportConfig) -> int:
    """An evaluation as logs of another tool."""
    from understudy.evaluation.exchange import write_exchange  # numpy and scipy, which --help does not need

    if len(config.source) != 1:
        hint = f"{config.to} takes one folder that `understudy eval --out` wrote"
        raise UserError("source", " ".join(config.source), hint)
    folder = Path(config.source[0])
    out = Path(config.out) if config.out else folder.with_name(f"{folder.resolve().name}-{config.to}")
    for path in write_exchange(folder, config.to, out):
        console.print(str(path), markup=False, soft_wrap=True)
    return 0
