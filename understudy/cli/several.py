"""Commands that torchrun starts in several processes: one message per mistake, and one end for all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from understudy import distributed
from understudy.errors import UserError


@contextmanager
def processes() -> Iterator[None]:
    """Inside it, the processes work together; afterwards each is alone, and `distributed.end` must end it.

    UserError: a mistake, which one of them reports, or the others are gone. SystemExit: another one has reported it.
    """
    distributed.launched()  # refuses a launcher whose processes do not know of each other
    try:
        yield
    except UserError as error:
        if not distributed.should_report(str(error)):
            raise SystemExit(2) from error
        if not distributed.is_main():
            print(f"in process {distributed.rank()} of {distributed.size()}:", file=sys.stderr)
        raise
    except Exception as error:
        lost = distributed.connection_error(error)
        if lost is None:
            raise
        raise lost from error
    distributed.leave()
