"""Chat templates are programs of strangers: what they may cost.

The sandbox of transformers keeps them from files and attributes, not from loops without end or a text that fills the
memory. A template's first use is tried in a process of its own. After that its time is limited, and its memory where
this process has no other thread of Python, which the limit would hit too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

SECONDS = 10
"""Of computing, per prompt."""
MEMORY = 2**31
"""Bytes, of one use."""
LONGEST = 2**24
"""Characters of what it writes."""

_tried: set[str] = set()


class TooMuch(Exception):
    """A template that takes more; str() says of what."""


def bounded(template: Any, render: Callable[[], Any]) -> str:
    """What `render` gives. TooMuch; and whatever the template raises."""
    if repr(template) not in _tried:
        _try(render)
        _tried.add(repr(template))
    with _in_time(), _in_memory():
        text = str(render())
    if len(text) > LONGEST:
        raise TooMuch(f"writes more than {LONGEST >> 20} million characters")
    return text


def _try(render: Callable[[], Any]) -> None:
    """Render in a child with limits of the system. Does nothing where there is no fork."""
    if not hasattr(os, "fork"):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads, which the child does not use
        child = os.fork()
    if child == 0:
        code = 0
        try:
            _limit()
            code = 3 if len(str(render())) > LONGEST else 0
        except MemoryError:
            code = 4
        except BaseException:  # reported where it is rendered again
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 3:
        raise TooMuch(f"writes more than {LONGEST >> 20} million characters")
    if code == 4:
        raise TooMuch(f"needs more than {MEMORY >> 30} GiB of memory")
    if code:
        raise TooMuch(f"takes more than {SECONDS} seconds")


def _limit() -> None:
    import resource  # not on Windows, where there is no fork

    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))  # a forked process begins at 0
    with contextlib.suppress(OSError, ValueError):
        most = _with_more()
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _with_more() -> int:
    """Bytes of address space that this process has, and MEMORY. OSError: the system does not say."""
    import resource

    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize() + MEMORY


@contextlib.contextmanager
def _in_memory() -> Iterator[None]:
    """TooMuch where MEMORY is not enough; the process has its own limit again afterwards."""
    try:
        import resource  # not on Windows

        most, (before, hard) = _with_more(), resource.getrlimit(resource.RLIMIT_AS)
    except (ImportError, OSError):
        yield
        return
    if threading.active_count() > 1 or (before != resource.RLIM_INFINITY and before <= most):
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        yield
    except MemoryError:
        raise TooMuch(f"needs more than {MEMORY >> 30} GiB of memory") from None
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    """TooMuch after SECONDS of computing, where signals can be handled: in the main thread."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(number: int, frame: object) -> None:
        raise TooMuch(f"takes more than {SECONDS} seconds")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
