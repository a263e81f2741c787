"""A policy's weights distributed over several processes by torch's FSDP2 (`fully_shard`), and distributed checkpoints.

Training runs with sharded weights: each block is gathered for its forward and its backward pass only, and all processes
make the same passes. Sampling and scoring run with whole weights on every process (`gathered_weights`), so that each
process can make as many passes as its rows need without waiting for another.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from understudy import distributed
from understudy.errors import UserError
from understudy.methods.kernel import Entropies, Losses
from understudy.methods.losses import Objective
from understudy.policy.model import Policy
from understudy.types import Batch

FOLDER = "shards"


class Shards:
    """The sharding of one policy. All processes must call what is marked (collective)."""

    def __init__(self, policy: Policy) -> None:
        """Shard `policy` in place (collective); make optimizers afterwards."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

        model = policy.model
        self.first = distributed.is_main()
        self.mesh: Any = init_device_mesh(policy.device.type, (distributed.size(),))
        precision = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if policy.mixed else None,
            reduce_dtype=torch.float32 if policy.mixed else None,
            cast_forward_inputs=False,
        )
        for block in _blocks(model):
            fully_shard(block, mesh=self.mesh, mp_policy=precision)
        fully_shard(model, mesh=self.mesh, mp_policy=precision, reshard_after_forward=False)
        # the loss is computed inside a forward pass of the root, so that the head's weights are whole there
        model.understudy_losses = policy.local_losses
        register_fsdp_forward_method(model, "understudy_losses")
        self.model = model
        self.check()
        with torch.no_grad():  # the first pass makes `model` the root; its blocks alone would not know
            model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=policy.device), use_cache=False)
        model.reshard()
        self._modules = [m for m in model.modules() if hasattr(m, "set_reshard_after_forward")]

    def check(self) -> None:
        """UserError unless every parameter is sharded and the parts add up to the whole (collective)."""
        from torch.distributed.tensor import DTensor

        parameters = dict(self.model.named_parameters())
        whole = [n for n, p in parameters.items() if not isinstance(p, DTensor) or not p.placements[0].is_shard()]
        if whole:
            raise UserError(
                "processes", distributed.size(), f"{whole[0]} is not sharded: this model cannot be distributed"
            )
        parts = distributed.gathered(self.here)
        wanted = sum(p.numel() for p in parameters.values())
        if sum(parts) != wanted or max(parts) == wanted:
            raise UserError("processes", distributed.size(), f"hold {parts} of {wanted} weights: this is no sharding")

    @property
    def here(self) -> int:
        """Weights that this process holds."""
        return sum(p.to_local().numel() for p in self.model.parameters())

    @contextlib.contextmanager
    def gathered_weights(self) -> Iterator[None]:
        """Whole weights on every process, to sample and to score with (collective at both ends, not in between)."""
        for module in self._modules:
            module.set_reshard_after_forward(False, recurse=False)
            module.unshard()
        try:
            yield
        finally:
            for module in self._modules:
                module.set_reshard_after_forward(module is not self.model, recurse=False)
                module.reshard()

    def losses(self, batch: Batch, goal: Objective, scale_N: Tensor, chunk: int, entropies: Entropies | None) -> Losses:
        """Policy.local_losses with sharded weights (collective)."""
        return self.model.understudy_losses(batch, goal, scale_N, chunk, entropies)

    def whole(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every weight, whole, on the CPU of the first process; {} elsewhere (collective)."""
        tied = {n: id(p) for n, p in self.model.named_parameters(remove_duplicate=False)}
        gathered: dict[int, Tensor] = {}
        out: dict[str, Tensor] = {}
        for name, tensor in state.items():
            key = tied.get(name, id(tensor))
            if key not in gathered:
                full = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
                gathered[key] = full.cpu() if self.first else full.new_empty(0)
            if self.first:
                out[name] = gathered[key]
        return out

    def like(self, own: Tensor, tensor: Tensor) -> Tensor:
        """This process's part of a whole `tensor`, sharded as `own` is."""
        from torch.distributed.tensor import DTensor, distribute_tensor

        if not isinstance(own, DTensor):
            return tensor
        here = tensor.to(own.device)
        return distribute_tensor(here, own.device_mesh, own.placements, src_data_rank=None)


def shard(policy: Policy) -> str:
    """Shard `policy` over the processes (collective). Returns one line on what it runs on now."""
    if int(torch.__version__.split(".")[0]) * 100 + int(torch.__version__.split(".")[1]) < 209:
        raise UserError("processes", distributed.size(), f"need torch 2.9 or newer, not {torch.__version__}")
    policy.shards = Shards(policy)
    number = sum(p.numel() for p in policy.model.parameters())
    parts = distributed.gathered(policy.shards.here)
    where = sorted({str(d) for d in distributed.gathered(str(policy.device))})
    backend = "NCCL" if policy.device.type == "cuda" else "gloo"
    return (
        f"{distributed.size()} processes on {', '.join(where)} ({backend}, FSDP2): {number:,} weights, "
        f"{min(parts):,} to {max(parts):,} on each"
    )


def write_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """A distributed checkpoint of sharded tensors: each process writes its part, as safetensors (collective)."""
    import torch.distributed.checkpoint as dcp

    with _quiet():
        dcp.save(dict(tensors), storage_writer=dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True))


def read_shards(folder: Path, into: Mapping[str, Tensor]) -> None:
    """Fill these tensors, sharded or whole, from a distributed checkpoint of any number of processes (collective)."""
    import torch.distributed.checkpoint as dcp

    reader = dcp.HuggingFaceStorageReader(str(folder))
    have = reader.read_metadata().state_dict_metadata
    for name, tensor in into.items():
        size = getattr(have.get(name), "size", None)
        if size != tensor.shape:
            hint = f"does not fit the student: {name} differs; use the run's own model"
            raise UserError("checkpoint", folder.parent, hint)
    with _quiet():
        dcp.load(dict(into), storage_reader=reader, no_dist=distributed.size() == 1)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _blocks(model: Any) -> list[Any]:
    """The transformer blocks: the modules that Hugging Face does not split, or else the longest list of modules."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    blocks = [m for m in model.modules() if type(m).__name__ in names]
    if not blocks:
        lists: list[Any] = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList)]
        blocks = list(max(lists, key=lambda modules: sum(1 for _ in modules))) if lists else []
    return blocks
