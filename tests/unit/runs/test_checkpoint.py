"""Optimizer and random state survive the round trip through a file bit by bit."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from understudy.errors import UserError
from understudy.runs.checkpoint import (
    digest,
    exact,
    load_optimizer,
    load_tensors,
    optimizer_tensors,
    random_state,
    save_tensors,
    set_random_state,
)


def make(dtype: torch.dtype = torch.float32, **options: Any) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.ReLU(), torch.nn.Linear(7, 3)).to(dtype)
    weights = [model[0].weight, model[2].weight]
    biases = [model[0].bias, model[2].bias]
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0, "lr": 1e-4}]
    return model, torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), **options)


def advance(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        optimizer.param_groups[0]["lr"] = 0.01 / (1 + step)  # a schedule, as the loop sets it
        x = torch.sin(torch.arange(20.0) * (step + 1)).reshape(4, 5).to(model[0].weight.dtype)  # type: ignore[index]
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("dtype", "options"),
    [(torch.float32, {}), (torch.float32, {"amsgrad": True}), (torch.float32, {"fused": True}),
     (torch.float32, {"foreach": True}), (torch.bfloat16, {}), (torch.float64, {})],
)  # fmt: skip
def test_training_goes_on_bit_for_bit(dtype: torch.dtype, options: dict[str, Any], tmp_path: Path) -> None:
    model, optimizer = make(dtype, **options)
    advance(model, optimizer, range(5))
    tensors, meta = optimizer_tensors(optimizer)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    save_tensors(tmp_path / "state.safetensors", tensors)
    advance(model, optimizer, range(5, 10))  # must not change the saved state

    other, fresh = make(dtype, **options)
    other.load_state_dict(weights)
    load_optimizer(fresh, load_tensors(tmp_path / "state.safetensors"), json.loads(json.dumps(meta)))
    assert fresh.param_groups[0]["betas"] == (0.9, 0.95)
    assert fresh.param_groups[1]["lr"] == 1e-4
    advance(other, fresh, range(5, 10))
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    one, two = optimizer_tensors(optimizer), optimizer_tensors(fresh)
    assert one[1] == two[1]
    assert all(torch.equal(one[0][name], two[0][name]) for name in one[0])


def test_optimizer_before_its_first_step() -> None:
    _, optimizer = make()
    tensors, meta = optimizer_tensors(optimizer)
    assert tensors == {}
    load_optimizer(make()[1], tensors, meta)


def test_sgd_and_numbers_in_the_state(tmp_path: Path) -> None:
    model, _ = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    advance(model, optimizer, range(2))
    optimizer.state[model[0].weight]["count"] = 3  # type: ignore[index]
    tensors, meta = optimizer_tensors(optimizer)
    fresh = torch.optim.SGD(make()[0].parameters(), lr=0.1, momentum=0.9)
    load_optimizer(fresh, tensors, meta)
    assert next(iter(fresh.state.values()))["count"] == 3


def test_another_model_or_optimizer_is_refused() -> None:
    model, optimizer = make()
    advance(model, optimizer, range(1))
    tensors, meta = optimizer_tensors(optimizer)
    smaller = torch.optim.AdamW(torch.nn.Linear(5, 7).parameters())
    for other in (smaller, torch.optim.SGD(model.parameters())):
        with pytest.raises(UserError, match="checkpoint: AdamW of 4 parameters: does not fit"):
            load_optimizer(other, tensors, meta)


def draws() -> tuple[Any, ...]:
    return (
        torch.rand(3).tolist(), torch.randn(3).tolist(), np.random.rand(3).tolist(), np.random.normal(),
        random.random(), random.gauss(0, 1),
    )  # fmt: skip


@pytest.mark.parametrize("odd", [False, True])
def test_random_state_round_trip(odd: bool, tmp_path: Path) -> None:
    """`odd`: both Gaussian generators hold a spare number, which belongs to their state."""
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    if odd:
        np.random.normal(), random.gauss(0, 1), torch.randn(1)
    save_tensors(tmp_path / "random.safetensors", random_state())
    want = draws(), draws()
    set_random_state(load_tensors(tmp_path / "random.safetensors"))
    assert (draws(), draws()) == want


def test_tensors_that_share_memory_are_written(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    tensors = {"a": base, "b": base, "c": base.view(2, 3).t(), "d": base[2:4], "e": torch.zeros(0), "f": torch.ones(())}
    save_tensors(tmp_path / "x.safetensors", tensors)
    back = load_tensors(tmp_path / "x.safetensors")
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    assert digest(back) == digest(tensors)


def test_digest_sees_names_types_shapes_and_bits() -> None:
    a = {"x": torch.zeros(4)}
    others = [
        {"y": torch.zeros(4)}, {"x": torch.zeros(2, 2)}, {"x": torch.zeros(4, dtype=torch.int32)},
        {"x": -torch.zeros(4)}, {"x": torch.zeros(4), "y": torch.zeros(0)},
    ]  # fmt: skip
    assert len({digest(a), *map(digest, others)}) == 6


@pytest.mark.parametrize(
    "bad", [{"a": float("nan")}, {"a": [float("inf")]}, {1: 2}, {"a": {None: 1}}, {"a": torch.ones(1)}, {"a": {1, 2}}]
)
def test_state_that_json_would_change_is_refused(bad: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        exact(bad)


def test_state_keeps_floats_exactly() -> None:
    state = {"a": 0.1 + 0.2, "b": 5e-324, "c": -0.0, "d": 2**70, "e": ["é", None, True], "f": (1, 2)}
    assert exact(state) == {**state, "f": [1, 2]}
