"""Provides the programs of test_processes.py: whole, killed and resumed runs.

torchrun --nproc-per-node 2 many_processes.py FOLDER [NAME...]    all of METHODS and CELLS and the routes, or these
python many_processes.py command OUT WORD...    the command `understudy WORD...` on two processes: killed, then resumed
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from understudy import distributed, tasks
from understudy.cli.main import main as command_line
from understudy.runs.read import checkpoints
from understudy.training import train as train_module
from understudy.training.train import train

STEPS = 6
METHODS: dict[str, dict[str, Any]] = {
    "sft": {"prompts_per_update": 5, "samples_per_prompt": 1},  # an odd number of rows: 3 and 2
    "opd_full": {"micro_tokens": 90, "eval_expert": True},  # shares with different numbers of forward passes
    "grpo": {"samples_per_prompt": 4, "prompts_per_update": 3},
}

OTHER = "other"  # folder of an expert with another tokenizer
CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "foreign-opd": ("opd", {"expert": OTHER, "gamma": 0.5}),
    "foreign-opd_full": ("opd_full", {"expert": OTHER, "micro_tokens": 90}),
    "foreign-uld": ("opd_full", {"expert": OTHER, "divergence": "uld"}),
    "foreign-sft_alpha": ("opd", {"expert": OTHER, "sft_alpha": 0.3}),
    "opd_reward": ("opd_reward", {"samples_per_prompt": 4}),
    "opd_full_reward": ("opd_full_reward", {"samples_per_prompt": 4, "expert_anneal": 1.0, "prompts_per_update": 3}),
    "gkd_reward": ("gkd_reward", {"prompts_per_update": 3, "student_share": 0.6}),
    "exopd": ("exopd", {"gamma": 1.0}),
    "extrapolated": ("opd_full", {"signal": "extrapolated", "micro_tokens": 90}),
    "self-frozen": ("opd_full", {"expert": "self:context=gold"}),
    "self-live": ("opd", {"expert": "self:context=gold,frozen=false"}),
    "sft_alpha": ("opd_full", {"sft_alpha": 0.4, "prompts_per_update": 5}),
}
"""Cells that no row of METHODS has: (method, options)."""


def cell(name: str, out: Path) -> Any:
    """The training of CELLS[name]: two updates."""
    from tiny import config

    method, options = CELLS[name]
    if options.get("expert") == OTHER:
        options = options | {"expert": str(out.parent / OTHER)}
    student = "scratch:width=16,layers=2,heads=2,context=256"
    return config(method, out, student=student, lr=3e-4, seed=1, **options)


def configuration(method: str, out: Path, **changes: Any) -> Any:
    from tiny import config

    fields: dict[str, Any] = {
        "updates": STEPS, "save_every": 2, "eval_every": 3, "keep": 9, "lr": 3e-4, "final_prompts": 3,
        "final_samples": 2, "student": "scratch:width=16,layers=2,heads=2,context=128",
    }  # fmt: skip
    return config(method, out, **(fields | METHODS[method] | changes))


def guarded(out: Path) -> Any:
    """An online phase that destroys its student."""
    from tiny import config

    return config(
        "opd_full", out, student="scratch:width=16,layers=1,heads=2", expert="labeller:p_right=0.8", updates=10,
        task="classify:rule=majority,bits=8,relevant=3,classes=2", prompts_per_update=64, samples_per_prompt=1,
        lr=1.0, drift_limit=1e9, final_prompts=4, max_new_tokens=1,
    )  # fmt: skip


def route(out: Path) -> Any:
    """Its first phase is the training of METHODS["sft"]."""
    from understudy.routes.route import RouteConfig

    return RouteConfig(f"sft:{STEPS}+opd_full:2", 4, 8, configuration("sft", out, budget_axis="updates"), str(out))


def auto_config(out: Path) -> Any:
    from tiny import STUDENT

    from understudy.routes.auto_config import AutoConfig

    return AutoConfig(
        student=STUDENT, expert="solver", task="coin", budget="updates=22", look_prompts=16, final_prompts=4,
        set=("prompts_per_update=4", "max_new_tokens=16", "warmup=2"), final_samples=1, out=str(out), device="cpu",
        imitate_only=True,
    )  # fmt: skip


def routes(folder: Path, which: str) -> None:
    """A guarded phase, a route and an auto, into folders with this end."""
    from understudy.routes.auto import auto
    from understudy.routes.run import train_route

    train(guarded(folder / f"guard-{which}"), note=lambda _: None)
    train_route(route(folder / f"route-{which}"), note=lambda _: None)
    auto(auto_config(folder / f"auto-{which}"), note=lambda _: None)


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


def main(folder: Path, names: Sequence[str]) -> None:
    from tiny import CoinTask

    tasks.TASKS["coin"] = CoinTask.from_spec
    notes: list[str] = []
    for method in filter(names.__contains__, METHODS):
        train(configuration(method, folder / f"{method}-two"), note=notes.append)
        until(5, configuration(method, folder / f"{method}-cut"))  # the last checkpoint is of step 4
        train(configuration(method, folder / f"{method}-cut"), note=lambda _: None)
        until(2, configuration(method, folder / f"{method}-121"))  # one process trained to step 2
    if "routes" in names:
        routes(folder, "two")
    for name in filter(names.__contains__, CELLS):
        train(cell(name, folder / f"{name}-two"), note=lambda _: None)
    if distributed.is_main():
        (folder / "notes.txt").write_text("\n".join(notes))
    distributed.leave()


def on_two(words: Sequence[str], logs: Sequence[Path]) -> list[int]:
    """Fork both processes of the command `understudy WORDS`, as torchrun would start them; their process ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank, log in enumerate(logs):
        if child := os.fork():
            children.append(child)
            continue
        status = 70
        try:
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            here = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
            here |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            os.environ.update({name: str(value) for name, value in here.items()})
            status = command_line(list(words))
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
    return children


def kill_one_and_resume(out: Path, words: Sequence[str]) -> dict[str, Any]:
    """Kill the second process after the first checkpoint; then the same command again. Exit statuses and outputs."""
    result: dict[str, Any] = {}
    logs = [out.with_name(f"killed-{rank}") for rank in (0, 1)]
    first, second = on_two(words, logs)
    deadline = time.monotonic() + 150
    while not checkpoints(out) and time.monotonic() < deadline and os.waitpid(first, os.WNOHANG) == (0, 0):
        time.sleep(0.02)
    os.kill(second, signal.SIGKILL)
    began = time.monotonic()
    result["killed"] = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in (first, second)]
    result["seconds"] = time.monotonic() - began
    result["killed output"] = logs[0].read_text()
    logs = [out.with_name(f"resumed-{rank}") for rank in (0, 1)]
    result["resumed"] = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in on_two(words, logs)]
    result["resumed output"] = [log.read_text() for log in logs]
    return result


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "command":
        import transformers.models.llama.modeling_llama  # noqa: F401 - so that the children need not import it

        gc.disable()  # a collection in a forked child would copy every page of torch
        print(json.dumps(kill_one_and_resume(Path(sys.argv[2]), sys.argv[3:])))
        sys.exit()
    main(Path(sys.argv[1]), sys.argv[2:] or [*METHODS, "routes", *CELLS])
    distributed.end(0)
