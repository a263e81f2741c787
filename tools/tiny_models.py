"""Tiny random models of the installed transformers' causal-LM architectures: hidden 32, mostly two layers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

VOCABULARY = 262
"""Tokens of the built-in tokenizer."""
LARGEST = 3_000_000
"""Weights of a model that is tried."""
SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "emb_dim", "d_inner_size"), 32),
    **dict.fromkeys(("intermediate_size", "decoder_ffn_dim", "encoder_ffn_dim", "d_inner"), 48),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers"), 2),
    **dict.fromkeys(("num_encoder_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("ffn_dim", "dff", "dim_ff"), 48),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("num_encoder_attention_heads", "num_decoder_attention_heads"), 4),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_target_positions", "max_source_positions"), 256),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 16),
    **dict.fromkeys(("ffn_hidden_size", "shared_intermediate_size", "moe_shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("dense_intermediate_size", "first_k_dense_size", "moe_latent_size"), 32),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "o_lora_rank", "n_group_rank"), 16),
    **dict.fromkeys(("qk_nope_head_dim", "v_head_dim", "qk_rope_head_dim", "index_head_dim", "global_head_dim"), 8),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "swa_head_dim"), 8),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads", "index_n_heads"), 2),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_d_state", "mamba_dt_rank"), 8),
    **dict.fromkeys(("state_size", "ssm_state_size"), 8),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size", "n_groups_chunk"), 8),
    **dict.fromkeys(("mamba_n_groups", "n_group", "topk_group", "n_groups"), 1),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    "num_key_value_heads": 2, "head_dim": 8, "num_experts_per_tok": 2, "sliding_window": 8, "initializer_range": 0.2,
    "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0, "first_k_dense_replace": 1, "n_shared_experts": 1,
    "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0, "is_decoder": True, "mamba_expand": 2,
}  # fmt: skip
"""Field of a configuration -> its value here, where the configuration has that field."""


def configuration(kind: str, **fields: Any) -> Any:
    """The configuration of a tiny model of this model type; `fields` replace what would be chosen."""
    from transformers import CONFIG_MAPPING

    return _fill(CONFIG_MAPPING[kind], EXTRA.get(kind, {}) | fields)


def make(kind: str, tokenizer: Any, folder: Path, **fields: Any) -> Any:
    """Write a tiny model of this model type and the tokenizer to `folder`; the model. Weights by torch's seed."""
    import torch
    from transformers import AutoModelForCausalLM

    config = configuration(kind, **fields)
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if size > LARGEST:
        raise ValueError(f"its smallest configuration here has {size:,} weights")
    model = AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def _fill(cls: Any, fields: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    known = {f.name for f in dataclasses.fields(cls)} | set(getattr(cls, "attribute_map", {}))
    values = {name: value for name, value in SIZES.items() if name in known}
    if "kv_lora_rank" in known:  # keys and values of every head
        values["num_key_value_heads"] = values["num_attention_heads"]
    subs = dict(getattr(cls, "sub_configs", {}))
    if AutoConfig in subs.values():
        usual = cls()
        subs = {n: type(getattr(usual, n)) if sub is AutoConfig else sub for n, sub in subs.items()}
    for name, sub in subs.items():
        if sub is not type(None):
            values[name] = _fill(sub, fields.get(name, {}))
    return cls(**values | {n: v for n, v in fields.items() if n not in subs})


_VISION = {"image_size": 28, "patch_size": 14}
_INDEXER = {"indexer_budget": 8, "indexer_compress_ratio": 2, "indexer_head_dim": 8, "indexer_kv_heads": 1,
            "indexer_n_heads": 2}  # fmt: skip
EXTRA: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {"layer_types": ["sliding_attention", "full_attention"]},
    "blt": {"encoder_hash_byte_group_vocab": 50, "encoder_hash_byte_group_size": [3, 4]},
    "dots3_note_text": {"num_key_value_heads": 4},
    "dots3_note": {"text_config": {"num_key_value_heads": 4}},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gptj": {"rotary_dim": 4},
    "codegen": {"rotary_dim": 4},
    "dbrx": {"attn_config": {"rope_theta": 1e4, "kv_n_heads": 2, "clip_qkv": 8.0}},
    "gemma3": {"vision_config": _VISION, "mm_tokens_per_image": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 8},
    "kimi_linear": {"linear_head_dim": 8, "linear_num_heads": 4, "layer_types": ["linear_attention", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "longcat_flash": {"zero_expert_num": 2, "moe_topk": 2},
    "mamba2": {"num_heads": 8},
    "qwen4_exp_text": {**_INDEXER, "hc_lowrank": 8, "layer_types": ["linear_attention", "full_attention"]},
    "qwen4_exp": {"text_config": {**_INDEXER, "hc_lowrank": 8, "layer_types": ["linear_attention", "full_attention"]}},
    "reformer": {
        "axial_pos_embds_dim": [8, 24],
        "axial_pos_shape": [16, 16],
        "attention_head_size": 8,
        "feed_forward_size": 48,
        "local_attn_chunk_length": 8,
        "lsh_attn_chunk_length": 8,
        "attn_layers": ["local", "lsh"],
        "num_buckets": 4,
    },
    "roc_bert": {
        "shape_vocab_size": 20,
        "pronunciation_vocab_size": 20,
        "shape_embed_dim": 8,
        "pronunciation_embed_dim": 8,
    },
    "zamba": {"num_hidden_layers": 4, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"]},
    "zamba2": {"num_hidden_layers": 4, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"]},
    "zaya": {"num_experts_per_tok": 1},
    "bailing_hybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "qwen3_5_text": {"layer_types": ["linear_attention", "full_attention"]},
    "qwen3_5_moe_text": {"layer_types": ["linear_attention", "full_attention"]},
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"]},
    "qwen3_5": {"text_config": {"layer_types": ["linear_attention", "full_attention"]}},
    "qwen3_5_moe": {"text_config": {"layer_types": ["linear_attention", "full_attention"]}},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "bamba": {"attn_layer_indices": [1]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm3": {"layer_types": ["conv", "full_attention"]},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"], "attention_window_size": 8},
}
