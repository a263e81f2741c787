"""Experts by name: a model directory or hub id, a server's address, or a programmatic expert of the task."""

from __future__ import annotations

import os
from typing import Any

from understudy.config import ExpertSpec
from understudy.errors import UserError
from understudy.experts.local import LocalExpert
from understudy.experts.server.check import connect
from understudy.policy import load_policy, names
from understudy.protocols import Expert, Task
from understudy.servers.urls import names_server
from understudy.specs import parse_spec


def is_programmatic(spec: str) -> bool:
    """A bare word with options, not a path, not OWNER/NAME and not a server."""
    return not names_server(spec) and "/" not in spec.partition(":")[0] and not os.path.exists(spec)


def load_directly(spec: ExpertSpec, task: Task, student: Any) -> Expert:
    """The expert that `spec` names, without a score cache. UserError: it cannot be loaded or reached."""
    names.refuse(spec.expert, "expert")
    if names_server(spec.expert):
        return connect(spec, task, student)
    if is_programmatic(spec.expert):
        for name, value in (("temperature", spec.temperature), ("top_p", spec.top_p)):
            if value != 1:
                raise UserError(name, value, "a programmatic expert samples from what it scores: use 1")
        return task.expert(parse_spec(spec.expert, "expert"), student.tokenizer).for_student(student)
    policy = load_policy(spec.expert, "expert", None, 0, spec.device, spec.dtype, spec.trust_remote_code)
    return LocalExpert(policy.add_stop_tokens(task.stop), spec.temperature, spec.top_p).fit(student.vocabulary)
