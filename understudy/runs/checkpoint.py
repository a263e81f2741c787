"""What a checkpoint holds beside the model: optimizer, random numbers, checksums. No pickle anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from understudy.errors import UserError, check_file
from understudy.runs.files import describe_os_error, dumps, files_in, new_folder, replacing, set_default_mode, sha256

FORMAT = 1
LARGE = 2**26
"""Bytes of a file that a finished run should not keep without need."""


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: the Hugging Face model is in `path`; `state` is what the caller saved."""

    step: int
    path: Path
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    logs: dict[str, int]  # bytes of each log when it was saved


# ---------------------------------------------------------------- tensors <-> files


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors; tensors that share memory are copied (the format refuses them)."""
    seen: set[int] = set()
    flat: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        pointer = tensor.untyped_storage().data_ptr()
        if tensor.numel() and pointer in seen:
            tensor = tensor.clone()
        seen.add(pointer)
        flat[name] = tensor
    save_file(flat, path, metadata)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, in memory of their own.

    safetensors maps the file into memory: if it were shortened later, a process that reads the mapping would die.
    """
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in alphabetical order of the names."""
    result = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        result.update(f"{name}\x1f{tensor.dtype}\x1f{tuple(tensor.shape)}\x1f".encode())
        if tensor.numel():
            result.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return result.hexdigest()


def cached_tensors(
    path: Path, make: Callable[[], Mapping[str, Tensor]], note: Callable[[str], None]
) -> dict[str, Tensor]:
    """The tensors in `path`, computed by `make` and written there at the first call, or when they are damaged."""
    cached = read_cached(path, note)
    if cached is None:
        write_cached(path, make())
        cached = load_tensors(path)  # what a resumed process would read, so that both see the same
    return cached


def read_cached(path: Path, note: Callable[[str], None]) -> dict[str, Tensor] | None:
    """The tensors that `write_cached` wrote; None when there are none or they are damaged (then `note` is called)."""
    if path.exists():
        try:
            check_file(path, path.name, 1 << 50)
            with safe_open(path, framework="pt") as file:
                expected = (file.metadata() or {}).get("sha256")
            tensors = load_tensors(path)
            if digest(tensors) == expected:
                return tensors
            problem = "does not match its checksum"
        except Exception as error:  # safetensors raises its own type for any damage
            problem = f"cannot be read ({error})"
        note(f"{path.name} {problem}; making it again")
    return None


def write_cached(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to `path`, with their checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as tmp:
        save_tensors(tmp, tensors, {"sha256": digest(tensors)})
        set_default_mode(tmp, path.parent)


# ---------------------------------------------------------------- checkpoint folders


def write_checkpoint(
    target: Path,
    step: int,
    write_model: Callable[[Path], object],
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    logs: Mapping[str, int],
) -> None:
    """Write the folder `target` as a whole: model, state.safetensors, and state.json with every file's checksum."""
    content = {"format": FORMAT, "step": step, "state": exact(state), "logs": dict(logs)}
    with new_folder(target) as tmp:
        write_model(tmp)
        save_tensors(tmp / "state.safetensors", tensors)
        content["files"] = {
            path.relative_to(tmp).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size}
            for path in files_in(tmp)
        }
        content["sha256"] = _sha256_of(content)
        (tmp / "state.json").write_bytes(dumps(content, readable=True))


def read_checkpoint(path: Path) -> Checkpoint | str:
    """The checkpoint in `path` if every byte is as it was written; otherwise what is wrong, in words."""
    try:
        check_file(path / "state.json", "state.json")
        content = json.loads((path / "state.json").read_bytes())
        if content.pop("sha256") != _sha256_of(content):
            return "state.json does not match its checksum"
        if content["format"] != FORMAT:
            return f"its format is {content['format']}, this version reads {FORMAT}"
        for name, entry in content["files"].items():
            if not (path / name).is_file():
                return f"{name} is missing"
            size = (path / name).stat().st_size
            if size != entry["bytes"]:
                return f"{name} has {size} bytes, {entry['bytes']} were written"
            if sha256(path / name) != entry["sha256"]:
                return f"{name} does not match its checksum"
        tensors = load_tensors(path / "state.safetensors")
        return Checkpoint(content["step"], path, tensors, content["state"], content["logs"])
    except UserError as error:
        return f"state.json {error.hint}"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"state.json cannot be read ({describe_os_error(error) or type(error).__name__})"


def slim(path: Path, final: Path) -> bool:
    """Make the checkpoint of a finished run small; whether it was large.

    Its state.safetensors (optimizer and random numbers) goes where it has more than LARGE bytes, and a file of weights
    that is the same in `final` becomes a second name of that one. A checkpoint of several processes stays as it is.
    """
    state = path / "state.safetensors"
    if not state.is_file() or state.stat().st_size <= LARGE:
        return False
    content = json.loads((path / "state.json").read_bytes())
    del content["files"][state.name], content["sha256"]
    content["finished"] = True
    content["sha256"] = _sha256_of(content)
    with replacing(path / "state.json") as tmp:
        tmp.write_bytes(dumps(content, readable=True))
    state.unlink()
    for name, entry in content["files"].items():
        other = final / name
        same_size = entry["bytes"] > LARGE and other.is_file() and other.stat().st_size == entry["bytes"]
        if same_size and sha256(other) == entry["sha256"]:
            with replacing(path / name) as tmp:
                tmp.unlink(missing_ok=True)
                os.link(other, tmp)
    return True


def _sha256_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def exact(state: Mapping[str, Any]) -> dict[str, Any]:
    """`state` unchanged if JSON gives it back bit by bit; ValueError otherwise (a resume must not differ)."""
    back: dict[str, Any] = json.loads(json.dumps(state, allow_nan=False))
    if back != _lists(state):
        raise ValueError(f"a checkpoint's state must survive JSON unchanged: {state!r}")
    return back


def _lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


# ---------------------------------------------------------------- optimizer


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, tensors: bool = True
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimizer as tensors "optimizer.INDEX.NAME" and a JSON-able description, by parameter index.

    tensors=False: the description alone. `load_optimizer` restores the same optimizer, bit by bit. Tested with AdamW;
    works for any optimizer whose state is tensors and numbers.
    """
    state = optimizer.state_dict()
    out: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for index, entry in state["state"].items():
        for name, value in entry.items():
            if isinstance(value, torch.Tensor):
                if tensors:  # a copy: the optimizer updates its tensors in place, and a caller may keep these
                    out[f"optimizer.{index}.{name}"] = value.detach().cpu().clone()
            else:
                numbers.setdefault(str(index), {})[name] = value
    shapes = [list(p.shape) for group in optimizer.param_groups for p in group["params"]]
    meta = {"type": type(optimizer).__name__, "groups": state["param_groups"], "numbers": numbers, "shapes": shapes}
    return out, exact(meta)


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Restore what `optimizer_tensors` returned. Other entries of `tensors` (random state) are ignored.

    Raises UserError when the checkpoint was made with another optimizer or other parameter shapes.
    """
    shapes = [list(p.shape) for group in optimizer.param_groups for p in group["params"]]
    if meta["type"] != type(optimizer).__name__ or meta["shapes"] != shapes:
        have = f"{type(optimizer).__name__} of {len(shapes)} parameters"
        hint = f"does not fit this {have} or their shapes; use the run's own model"
        raise UserError("checkpoint", f"{meta['type']} of {len(meta['shapes'])} parameters", hint)
    state: dict[int, dict[str, Any]] = {int(i): dict(entry) for i, entry in meta["numbers"].items()}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = tensor.clone()
    groups = []
    for saved, group in zip(meta["groups"], optimizer.param_groups, strict=True):
        # JSON turns tuples (betas) into lists: the type is taken from `optimizer`
        groups.append({k: tuple(v) if isinstance(group.get(k), tuple) else v for k, v in saved.items()})
    optimizer.load_state_dict({"state": state, "param_groups": groups})


# ---------------------------------------------------------------- random numbers


def random_state() -> dict[str, Tensor]:
    """The global random state of Python, NumPy, torch and its devices, as tensors "random.NAME"."""
    _, python_words, python_gauss = random.getstate()
    numpy_state: Any = np.random.get_state()
    _, numpy_words, position, has_gauss, gauss = numpy_state
    out = {
        "random.torch": torch.get_rng_state().clone(),
        "random.python": torch.tensor(python_words, dtype=torch.int64),
        "random.python_gauss": _maybe(python_gauss),
        "random.numpy": torch.from_numpy(numpy_words.astype(np.int64)),
        "random.numpy_pos": torch.tensor([int(position)], dtype=torch.int64),
        "random.numpy_gauss": _maybe(gauss if has_gauss else None),
    }
    if torch.cuda.is_available():
        for i, state in enumerate(torch.cuda.get_rng_state_all()):
            out[f"random.cuda.{i}"] = state
    if torch.backends.mps.is_available():
        out["random.mps"] = torch.mps.get_rng_state()
    return out


def set_random_state(tensors: Mapping[str, Tensor]) -> None:
    """Restore what `random_state` returned. Other entries are ignored, and devices that are absent now."""
    torch.set_rng_state(tensors["random.torch"])
    words = tuple(tensors["random.python"].tolist())
    random.setstate((3, words, _value(tensors["random.python_gauss"])))
    gauss = _value(tensors["random.numpy_gauss"])
    numpy_words = tensors["random.numpy"].numpy().astype(np.uint32)
    position = int(tensors["random.numpy_pos"][0])
    np.random.set_state(("MT19937", numpy_words, position, int(gauss is not None), gauss or 0.0))
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            if f"random.cuda.{i}" in tensors:
                torch.cuda.set_rng_state(tensors[f"random.cuda.{i}"], i)
    if torch.backends.mps.is_available() and "random.mps" in tensors:
        torch.mps.set_rng_state(tensors["random.mps"])


def _maybe(value: float | None) -> Tensor:
    return torch.tensor([] if value is None else [value], dtype=torch.float64)


def _value(tensor: Tensor) -> float | None:
    return float(tensor[0]) if tensor.numel() else None
