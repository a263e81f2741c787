"""Single-turn environments of the package verifiers: `env:NAME`."""

from understudy.tasks.environments.task import EnvConfig, EnvTask

__all__ = ["EnvConfig", "EnvTask"]
