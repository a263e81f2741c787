"""understudy train"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from understudy.cli import options
from understudy.config import SECTIONS, TrainConfig, load
from understudy.errors import UserError
from understudy.terminal import Board, console


def train_command(args: Sequence[str]) -> int:
    """understudy train"""
    config = options.parse(
        TrainConfig,
        args,
        "understudy train",
        "Train one student by one row of the table. Everything is kept in one run directory; the same command\n"
        "resumes it after a kill, a full disk or Ctrl-C, and ends with the same weights, bit for bit.",
        epilog="examples\n"
        "  understudy train --method sft --student PATH --expert solver --task countdown --out runs/a\n"
        "  understudy train --method opd --student PATH_OR_HUB_ID --expert PATH_OR_HUB_ID --task countdown\n"
        "  understudy train --config runs/a/config.json --out runs/a-again     (bit-identical on this machine)",
        sections=SECTIONS,
        read=load,
    )
    from understudy import distributed

    distributed.launched()  # a launcher that starts strangers to one another is refused at once
    from understudy.training.train import Interrupted, train  # seconds of imports: only now

    try:
        with Board() as board:
            path = train(config, lambda phase, done, total, note: board.show("", phase, done, total, note))
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
        told = distributed.connection_error(error)
        if told is None:
            raise
        raise told from error
    if not distributed.is_main():
        distributed.leave()
        return 0
    distributed.leave()
    for line in _told(path):
        console.print(line, markup=False)
    return 0


def _told(path: Path) -> list[str]:
    """What came out of a finished run, in a few lines."""
    from understudy.evaluation import intervals
    from understudy.runs.read import read_final, read_ledger

    final, ledger = read_final(path) or {}, read_ledger(path)
    lines = []
    for split, outcome in final.get("splits", {}).items():
        i = intervals.bootstrap_prompts(outcome["sampled"])
        told = f"{split}: sampled accuracy {i.value:.3f} [{i.low:.3f}, {i.high:.3f}]"
        if outcome.get("greedy"):
            told += f", greedy {sum(outcome['greedy']) / len(outcome['greedy']):.3f}"
        lines.append(f"{told} ({i.n_prompts} prompts)")
    spent = ", ".join(f"{k.replace('_', ' ')} {v:,.0f}" for k, v in ledger.items() if v)
    return [*lines, f"spent: {spent}", f"model: {path / 'final'}", f"page:  understudy report {path}"]
