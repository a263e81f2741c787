"""understudy COMMAND: one thin function a command; each imports what it needs, so --help is instant."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from understudy import __version__
from understudy.errors import UserError

HELP = f"""understudy {__version__}: should a student model imitate its expert offline or online?

usage: understudy COMMAND [options]        understudy COMMAND --help

  demo      the paper's central experiment on this machine, from nothing to a report (minutes on a laptop CPU)
  diagnose  which way to train, before you pay for it: offline suffices, go online, neither, or undecided
  train     one student, one method of the table, one run directory; the same command again resumes it
  eval      accuracy of a model or run on a task: greedy, sampled, avg@k, pass@k, with intervals
  score     an expert scores kept completions into a cache, so that training needs no expert beside it
  compare   experts x methods x seeds at equal budgets, in parallel, finished runs re-used
  run       the paper's experiments as recipes: a dry run with costs, tiny stand-ins, or the real models
  report    one self-contained HTML page from run directories (loads no model)
  theory    the paper's claims as exact, runnable statements
  calibrate is the diagnosis right? Scored on scenarios whose outcome is trained
  doctor    what is installed here, and which commands will work

first steps
  understudy demo --quick
  understudy diagnose --student PATH_OR_HUB_ID --expert PATH_OR_HUB_ID --task countdown
  understudy train --method opd --student PATH_OR_HUB_ID --expert PATH_OR_HUB_ID --task countdown
  understudy report runs/opd-0

Mistakes are told in one line (field: value: mend) with exit status 2. Ctrl-C saves; the same command resumes.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0 done, 2 a mistake that the user can mend, 130 interrupted and saved."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if args[0] in ("-V", "--version"):
        print(f"understudy {__version__}")
        return 0
    command = COMMANDS.get(args[0])
    # one thread a process unless told otherwise: idle OpenMP threads spin and slow the neighbours (docs/concepts.md)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        if command is None:
            raise UserError("command", args[0], f"unknown; one of {', '.join(COMMANDS)}")
        if os.environ.get("WORLD_SIZE", "1") not in ("", "1") and args[0] not in ("train", "doctor"):
            hint = "runs in one process: start it without torchrun (only train runs in several)"
            raise UserError("command", args[0], hint)
        return command(args[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output went away (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt:
        print("interrupted: the same command resumes from the last checkpoint", file=sys.stderr)
        return 130


def entry() -> NoReturn:
    """The command itself: `main`, then out of the process."""
    status = main()
    from understudy import distributed

    distributed.end(status)


def _diagnose(args: Sequence[str]) -> int:
    from understudy.cli.diagnose import diagnose_command

    return diagnose_command(args)


def _train(args: Sequence[str]) -> int:
    from understudy.cli.commands import train_command

    return train_command(args)


def _eval(args: Sequence[str]) -> int:
    from understudy.cli.commands import eval_command

    return eval_command(args)


def _score(args: Sequence[str]) -> int:
    from understudy.cli.score import score_command

    return score_command(args)


def _compare(args: Sequence[str]) -> int:
    from understudy.experiments.compare import compare_command

    return compare_command(args)


def _demo(args: Sequence[str]) -> int:
    from understudy.experiments.demo import demo_command

    return demo_command(args)


def _run(args: Sequence[str]) -> int:
    from understudy.cli.run import run_command

    return run_command(args)


def _report(args: Sequence[str]) -> int:
    from understudy.cli.commands import report_command

    return report_command(args)


def _theory(args: Sequence[str]) -> int:
    from understudy.cli.theory import theory_main

    return theory_main(list(args))


def _calibrate(args: Sequence[str]) -> int:
    from understudy.cli.calibrate import calibrate_command

    return calibrate_command(args)


def _doctor(args: Sequence[str]) -> int:
    from understudy.cli.doctor import doctor_command

    return doctor_command(args, tuple(COMMANDS))


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "demo": _demo,
    "diagnose": _diagnose,
    "train": _train,
    "eval": _eval,
    "score": _score,
    "compare": _compare,
    "run": _run,
    "report": _report,
    "theory": _theory,
    "calibrate": _calibrate,
    "doctor": _doctor,
}

if __name__ == "__main__":
    entry()
