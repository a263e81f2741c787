"""What a scenario is: a student, an expert, a task, and how long its trainings are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from understudy.calibrate.models import MODELS
from understudy.experiments import demo


@dataclass(frozen=True)
class Scenario:
    name: str
    kind: str
    task: str
    student: str
    """Name of a model."""
    expert: str
    """@NAME of a model, or a task's programmatic expert."""
    expect: str
    """The mechanism, in words."""
    updates: int = demo.UPDATES
    prompts_per_update: int = 64
    seconds: float = 45.0
    """About what both trainings and the diagnosis take on one core."""
    set: str = "set"
    """set or score."""
    first_seed: int = 400
    """Of its repetitions. Scenarios that were scored when they were new have models of their own."""

    def models(self) -> tuple[str, ...]:
        """Every model that it needs, those that others are made from first."""
        names: dict[str, None] = {}

        def visit(name: str) -> None:
            for other in MODELS[name].needs:
                visit(other)
            names[name] = None

        for name in (self.student, *([self.expert[1:]] if self.expert.startswith("@") else [])):
            visit(name)
        return tuple(names)

    @property
    def imitate(self) -> dict[str, Any]:
        """Fields of both trainings beside method, student, expert, task, seed and out."""
        size = {"updates": self.updates, "prompts_per_update": self.prompts_per_update}
        return demo.COMMON | demo.IMITATE | size
