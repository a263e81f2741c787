"""understudy diagnose"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from understudy.cli import options
from understudy.diagnosis.config import DiagnoseConfig, checked
from understudy.terminal import Board, console


def diagnose_command(args: Sequence[str]) -> int:
    """understudy diagnose"""
    config = options.parse(
        DiagnoseConfig,
        args,
        "understudy diagnose",
        "Which way to train, before you pay for it: a route, what it should reach, and how sure that is. Measures\n"
        "student and expert on prompts outside the test split, trains a few short pilots, and stays within --budget\n"
        "of the cost of both full trainings. Stopped at any time, the same command resumes.",
        epilog="examples\n"
        "  understudy diagnose --student runs/base --expert solver --task countdown\n"
        "  understudy diagnose --student PATH_OR_HUB_ID --expert PATH_OR_HUB_ID --task countdown \\\n"
        "      --updates 2000 --set lr=1e-5 schedule=cosine --device-flops 4e14     (hours on that accelerator)",
    )
    config = checked(config)
    from understudy.diagnosis.screen import show
    from understudy.experiments.diagnose import run  # seconds of imports, which --help does not need
    from understudy.training.train import Interrupted

    try:
        with Board(quiet=config.json) as board:
            diagnosis = run(config, board.progress)
    except Interrupted as stop:
        console.print(f"interrupted: {stop}", markup=False)
        return stop.code
    if config.json:
        print(json.dumps(diagnosis.to_dict()))
        return 0
    show(diagnosis, console)
    console.print(f"all numbers: {Path(config.out) / 'diagnosis.json'}", markup=False)
    page = Path(config.out) / "diagnosis.html"
    if page.is_file():
        console.print(f"page: {page}", markup=False)
    return 0
