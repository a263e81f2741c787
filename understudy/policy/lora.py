"""Low-rank adapters (LoRA, arXiv 2106.09685) by peft: the model's own weights do not change.

peft takes seconds to import, so it is imported only where an adapter is made. Its layers are put inside the Hugging
Face model, which stays the object that everything else calls.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from understudy.errors import UserError
from understudy.randomness import seed_from
from understudy.runs.checkpoint import load_tensors, save_tensors

FILE = "adapter_model.safetensors"
_NAME = "default"  # peft's name of the only adapter


class Adapter:
    """The adapter of one model. Only its parameters have gradients."""

    def __init__(self, peft_model: Any) -> None:
        """Use `attach`."""
        self.peft_model = peft_model
        self.config: Any = peft_model.peft_config[_NAME]
        self.scales: dict[str, float] = {}  # module -> factor of B A
        for name, module in peft_model.get_base_model().named_modules():
            if hasattr(module, "lora_A"):
                self.scales[name] = float(module.scaling[_NAME])

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """The model as it is without the adapter."""
        with self.peft_model.disable_adapter():
            yield

    def save(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """A folder that peft's PeftModel.from_pretrained(base, folder) loads. `state`: of the whole model."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"base_model.model.{name.replace(f'.{_NAME}.', '.')}": tensor
            for name, tensor in state.items()
            if _is_adapters(name)
        }
        save_tensors(folder / FILE, tensors, {"format": "pt"})
        self.config.save_pretrained(folder)

    def load(self, folder: Path) -> dict[str, Tensor]:
        """The adapter's weights in a checkpoint, by the names of the model's parameters."""
        if not (folder / FILE).is_file():
            raise UserError("checkpoint", folder, f"has no {FILE}: it is not of a run with --lora-rank")
        tensors = {}
        for name, tensor in load_tensors(folder / FILE).items():
            head, dot, last = name.removeprefix("base_model.model.").rpartition(".")
            tensors[f"{head}.{_NAME}{dot}{last}"] = tensor
        return tensors

    def merged(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a plain model that computes the same: W + scale B A. `state` is not changed."""
        out = {}
        for name, tensor in state.items():
            if _is_adapters(name):
                continue
            module = name.removesuffix(".base_layer.weight")
            if module != name:
                a = state[f"{module}.lora_A.{_NAME}.weight"].float()
                b = state[f"{module}.lora_B.{_NAME}.weight"].float()
                change = self.scales[module] * (b @ a)
                if change.shape != tensor.shape:  # GPT-2 keeps its matrices transposed
                    change = change.T
                tensor = (tensor.float() + change).to(tensor.dtype)
            out[name.replace(".base_layer.", ".")] = tensor
        return out


def _is_adapters(name: str) -> bool:
    return ".lora_A." in name or ".lora_B." in name


def attach(model: Any, base: str, rank: int, alpha: float, dropout: float, targets: str, seed: int) -> Adapter:
    """Put an adapter of this rank beside the linear layers of `model`, in place; at first it changes nothing.

    alpha: the change is alpha / rank times B A. targets: `all-linear`, or last names of layers, separated by commas.
    The initial adapter is a function of `seed` alone. UserError: peft is missing, or no such layer.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise UserError("lora_rank", rank, f"needs peft ({error}): pip install 'understudy[lora]'") from None
    names = [n.strip() for n in targets.split(",") if n.strip()]
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type,unused-ignore]  # peft annotates an int and takes a float
        lora_dropout=dropout,
        target_modules=names[0] if names == ["all-linear"] else names,
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
    )
    linear = sorted({n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)})
    with torch.random.fork_rng(), warnings.catch_warnings():
        torch.manual_seed(seed_from("lora", seed) % 2**63)
        try:
            warnings.simplefilter("ignore")  # it writes another name of the base, replaced below
            peft_model = get_peft_model(model, config)
        except ValueError:  # peft's message has several lines
            hint = f"no such layers in {base}: all-linear, or some of {', '.join(linear)}"
            raise UserError("lora_targets", targets, hint) from None
    strange = [n for n, p in peft_model.named_parameters() if p.requires_grad and not _is_adapters(n)]
    head = peft_model.get_base_model().get_output_embeddings()
    strange += ["the output head"] if hasattr(head, "lora_A") else []
    if strange:
        hint = f"{strange[0]} cannot be adapted here; name some of {', '.join(linear)}"
        raise UserError("lora_targets", targets, hint)
    peft_model.peft_config[_NAME].base_model_name_or_path = base
    return Adapter(peft_model)
