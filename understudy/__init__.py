"""Understudy: should a student model imitate its expert offline or online? Diagnose, train, compare."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from understudy.api.rows import data_task
    from understudy.api.words import train, train_config
    from understudy.config import ExpertSpec, TrainConfig
    from understudy.evaluation.config import EvalConfig
    from understudy.evaluation.model import evaluate_model
    from understudy.experiments.compare import compare
    from understudy.experiments.config import CompareConfig
    from understudy.experiments.diagnose import diagnose
    from understudy.experts import load_expert
    from understudy.protocols import Task
    from understudy.routes.auto import auto
    from understudy.routes.auto_config import AutoConfig
    from understudy.routes.route import RouteConfig
    from understudy.routes.run import train_route
    from understudy.tasks import load_task, register_task, text_task
    from understudy.types import Prompt

__version__ = "0.1.0"
__all__ = [
    "AutoConfig",
    "CompareConfig",
    "EvalConfig",
    "ExpertSpec",
    "Prompt",
    "RouteConfig",
    "Task",
    "TrainConfig",
    "auto",
    "compare",
    "data_task",
    "diagnose",
    "evaluate_model",
    "load_expert",
    "load_task",
    "register_task",
    "text_task",
    "train",
    "train_config",
    "train_route",
]  # fmt: skip

_HOME = {
    "AutoConfig": "routes.auto_config",
    "CompareConfig": "experiments.config",
    "EvalConfig": "evaluation.config",
    "ExpertSpec": "config",
    "Prompt": "types",
    "RouteConfig": "routes.route",
    "Task": "protocols",
    "TrainConfig": "config",
    "auto": "routes.auto",
    "compare": "experiments.compare",
    "data_task": "api.rows",
    "diagnose": "experiments.diagnose",
    "load_expert": "experts",
    "evaluate_model": "evaluation.model",
    "load_task": "tasks",
    "register_task": "tasks",
    "text_task": "tasks",
    "train": "api.words",
    "train_config": "api.words",
    "train_route": "routes.run",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use: most of them need torch, and `--help` must not."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"understudy.{_HOME[name]}"), name)
