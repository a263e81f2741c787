"""understudy calibrate SUBCOMMAND"""

from __future__ import annotations

from collections.abc import Sequence

from understudy.cli.commands import CALIBRATE, find, listing

HELP = f"""understudy calibrate: is the diagnosis right?

{listing(CALIBRATE, "understudy calibrate ")}

`run` can be stopped at any time; the same command resumes it. Options: understudy calibrate SUBCOMMAND --help
"""


def calibrate_command(args: Sequence[str]) -> int:
    """understudy calibrate"""
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    return find(CALIBRATE, args[0], "calibrate")(args[1:])
