"""Progress on the terminal: bars with the time left, or plain lines where the output is no terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Protocol

from rich import progress as bars
from rich.console import Console

from understudy.errors import shown


class Terminal(Console):
    """A console that shows control and direction characters of foreign texts as escapes."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(shown(o) if isinstance(o, str) else o for o in objects), **options)

    def out(self, *objects: Any, **options: Any) -> None:
        super().out(*(shown(o) if isinstance(o, str) else o for o in objects), **options)


console = Terminal(highlight=False)
WITHIN = ("loading", "sampling", "evaluation")
"""Ends of the names of phases that are parts of a job: how far they are does not say how far the job is."""
EVERY = 15.0  # seconds between plain lines of one job


class Progress(Protocol):
    """What long work calls as it goes on: `done` of `total` steps of `phase`. The phase "note" only shows its note."""

    def __call__(self, phase: str, done: int, total: int, note: str, /) -> None: ...


class JobProgress(Protocol):
    """The same where several jobs run at a time."""

    def __call__(self, job: str, phase: str, done: int, total: int, note: str, /) -> None: ...


def no_progress(phase: str, done: int, total: int, note: str) -> None:
    """A Progress that shows nothing."""


class Board:
    """One bar per job, and one for all of them if `total_jobs` is given; `show` and `progress` move them."""

    def __init__(self, total_jobs: int = 0, quiet: bool = False) -> None:
        self.quiet, self.total_jobs = quiet, total_jobs
        self.display = bars.Progress(
            bars.SpinnerColumn(),
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(bar_width=24),
            bars.TaskProgressColumn(),
            bars.TimeElapsedColumn(),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[note]}", markup=False, style="dim"),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self.bars: dict[str, bars.TaskID] = {}
        self.last: dict[str, float] = {}
        self.label: dict[str, str] = {}
        self.fraction: dict[str, float] = {}
        self.began = time.monotonic()

    def __enter__(self) -> Board:
        self.display.start()
        if self.total_jobs:
            self.bars[""] = self.display.add_task("all runs", total=self.total_jobs, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.display.stop()

    def progress(self, phase: str, done: int, total: int, note: str) -> None:
        """A Progress: `show` where there is one job."""
        self.show("", phase, done, total, note)

    def show(self, job: str, phase: str, done: int, total: int, note: str) -> None:
        """A JobProgress. The phases "done" and "finished before" end a job."""
        if phase == "note":
            (sys.stderr.write if self.quiet else console.out)(f"note: {shown(note)}\n")
            return
        job, phase, note = shown(job), shown(phase), shown(note)
        label = f"{job}: {phase}" if job else phase
        if not console.is_terminal:
            self._plain(job, label, done, total, note)
            return
        key = job or phase
        if key not in self.bars:
            self.bars[key] = self.display.add_task(label, total=max(total, 1), note=note)
        self.display.update(self.bars[key], description=label, total=max(total, 1), completed=done, note=note)
        if not phase.endswith(WITHIN):
            self.fraction[key] = 1.0 if phase in ("done", "finished before") else min(0.99, done / max(total, 1))
        if self.total_jobs:
            self.display.update(self.bars[""], completed=sum(self.fraction.values()))
            if phase in ("done", "finished before"):
                self.display.update(self.bars[key], visible=False)

    def _plain(self, job: str, label: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        begins = not done and label != self.label.get(job)  # a step may be silent for long
        at_once = begins or done >= total or label.endswith("loading")
        self.label[job] = label
        if self.quiet or (not at_once and now - self.last.get(job, -EVERY) < EVERY):
            return
        self.last[job] = now
        print(f"[{now - self.began:5.0f} s] {label} {done}/{total} {note}".rstrip(), flush=True)
