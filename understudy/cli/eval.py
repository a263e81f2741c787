"""understudy eval"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from understudy.cli import options
from understudy.evaluation.config import EvalConfig, checked
from understudy.terminal import Board, console


def eval_command(args: Sequence[str]) -> int:
    """understudy eval"""
    config = options.parse(
        EvalConfig,
        args,
        "understudy eval",
        "Accuracy on held-out prompts: greedy, avg@k, pass@k, with 95% bootstrap intervals over prompts. With --out\n"
        "the completions are kept; stopped at any time, the same command resumes.",
        epilog="examples\n"
        "  understudy eval --model runs/a --task countdown --samples 8 --k 1 8\n"
        "  understudy eval --model PATH_OR_HUB_ID --task data:path=q.jsonl,template=chat --temperature 0.7 \\\n"
        "      --top-p 0.95 --dtype bfloat16 --out evals/a",
    )
    checked(config)
    with Board(quiet=config.json) as board:
        board.progress("loading", 0, 1, "libraries")
        from understudy.evaluation.model import evaluate_model  # seconds of imports, which --help does not need
        from understudy.runs.directory import to_stderr

        result = evaluate_model(config, board.progress, to_stderr)
    if config.json:
        print(json.dumps(result))
        return 0
    for name, interval in result["measures"].items():
        low, high = interval["low"], interval["high"]
        console.print(f"{name:>10}  {interval['value']:.3f}   [{low:.3f}, {high:.3f}]", markup=False)
    if not result["measures"]:
        console.print(f"no accuracy: the {config.split} prompts of {config.task} are not graded", markup=False)
    console.print(f"{result['prompts']} {config.split} prompts x {config.samples} samples, mean length "
                  f"{result['length']:.1f} tokens, {result['ended']:.0%} ended", markup=False)  # fmt: skip
    if result["ended"] < 0.5:
        hint = "most completions met the limit: raise --max-new-tokens, or look at them (understudy prompts, --out DIR)"
        console.print(hint, markup=False)
    if config.out:
        console.print(f"completions: {Path(config.out) / 'completions.jsonl'}", markup=False)
    return 0
