"""What people give as a model that is none here: files and folders of other tools. Needs no torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

from understudy.errors import MEBIBYTE, UserError, check_file

_GGUF = (
    "is GGUF, which cannot be trained: give the model's own folder in safetensors or its hub id; as an expert, serve "
    "it (llama-server -m FILE) and give --expert http://127.0.0.1:8080/v1"
)
_FILES = {
    (".gguf", ".ggml"): _GGUF,
    (".yaml", ".yml"): "is a configuration file, not a model: `understudy train --config FILE` reads one",
    (".json",): "is a file, not a model: give the folder that holds config.json",
    (".safetensors", ".index"): "is a file of weights: give the folder that holds it, with config.json and the "
    "tokenizer",
    (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".npz", ".h5", ".onnx"): "is a file of weights in another format: give a "
    "Hugging Face folder in safetensors (save_pretrained writes one)",
    (".jsonl", ".parquet", ".csv", ".arrow"): "is data, not a model: --task data:path=FILE",
    (".zip", ".tar", ".gz", ".tgz"): "is an archive: unpack it and give the folder",
}
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack")
_HUBS = ("huggingface.co", "hf.co", "www.huggingface.co")


def refuse(text: str, field: str) -> None:
    """UserError for a name that is clearly no model of ours, with what to give instead; else nothing."""
    if hint := instead(text, field):
        raise UserError(field, text, hint)


def instead(text: str, field: str) -> str:
    """What to give instead of `text`; "" where it may be a model."""
    url = urlsplit(text) if text.startswith(("http://", "https://")) else None
    if url is not None:
        owner_and_name = "/".join(url.path.strip("/").split("/")[:2])
        return f"is a page of the hub: write {owner_and_name}" if url.hostname in _HUBS else ""
    folder = Path(text)
    if os.path.isdir(folder):
        return _of_folder(folder, field)
    if ":" in text:  # NAME:key=value
        return ""
    suffix = folder.suffix.lower()
    for suffixes, hint in _FILES.items():
        if suffix in suffixes:
            return hint
    if text.lower().endswith("-gguf") and text.count("/") == 1:
        return _GGUF
    return ""


def _of_folder(folder: Path, field: str) -> str:
    try:
        names = set(os.listdir(folder))
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    weights = {n for n in names if n.endswith(_WEIGHTS) and not n.startswith("adapter_model.")}
    if "adapter_config.json" in names and ("config.json" not in names or not weights):
        base = _json(folder / "adapter_config.json").get("base_model_name_or_path")
        of = f" (its base: {base})" if isinstance(base, str) and base else ""
        return (
            f"is an adapter without its model{of}: give the run's final/, where it is merged, or merge it: "
            "PeftModel.from_pretrained(base, FOLDER).merge_and_unload().save_pretrained(NEW), and the tokenizer too"
        )
    if "config.json" not in names:
        if any(name.lower().endswith(".gguf") for name in names):
            return _GGUF
        found = sorted(folder.glob("snapshots/*/config.json")) or sorted(folder.glob("*/config.json"))
        if found and "final" not in names:
            return f"is not a model: it has no config.json; did you mean {found[-1].parent}?"
        return ""
    if weights and not any(name.endswith(".safetensors") for name in weights):
        return (
            f"has its weights in {sorted(weights)[0]}, which can run code and is not loaded: load it elsewhere and "
            "write it as safetensors: save_pretrained(NEW, safe_serialization=True)"
        )
    if not weights and any(name.lower().endswith(".gguf") for name in names):
        return _GGUF
    quantized = _json(folder / "config.json").get("quantization_config")
    if quantized and field == "student":
        kind = quantized.get("quant_method", "") if isinstance(quantized, dict) else ""
        return f"is quantized{f' ({kind})' if kind else ''}, and such weights cannot be trained: give the original"
    return ""


_MOST = {"layer": 10_000, "head": 100_000, "expert": 100_000, "vocab": 2**27, "hidden": 2**24, "intermediate": 2**26}
"""Part of a name in config.json -> a number that no model has."""


def check_entries(folder: Path, field: str) -> None:
    """UserError: a model's folder holds pipes or devices, which would be waited for, endless files, or a config.json
    whose numbers would fill the memory before a weight is read."""
    check_file(folder / "config.json", field, 16 * MEBIBYTE)
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir():
            weights = entry.suffix in (".safetensors", ".bin", ".pt", ".gguf", ".onnx", ".h5", ".msgpack")
            check_file(entry, field, (1 << 60) if weights else 512 * MEBIBYTE)
    config = _json(folder / "config.json")
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for name, value in part.items():
            most = max((m for word, m in _MOST.items() if word in str(name)), default=0)
            if most and type(value) is int and abs(value) > most:
                raise UserError(field, folder, f"has {name} above {most:,} in its config.json: no model has so many")


def _json(path: Path) -> dict[str, object]:
    try:
        check_file(path, "model")
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, UserError):
        return {}  # loading the model reports it
    return data if isinstance(data, dict) else {}
