"""A diagnosis with its page: what `understudy diagnose`, `understudy.diagnose()` and the jobs run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from understudy.diagnosis import pipeline
from understudy.diagnosis.config import DiagnoseConfig, checked
from understudy.diagnosis.types import Diagnosis
from understudy.errors import UserError
from understudy.report.diagnosis import page
from understudy.runs.directory import to_stderr
from understudy.specs import build
from understudy.terminal import Progress, no_progress


def diagnose(
    student: str = "", expert: str = "", task: str = "countdown", *, progress: Progress = no_progress, **options: Any
) -> Diagnosis:
    """Which way to train `student` toward `expert` on `task`, before it is paid for. options: DiagnoseConfig.

    Resumes what was interrupted in the same directory; a finished diagnosis is returned at once. Raises UserError for
    a mistake, a failed preflight check among them.
    """
    fields = {"student": student, "expert": expert, "task": task} | options
    return run(checked(build(DiagnoseConfig, fields, "")), progress)


def run(
    config: DiagnoseConfig, progress: Progress, note: Callable[[str], None] = to_stderr,
    announce: pipeline.Announce = pipeline.silent,
) -> Diagnosis:  # fmt: skip
    """Writes diagnosis.json and diagnosis.html to config.out. `config` as `checked` returns it."""
    if config.dry_run:
        raise UserError("dry_run", True, "is for the command; in Python: understudy.diagnosis.pipeline.planned(config)")
    result = pipeline.run(config, progress, note, announce)
    page.build(Path(config.out))
    return result
