"""The weights in a model folder by the names that they have in memory.

transformers fuses the experts of a layer, splits matrices and renames the parts of composite models when it loads a
file, and does the opposite when it saves one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from understudy.runs.checkpoint import load_tensors


def read(folder: Path, architecture: Any, known: Collection[str], wanted: Collection[str]) -> dict[str, Tensor]:
    """Name in memory -> weight. `known`: all names of the model; `wanted`: those without which it is not whole.

    Files with other names are loaded by `architecture`, the model's class: a second copy of the weights in the
    meantime. What is in the folder does not have to fit: the caller compares names and shapes.
    """
    state: dict[str, Tensor] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        state |= load_tensors(file)
    if not state or not (set(wanted) - set(state) or set(state) - set(known)):
        return state
    with quiet(), torch.random.fork_rng(devices=[]):  # the model is made with random weights at first
        try:
            model, info = architecture.from_pretrained(
                folder, dtype="auto", use_safetensors=True, output_loading_info=True, local_files_only=True
            )  # fmt: skip
        except Exception:  # transformers raises many kinds, all meaning: weights of another model
            return state
    lost = {*info["missing_keys"], *info["unexpected_keys"]}
    return state if lost or info["mismatched_keys"] else dict(model.state_dict())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Hugging Face's progress bars and warnings."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
