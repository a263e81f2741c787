"""Experts: `load_expert` gives one by name. Models, programs, servers, recorded completions, and a cache of scores."""

from __future__ import annotations

from typing import Any

from understudy.config import ExpertSpec
from understudy.experts.cache.expert import with_cache
from understudy.experts.loading import is_programmatic, load_directly
from understudy.experts.local import LocalExpert
from understudy.experts.several import load_several
from understudy.protocols import Expert, Task
from understudy.specs import names_self, names_several

__all__ = ["LocalExpert", "is_programmatic", "load_expert"]


def load_expert(spec: ExpertSpec | str, task: Task, student: Any) -> Expert:
    """The expert that `spec` names, with the student's tokenizer; its scores from `score_cache` where one is given.

    spec: `solver:p_right=0.995`, a model directory or hub id, a server's address, or an ExpertSpec with the other
    options. Several, `a=PATH b=PATH` with `expert_of`, are one that sends each prompt to its own. UserError: it cannot
    be loaded or reached.
    """
    spec = ExpertSpec(spec) if isinstance(spec, str) else spec
    if names_several(spec.expert):
        return load_several(spec, task, student, load_expert)
    return (with_cache if spec.score_cache and not names_self(spec.expert) else load_directly)(spec, task, student)
