"""The user's own reward: `--reward FILE.py:function`, with the signature of TRL's `reward_funcs`."""

from understudy.tasks.rewards.config import OPTIONS, RewardConfig
from understudy.tasks.rewards.task import RewardTask

__all__ = ["OPTIONS", "RewardConfig", "RewardTask"]
