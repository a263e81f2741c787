"""Several processes that train one model together: rank and size, this process's share, values that all know.

torchrun starts them and describes them in the environment. A single process has rank 0 of 1: then every function here
is the identity and torch.distributed is not imported. The functions marked (collective) must be called by all processes
in the same order; they communicate over gloo, also where gradients travel over NCCL.
"""

from __future__ import annotations

import atexit
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

from understudy.errors import UserError
from understudy.types import Prompt, Rollout

T = TypeVar("T")
U = TypeVar("U")

TIMEOUT = timedelta(minutes=30)  # how long a process waits for another one that is still alive
_VARIABLES = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_COMMAND = "torchrun --nproc-per-node 2 -m understudy train ..."


@dataclasses.dataclass(frozen=True)
class Launch:
    """What the environment says about this process."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0


@dataclasses.dataclass
class _State:
    launch: Launch = dataclasses.field(default_factory=Launch)
    store: Any = None
    control: Any = None  # a gloo group
    has_left: bool = False


_STATE = _State()


def launched(env: Mapping[str, str] = os.environ) -> Launch:
    """How this process was started. UserError where several were started that do not know of each other."""
    if "WORLD_SIZE" not in env:
        if any(name.startswith("ACCELERATE_") for name in env):
            # `accelerate launch --cpu --num_processes 2` starts one process without a warning
            hint = f"accelerate started one process that knows of no others: use {_COMMAND}"
            raise UserError("launcher", "accelerate", hint)
        tasks = env.get("SLURM_STEP_NUM_TASKS", env.get("SLURM_NTASKS", "1"))
        if "SLURM_PROCID" in env and "SLURM_STEP_ID" in env and tasks.isdigit() and int(tasks) > 1:
            hint = "srun started that many copies that know of no others: let srun start one torchrun per node"
            raise UserError("launcher", f"{tasks} tasks of srun", f"{hint} (docs/scaling.md)")
        return Launch()
    try:
        size = int(env["WORLD_SIZE"])
    except ValueError:
        raise UserError("WORLD_SIZE", env["WORLD_SIZE"], f"is not a number: use {_COMMAND}") from None
    if size == 1:
        return Launch()
    missing = ", ".join(name for name in _VARIABLES if not env.get(name))
    if missing:
        raise UserError("WORLD_SIZE", size, f"{missing} missing from the environment: use {_COMMAND}")
    try:
        launch = Launch(int(env["RANK"]), size, int(env["LOCAL_RANK"]))
    except ValueError:
        raise UserError("WORLD_SIZE", size, f"RANK or LOCAL_RANK is not a number: use {_COMMAND}") from None
    if not 0 <= launch.rank < size:
        raise UserError("RANK", launch.rank, f"must be 0..{size - 1}: use {_COMMAND}")
    return launch


def join(expected: int = 0) -> None:
    """Connect to the other processes (collective); nothing to do for a single process, or after an earlier call.

    expected: how many there must be, 0 = as many as were started.
    """
    launch = launched()
    if expected and launch.size != expected:
        hint = f"requested, but {launch.size} started: torchrun --nproc-per-node {expected}, or --processes 0"
        raise UserError("processes", expected, hint)
    if launch.size == 1 or _STATE.store is not None:
        return
    import torch
    import torch.distributed as dist

    if "TORCHELASTIC_RUN_ID" in os.environ:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    if not dist.is_available():
        raise UserError("processes", launch.size, "this torch has no torch.distributed: install another build")
    cuda = torch.cuda.is_available()
    if cuda:
        if launch.local_rank >= torch.cuda.device_count():
            hint = f"only {torch.cuda.device_count()} GPUs here: start at most as many processes per node"
            raise UserError("LOCAL_RANK", launch.local_rank, hint)
        torch.cuda.set_device(launch.local_rank)
    store, _, _ = next(dist.rendezvous("env://", timeout=TIMEOUT))
    store.set_timeout(TIMEOUT)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        store=dist.PrefixStore("group", store),
        rank=launch.rank,
        world_size=launch.size,
        timeout=TIMEOUT,
    )
    control = dist.new_group(backend="gloo", timeout=TIMEOUT) if cuda else dist.group.WORLD
    _STATE.launch, _STATE.store, _STATE.control = launch, store, control
    ranks = gathered(dist.get_rank())
    if ranks != list(range(launch.size)):
        raise UserError("processes", launch.size, f"but these answered: {ranks}")


def _end_with(parent: int) -> None:
    """Save and stop when torchrun has ended, also by kill -9: it would leave its processes to run to their end."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def leave() -> None:
    """Disconnect from the others, after all of them are done (collective)."""
    if _STATE.store is not None:
        import torch.distributed as dist

        barrier()  # no process leaves while another one still communicates with it
        dist.destroy_process_group()
        _STATE.launch, _STATE.store, _STATE.control = Launch(), None, None
        _STATE.has_left = True


def end(status: int) -> NoReturn:
    """Exit the process with this status, after `leave`.

    In a normal exit, about one torch process in five that was one of several is aborted by its own communication
    threads (SIGABRT, "terminate called without an active exception"), and torchrun calls a finished training failed.
    """
    if _STATE.has_left:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def rank() -> int:
    return _STATE.launch.rank


def size() -> int:
    return _STATE.launch.size


def is_main() -> bool:
    """Whether this is the first process: the one that writes files and prints."""
    return rank() == 0


def device(name: str) -> str:
    """The device of this process: with several processes and GPUs, each process has its own GPU."""
    if size() == 1:
        return name
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        return f"cuda:{_STATE.launch.local_rank}"
    if name != "cpu":
        raise UserError("device", name, f"{size()} processes run on cpu or cuda, each with its own GPU")
    return name


# ---------------------------------------------------------------- values that all processes know (collective)


def gathered(value: T) -> list[T]:
    """The values of all processes, by rank."""
    if size() == 1:
        return [value]
    import torch.distributed as dist

    out: list[Any] = [None] * size()
    dist.all_gather_object(out, value, group=_STATE.control)
    return out


def agreed(value: T) -> T:
    """The first process's value, on all processes."""
    if size() == 1:
        return value
    import torch.distributed as dist

    box = [value]
    dist.broadcast_object_list(box, src=0, group=_STATE.control)
    return box[0]


def first(work: Callable[[], T]) -> T:
    """work() of the first process, which alone does it; its UserError is raised in all."""
    if size() == 1:
        return work()
    result: Any = None
    failure: UserError | None = None
    if is_main():
        try:
            result = work()
        except UserError as error:
            failure = error
    result, failure = agreed((result, failure))
    if failure is not None:
        raise failure
    return result


def total(values: Sequence[float]) -> list[float]:
    """Each value summed over the processes, in order of rank."""
    if size() == 1:
        return list(values)
    return [sum(column) for column in zip(*gathered(list(values)))]


def any_of(flag: bool) -> bool:
    """Whether `flag` is true on some process."""
    return any(gathered(flag))


def barrier() -> None:
    """Wait until all processes are here."""
    if size() > 1:
        gathered(None)


# ---------------------------------------------------------------- shares of the work


def share(items: Sequence[T], group: int = 1) -> list[T]:
    """This process's part of `items`: groups of `group` neighbours are dealt out in turn."""
    return [x for i, x in enumerate(items) if i // group % size() == rank()]


def spread(work: Callable[[Sequence[T]], Sequence[U]], items: Sequence[T], each: int = 1) -> list[U]:
    """work(items), each process doing its share (collective).

    `work` must return `each` results per item, in order, and an item's results must not depend on the other items.
    """
    if size() == 1:
        return list(work(items))
    local_items = share(items)
    results = list(work(local_items)) if local_items else []
    if len(results) != each * len(local_items):
        raise ValueError(f"{len(results)} results of {len(local_items)} items, expected {each} per item")
    parts = gathered(results)
    n = size()
    return [u for i in range(len(items)) for u in parts[i % n][i // n * each : (i // n + 1) * each]]


def spread_rollouts(
    work: Callable[[Sequence[Prompt]], Sequence[Rollout]], prompts: Sequence[Prompt], each: int
) -> list[Rollout]:
    """`spread` for rollouts, without sending the prompts, which all processes have."""
    if size() == 1:
        return list(work(prompts))
    no_prompt = Prompt("", "")
    rollouts = spread(lambda part: [dataclasses.replace(r, prompt=no_prompt) for r in work(part)], prompts, each)
    return [dataclasses.replace(r, prompt=prompts[i // each]) for i, r in enumerate(rollouts)]


# ---------------------------------------------------------------- errors


def should_report(message: str) -> bool:
    """Whether this process should print its error: the first process does, another one only a different message."""
    if size() == 1:
        return True
    try:
        _STATE.store.set(f"error/{rank()}", message)
        if is_main():
            return True
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            if _STATE.store.check(["error/0"]):
                return bool(_STATE.store.get("error/0").decode() != message)
            time.sleep(0.05)
    except Exception:  # the store ended with the first process
        return True
    return True


def connection_error(error: BaseException) -> UserError | None:
    """The message for a collective call that failed because another process ended; None for any other error."""
    if size() == 1:
        return None
    import torch.distributed as dist

    marks = ("gloo", "NCCL", "Connection closed by peer")
    if not isinstance(error, dist.DistError) and not any(mark in str(error) for mark in marks):
        return None
    hint = "lost the other processes: see their messages above; the same command resumes from the last checkpoint"
    return UserError("process", f"{rank()} of {size()}", hint)
