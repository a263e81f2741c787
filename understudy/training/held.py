"""Whether a training is guarded, and the rows of a small data set that are kept for its guard. Needs no torch."""

from __future__ import annotations

from understudy.config import Resolved
from understudy.protocols import Task
from understudy.training.guard import LEAST_PROMPTS, LEAST_UPDATES

LEAST_FREE = LEAST_PROMPTS // 2
"""Rows behind those that are trained on that suffice for the guard."""
LEAST_ROWS, MOST_ROWS = 32, 512
"""Rows that are held out where fewer are free."""
SMALL = 4 * LEAST_ROWS
"""A data set with fewer rows has none to spare: its guard has the alarm alone."""


def off(config: Resolved) -> str | None:
    """Why the guard does nothing in this training; "" = it is not on-policy, None = it works."""
    if config.behavior not in ("student", "mixture_batch", "mixture_token"):
        return ""
    if not config.guard:
        return "switched off (--no-guard)"
    if config.updates < LEAST_UPDATES:
        return f"the phase has fewer than {LEAST_UPDATES} updates: nothing could be decided"
    if config.updates * config.prompts_per_update < LEAST_PROMPTS:
        return f"the phase has fewer than {LEAST_PROMPTS} prompts: too few to decide anything"
    return None


def used_rows(config: Resolved) -> int:
    """Items of the stream up to the last one that the training reads."""
    return config.prompt_pool or config.first_prompt + config.updates * config.prompts_per_update


def held_rows(config: Resolved, task: Task) -> int:
    """Rows that the training leaves to its guard, the last ones of the first pass; 0 where enough are free anyway."""
    size = task.size("train")
    if size is None or size < SMALL or not config.guard_rows or not task.verified or off(config) is not None:
        return 0
    if size - used_rows(config) >= LEAST_FREE:
        return 0
    return min(MOST_ROWS, max(LEAST_ROWS, round(config.guard_rows * size)))
