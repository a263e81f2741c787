"""A diagnosis with its page: what `understudy diagnose`, `understudy.diagnose()` and the jobs run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from understudy.diagnosis import several
from understudy.diagnosis.config import DiagnoseConfig, checked
from understudy.diagnosis.types import Diagnosis
from understudy.errors import UserError
from understudy.report.diagnosis import page
from understudy.runs.directory import to_stderr
from understudy.specs import build
from understudy.terminal import Progress, no_progress


def diagnose(
    student: str = "", expert: str | Mapping[str, str] = "", task: str = "countdown", *,
    progress: Progress = no_progress, **options: Any,
) -> Diagnosis:  # fmt: skip
    """Which way to train `student` toward `expert` on `task`, before it is paid for. options: DiagnoseConfig.

    expert: one, or several as {name: expert}; then also which of them, in `candidates` of the result.

    Resumes what was interrupted in the same directory; a finished diagnosis is returned at once. Raises UserError for
    a mistake, a failed preflight check among them.
    """
    fields = {"student": student, "expert": expert, "task": task} | options
    return run(checked(build(DiagnoseConfig, fields, "")), progress)


def run(
    config: DiagnoseConfig, progress: Progress, note: Callable[[str], None] = to_stderr,
    announce: several.Announce = several.silent,
) -> Diagnosis:  # fmt: skip
    """Writes diagnosis.json and diagnosis.html to config.out; of several experts to the directory of each too.

    `config` as `checked` returns it.
    """
    if config.dry_run:
        raise UserError("dry_run", True, "is for the command; in Python: understudy.diagnosis.several.planned(config)")
    result = several.run(config, progress, note, announce)
    for folder in (Path(config.out), *several.pages(Path(config.out))):
        page.build(folder)
    return result
