"""Experts by name: a model directory or hub id, a server's address, or a programmatic expert of the task
(`solver:p_right=0.995`)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from understudy.config import TrainConfig
from understudy.errors import UserError
from understudy.experts.base import Expert, Stepper
from understudy.experts.local import LocalExpert
from understudy.policy import load_policy
from understudy.servers.urls import names_server
from understudy.specs import parse_spec

if TYPE_CHECKING:
    from understudy.tasks.base import Task

__all__ = ["Expert", "LocalExpert", "Stepper", "is_programmatic", "load_expert"]


def is_programmatic(spec: str) -> bool:
    """A bare word with options, not a path, not OWNER/NAME and not a server."""
    return not names_server(spec) and "/" not in spec.partition(":")[0] and not os.path.exists(spec)


def load_expert(config: TrainConfig, task: Task, student: Any) -> Expert:
    """The expert that `config.expert` names, in the student's language; its scores by way of `config.score_cache`."""
    if config.score_cache:
        from understudy.experts.cache.identity import with_cache

        return with_cache(config, task, student, load_directly)
    return load_directly(config, task, student)


def load_directly(config: TrainConfig, task: Task, student: Any) -> Expert:
    if names_server(config.expert):
        from understudy.experts.server.connect import connect

        return connect(config, task, student)
    if is_programmatic(config.expert):
        for name in ("temperature", "top_p"):
            if getattr(config, name) != 1:
                raise UserError(name, getattr(config, name), "a programmatic expert samples from what it scores: use 1")
        expert = task.expert(parse_spec(config.expert, "expert"), student.tokenizer)
        adopt = getattr(expert, "for_student", None)
        return adopt(student) if adopt else expert
    policy = load_policy(config.expert, "expert", None, 0, config.device, config.dtype, config.trust_remote_code)
    policy.add_stop_tokens(getattr(task, "stop", ()))
    expert = LocalExpert(policy, config.temperature, config.top_p)
    return expert.fit(getattr(student, "vocabulary", policy.vocabulary))
