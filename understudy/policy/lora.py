"""Low-rank adapters (LoRA, arXiv 2106.09685) by peft: the model's own weights do not change.

peft takes seconds to import, so it is imported only where an adapter is made. Its layers are put inside the Hugging
Face model, which stays the object that everything else calls.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.func import functional_call

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
        modules = peft_model.get_base_model().named_modules(remove_duplicate=False)
        self.layers: dict[str, Any] = {name: m for name, m in modules if hasattr(m, "lora_A")}

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
        """The weights of a plain model that computes the same: W plus peft's change. `state` is not changed."""
        out = {_plain(name): tensor for name, tensor in state.items() if not _is_adapters(name)}
        for name, layer in self.layers.items():
            own = (n for n, _ in layer.named_parameters() if n.startswith(("lora_A.", "lora_B.")))
            factors = {f"layer.{n}": state[f"{name}.{n}"].float() for n in own}
            change = functional_call(_Change(layer), factors, ())
            weight = f"{_plain(name)}.{getattr(layer, 'parameter_name', 'weight')}"
            out[weight] = (out[weight].float() + change.to(out[weight].device).float()).to(out[weight].dtype)
        return out


class _Change(torch.nn.Module):
    """What peft adds to the weight of one layer: with the factors that functional_call puts in."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self) -> Tensor:
        change: Tensor = self.layer.get_delta_weight(_NAME)
        return change


def _plain(name: str) -> str:
    """The name of a weight in the model without an adapter; experts with two adapted weights are wrapped twice."""
    return ".".join(part for part in name.split(".") if part != "base_layer")


def _is_adapters(name: str) -> bool:
    return ".lora_A." in name or ".lora_B." in name


def attach(model: Any, base: str, rank: int, alpha: float, dropout: float, targets: str, seed: int) -> Adapter:
    """Put an adapter of this rank beside the linear layers of `model`, in place; at first it changes nothing.

    alpha: the change is alpha / rank times B A. targets: `all-linear`, or last names of layers, separated by commas.
    The initial adapter is a function of `seed` alone. UserError: peft is missing, or no such layer.
    """
    try:
        from peft import LoraConfig, get_peft_model
        from peft.tuners.lora.layer import Linear, ParamWrapper, _ConvNd
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
    head = model.get_output_embeddings()
    plain = (n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not head)
    linear = {n.rpartition(".")[2] for n in plain}

    def refuse(hint: str, without: str = "") -> NoReturn:
        fit = {n for n in linear if n not in re.split(r"\W", without)}
        fit = fit & set(names) or fit  # of those that were named, where one is left
        some = ", ".join(sorted(fit))
        raise UserError("lora_targets", targets, f"{hint}; name some of {some}" if some else hint) from None

    with torch.random.fork_rng(), warnings.catch_warnings():
        torch.manual_seed(seed_from("lora", seed) % 2**63)
        try:
            warnings.simplefilter("ignore")  # it writes another name of the base, replaced below
            adapter = Adapter(get_peft_model(model, config))
        except Exception as error:  # peft raises many kinds; where layers are missing its message has several lines
            reason = re.sub(r"^\[.*?\] ", "", (str(error).strip() or type(error).__name__).split(". ")[0])
            if "lora_dropout" in reason:
                hint = f"not with {base}, whose experts are adapted as whole parameters: use 0"
                raise UserError("lora_dropout", dropout, hint) from None
            if "not found" in reason:
                refuse(f"no such layers in {base}: all-linear, or some of these")
            refuse(f"cannot be adapted in {base} ({reason})", reason)
    strange = [n for n, p in model.named_parameters() if p.requires_grad and not _is_adapters(n)]
    strange += [n for n, m in adapter.layers.items() if not isinstance(m, (Linear, ParamWrapper, _ConvNd))]
    strange += ["the output head"] if hasattr(model.get_output_embeddings(), "lora_A") else []
    if strange:
        refuse(f"{strange[0]} cannot be adapted here", strange[0])
    if shared := _shared(model, adapter):
        refuse(f"{' and '.join(shared[:2])} have one weight: their adapters cannot be merged", " ".join(shared))
    if unfit := _unfit(model, adapter):
        refuse(f"{unfit} cannot be adapted: the model does not use it as a plain layer", unfit)
    adapter.config.base_model_name_or_path = base
    return adapter


def _shared(model: Any, adapter: Adapter) -> list[str]:
    """The names of weights that are one in memory, of which at least one is adapted; [] where there are none."""
    adapted = {f"{_plain(name)}.{getattr(m, 'parameter_name', 'weight')}" for name, m in adapter.layers.items()}
    names: dict[int, list[str]] = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(p), []).append(_plain(name))
    return [name for group in names.values() if len(group) > 1 and adapted & set(group) for name in group]


@torch.no_grad()
def _unfit(model: Any, adapter: Adapter) -> str:
    """The name of an adapted layer with which the model cannot compute, or whose weight it reads without calling it;
    "" where there is none. A merge would then be another model than the one that was trained."""
    entered: list[str] = []
    left: set[str] = set()
    hooks = []
    for name, layer in adapter.layers.items():
        hooks.append(layer.register_forward_pre_hook(lambda *_, name=name: entered.append(name)))
        hooks.append(layer.register_forward_hook(lambda *_, name=name: left.add(name)))
    device = next(model.parameters()).device
    ids = torch.arange(4, device=device)[None] % model.get_output_embeddings().weight.shape[0]
    before = model.training
    model.eval()
    try:
        model(input_ids=ids, use_cache=False)
        idle = [name for name in adapter.layers if name not in left]  # mostly experts that got none of these tokens
        if not idle or not _are_read(model, [adapter.layers[name] for name in idle], ids):
            return ""
        return next((name for name in idle if _are_read(model, [adapter.layers[name]], ids)), idle[0])
    except (RuntimeError, TypeError, AttributeError, ValueError, LookupError):
        return next((name for name in reversed(entered) if name not in left), next(iter(adapter.layers)))
    finally:
        model.train(before)
        for hook in hooks:
            hook.remove()


def _are_read(model: Any, layers: Sequence[Any], ids: Tensor) -> bool:
    """Whether the logits depend on the weight of any of these layers."""
    weights = [getattr(m.get_base_layer(), getattr(m, "parameter_name", "weight")) for m in layers]
    kept = [w.data for w in weights]
    try:
        for w in weights:
            w.data = w.new_full((), torch.nan).expand(w.shape)  # one number in memory
        return bool(model(input_ids=ids, use_cache=False).logits.isnan().any())
    finally:
        for w, data in zip(weights, kept):
            w.data = data
