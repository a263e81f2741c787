"""Provides the program that test_processes.py starts under torchrun: whole, killed and resumed runs.

torchrun --nproc-per-node 2 many_processes.py FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from understudy import distributed, tasks
from understudy.training import train as train_module
from understudy.training.train import train

STEPS = 6
METHODS: dict[str, dict[str, Any]] = {
    "sft": {"prompts_per_update": 5, "samples_per_prompt": 1},  # an odd number of rows: 3 and 2
    "opd_full": {"micro_tokens": 90, "eval_expert": True},  # shares with different numbers of forward passes
    "grpo": {"samples_per_prompt": 4, "prompts_per_update": 3},
}


def configuration(method: str, out: Path, **changes: Any) -> Any:
    from tiny import config

    fields: dict[str, Any] = {
        "updates": STEPS, "save_every": 2, "eval_every": 3, "keep": 9, "lr": 3e-4, "final_prompts": 3,
        "final_samples": 2, "student": "scratch:width=16,layers=2,heads=2,context=128",
    }  # fmt: skip
    return config(method, out, **(fields | METHODS[method] | changes))


class Killed(BaseException):
    """A BaseException, so that no handler catches it."""


def until(step: int, config: Any) -> None:
    """Trains and dies after this many updates."""
    update, done = train_module.update, [0]

    def mortal(*args: Any) -> dict[str, Any]:
        if done[0] == step:
            raise Killed
        done[0] += 1
        return update(*args)

    train_module.update = mortal  # type: ignore[assignment]
    try:
        train(config, note=lambda _: None)
        raise AssertionError("it should have died")
    except Killed:
        pass
    finally:
        train_module.update = update


def main(folder: Path, methods: Sequence[str]) -> None:
    from tiny import CoinTask

    tasks.TASKS["coin"] = CoinTask.from_spec
    notes: list[str] = []
    for method in methods:
        train(configuration(method, folder / f"{method}-two"), note=notes.append)
        until(5, configuration(method, folder / f"{method}-cut"))  # the last checkpoint is of step 4
        train(configuration(method, folder / f"{method}-cut"), note=lambda _: None)
        until(2, configuration(method, folder / f"{method}-121"))  # one process trained to step 2
    if distributed.is_main():
        (folder / "notes.txt").write_text("\n".join(notes))
    distributed.leave()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2:] or list(METHODS))
    distributed.end(0)
