"""understudy COMMAND: the command line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from understudy import __version__
from understudy.cli.commands import COMMANDS, find, listing
from understudy.cli.streams import Streams
from understudy.errors import Interrupted, UserError, shown

HELP = f"""understudy {__version__}: should a student model imitate its expert offline or online?

usage: understudy COMMAND [options]        understudy COMMAND --help

{listing(COMMANDS)}

first steps
  understudy demo --quick
  understudy auto --student PATH_OR_HUB_ID --expert PATH_OR_HUB_ID --task countdown --budget 2h
  understudy diagnose --student PATH_OR_HUB_ID --expert PATH_OR_HUB_ID --task countdown
  understudy train --method opd --student PATH_OR_HUB_ID --expert PATH_OR_HUB_ID --task countdown
  understudy report runs/opd-0

A mistake is reported in one line (field: value: hint), with exit status 2. Ctrl-C saves; the same command resumes.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0 done, 2 a mistake that the user can fix, 130 or 143 interrupted and saved."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if args[0] in ("-V", "--version"):
        print(f"understudy {__version__}")
        return 0
    # one thread per process by default: idle OpenMP threads spin and slow down other processes (docs/concepts.md)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        several = os.environ.get("WORLD_SIZE", "1") not in ("", "1")
        if several and args[0] in COMMANDS and args[0] not in ("train", "auto", "doctor"):
            hint = "runs in one process: start it without torchrun (only train and auto run in several)"
            raise UserError("command", args[0], hint)
        return find(COMMANDS, args[0])(args[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        line = _of_the_machine(error)
        if not line:
            raise
        print(f"error: {shown(line)}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"interrupted: {shown(str(stop))}", file=sys.stderr)
        return stop.code
    except KeyboardInterrupt:
        print("interrupted: the same command resumes from the last checkpoint", file=sys.stderr)
        return 130


def _of_the_machine(error: Exception) -> str:
    """One line for what is no mistake in this program: memory, a folder, the network; "" for anything else."""
    text = " ".join(str(error).split())[:300]
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
        hint = "lower --micro-tokens, --logit-chunk, --prompts-per-update or --max-new-tokens; what was saved is kept"
        return f"memory: {text + ': ' if text else ''}there is not enough: {hint}"
    if type(error).__name__ in ("SSLError", "SSLCertVerificationError", "ProxyError", "InvalidProxyURL"):
        return f"network: {text}: check HTTPS_PROXY, HTTP_PROXY, NO_PROXY and SSL_CERT_FILE"
    if isinstance(error, OSError) and error.filename is not None:
        from understudy.runs.files import describe_os_error  # not needed for --help

        return f"file: {os.fsdecode(error.filename)}: {describe_os_error(error)}"
    return ""


def _terminate(number: int, _: object) -> None:
    raise Interrupted("the same command resumes from what was saved", number)


def entry() -> NoReturn:
    """Run `main` and end the process with its status. SIGTERM closes what a command has opened, as Ctrl-C does; the
    command goes on where the reader of its output does not (| head)."""
    signal.signal(signal.SIGTERM, _terminate)
    streams = Streams()
    try:
        status = main()
    finally:  # also after argparse's --help, which is a SystemExit
        lost = streams.end()
    if lost is not None and not status:
        print(f"error: output: cannot be written: {lost.strerror}", file=sys.stderr, flush=True)
        status = 2
    distributed = sys.modules.get("understudy.distributed")  # imported by the commands that need it, not for --help
    if distributed is not None:
        distributed.end(status)
    sys.exit(status)


if __name__ == "__main__":
    entry()
