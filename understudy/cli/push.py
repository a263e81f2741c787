"""understudy push"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from understudy.cli import options
from understudy.errors import UserError
from understudy.runs.hub import check_push, push
from understudy.terminal import console


@dataclass(frozen=True)
class PushConfig:
    words: tuple[str, ...] = ()
    """The finished run, route or auto directory, and OWNER/NAME of the model on the hub."""
    public: bool = False
    """Let everyone see it, or push into a repository that is public. Default: private."""


def push_command(args: Sequence[str]) -> int:
    """understudy push"""
    config = options.parse(
        PushConfig,
        args,
        "understudy push",
        "Push the model of a finished run to the Hugging Face hub, private unless --public is given: final/ with its\n"
        "model card, in one commit. The token is read from the environment variable HF_TOKEN alone.",
        epilog="examples\n  understudy push runs/opd-0 OWNER/NAME\n  understudy push runs/auto-0 OWNER/NAME --public",
        positional="words",
    )
    if len(config.words) != 2:
        raise UserError("push", " ".join(config.words), "give a run directory and OWNER/NAME, nothing else")
    run, name = config.words
    check_push(name)
    console.print(f"pushed: {push(run, name, config.public)}", markup=False)
    return 0
