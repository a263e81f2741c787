"""understudy watch"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from understudy.cli import options
from understudy.errors import UserError
from understudy.specs import check, option
from understudy.terminal import console


@dataclass(frozen=True)
class WatchConfig:
    logs: tuple[str, ...] = ()
    """Logs: trainer_state.json, logging.jsonl, a console log, metrics.jsonl, or a folder with one of them."""
    prompts: int = option(0, least=0)
    """Prompts (not completions) per update, if the log does not say it: with rewards in [0, 1] a fall of the reward is
    then found by a test with an error of 5% for the whole log. Default: from the log."""
    follow: bool = False
    """Read the log again as it grows; ends with Ctrl-C, or when a run of understudy is done."""
    every: float = option(10.0, within="(0, inf)")
    """Seconds between two looks of --follow."""
    json: bool = False
    """Print JSON, one object per log (with --follow: per look that saw new lines)."""


def watch_command(args: Sequence[str]) -> int:
    """understudy watch; the exit status: 0 nothing found, 1 something found."""
    config = options.parse(
        WatchConfig,
        args,
        "understudy watch",
        "What goes wrong in a training, from its log: of TRL, transformers, ms-swift, verl, tinker-cookbook, prime-rl\n"
        "or understudy. Names the fault, the update, the rule and what to do. Loads no model.\n"
        "Exit status: 0 nothing is wrong now, 1 a finding holds in the last rows, 2 the log cannot be read.",
        epilog="examples\n  understudy watch output/checkpoint-500/trainer_state.json\n"
        "  understudy watch verl.log --prompts 128 --follow\n  understudy watch runs/opd-0 --json",
        positional="logs",
    )
    check(config)
    if not config.logs:
        raise UserError("log", "", "missing: give a log or the folder of a training")
    if config.follow and len(config.logs) > 1:
        raise UserError("follow", config.logs[1], "follows one log: start one command per log")
    from understudy.watch import watch  # numpy and scipy, which --help does not need

    if config.follow:
        return _follow(config)
    verdicts = [v for path in config.logs for v in watch.watch(path, config.prompts)]
    for verdict in verdicts:
        if config.json:
            print(json.dumps(verdict.as_dict()))
        else:
            console.print("\n".join(watch.lines(verdict)), markup=False, soft_wrap=True)
    return int(any(verdict.present for verdict in verdicts))


def _follow(config: WatchConfig) -> int:
    from understudy.watch import watch

    known: dict[str, frozenset[str]] = {}
    found = 0
    try:
        for verdicts in watch.follow(config.logs[0], config.prompts, config.every):
            found = int(any(verdict.present for verdict in verdicts))
            for verdict in verdicts:
                if config.json:
                    print(json.dumps(verdict.as_dict()), flush=True)
                    continue
                name = verdict.log.name
                text = watch.lines(verdict, known.get(name, frozenset()), full=name not in known)
                if text:
                    console.print("\n".join(text), markup=False, soft_wrap=True)
                known[name] = frozenset(f.rule.name for f in verdict.findings) | known.get(name, frozenset())
    except KeyboardInterrupt:
        pass
    return found
