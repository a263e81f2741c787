"""understudy run RECIPE: its options."""

from __future__ import annotations

from collections.abc import Sequence

from understudy.cli import options
from understudy.recipes import LOCAL, NAMES
from understudy.recipes.config import RunConfig


def run_command(args: Sequence[str]) -> int:
    """understudy run"""
    config = options.parse(
        RunConfig,
        args,
        "understudy run",
        "One of the paper's experiments as a recipe: " + ", ".join(NAMES) + ".\n"
        "Ours, with a real model on this machine's CPU: " + ", ".join(LOCAL) + ".",
        epilog="examples\n"
        "  understudy run fig6_two_experts --dry-run --gpus 8\n"
        "  understudy run fig6_two_experts --tiny\n"
        "  understudy run smollm2_arithmetic --dry-run\n"
        "  understudy run fig2_discrepancy --a expert.jsonl --b student.jsonl\n"
        "  understudy run fig1_gsm8k --script runs/fig1_gsm8k/run.sh --gpus 8",
        positional="recipe",
    )
    from understudy.cli.recipes import run_recipe  # only now: torch, which --help must not load

    return run_recipe(config)
