"""A checkpoint has the names of published files: whatever they are, a resume gives the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import config

from tools.tiny_models import make
from understudy.errors import UserError
from understudy.policy import Policy, load_policy
from understudy.runs.checkpoint import load_tensors
from understudy.runs.read import checkpoints
from understudy.tasks import load_task
from understudy.training.train import train

RENAMED = ("mixtral", "qwen3_moe", "nemotron_h", "gpt_neox", "granitemoe", "hy_v3", "camembert", "qwen3_5")
"""Experts that are fused, parts that have other names, matrices that are split; a tied bias; a composite model."""


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_task("countdown").tokenizer()


def changed(folder: Path) -> Policy:
    policy = load_policy(str(folder), "student", device="cpu")
    torch.manual_seed(3)
    with torch.no_grad():
        for p in policy.trained().values():
            p.add_(0.1 * torch.randn_like(p))
    return policy


@pytest.mark.parametrize("kind", RENAMED)
def test_weights_come_back_bit_for_bit(kind: str, tokenizer: Any, tmp_path: Path) -> None:
    """Catches a resume that compares the names in a file with those in memory."""
    make(kind, tokenizer, tmp_path / "model")
    policy = changed(tmp_path / "model")
    policy.save_trained(tmp_path / "checkpoint")
    other = load_policy(str(tmp_path / "model"), "student", device="cpu")
    parameters = [id(p) for p in other.trained().values()]
    random = torch.get_rng_state()
    other.load_weights(tmp_path / "checkpoint")
    assert torch.equal(torch.get_rng_state(), random), "loading weights drew random numbers"
    assert [id(p) for p in other.trained().values()] == parameters, "an optimizer would hold other parameters"
    want, got = policy.model.state_dict(), other.model.state_dict()
    assert set(want) == set(got)
    assert all(torch.equal(got[n], want[n]) for n in want)


def test_weights_of_a_published_composite_model(tokenizer: Any, tmp_path: Path) -> None:
    """Catches names with and without the prefix of the language model, as in Gemma 3 and Qwen3.5."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    from tools.tiny_models import SIZES

    text = {n: SIZES[n] for n in ("hidden_size", "intermediate_size", "num_hidden_layers", "head_dim", "vocab_size")}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 8, "eos_token_id": 1}
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14}
    ids = {"image_token_index": 5, "boi_token_index": 6, "eoi_token_index": 7}
    composite = Gemma3ForConditionalGeneration(
        Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, **ids)
    )
    composite.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    policy = changed(tmp_path / "model")
    policy.save_trained(tmp_path / "checkpoint")
    other = load_policy(str(tmp_path / "model"), "student", device="cpu")
    other.load_weights(tmp_path / "checkpoint")
    final = load_policy(str(tmp_path / "checkpoint"), "student", device="cpu")
    want = policy.model.state_dict()
    for state in (other.model.state_dict(), final.model.state_dict()):
        assert all(torch.equal(state[n], want[n]) for n in want)


def test_weights_of_another_model_are_refused(tokenizer: Any, tmp_path: Path) -> None:
    """Catches a conversion that fills what is missing with random numbers."""
    make("mixtral", tokenizer, tmp_path / "a")
    make("mixtral", tokenizer, tmp_path / "b", num_hidden_layers=1)
    make("llama", tokenizer, tmp_path / "c")
    policy = load_policy(str(tmp_path / "a"), "student", device="cpu")
    for other in ("b", "c"):
        with pytest.raises(UserError, match=r"does not fit the student: .* differs; use the run's own model"):
            policy.load_weights(tmp_path / other)


def test_a_mixture_of_experts_is_killed_and_resumed(tokenizer: Any, tmp_path: Path) -> None:
    """Catches a run that is lost, or goes on with other weights than a run that was not stopped."""
    make("mixtral", tokenizer, tmp_path / "model")
    changes: dict[str, Any] = {"student": str(tmp_path / "model"), "updates": 3, "save_every": 1, "lr": 0.01}

    class Killed(Exception):
        pass

    def killer(phase: str, done: int, total: int, note: str) -> None:
        if phase == "train" and done == 2:
            raise Killed

    whole = train(config("sft", tmp_path / "whole", **changes))
    with pytest.raises(Killed):
        train(config("sft", tmp_path / "cut", **changes), killer)
    assert checkpoints(tmp_path / "cut")
    cut = train(config("sft", tmp_path / "cut", **changes))
    a, b = (load_tensors(run / "final" / "model.safetensors") for run in (whole, cut))
    assert set(a) == set(b)
    assert all(torch.equal(a[n], b[n]) for n in a)
