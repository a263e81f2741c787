"""Tasks from reasoning-gym: `rg:chain_sum`, `rg:gsm_symbolic`, ... with its own generators and scorers."""

from understudy.tasks.gym.config import GymConfig
from understudy.tasks.gym.task import GymTask

__all__ = ["GymConfig", "GymTask"]
