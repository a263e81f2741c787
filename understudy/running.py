"""What long work calls as it goes on: whether it is to stop, and how far it is.

Ctrl-C and SIGTERM are noted by a handler, and `check` raises Interrupted at the next place where nothing is half done:
between two tokens, two layers, two parts of a batch. Such places are less than seconds apart for models of any size.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from understudy.errors import Interrupted

Listener = Callable[[int, int, float], None]
"""Called with (rows done, rows in all, seconds that are left at most)."""
EVERY = 0.5  # seconds between two calls of a listener

_armed = threading.Event()  # a stop was requested, and `check` is to raise
_requested: list[int] = []  # signals received
_listeners: list[Listener] = []
_last = [0.0]


def check() -> None:
    """Interrupted, if this process was asked to stop."""
    if _armed.is_set():
        raise Interrupted("the same command resumes from what was saved", _requested[-1])


def requested() -> int:
    """The signal by which this process was asked to stop; 0 = it was not."""
    return _requested[-1] if _requested else 0


def report(done: int, total: int, left: float) -> None:
    """`done` of `total` rows are there, the others take at most `left` seconds. Raises Interrupted as `check` does."""
    check()
    now = time.monotonic()
    if _listeners and now - _last[0] >= EVERY:
        _last[0] = now
        _listeners[-1](done, total, left)


@contextmanager
def reporting(listener: Listener) -> Iterator[None]:
    """Inside it, `listener` is called with what `report` gets, at most every EVERY seconds."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def interruptible(at_checks: Callable[[], bool], again: Callable[[int], bool]) -> Iterator[None]:
    """Inside it, the first Ctrl-C or SIGTERM is noted (`requested`); a later one raises KeyboardInterrupt at once.

    at_checks: whether `check` raises then; False = only the caller looks (several processes stop together).
    again: whether a later signal of this number counts. Signals reach the main thread alone.
    """

    def handler(number: int, _: Any) -> None:
        if _requested and again(number):
            raise KeyboardInterrupt
        _requested.append(number)
        if at_checks():
            _armed.set()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for s, old in before.items():
            signal.signal(s, old)
        _armed.clear()
        _requested.clear()
