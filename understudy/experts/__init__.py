"""Experts by name: a model directory or hub id, a server's address, or a programmatic expert of the task
(`solver:p_right=0.995`)."""

from __future__ import annotations

import os
from typing import Any

from understudy.config import ExpertSpec
from understudy.errors import UserError
from understudy.experts.local import LocalExpert
from understudy.policy import load_policy
from understudy.protocols import Expert, Task
from understudy.servers.urls import names_server
from understudy.specs import parse_spec

__all__ = ["LocalExpert", "is_programmatic", "load_expert"]


def is_programmatic(spec: str) -> bool:
    """A bare word with options, not a path, not OWNER/NAME and not a server."""
    return not names_server(spec) and "/" not in spec.partition(":")[0] and not os.path.exists(spec)


def load_expert(spec: ExpertSpec | str, task: Task, student: Any) -> Expert:
    """The expert that `spec` names, with the student's tokenizer; its scores from `score_cache` where one is given.

    spec: `solver`, a model directory or hub id, a server's address, or an ExpertSpec with the other options. Raises
    UserError for one that cannot be loaded or reached.
    """
    if isinstance(spec, str):
        spec = ExpertSpec(spec)
    if spec.score_cache:
        from understudy.experts.cache.expert import with_cache

        return with_cache(spec, task, student, load_directly)
    return load_directly(spec, task, student)


def load_directly(spec: ExpertSpec, task: Task, student: Any) -> Expert:
    """As `load_expert`, without a score cache."""
    if names_server(spec.expert):
        from understudy.experts.server.check import connect

        return connect(spec, task, student)
    if is_programmatic(spec.expert):
        for name, value in (("temperature", spec.temperature), ("top_p", spec.top_p)):
            if value != 1:
                raise UserError(name, value, "a programmatic expert samples from what it scores: use 1")
        return task.expert(parse_spec(spec.expert, "expert"), student.tokenizer).for_student(student)
    policy = load_policy(spec.expert, "expert", None, 0, spec.device, spec.dtype, spec.trust_remote_code)
    policy.add_stop_tokens(task.stop)
    expert = LocalExpert(policy, spec.temperature, spec.top_p)
    return expert.fit(student.vocabulary)
