"""Every way to decode gives what full passes give, and the probe finds the fastest one that does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from understudy.policy import Policy, decoding, load_policy
from understudy.policy.fast import FastSteps
from understudy.policy.sampling import draw
from understudy.tasks import load_task
from understudy.types import Prompt

SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 67,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.3, "eos_token_id": 1,
    "pad_token_id": 0, "bos_token_id": None,
}  # fmt: skip
PLAIN: dict[str, dict[str, Any]] = {
    "llama": {}, "qwen2": {}, "qwen3": {"head_dim": 8}, "mistral": {"sliding_window": None},
    "llama with biases, tied": {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "llama3 positions": {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 4.0,
                         "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}},
}  # fmt: skip
OTHERS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "initializer_range": 0.3},
    "gemma2": {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8},
    "mistral": {"sliding_window": 6},
    "mamba": {"state_size": 8, "use_mambapy": False},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "qwen3_next": {"head_dim": 8, "layer_types": ["linear_attention", "full_attention"], "linear_key_head_dim": 8,
                   "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
                   "num_experts": 0, "mlp_only_layers": [0, 1]},
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1, "chunk_size": 8, "expand": 2},
    "rwkv": {"attention_hidden_size": 32, "context_length": 256},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8, "mamba_dt_rank": 8, "num_experts": 1},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"], "mamba_n_heads": 8, "mamba_d_head": 8,
                         "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8, "num_local_experts": 0,
                         "shared_intermediate_size": 48},
    "falcon_h1": {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "head_dim": 8,
                  "mamba_chunk_size": 8},
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_task("countdown").tokenizer()


def model_of(kind: str, **options: Any) -> Any:
    config = AutoConfig.for_model(kind, **(SIZES | options))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return AutoModelForCausalLM.from_config(config).eval()


def check(model: Any, tokenizer: Any, kinds: tuple[str, ...], samples: int = 3) -> None:
    """Asserts: recorded log-probs are those of full passes of each row alone, with rows that end at different times."""
    policy = Policy(model, tokenizer, "odd")
    policy.end_ids = tuple(range(1, 67, 5))
    kind = decoding.kind(model, policy.pad_id, policy.inference)
    assert kind in kinds
    ids = [tuple((7 * j + i) % 60 + 2 for j in range(n)) for i, n in enumerate((3, 20, 9, 20))]
    prompts = [Prompt(f"p{i}", "", ids=x) for i, x in enumerate(ids)]
    rollouts = draw(policy.start, lambda ids: ["" for _ in ids], policy.end_ids, prompts, samples, 1, 18, "student")
    assert samples == 1 or len({len(r.ids) for r in rollouts}) > 1, "no row left before another"
    for r in rollouts:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([r.prompt.ids + r.ids]), use_cache=False).logits[0]
        logp_TV = logits[len(r.prompt.ids) - 1 : -1].log_softmax(-1)
        want = logp_TV.gather(-1, torch.tensor(r.ids)[:, None])[:, 0]
        assert (want - torch.tensor(r.behavior_logp)).abs().max() < 1e-4, kind


@pytest.mark.parametrize("samples", [1, 5])
@pytest.mark.parametrize("name", PLAIN)
def test_plain_decoders_are_decoded_fast(name: str, samples: int, tokenizer: Any) -> None:
    """Catches wrong positions, rotations, groups, masks of padding, slots of shared prompts, and rows that stay in the
    cache after they have ended."""
    check(model_of(name.split()[0].replace("llama3", "llama"), **PLAIN[name]), tokenizer, ("fast",), samples)


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_are_decoded_exactly(name: str, tokenizer: Any) -> None:
    """Catches caches that are lost, shared wrongly, or cannot drop rows: state-space and hybrid models, windows."""
    check(model_of(name, **OTHERS[name]), tokenizer, ("cached", "whole"))


def test_a_long_window_is_a_window(tokenizer: Any) -> None:
    """Catches a window that is longer than what is tried at load, and so would be ignored."""
    model = model_of("mistral", sliding_window=200)
    assert decoding.kind(model, 0, Policy(model, tokenizer, "odd").inference) == "cached"


def test_small_logits_are_no_error(tokenizer: Any) -> None:
    """Catches a probe that takes rounding for a wrong cache where a new model is almost uniform, as with a large
    vocabulary."""
    model = model_of("llama", vocab_size=3001)
    with torch.no_grad():
        model.model.norm.weight.mul_(1e-4)
    assert decoding.kind(model, 0, Policy(model, tokenizer, "odd").inference) == "fast"


def test_bfloat16_and_an_adapter(models: dict[str, Path]) -> None:
    """Catches a fast path that ignores an adapter, or computes a bfloat16 model otherwise than the model does."""
    policy = load_policy(str(models["llama"]), "student", device="cpu")
    policy.adapt(2, 4.0, 0.0, "all-linear", 0)
    with torch.no_grad():
        for name, p in policy.trained().items():
            p.copy_(torch.randn_like(p) * 0.5 if "lora_B" in name else p)
    steps = policy.start([Prompt("a", "", ids=(5, 6, 7)), Prompt("b", "", ids=(8, 9))])
    assert isinstance(steps, FastSteps)
    plain = policy.reference().start([Prompt("a", "", ids=(5, 6, 7)), Prompt("b", "", ids=(8, 9))])
    want = policy.model(torch.tensor([[5, 6, 7]])).logits[0, -1]
    torch.testing.assert_close(steps.next_logits()[0], want.detach(), atol=1e-4, rtol=1e-4)
    assert (plain.next_logits()[0] - want).abs().max() > 1e-2, "the adapter changes nothing: the test shows nothing"
    half = load_policy(str(models["qwen3"]), "student", device="cpu", dtype="bfloat16")
    assert isinstance(half.start([Prompt("a", "", ids=(5, 6, 7))]), FastSteps)


def test_a_prompt_is_computed_once(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a prefill for every sample of a prompt."""
    policy = load_policy(str(models["llama"]), "student", device="cpu")
    policy.start([Prompt("first", "", ids=(5,))])  # tries what is exact
    sizes: list[int] = []
    prefill = FastSteps._prefill
    monkeypatch.setattr(FastSteps, "_prefill", lambda self, ids, *a: sizes.append(len(ids)) or prefill(self, ids, *a))
    prompts = [Prompt(f"p{i}", "", ids=(5, 6, 7 + i)) for i in range(3)]
    draw(policy.start, policy.decode, policy.end_ids, prompts, 8, 1, 4, "student")
    assert sizes == [3]
