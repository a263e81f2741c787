"""understudy train"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from understudy import distributed
from understudy.cli import options
from understudy.config import TrainConfig, load
from understudy.errors import UserError
from understudy.evaluation import intervals
from understudy.runs.read import read_final, read_ledger
from understudy.terminal import Board, console


def train_command(args: Sequence[str]) -> int:
    """understudy train"""
    config = options.parse(
        TrainConfig,
        args,
        "understudy train",
        "Train one student by one method of the table. Everything is written to one run directory; the same command\n"
        "resumes it after a kill, a full disk or Ctrl-C, and gives the same weights, bit for bit.",
        epilog="examples\n"
        "  understudy train --method sft --student PATH --expert solver --task countdown --out runs/a\n"
        "  understudy train --method opd --student PATH_OR_HUB_ID --expert PATH_OR_HUB_ID --task countdown\n"
        "  understudy train --config runs/a/config.json --out runs/a-again     (bit-identical on this machine)",
        read=load,
    )
    distributed.launched()  # refuses a launcher whose processes do not know of each other
    from understudy.training.train import Interrupted, train  # seconds of imports, which --help does not need

    try:
        with Board() as board:
            path = train(config, board.progress)
    except Interrupted as stop:
        if distributed.is_main():
            console.print(f"interrupted: {stop}")
        return 130
    except UserError as error:
        if not distributed.should_report(str(error)):
            return 2
        if not distributed.is_main():
            print(f"in process {distributed.rank()} of {distributed.size()}:", file=sys.stderr)
        raise
    except Exception as error:
        lost = distributed.connection_error(error)
        if lost is None:
            raise
        raise lost from error
    is_main = distributed.is_main()
    distributed.leave()
    if is_main:
        for line in _summary(path):
            console.print(line, markup=False)
    return 0


def _summary(path: Path) -> list[str]:
    """A finished run in a few lines: accuracy, cost, where the model is."""
    final, ledger = read_final(path) or {}, read_ledger(path)
    lines = []
    for split, outcome in final.get("splits", {}).items():
        i = intervals.bootstrap_prompts(outcome["sampled"])
        line = f"{split}: sampled accuracy {i.value:.3f} [{i.low:.3f}, {i.high:.3f}]"
        if outcome.get("greedy"):
            line += f", greedy {sum(outcome['greedy']) / len(outcome['greedy']):.3f}"
        lines.append(f"{line} ({i.n_prompts} prompts)")
    spent = ", ".join(f"{k.replace('_', ' ')} {v:,.0f}" for k, v in ledger.items() if v)
    return [*lines, f"spent: {spent}", f"model: {path / 'final'}", f"page:  understudy report {path}"]
