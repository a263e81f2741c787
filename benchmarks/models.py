"""The models and prompts of the measurements: random weights, with completion lengths that are set by a bias.

A bias on the output of the end token is all that controls lengths: Understudy, transformers and TRL read it alike. All
other tokens are nearly uniform, so a completion ends at each token with about the same probability.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

NEVER = -1e4
"""Bias of an end token that is not drawn."""


@dataclass(frozen=True)
class Dims:
    """Shape of a Llama model without its vocabulary."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int


DIMS = {
    "1M": Dims(128, 5, 4, 4, 344),
    "4M": Dims(256, 5, 8, 8, 680),
    "135M": Dims(576, 30, 9, 3, 1536),  # the shape of SmolLM2-135M
    "narrow": Dims(32, 2, 2, 2, 88),  # all but the embedding is small
    "narrow expert": Dims(64, 2, 2, 2, 176),
}
VOCABULARY = {"135M": 49_152}
TOKENS = 262  # of the tokenizer: one per letter


def end_bias(mean: float, vocabulary: int) -> float:
    """The bias with which a completion ends at each token with probability 1 / mean. 0 = it never ends."""
    if not mean:
        return NEVER
    return math.log((vocabulary - 1) / (mean - 1))


def make(name: str, vocabulary: int = 0, mean: float = 0, seed: int = 0) -> Any:
    """A transformers model on the CPU, float32. vocabulary: 0 = its own, or the tokenizer's. mean: see `end_bias`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from understudy.tasks.tokenizer import shared_tokenizer

    tokenizer, d = shared_tokenizer(), DIMS[name]
    vocabulary = vocabulary or VOCABULARY.get(name, TOKENS)
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=d.width, num_hidden_layers=d.layers, num_attention_heads=d.heads, num_key_value_heads=d.kv_heads,
        intermediate_size=d.mlp, vocab_size=vocabulary, max_position_embeddings=1024, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    head = torch.nn.Linear(d.width, vocabulary, bias=True)
    head.weight = model.model.embed_tokens.weight
    with torch.no_grad():
        head.bias.zero_()
        head.bias[tokenizer.eos_token_id] = end_bias(mean, vocabulary)
    model.lm_head = head
    return model.eval()


def text(number: int, length: int) -> str:
    """Prompt `number`: `length` letters, each of them one token."""
    import random

    draw = random.Random(number)
    return "".join(draw.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(length))
