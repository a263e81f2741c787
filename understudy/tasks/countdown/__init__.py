"""Countdown: reach the target with the given numbers. See formats.py for what a completion looks like."""

from understudy.tasks.countdown.config import CountdownConfig
from understudy.tasks.countdown.task import CountdownTask

__all__ = ["CountdownConfig", "CountdownTask"]
