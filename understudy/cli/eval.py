"""understudy eval"""

from __future__ import annotations

import json
from collections.abc import Sequence

from understudy.cli import options
from understudy.errors import UserError
from understudy.evaluation.config import EvalConfig
from understudy.terminal import console


def eval_command(args: Sequence[str]) -> int:
    """understudy eval"""
    config = options.parse(
        EvalConfig,
        args,
        "understudy eval",
        "Accuracy on held-out prompts: greedy, avg@k, pass@k, with 95% bootstrap intervals over prompts.",
        epilog="example\n  understudy eval --model runs/a --task countdown --samples 8 --k 1 8",
    )
    if not config.model:
        raise UserError("model", "", "missing: give a model or run directory, a hub id, or `solver`")
    too_large = [k for k in config.k if not 1 <= k <= config.samples]
    if too_large:
        raise UserError("k", too_large[0], f"must be 1..samples={config.samples}: raise --samples or lower --k")
    from understudy.evaluation.model import evaluate_model  # seconds of imports, which --help does not need

    result = evaluate_model(config)
    if config.json:
        print(json.dumps(result))
        return 0
    for name, interval in result["measures"].items():
        if interval is not None:
            low, high = interval["low"], interval["high"]
            console.print(f"{name:>10}  {interval['value']:.3f}   [{low:.3f}, {high:.3f}]", markup=False)
    console.print(f"{result['prompts']} {config.split} prompts x {config.samples} samples, mean length "
                  f"{result['length']:.1f} tokens, {result['ended']:.0%} ended", markup=False)  # fmt: skip
    return 0
