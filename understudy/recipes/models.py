"""Shapes of the public models that the recipes name: memory and FLOPs follow from them, without weights.

From each model's public config.json; the parameter counts that follow are checked against the published totals in
tests/golden/test_recipe_costs.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.errors import UserError, check_file
from understudy.specs import build, parse_spec


@dataclass(frozen=True)
class Shape:
    """A decoder of the Llama or Qwen kind: grouped-query attention, gated MLP."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head: int
    """Dimensions of one attention head."""
    mlp: int
    """Width of the MLP."""
    vocabulary: int
    """Rows of the embedding: the tokenizer's tokens and padding."""
    tied: bool
    """Whether input embedding and output head are one matrix."""
    bias: bool = False
    """Biases on q, k and v (Qwen2)."""
    head_norms: bool = False
    """A norm of every head's q and k (Qwen3)."""
    tokenizer: str = ""
    """Family: models of one family give a text the same ids."""

    @property
    def matrices(self) -> int:
        """Weights that every token is multiplied with: all layers and the output head, without the input embedding."""
        attention = self.width * self.head * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.width * self.mlp) + self.width * self.vocabulary

    @property
    def parameters(self) -> int:
        """All weights."""
        small = 2 * self.width + (2 * self.head if self.head_norms else 0)
        small += self.head * (self.heads + 2 * self.kv_heads) if self.bias else 0
        embedding = 0 if self.tied else self.width * self.vocabulary
        return self.matrices + self.layers * small + self.width + embedding

    @property
    def cache(self) -> int:
        """Numbers per token in the key-value cache."""
        return 2 * self.layers * self.kv_heads * self.head


def _qwen2(layers: int, width: int, heads: int, kv: int, mlp: int, vocabulary: int, tied: bool, name: str) -> Shape:
    return Shape(layers, width, heads, kv, 128, mlp, vocabulary, tied, bias=True, tokenizer=name)


QWEN, R1, LLAMA, R1_QWEN3 = "Qwen2.5", "DeepSeek-R1-Distill-Qwen", "Llama-3", "DeepSeek-R1-0528-Qwen3"
MODELS: Mapping[str, Shape] = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": Shape(30, 576, 9, 3, 64, 1536, 49_152, True, tokenizer="SmolLM2"),
    "Qwen/Qwen2.5-1.5B-Instruct": _qwen2(28, 1536, 12, 2, 8960, 151_936, True, QWEN),
    "Qwen/Qwen2.5-3B-Instruct": _qwen2(36, 2048, 16, 2, 11_008, 151_936, True, QWEN),
    "Qwen/Qwen2.5-7B-Instruct": _qwen2(28, 3584, 28, 4, 18_944, 152_064, False, QWEN),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": _qwen2(28, 1536, 12, 2, 8960, 151_936, False, R1),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": _qwen2(28, 3584, 28, 4, 18_944, 152_064, False, R1),
    "agentica-org/DeepScaleR-1.5B-Preview": _qwen2(28, 1536, 12, 2, 8960, 151_936, False, R1),
    "Skywork/Skywork-OR1-7B": _qwen2(28, 3584, 28, 4, 18_944, 152_064, False, R1),
    "meta-llama/Llama-3.2-3B": Shape(28, 3072, 24, 8, 128, 8192, 128_256, True, tokenizer=LLAMA),
    "meta-llama/Llama-3.1-8B": Shape(32, 4096, 32, 8, 128, 14_336, 128_256, False, tokenizer=LLAMA),
    "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B": Shape(
        36, 4096, 32, 8, 128, 12_288, 151_936, False, head_norms=True, tokenizer=R1_QWEN3
    ),
}


def shape_of(spec: str, field: str = "student") -> Shape:
    """The shape of a public model, of a local model directory, or of `scratch:...`. UserError: not known."""
    if spec in MODELS:
        return MODELS[spec]
    if spec.partition(":")[0] == "scratch":
        return _scratch(spec, field)
    for path in (Path(spec) / "config.json", Path(spec) / "final" / "config.json"):
        if path.is_file() and (shape := from_config(path, field)) is not None:
            return shape
    raise UserError(field, spec, "its shape is not known without its config.json: give a local model directory")


def _scratch(spec: str, field: str) -> Shape:
    from understudy.policy import Scratch  # imports torch

    scratch = build(Scratch, parse_spec(spec, field).args, field)
    head = scratch.width // scratch.heads
    mlp = 8 * round(scratch.width / 3)
    extra = {"bias": scratch.arch == "qwen2", "head_norms": scratch.arch == "qwen3"}
    return Shape(
        scratch.layers, scratch.width, scratch.heads, scratch.heads, head, mlp, 262, True, tokenizer="ours", **extra
    )


def from_config(path: Path, field: str) -> Shape | None:
    """The shape that a Hugging Face config.json states; None where it is no model's. UserError: not readable."""
    check_file(path, field)
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(field, path, f"cannot be read as JSON ({error})") from None
    if not isinstance(raw, dict) or "model_type" not in raw:
        return None
    try:
        heads, width = int(raw["num_attention_heads"]), int(raw["hidden_size"])
        return Shape(
            int(raw["num_hidden_layers"]), width, heads, int(raw.get("num_key_value_heads") or heads),
            int(raw.get("head_dim") or width // heads), int(raw["intermediate_size"]), int(raw["vocab_size"]),
            bool(raw.get("tie_word_embeddings", False)), raw["model_type"] == "qwen2", raw["model_type"] == "qwen3",
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        raise UserError(field, path, "does not state the shape of a Llama or Qwen kind of model") from None
