"""A server as an expert, checked before anything is asked of it in earnest."""

from __future__ import annotations

from typing import Any

from understudy.config import ExpertSpec
from understudy.experts.server.chat import ChatExpert
from understudy.experts.server.check import PROMPTS, preflight
from understudy.experts.server.expert import ServerExpert
from understudy.policy import check_same_language, load_policy
from understudy.protocols import Expert, Task
from understudy.servers.config import parse_server


def connect(spec: ExpertSpec, task: Task, student: Any) -> Expert:
    """UserError: not reachable, another model, another language, or noisier than allowed."""
    server = parse_server(spec.expert, "expert")
    if server.api == "chat":
        return ChatExpert(server, student, spec.temperature, spec.top_p)
    expert = ServerExpert(server, student, spec.temperature, spec.top_p)
    local = None
    if server.local:
        local = load_policy(
            server.local, "expert.local", None, 0, spec.device, spec.dtype, spec.trust_remote_code
        ).add_stop_tokens(task.stop)
        check_same_language(student, local, server.local)
    prompts = student.encode(task.prompts("train", PROMPTS, spec.seed))
    expert.provenance["preflight"] = preflight(expert, prompts, local)
    return expert
