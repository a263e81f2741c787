"""Prompts that are too long for a model: found before anything is computed, and left out where the task allows it."""

from __future__ import annotations

from collections.abc import Sequence

from understudy.errors import UserError
from understudy.policy.model import Policy
from understudy.protocols import Task

WHY = "too long for the student's context"


def check_lengths(task: Task, policy: Policy, splits: Sequence[str], room: int) -> int:
    """Leave out every prompt of these splits that has no room for `room` new tokens; how many these are.

    An endless split is not looked at. UserError: the task keeps its prompts; names the file and line of the first.
    """
    left_out = 0
    for split in dict.fromkeys(splits):
        size = task.size(split) if split in task.splits else None
        if not size:
            continue
        prompts = task.prompts(split, size, 0)
        choices = bool(prompts[0].data.get("choices"))  # answered by the log-prob of one token
        found = policy.too_long(prompts, 1 if choices else room)
        if not found:
            continue
        if not task.leave_out(split, found, WHY):
            first, more = found[0], f", as are {len(found) - 1:,} more" if len(found) > 1 else ""
            hint = (
                f"has {len(first.ids):,} tokens, too long{more}: the context of {policy.name} is {policy.context:,}, "
                f"of which {room:,} are for the completion; lower --max-new-tokens, or too_long=drop in --task"
            )
            raise UserError("task.data", str(first.data.get("where") or f"prompt {first.key}"), hint)
        left_out += len(found)
    return left_out
