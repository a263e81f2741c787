"""Provides runs that are killed: real runs of the command line, and one JSON object of outcomes for test_resume.py.

    python killed_run.py FOLDER METHOD...

Children are forked after the imports, so a run starts in a fraction of a second. A child that must die at a given
place kills itself there (kill -9, no handler runs); others are killed from outside at random moments.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
import transformers.models.llama.modeling_llama  # noqa: F401 - so that the children need not import it
from tiny import STUDENT, CoinTask, config

from understudy import tasks
from understudy.cli.main import main
from understudy.config import TrainConfig, to_dict
from understudy.evaluation import schedule
from understudy.experts.programs import solver  # noqa: F401
from understudy.runs import directory
from understudy.runs.read import checkpoints, read_lines, read_metrics, read_status
from understudy.training import train

RUN: dict[str, Any] = {
    "updates": 8, "save_every": 2, "eval_every": 3, "keep": 2, "schedule": "cosine", "warmup": 2, "lr": 0.01,
    "eval_expert": True, "final_prompts": 4, "max_new_tokens": 12,
}  # fmt: skip
METHODS: dict[str, dict[str, Any]] = {
    "sft": {},
    "opd": {"gamma": 0.5},
    "grpo": {"updates_per_rollout": 2},
    "dagger": {"round_updates": 3},
    "rft": {"round_updates": 2},
    "base_opd": {"prompt_pool": 8},
    "gkd": {},
    "dropout": {"method": "sft", "student": "dropout"},  # a model that draws random numbers while it trains
}
THOROUGH = ("sft", "opd", "grpo")

Place = tuple[object, str, int, bool]
"""(object, method's name, at which call, whether after it): where a child kills itself."""

PLACES: list[Place] = [
    (train, "update", 2, True),
    (train, "update", 8, False),  # back to update 6, where a checkpoint and an evaluation meet
    (directory.RunDir, "save", 2, False),
    (schedule.Evaluator, "during", 2, True),
    (schedule.Evaluator, "final", 1, False),
    (schedule.Evaluator, "final", 1, True),
    (directory.RunDir, "finish", 1, True),
]


def words(c: TrainConfig) -> list[str]:
    out = ["train"]
    for name, value in to_dict(c).items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            out.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            out += [f"--{flag}", str(value)]
    return out


def spawn(command: list[str], log: Path, place: Place | None = None) -> int:
    """Fork a child that runs `understudy COMMAND` and leaves with its exit status."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        if place is not None:
            die_at(*place)
        code = main(command)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def die_at(owner: Any, name: str, call: int, after: bool) -> None:
    original, calls = getattr(owner, name), [0]

    def deadly(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == call and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **options)
        if calls[0] == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)


def wait(pid: int) -> int:
    """The exit status; -9 when killed."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        times = {"seconds", "seconds_sample", "seconds_score", "seconds_learn", "train_seconds", "eval_seconds"}
        return {k: without_times(v) for k, v in value.items() if k not in times}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def results(out: Path) -> dict[str, str]:
    """Name -> digest of everything that must be equal in killed and uninterrupted runs."""
    newest = checkpoints(out)[-1]
    whole = {name: (out / name).read_bytes() for name in ("final/model.safetensors", "samples.jsonl", "final.json")}
    whole["optimizer and random state"] = (newest / "state.safetensors").read_bytes()
    for name in ("metrics.jsonl",):
        whole[name] = json.dumps(without_times(read_lines(out / name))).encode()
    whole["ledger.json"] = json.dumps(without_times(json.loads((out / "ledger.json").read_bytes()))).encode()
    return {name: hashlib.sha256(data).hexdigest() for name, data in whole.items()}


def differing(out: Path, want: dict[str, str]) -> list[str]:
    if read_status(out)["state"] != "done":
        return ["not done"]
    got = results(out)
    return [name for name in want if got[name] != want[name]]


def until_done(command: list[str], out: Path, log: Path, kill: Callable[[int, int], None], most: int) -> list[int]:
    """Repeat the command until it succeeds; `kill(pid, n)` may end attempt n. Returns steps reached at the kills."""
    reached: list[int] = []
    for n in range(most):
        pid = spawn(command, log)
        kill(pid, n)
        code = wait(pid)
        if code == 0:
            return reached
        assert code == -signal.SIGKILL, log.read_text()
        reached.append(steps(out))
    raise AssertionError(f"not done after {most} attempts:\n{log.read_text()}")


def wait_for(out: Path, updates: int) -> None:
    """Waits until this many updates are in the log, for at most a minute."""
    metrics, deadline = out / "metrics.jsonl", time.monotonic() + 60
    while updates and time.monotonic() < deadline:
        if metrics.exists() and metrics.read_bytes().count(b'"kind": "train"') >= updates:
            return
        time.sleep(0.002)


def steps(out: Path) -> int:
    """The number of updates in the log of a killed run, which any reader must be able to read."""
    if not (out / "config.json").exists():
        return -1
    assert read_status(out)["state"] in ("stopped", "done")
    return len(read_metrics(out, "train"))


def try_method(folder: Path, method: str) -> dict[str, Any]:
    changes = {"method": method} | RUN | METHODS[method]
    if changes.get("student") == "dropout":
        changes["student"] = str(model_with_dropout(folder))
    log = folder / f"{method}.log"

    def command(name: str) -> tuple[list[str], Path]:
        out = folder / f"{method}-{name}"
        return words(config(out=out, **changes)), out

    outcome: dict[str, Any] = {}
    line, out = command("whole")
    assert wait(spawn(line, log)) == 0, log.read_text()
    want = results(out)

    again = folder / f"{method}-again"
    code = wait(spawn(["train", "--config", str(out / "config.json"), "--out", str(again)], log))
    outcome["from config.json"] = [code, differing(again, want)]

    outcome["places"] = {}
    for place in PLACES if method in THOROUGH else PLACES[:4:3]:
        name = f"{place[1]} {place[2]} {'after' if place[3] else 'before'}"
        line, out = command(name.replace(" ", "-"))
        code = wait(spawn(line, log, place))
        at = steps(out)
        code_again = wait(spawn(line, log))
        outcome["places"][name] = [code, at, code_again, differing(out, want)]
    if method not in THOROUGH:
        return outcome

    line, out = command("random")
    moments = random.Random(method)
    updates = [0, *sorted(moments.sample(range(1, 7), 3))]

    def at_random(pid: int, n: int) -> None:
        """Kills the first attempt while it loads, the others shortly after a random update."""
        if n < len(updates):
            wait_for(out, updates[n])
            time.sleep(moments.uniform(0, 0.05 if n else 0.25))
            os.kill(pid, signal.SIGKILL)

    outcome["random"] = [until_done(line, out, log, at_random, 5), differing(out, want)]
    outcome["interrupted"] = interrupted(*command("interrupted"), want, folder / f"{method}.ctrl-c.log")
    return outcome


def model_with_dropout(folder: Path) -> Path:
    from understudy.policy import load_policy

    policy = load_policy(STUDENT, "student", tasks.load_task("coin").tokenizer(), device="cpu")
    policy.model.config.attention_dropout = 0.2
    policy.save(folder / "dropout-model")
    return folder / "dropout-model"


def interrupted(line: list[str], out: Path, want: dict[str, str], log: Path) -> list[Any]:
    """Sends Ctrl-C after the third update; returns exit status, output, status, checkpoints and the resumed result."""
    pid = spawn(line, log)
    wait_for(out, 3)
    os.kill(pid, signal.SIGINT)
    code = wait(pid)
    output, status = log.read_text(), read_status(out)
    saved = [p.name for p in checkpoints(out)]
    code_again = wait(spawn(line, log))
    return [code, output, status, saved, code_again, differing(out, want)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    tasks.TASKS["coin"] = CoinTask.from_spec
    gc.disable()  # a collection in a forked child would copy every page of torch
    root = Path(sys.argv[1])
    train.train(config("opd", root / "warm"))  # the children inherit what this run loads
    print(json.dumps({method: try_method(root, method) for method in sys.argv[2:]}))
