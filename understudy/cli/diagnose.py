"""understudy diagnose"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from understudy.cli import options
from understudy.diagnosis.config import DiagnoseConfig, checked
from understudy.errors import Interrupted, UserError
from understudy.terminal import Board, console

if TYPE_CHECKING:
    from understudy.diagnosis.plan import Plan
    from understudy.diagnosis.several import Plans


def diagnose_command(args: Sequence[str]) -> int:
    """understudy diagnose"""
    config = options.parse(
        DiagnoseConfig,
        args,
        "understudy diagnose",
        "Which way to train, before you pay for it: a route, what it should reach, and how sure that is. Measures\n"
        "student and expert on prompts outside the test split, trains a few short pilots, and stays within --budget\n"
        "of the cost of both full trainings. The plan and its cost come first (--dry-run: nothing else follows).\n"
        "Stopped at any time, the same command resumes.",
        epilog="examples\n"
        "  understudy diagnose --student runs/base --expert solver --task countdown\n"
        "  understudy diagnose --student runs/base --expert a=runs/rl b=solver        (which of them, and which way)\n"
        "  understudy diagnose --student PATH_OR_HUB_ID --expert PATH_OR_HUB_ID --task countdown \\\n"
        "      --updates 2000 --set lr=1e-5 schedule=cosine --device-flops 4e14     (hours on that accelerator)",
    )
    config = checked(config)
    from understudy.diagnosis.screen import show
    from understudy.diagnosis.several import planned  # seconds of imports, which --help does not need
    from understudy.experiments.diagnose import run

    def announce(plan: Plan | Plans) -> None:
        """The plan comes before anything is written; one without pilots answers nothing, so it ends here."""
        for line in plan.lines() if not config.json else ():
            console.print(line, markup=False)
        if not plan.fits:
            raise UserError("budget", config.budget, plan.refusal)

    try:
        with Board(quiet=config.json) as board:
            if config.dry_run:
                plan = planned(config, board.progress, announce)
                if config.json:
                    print(json.dumps(plan.to_dict()))
                return 0
            diagnosis = run(config, board.progress, announce=announce)
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
