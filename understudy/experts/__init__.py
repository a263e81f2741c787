"""Experts by name: a model directory or hub id, or a programmatic expert of the task (`solver:p_right=0.995`)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from understudy.config import TrainConfig, parse_spec
from understudy.errors import UserError
from understudy.experts.base import Expert, Stepper
from understudy.experts.local import LocalExpert
from understudy.policy import load_policy

if TYPE_CHECKING:
    from understudy.tasks.base import Task

__all__ = ["Expert", "LocalExpert", "Stepper", "is_programmatic", "load_expert"]


def is_programmatic(spec: str) -> bool:
    """A bare word with options, not a path and not OWNER/NAME."""
    return "/" not in spec.partition(":")[0] and not os.path.exists(spec)


def load_expert(config: TrainConfig, task: Task, student: Any) -> Expert:
    """The expert that `config.expert` names, in the student's language."""
    if is_programmatic(config.expert):
        for name in ("temperature", "top_p"):
            if getattr(config, name) != 1:
                raise UserError(
                    name, getattr(config, name), "a programmatic expert samples from what it scores: use 1"
                )
        return task.expert(parse_spec(config.expert, "expert"), student.tokenizer)
    policy = load_policy(
        config.expert, "expert", None, 0, config.device, config.dtype, config.trust_remote_code
    )
    return LocalExpert(policy, config.temperature, config.top_p)
