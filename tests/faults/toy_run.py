"""Provides a tiny training loop that uses the run directory as the real one does, and ways to kill it.

    python toy_run.py sweep FOLDER    die at each file operation in turn, again while resuming; compare
    python toy_run.py random FOLDER   be killed from outside at random moments, resume; compare

Prints one JSON object. Children are forked, so that torch is loaded once.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from understudy.runs.checkpoint import (
    load_optimizer,
    load_tensors,
    optimizer_tensors,
    random_state,
    read_checkpoint,
    save_tensors,
    set_random_state,
)
from understudy.runs.directory import RunDir
from understudy.runs.read import checkpoints, read_metrics, read_status

OPERATIONS = ("replace", "rename", "fsync", "write", "mkdir", "unlink", "rmdir", "truncate", "ftruncate")


def train(out: Path, steps: int, save_every: int, saved: Callable[[int], object] = lambda step: None) -> None:
    """Uses every source of randomness (torch, NumPy, Python) and AdamW's moments."""
    with RunDir.open(out, {"steps": steps, "seed": 3}, {"started": "now"}, note=lambda line: None) as run:
        if run.done:
            return
        torch.manual_seed(3), np.random.seed(3), random.seed(3)
        model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Dropout(0.3), torch.nn.Linear(16, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        data = run.cache("fixed", lambda: {"x": torch.linspace(-1, 1, 48).reshape(8, 6)})["x"]
        checkpoint = run.restore()
        first = 1
        if checkpoint is not None:
            model.load_state_dict(load_tensors(checkpoint.path / "model.safetensors"))
            load_optimizer(optimizer, checkpoint.tensors, checkpoint.state["optimizer"])
            set_random_state(checkpoint.tensors)
            first = checkpoint.step + 1

        def write_model(folder: Path) -> None:
            save_tensors(folder / "model.safetensors", model.state_dict())

        for step in range(first, steps + 1):
            x = data + np.random.normal() * random.gauss(0, 1)
            loss = (model(x) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.log({"kind": "train", "step": step, "loss": loss.item(), "ledger": {"updates": step}})
            run.samples([{"step": step, "completion": f"é{random.random()}"}])
            if step % save_every == 0:
                tensors, meta = optimizer_tensors(optimizer)
                state = {"optimizer": meta, "ledger": {"updates": step}}
                run.save(step, write_model, tensors | random_state(), state)
                saved(step)
        run.finish(write_model, {"loss": loss.item() if first <= steps else None})


def result(out: Path) -> str:
    """A digest of everything that must be equal in killed and uninterrupted runs."""
    total = hashlib.sha256()
    for name in ("final/model.safetensors", "metrics.jsonl", "samples.jsonl", "ledger.json", "config.json"):
        total.update((out / name).read_bytes())
    state = read_checkpoint(checkpoints(out)[-1])
    assert not isinstance(state, str), state
    total.update((state.path / "state.safetensors").read_bytes())
    return total.hexdigest()


def fork(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            os.write(2, f"child: {error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    return pid


def wait(pid: int) -> int:
    """The exit status: 0 = success, 9 = killed."""
    status = os.waitpid(pid, 0)[1]
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL), f"child ended with {code}"
    return -code


def arm(countdown: int, log: list[str] | None = None) -> None:
    """Makes this process kill itself just before its `countdown`-th operation on the file system."""
    left = countdown

    def wrap(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if log is not None:
                log.append(name)
            if left == 0:
                if name == "write":  # half a line reaches the disk
                    original(args[0], args[1][: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return operation

    for name in OPERATIONS:
        setattr(os, name, wrap(name, getattr(os, name)))


def check_survivor(out: Path, reported: int) -> None:
    """Asserts what a reader and the next process find after a kill."""
    if not (out / "config.json").exists():
        return
    assert read_status(out)["state"] in ("stopped", "done"), "no process holds the lock now"
    read_metrics(out)
    good = [c.step for c in map(read_checkpoint, checkpoints(out)) if not isinstance(c, str)]
    assert max(good, default=0) >= reported, f"step {reported} was saved, only {good} verify"
    assert len(good) == len(checkpoints(out)), "an incomplete checkpoint under its final name"


def sweep(folder: Path, steps: int = 3, save_every: int = 1) -> dict[str, Any]:
    train(folder / "whole", steps, save_every)
    want = result(folder / "whole")
    names: list[str] = []
    read, write = os.pipe()

    def count() -> None:
        arm(-1, names)
        train(folder / "count", steps, save_every)
        os.write(write, " ".join(names).encode())

    assert wait(fork(count)) == 0
    names = os.read(read, 1 << 16).decode().split()
    wrong = []
    for n in range(1, len(names) + 1):
        out = folder / f"kill-{n}"
        reports, report = os.pipe()

        def killed(n: int = n, out: Path = out, report: int = report) -> None:
            plain_write = os.write
            arm(n)
            train(out, steps, save_every, lambda step: plain_write(report, bytes([step])))

        assert wait(fork(killed)) == signal.SIGKILL, f"operation {n} was never reached"
        os.close(report)
        check_survivor(out, max(os.read(reports, 100), default=0))
        os.close(reports)

        def killed_again(n: int = n, out: Path = out) -> None:
            arm(1 + 7 * n % 19)
            train(out, steps, save_every)

        wait(fork(killed_again))  # while it cleans up after the first death, or a little later
        check_survivor(out, 0)
        train(out, steps, save_every)
        if result(out) != want:
            wrong.append(f"{n}: {names[n - 1]}")
        shutil.rmtree(out)
    return {"kills": len(names), "wrong": wrong}


def at_random(folder: Path, kills: int = 10, steps: int = 80, save_every: int = 2) -> dict[str, Any]:
    train(folder / "warm", 2, 2)  # torch loads some modules at the first step; the children inherit them
    started = time.monotonic()
    assert wait(fork(lambda: train(folder / "whole", steps, save_every))) == 0
    seconds = time.monotonic() - started
    want, out = result(folder / "whole"), folder / "killed"
    moments = random.Random(7)
    happened, steps_seen = 0, []
    while True:
        pid = fork(lambda: train(out, steps, save_every))
        if happened < kills:
            time.sleep(seconds * moments.uniform(0.05, 0.3))
            os.kill(pid, signal.SIGKILL)
        if wait(pid) == 0:
            break
        happened += 1
        check_survivor(out, 0)
        steps_seen.append(len(read_metrics(out)) if (out / "config.json").exists() else 0)
    return {"kills": happened, "lines": steps_seen, "same": result(out) == want, "seconds": seconds}


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.fsync = lambda handle: None  # a killed process loses nothing that it wrote; a busy disk would be waited for
    gc.disable()  # a collection in a forked child would copy every page of torch
    outcome = {"sweep": sweep, "random": at_random}[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps(outcome))
