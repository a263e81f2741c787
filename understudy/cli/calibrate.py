"""understudy calibrate SUBCOMMAND"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from understudy.cli import options
from understudy.errors import UserError
from understudy.terminal import console

HELP = """understudy calibrate: is the diagnosis right?

  understudy calibrate list      the scenarios: what differs, which set they belong to
  understudy calibrate run       train the truth of every scenario, diagnosed first (two to seven hours on two cores)
  understudy calibrate score     verdicts against outcomes, from the rows that run keeps
  understudy calibrate fit       coefficients of the verdict from such rows
  understudy calibrate table     the page of it: docs/results/calibration.md and .json

Killed at any time, `run` goes on with the same command.
"""


@dataclass(frozen=True)
class Nothing:
    """A command without options: what is typed after it is told as a mistake."""


def calibrate_command(args: Sequence[str]) -> int:
    """understudy calibrate"""
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    command = COMMANDS.get(args[0])
    if command is None:
        raise UserError("calibrate", args[0], f"unknown; one of {', '.join(COMMANDS)}")
    return command(args[1:])


def _list(args: Sequence[str]) -> int:
    from understudy.calibrate.scenarios import SCENARIOS

    options.parse(Nothing, args, "understudy calibrate list", "The scenarios, their set and what is expected.")
    wide = max(map(len, SCENARIOS)) + 2
    for s in SCENARIOS.values():
        console.print(f"{s.set:<7}{s.name:<{wide}}{s.kind}", markup=False, soft_wrap=True)
        console.print(f"{'':<7}{'':<{wide}}{s.expect}", markup=False, style="dim", soft_wrap=True)
    return 0


def _run(args: Sequence[str]) -> int:
    from understudy.calibrate.run import RunConfig, run, told

    config, _ = options.parse(
        RunConfig,
        args,
        "understudy calibrate run",
        "Diagnose every scenario from a few percent of what its trainings cost, then train the truth: full SFT and\n"
        "full OPD. Models are made here and shared. Killed at any time, the same command goes on.",
        epilog="examples\n"
        "  understudy calibrate run\n"
        "  understudy calibrate run --only rl search label-secret --seeds 1\n"
        "  understudy calibrate run --quick",
    )
    told(config)
    console.print(f"results: {run(config)}", markup=False)
    return 0


def _score(args: Sequence[str]) -> int:
    from understudy.cli.calibrate_commands import score_command

    return score_command(args)


def _fit(args: Sequence[str]) -> int:
    from understudy.cli.calibrate_commands import fit_command

    return fit_command(args)


def _table(args: Sequence[str]) -> int:
    from understudy.calibrate.table import table_command

    return table_command(args)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "list": _list, "run": _run, "score": _score, "fit": _fit, "table": _table,
}  # fmt: skip
