"""understudy run RECIPE: its options."""

from __future__ import annotations

from collections.abc import Sequence

from understudy.cli import options
from understudy.recipes import NAMES
from understudy.recipes.config import RunConfig


def run_command(args: Sequence[str]) -> int:
    """understudy run"""
    config = options.parse(
        RunConfig,
        args,
        "understudy run",
        "One of the paper's experiments as a recipe: " + ", ".join(NAMES) + ".",
        epilog="examples\n"
        "  understudy run fig6_two_experts --dry-run --gpus 8\n"
        "  understudy run fig6_two_experts --tiny\n"
        "  understudy run fig2_discrepancy --a expert.jsonl --b student.jsonl\n"
        "  understudy run fig1_gsm8k --script runs/fig1_gsm8k/run.sh --gpus 8",
        positional="recipe",
    )
    from understudy.cli.recipes import run_recipe  # only now: torch, which --help must not load

    return run_recipe(config)
