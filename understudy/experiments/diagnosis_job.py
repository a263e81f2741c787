"""A diagnosis as a job: made before a training, from the training's own configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.config import RECIPE, TrainConfig
from understudy.diagnosis.config import DiagnoseConfig, checked
from understudy.errors import UserError
from understudy.experiments.job import Job, Note
from understudy.runs.files import write_json
from understudy.specs import build
from understudy.terminal import Progress

FILE, REFUSED = "diagnosis.json", "refused.json"


def fields_of(train: TrainConfig, budget: str, out: str) -> dict[str, Any]:
    """Fields of the DiagnoseConfig that asks about `train`: same start, expert, task, size and recipe."""
    plain = TrainConfig(method=train.method)
    values = {name: getattr(train, name) for name in RECIPE}
    recipe = tuple(f"{name}={value}" for name, value in values.items() if value != getattr(plain, name))
    return {
        "student": train.student, "expert": train.expert, "expert_of": train.expert_of, "task": train.task,
        "seed": train.seed,
        "updates": train.updates, "prompts_per_update": train.prompts_per_update, "device": train.device,
        "trust_remote_code": train.trust_remote_code, "budget": budget, "set": recipe, "out": out,
    }  # fmt: skip


def diagnosis(name: str, fields: Mapping[str, Any], needs: tuple[str, ...], may_refuse: bool) -> Job:
    """The job that writes diagnosis.json to fields["out"]. may_refuse: see `run_diagnosis`."""
    return Job(name, run_diagnosis, (dict(fields), may_refuse), str(Path(fields["out"]) / FILE), needs)


def run_diagnosis(fields: Mapping[str, Any], may_refuse: bool, progress: Progress, note: Note) -> None:
    """Diagnose. may_refuse: a UserError (a failed preflight check, say) is written to refused.json and not raised."""
    from understudy.experiments.diagnose import run  # imports torch

    refused = Path(fields["out"]) / REFUSED
    try:
        run(checked(build(DiagnoseConfig, fields, "")), progress, note)
    except UserError as error:
        if not may_refuse:
            raise
        refused.parent.mkdir(parents=True, exist_ok=True)
        write_json(refused, {"error": str(error)})
        note(f"no verdict beforehand: {error}")
    else:
        refused.unlink(missing_ok=True)
