"""What a person sees while it works: progress with time left, and plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(highlight=False)
EVERY = 15.0  # seconds between plain lines of one job


class Board:
    """One bar a job, and one for all of them together when `total_jobs` is given; call `show` as work goes on."""

    def __init__(self, total_jobs: int = 0, quiet: bool = False) -> None:
        self.quiet, self.total_jobs = quiet, total_jobs
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False, style="dim"),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self.bars: dict[str, TaskID] = {}
        self.last: dict[str, float] = {}
        self.fraction: dict[str, float] = {}
        self.began = time.monotonic()

    def __enter__(self) -> Board:
        self.progress.start()
        if self.total_jobs:
            self.bars[""] = self.progress.add_task("all runs", total=self.total_jobs, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def show(self, job: str, phase: str, done: int, total: int, note: str) -> None:
        if phase == "note":
            (sys.stderr.write if self.quiet else console.out)(f"note: {note}\n")
            return
        label = f"{job}: {phase}" if job else phase
        if not console.is_terminal:
            self._plain(job, label, done, total, note)
            return
        key = job or phase
        if key not in self.bars:
            self.bars[key] = self.progress.add_task(label, total=max(total, 1), note=note)
        self.progress.update(self.bars[key], description=label, total=max(total, 1), completed=done, note=note)
        self.fraction[key] = 1.0 if phase in ("done", "finished before") else min(0.99, done / max(total, 1))
        if self.total_jobs:
            self.progress.update(self.bars[""], completed=sum(self.fraction.values()))
            if phase in ("done", "finished before"):
                self.progress.update(self.bars[key], visible=False)

    def _plain(self, job: str, label: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        finished = done >= total
        if self.quiet or (not finished and now - self.last.get(job, -EVERY) < EVERY):
            return
        self.last[job] = now
        print(f"[{now - self.began:5.0f} s] {label} {done}/{total} {note}".rstrip(), flush=True)
