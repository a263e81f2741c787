"""Several processes that train one model together: who am I, what is my share, what do all agree on.

torchrun starts them and names them in the environment. A process alone is first of one: then every function here is
the identity and torch.distributed is not even imported. The functions marked "together" must be called by all
processes in the same order; they travel over gloo, also where gradients travel over NCCL.
"""

from __future__ import annotations

import atexit
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

from understudy.errors import UserError
from understudy.types import Prompt, Rollout

T = TypeVar("T")
U = TypeVar("U")

_NAMES = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
PATIENCE = timedelta(minutes=30)  # how long one process waits for another that is still alive
HOW = "torchrun --nproc-per-node 2 -m understudy train ..."


@dataclasses.dataclass(frozen=True)
class Launch:
    """What the environment says about this process."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0


@dataclasses.dataclass
class _Joined:
    launch: Launch = dataclasses.field(default_factory=Launch)
    store: Any = None
    control: Any = None  # a gloo group
    parted: bool = False


_HERE = _Joined()


def launched(env: Mapping[str, str] = os.environ) -> Launch:
    """How this process was started. UserError where several were started and do not know of each other."""
    if "WORLD_SIZE" not in env:
        if any(name.startswith("ACCELERATE_") for name in env):
            # `accelerate launch --cpu --num_processes 2` starts one process and says nothing
            hint = f"accelerate started one process that knows of no others: use {HOW}"
            raise UserError("launcher", "accelerate", hint)
        tasks = env.get("SLURM_STEP_NUM_TASKS", env.get("SLURM_NTASKS", "1"))
        if "SLURM_PROCID" in env and "SLURM_STEP_ID" in env and tasks.isdigit() and int(tasks) > 1:
            hint = "srun started that many copies that know of no others: let srun start one torchrun a node"
            raise UserError("launcher", f"{tasks} tasks of srun", f"{hint} (docs/scaling.md)")
        return Launch()
    try:
        size = int(env["WORLD_SIZE"])
        if size == 1:
            return Launch()
        missing = [name for name in _NAMES if not env.get(name)]
        launch = Launch(int(env.get("RANK", "")), size, int(env.get("LOCAL_RANK", "")))
    except ValueError:
        missing = missing if "missing" in locals() else []
        bad = ", ".join(missing) or "RANK, LOCAL_RANK or WORLD_SIZE"
        hint = f"{bad} missing or not a number beside it in the environment: use {HOW}"
        raise UserError("WORLD_SIZE", env["WORLD_SIZE"], hint) from None
    if missing:
        raise UserError("WORLD_SIZE", size, f"{', '.join(missing)} missing beside it: use {HOW}")
    if not 0 <= launch.rank < size:
        raise UserError("RANK", launch.rank, f"must be 0..{size - 1}: use {HOW}")
    return launch


def join(expected: int = 0) -> None:
    """Meet the other processes (together); nothing to do for one alone, or when joined before.

    expected: how many there must be, 0 = as many as were started.
    """
    launch = launched()
    if expected and launch.size != expected:
        hint = f"were asked for, but {launch.size} started: torchrun --nproc-per-node {expected}, or --processes 0"
        raise UserError("processes", expected, hint)
    if launch.size == 1 or _HERE.store is not None:
        return
    import torch
    import torch.distributed as dist

    if not dist.is_available():
        raise UserError("processes", launch.size, "this torch has no torch.distributed: install another build")
    cuda = torch.cuda.is_available()
    if cuda:
        if launch.local_rank >= torch.cuda.device_count():
            hint = f"but {torch.cuda.device_count()} GPUs here: start at most as many processes a node"
            raise UserError("LOCAL_RANK", launch.local_rank, hint)
        torch.cuda.set_device(launch.local_rank)
    store, _, _ = next(dist.rendezvous("env://", timeout=PATIENCE))
    store.set_timeout(PATIENCE)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        store=dist.PrefixStore("group", store),
        rank=launch.rank,
        world_size=launch.size,
        timeout=PATIENCE,
    )
    control = dist.new_group(backend="gloo", timeout=PATIENCE) if cuda else dist.group.WORLD
    _HERE.launch, _HERE.store, _HERE.control = launch, store, control
    seen = gathered(dist.get_rank())
    if seen != list(range(launch.size)):
        raise UserError("processes", launch.size, f"but these answered: {seen}")


def leave() -> None:
    """Part from the others, in good order."""
    if _HERE.store is not None:
        import torch.distributed as dist

        barrier()  # nobody goes while another still talks to it
        dist.destroy_process_group()
        _HERE.launch, _HERE.store, _HERE.control = Launch(), None, None
        _HERE.parted = True


def end(status: int) -> NoReturn:
    """Out of the process, after `leave`.

    Taken down as usual, about one torch process in five that was one of several is aborted by its own communication
    threads (SIGABRT, "terminate called without an active exception"), and torchrun calls a finished training failed.
    """
    if _HERE.parted:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def rank() -> int:
    return _HERE.launch.rank


def size() -> int:
    return _HERE.launch.size


def is_main() -> bool:
    """Whether this is the process that writes and speaks."""
    return _HERE.launch.rank == 0


def device(name: str) -> str:
    """The device of this process: each has a GPU of its own where there are GPUs."""
    if size() == 1:
        return name
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        return f"cuda:{_HERE.launch.local_rank}"
    if name != "cpu":
        raise UserError("device", name, f"{size()} processes run on cpu or cuda, each with a GPU of its own")
    return name


# ---------------------------------------------------------------- what all know (together)


def gathered(value: T) -> list[T]:
    """Every process's value, in their order."""
    if size() == 1:
        return [value]
    import torch.distributed as dist

    out: list[Any] = [None] * size()
    dist.all_gather_object(out, value, group=_HERE.control)
    return out


def agreed(value: T) -> T:
    """The first process's value."""
    if size() == 1:
        return value
    import torch.distributed as dist

    box = [value]
    dist.broadcast_object_list(box, src=0, group=_HERE.control)
    return box[0]


def total(values: Sequence[float]) -> list[float]:
    """Sums over the processes, added in their order."""
    if size() == 1:
        return list(values)
    return [sum(column) for column in zip(*gathered(list(values)))]


def any_of(flag: bool) -> bool:
    return any(gathered(flag))


def barrier() -> None:
    if size() > 1:
        gathered(None)


# ---------------------------------------------------------------- shares


def share(items: Sequence[T], group: int = 1) -> list[T]:
    """This process's part of `items`; every `group` neighbours stay together."""
    return [x for i, x in enumerate(items) if i // group % size() == rank()]


def spread(work: Callable[[Sequence[T]], Sequence[U]], items: Sequence[T], each: int = 1) -> list[U]:
    """work(items), done in shares (together). `work` gives `each` results an item, in order, alone of that item."""
    if size() == 1:
        return list(work(items))
    mine = share(items)
    done = list(work(mine)) if mine else []
    if len(done) != each * len(mine):
        raise ValueError(f"{len(done)} results of {len(mine)} items, {each} each were due")
    parts = gathered(done)
    n = size()
    return [u for i in range(len(items)) for u in parts[i % n][i // n * each : (i // n + 1) * each]]


def spread_rollouts(
    work: Callable[[Sequence[Prompt]], Sequence[Rollout]], prompts: Sequence[Prompt], each: int
) -> list[Rollout]:
    """`spread` for completions: the prompts themselves, which all processes have, do not travel."""
    if size() == 1:
        return list(work(prompts))
    nobody = Prompt("", "")
    lean = spread(lambda part: [dataclasses.replace(r, prompt=nobody) for r in work(part)], prompts, each)
    return [dataclasses.replace(r, prompt=prompts[i // each]) for i, r in enumerate(lean)]


# ---------------------------------------------------------------- how it ends


def should_report(message: str) -> bool:
    """Whether this process should print its error: the first one does, another one if it knows something else."""
    if size() == 1:
        return True
    try:
        _HERE.store.set(f"error/{rank()}", message)
        if is_main():
            return True
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            if _HERE.store.check(["error/0"]):
                return bool(_HERE.store.get("error/0").decode() != message)
            time.sleep(0.05)
    except Exception:  # the store went away with the first process
        return True
    return True


def connection_error(error: BaseException) -> UserError | None:
    """What to say when a call that all make together failed: another process ended. None: it is something else."""
    if size() == 1:
        return None
    import torch.distributed as dist

    text = str(error)
    told = isinstance(error, dist.DistError) or any(w in text for w in ("gloo", "NCCL", "Connection closed by peer"))
    if not told:
        return None
    hint = "lost the other processes: see what they said above; the same command resumes from the last checkpoint"
    return UserError("process", f"{rank()} of {size()}", hint)
