"""Runs one target for a time, and goes on where it stopped: what it has done is kept in a file."""

from __future__ import annotations

import json
import resource
import signal
import time
import traceback
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from fuzz.targets import TARGETS

BATCH = 200  # examples, at most, between two looks at the clock
SECONDS = 5.0  # of processor time for one input
MEMORY = 1 << 30  # bytes beside what the process has at its start


class TooSlow(Exception):
    """An input took too long."""


def run(name: str, seconds: float, state: Path | None = None) -> dict[str, Any]:
    """{"seconds", "examples", "findings"} of all runs of this target so far; its first finding ends a run.

    seconds: of wall time, in all runs together. A finding is the traceback with hypothesis' smallest input.
    """
    done: dict[str, Any] = {"seconds": 0.0, "examples": 0, "findings": []}
    if state is not None and state.exists():
        done = json.loads(state.read_text()) | {"findings": []}
    target, slowest, first = TARGETS[name], 0.0, True

    def stop(number: int, frame: Any) -> None:
        raise TooSlow(f"an input takes more than {SECONDS:g} seconds")

    def once(value: Any) -> None:
        nonlocal slowest, first
        done["examples"] += 1
        if first:  # it imports what the target needs
            first = False
            return target.read(value)
        began = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            target.read(value)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            slowest = max(slowest, time.process_time() - began)

    before = signal.signal(signal.SIGPROF, stop)
    try:
        while done["seconds"] < seconds:
            began = time.monotonic()
            every = settings(
                max_examples=min(BATCH, 25 + int(20 * seconds)), deadline=None, database=None,
                suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
            )  # fmt: skip
            try:
                seed(done["examples"])(every(given(target.texts)(once)))()
            except Exception:
                done["findings"].append(traceback.format_exc()[-3000:])
            done["seconds"] += time.monotonic() - began
            done["slowest"] = max(done.get("slowest", 0.0), slowest)
            if state is not None:
                state.write_text(json.dumps(done))
            if done["findings"]:
                break
    finally:
        signal.signal(signal.SIGPROF, before)
    return done


def limit_memory() -> None:
    """A process that takes much more than it has now gets MemoryError, which is a finding."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
