"""Experts by name: a model directory or hub id, a server's address, or a programmatic expert of the task."""

from __future__ import annotations

import os
from typing import Any

from understudy.config import ExpertSpec
from understudy.errors import UserError
from understudy.experts.foreign.expert import ForeignExpert
from understudy.experts.local import LocalExpert
from understudy.experts.privileged import SelfExpert, parse_self
from understudy.experts.server.check import connect
from understudy.policy import load_policy, names, tokenizer_sha
from understudy.protocols import Expert, Task
from understudy.servers.urls import names_server
from understudy.specs import names_self, parse_spec


def is_programmatic(spec: str) -> bool:
    """A bare word with options, not a path, not OWNER/NAME, not a server and not the student itself."""
    return (
        not names_server(spec)
        and not names_self(spec)
        and "/" not in spec.partition(":")[0]
        and not os.path.exists(spec)
    )


def load_directly(spec: ExpertSpec, task: Task, student: Any) -> Expert:
    """The expert that `spec` names, without a score cache. UserError: it cannot be loaded or reached."""
    names.refuse(spec.expert, "expert")
    if names_server(spec.expert):
        return connect(spec, task, student)
    if names_self(spec.expert):
        return _self(spec, task, student)
    if is_programmatic(spec.expert):
        for name, value in (("temperature", spec.temperature), ("top_p", spec.top_p)):
            if value != 1:
                raise UserError(name, value, "a programmatic expert samples from what it scores: use 1")
        return task.expert(parse_spec(spec.expert, "expert"), student.tokenizer).for_student(student)
    policy = load_policy(spec.expert, "expert", None, 0, spec.device, spec.dtype, spec.trust_remote_code)
    expert = LocalExpert(policy.add_stop_tokens(task.stop), spec.temperature, spec.top_p)
    if tokenizer_sha(policy.tokenizer) != tokenizer_sha(student.tokenizer):
        return ForeignExpert(expert, policy, student, spec.token_match).preview(task, spec.seed)
    return expert.fit(student.vocabulary)


def _self(spec: ExpertSpec, task: Task, student: Any) -> Expert:
    """The student with a context: a second copy only where it is frozen and all of its weights are trained."""
    config = parse_self(spec.expert)
    if spec.score_cache:
        raise UserError("score_cache", spec.score_cache, "the student's own scores are not kept: leave it out")
    policy = student
    if config.frozen and student.adapter is not None:
        policy = student.reference()
    elif config.frozen:
        name = spec.student or student.name
        policy = load_policy(
            name, "student", task.tokenizer(), spec.seed, spec.device, spec.dtype, spec.trust_remote_code
        )  # fmt: skip
        policy.add_stop_tokens(task.stop)
    return SelfExpert(policy, task, config, spec.temperature, spec.top_p)
