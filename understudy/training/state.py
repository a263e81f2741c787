"""What a resume needs beside the configuration, into a checkpoint and back: weights, optimizer, random numbers.

Two formats. One process writes a Hugging Face model (or its adapter) and one file of optimizer state. Several write
a distributed checkpoint, each its part, in shards/. Either is read by any number of processes.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from understudy import distributed
from understudy.errors import UserError
from understudy.policy import Policy
from understudy.policy.sharding import FOLDER, read_shards, write_shards
from understudy.randomness import seed_from
from understudy.runs.checkpoint import (
    Checkpoint,
    load_optimizer,
    optimizer_tensors,
    random_state,
    read_checkpoint,
    set_random_state,
)
from understudy.runs.directory import RunDir


def seed_all(seed: int) -> None:
    """The global random state, which a model's dropout draws from: the same whatever the process did before."""
    random.seed(seed_from("python", seed))
    np.random.seed(seed_from("numpy", seed) % 2**32)
    torch.manual_seed(seed_from("torch", seed, *_other()) % 2**63)


def _other() -> tuple[object, ...]:
    """Every process but the first has random numbers of its own: dropout must differ between rows."""
    return () if distributed.is_main() else ("process", distributed.rank())


def save_state(
    run: RunDir, step: int, student: Policy, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Write the checkpoint of `step`; `state` is the caller's JSON."""
    if student.shards is None:
        tensors, meta = optimizer_tensors(optimizer)
        run.save(step, student.save_trained, tensors | random_state(), state | {"optimizer": meta})
        return
    sharded, whole, meta = _parts(student, optimizer)
    others: dict[str, Tensor] = {}
    for rank, own in enumerate(distributed.gathered(random_state())):
        others |= {f"process{rank}.{n}" if rank else n: t for n, t in own.items()}

    def write_model(folder: Path) -> None:
        if distributed.is_main():
            student.model.config.save_pretrained(folder)
            student.tokenizer.save_pretrained(folder)
        write_shards(folder / FOLDER, sharded)

    run.save(step, write_model, whole | others, state | {"optimizer": meta})


def load_weights(run: RunDir, step: int, student: Policy) -> None:
    """Put back the weights alone of a checkpoint of `run` (collective). UserError: it is missing or damaged."""
    path = run.path / "checkpoints" / f"step-{step:08d}"
    found = read_checkpoint(path) if distributed.is_main() else ""
    problem = distributed.agreed(found if isinstance(found, str) else "")
    if problem:
        raise UserError("checkpoint", path, f"cannot be restored: {problem}; train again in a new --out")
    if (path / FOLDER).is_dir():
        read_shards(path / FOLDER, {f"model.{n}": t for n, t in _weights(student).items()})
    else:
        student.load_weights(path)


def load_state(checkpoint: Checkpoint, student: Policy, optimizer: torch.optim.Optimizer, seed: int) -> None:
    """Put back what `save_state` wrote, with any number of processes then and now."""
    meta = checkpoint.state["optimizer"]
    shards = checkpoint.path / FOLDER
    tensors = dict(checkpoint.tensors)
    if not shards.is_dir():
        student.load_weights(checkpoint.path)
        if student.shards is not None:
            parameters = list(student.trained().values())
            for name, tensor in tensors.items():
                kind, _, rest = name.partition(".")
                if kind == "optimizer" and tensor.dim():
                    tensors[name] = student.shards.like(parameters[int(rest.partition(".")[0])], tensor)
    else:
        parameters = list(student.trained().values())
        moments = {
            f"optimizer.{i}.{name}": torch.zeros_like(parameters[int(i)].detach())
            for i, names in meta["sharded"].items()
            for name in names
            if int(i) < len(parameters)
        }
        read_shards(shards, {f"model.{n}": t for n, t in _weights(student).items()} | moments)
        tensors |= moments
    load_optimizer(optimizer, tensors, meta)
    own = f"process{distributed.rank()}."
    if distributed.is_main():
        set_random_state(tensors)
    elif f"{own}random.torch" in tensors:
        set_random_state({n.removeprefix(own): t for n, t in tensors.items() if n.startswith(own)})
    else:  # fewer processes wrote it: this one begins with random numbers of its own
        seed_all(seed_from(seed, checkpoint.step) % 2**62)


def _weights(student: Policy) -> dict[str, Tensor]:
    """What a distributed checkpoint holds of the model, each tied weight once."""
    if student.adapter is not None:
        return {n: p.detach() for n, p in student.trained().items()}
    kept = set(student.model.state_dict())
    buffers = {n: b for n, b in student.model.named_buffers() if n in kept}
    return {n: p.detach() for n, p in student.model.named_parameters()} | buffers


def _parts(
    student: Policy, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """(sharded tensors, those that every process has whole, the optimizer's description)."""
    sharded = {f"model.{n}": t for n, t in _weights(student).items()}
    whole: dict[str, Tensor] = {}
    names: dict[str, list[str]] = {}
    state = optimizer.state_dict()["state"]
    for index, entry in state.items():
        for name, value in entry.items():
            if hasattr(value, "full_tensor"):
                sharded[f"optimizer.{index}.{name}"] = value
                names.setdefault(str(index), []).append(name)
            elif isinstance(value, Tensor):
                whole[f"optimizer.{index}.{name}"] = value
    _, meta = optimizer_tensors(optimizer, tensors=False)
    return sharded, whole, meta | {"sharded": names}
