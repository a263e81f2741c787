"""A student's weights as vLLM takes them: a model folder, or named tensors."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from understudy.policy import Policy
from understudy.runs.checkpoint import load_tensors, save_tensors
from understudy.runs.files import read_json, write_json

HEAD = "lm_head.weight"


def write_untied(policy: Policy, folder: Path) -> None:
    """The model with a head of its own. From a folder whose head is tied to the embedding vLLM 0.32 reloads the
    embedding and keeps the old head ("ParallelLMHead: Failed to load weights"), answers 200, and is neither model.
    """
    policy.save(folder)
    config = read_json(folder / "config.json")
    if not config.get("tie_word_embeddings"):
        return
    head = {HEAD: policy.model.get_output_embeddings().weight}
    index = folder / "model.safetensors.index.json"
    if index.exists():
        name = "model-head.safetensors"
        save_tensors(folder / name, head, {"format": "pt"})
        table = read_json(index)
        table["weight_map"][HEAD] = name
        write_json(index, table)
    else:
        file = folder / "model.safetensors"
        save_tensors(file, load_tensors(file) | head, {"format": "pt"})
    write_json(folder / "config.json", config | {"tie_word_embeddings": False})


def named_weights(policy: Policy) -> dict[str, Tensor]:
    """The tensors that `write_untied` writes, by the names in its files, without a copy (an adapter is merged)."""
    from transformers.core_model_loading import revert_weight_conversion  # seconds

    state = policy.state()
    if policy.adapter is not None:
        state = policy.adapter.merged(state)
    return revert_weight_conversion(policy.model, {HEAD: policy.model.get_output_embeddings().weight} | state)
