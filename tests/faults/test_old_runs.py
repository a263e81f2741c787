"""A run that an earlier version began: its config.json has none of the fields that came later."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from many_processes import until

from understudy.config import TrainConfig, load
from understudy.errors import UserError
from understudy.runs.checkpoint import load_tensors
from understudy.training.train import train

OLD = Path(__file__).parents[1] / "golden" / "config-2026-11-30.json"
LATER = {"signal", "extrapolation", "expert_coef", "expert_anneal", "advantage_coef", "sft_alpha", "token_match"}
"""Fields that opd_full has got since."""
CHANGES: list[tuple[str, Any]] = [
    ("signal", "extrapolated"),
    ("sft_alpha", 0.2),
    ("token_match", "shared"),
    ("expert", "self:context=gold"),
    ("weight", "expert_reward"),
]


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """Two of four updates, with the configuration that was recorded then."""
    old = json.loads(OLD.read_text())
    assert {f.name for f in fields(TrainConfig)} - set(old) >= LATER
    out = tmp_path / "run"
    until(2, replace(load(OLD), out=str(out)))
    (out / "config.json").write_text(json.dumps(old | {"out": str(out)}))
    return out


def test_it_goes_on_as_it_began(begun: Path, tmp_path: Path) -> None:
    whole = train(replace(load(OLD), out=str(tmp_path / "whole")))
    for config in (load(begun / "config.json"), replace(load(OLD), out=str(begun))):
        assert train(config) == begun
    want, got = (load_tensors(run / "final" / "model.safetensors") for run in (whole, begun))
    assert all((got[name] == want[name]).all() for name in want)
    assert json.loads((begun / "config.json").read_text()).keys() & LATER == set()


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_a_later_field_with_another_value_is_one_line(name: str, value: Any, begun: Path) -> None:
    """Catches a field that an old run lacks and that is then taken for the same."""
    samples = {"samples_per_prompt": 2} if name == "weight" else {}
    with pytest.raises(UserError, match="belongs to another configuration") as error:
        train(replace(load(OLD), out=str(begun), **samples, **{name: value}))
    assert name in str(error.value)
    assert "\n" not in str(error.value)
