"""The student's own dropout is on where it imitates an expert's text, and off on prefixes that a policy has drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import STUDENT, config
from understudy.config import resolve
from understudy.policy import load_policy
from understudy.tasks import load_task
from understudy.training.session import fit
from understudy.training.update import _learning


@pytest.mark.parametrize("checkpointing", [False, True])
def test_dropout_of_the_configuration(checkpointing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two passes differ with dropout and are equal without it, also where activations are computed again."""
    policy = load_policy(STUDENT, "student", load_task("countdown").tokenizer(), device="cpu")
    for block in policy.model.get_decoder().layers:
        block.self_attn.attention_dropout = 0.5
    if checkpointing:
        policy.save_memory()
    ids = torch.tensor([[5, 6, 7, 8, 9]])

    def loss() -> float:
        out = policy.model(input_ids=ids, use_cache=False).logits.square().sum()
        out.backward()
        return float(out.detach())

    _learning(policy.model, dropout=True)
    assert loss() != loss()
    _learning(policy.model, dropout=False)
    assert loss() == loss()
    again = [m for m in policy.model.modules() if getattr(m, "gradient_checkpointing", False)]
    assert bool(again) == checkpointing
    assert all(m.training for m in again)


@pytest.mark.parametrize(
    ("changes", "warned"),
    [({"dtype": "bfloat16", "lr": 1e-5}, True), ({"dtype": "mixed", "lr": 1e-5}, False),
     ({"dtype": "bfloat16", "lr": 1e-5, "lora_rank": 2}, False), ({"dtype": "float32", "lr": 1e-5}, False)],
)  # fmt: skip
def test_bfloat16_weights_get_a_warning(changes: dict[str, Any], warned: bool, tmp_path: Path) -> None:
    if changes.get("lora_rank"):
        pytest.importorskip("peft")
    policy = load_policy(STUDENT, "student", load_task("countdown").tokenizer(), device="cpu")
    notes: list[str] = []
    fit(policy, resolve(config("sft", tmp_path, **changes)), notes.append)
    assert any("--dtype mixed" in note for note in notes) == warned
