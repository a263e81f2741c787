"""Policies from a model directory, a hub id, or new; and whether two of them share tokenizer and end tokens."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from understudy.errors import UserError
from understudy.policy import names
from understudy.policy.fitness import check_policy
from understudy.policy.model import Policy, tokenizer_sha
from understudy.policy.stored import quiet
from understudy.runs.directory import to_stderr
from understudy.runs.read import is_run
from understudy.servers.urls import names_server, pieces
from understudy.specs import Spec, build, check, option, parse_spec, require

LARGEST = 2e9
"""Weights of a model that is made from scratch: 8 GB, and four times that while it trains."""


@dataclass(frozen=True)
class Scratch:
    """Shape of a model made from scratch."""

    width: int = option(64, least=1, most=2**17)
    """Hidden size."""
    layers: int = option(2, least=1, most=1000)
    """Transformer blocks."""
    heads: int = option(4, least=1, most=2**17)
    """Attention heads."""
    context: int = option(256, least=1, most=2**24)
    """Longest input in tokens."""
    arch: str = option("llama", choices=("llama", "qwen2", "qwen3"))
    """llama, qwen2 or qwen3."""
    init: float = option(0.05, within="[0, 1]")
    """Standard deviation of the initial weights. The usual 0.02 is meant for widths in the thousands."""


def resolve_device(name: str, field: str = "device") -> torch.device:
    """`auto` is cuda if there is one. UserError: not available."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # `meta` accepts tensors but returns no values
    except (RuntimeError, AssertionError) as error:
        raise UserError(field, name, f"not available here: {str(error).splitlines()[0]}") from None
    return device


def make_scratch(spec: Spec, tokenizer: Any, seed: int, field: str = "student") -> Policy:
    """A new tiny model with random weights, a function of the spec and the seed alone."""
    shape = build(Scratch, spec.args, field)
    from transformers import AutoConfig, AutoModelForCausalLM

    check(shape, field)
    fits = shape.width % (2 * shape.heads) == 0
    require(shape, field, ("width", fits, f"must be an even multiple of heads={shape.heads}"))
    weights = 12 * shape.layers * shape.width**2 + len(tokenizer) * shape.width
    fits = weights <= LARGEST
    require(shape, field, ("width", fits, f"gives about {weights:.2g} weights, too many to train from nothing here"))
    extra = {"head_dim": shape.width // shape.heads} if shape.arch == "qwen3" else {}
    config = AutoConfig.for_model(
        shape.arch, hidden_size=shape.width, num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        intermediate_size=8 * round(shape.width / 3),  # 8/3: as many weights as a plain MLP of ratio 4
        num_key_value_heads=shape.heads, vocab_size=len(tokenizer), max_position_embeddings=shape.context,
        tie_word_embeddings=True, initializer_range=shape.init, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, **extra,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return Policy(model, tokenizer, spec.text)


def load_policy(
    spec_text: str,
    field: str,
    tokenizer: Any = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
    trust_remote_code: bool = False,
) -> Policy:
    """A policy from a model directory, a hub id, or `scratch:...` (which needs the task's tokenizer).

    dtype: of the weights. `mixed`: a student has float32 weights and bfloat16 products; a model that is only scored or
    sampled is held in bfloat16.
    """
    mixed = dtype == "mixed" and field == "student"
    weights = {"mixed": "float32" if mixed else "bfloat16"}.get(dtype, dtype)
    names.refuse(spec_text, field)
    if names_server(spec_text):
        pieces(spec_text, field)  # a password in it is refused without being repeated
        raise UserError(field, spec_text, "is a server: a model directory or hub id is needed here")
    spec = parse_spec(spec_text, field) if spec_text.startswith("scratch") else None
    if spec is not None and spec.name == "scratch":
        policy = make_scratch(spec, tokenizer, seed, field)
        policy.model.to(getattr(torch, weights))
    else:
        policy = _load_pretrained(spec_text, field, weights, trust_remote_code)
    policy.mixed = mixed
    policy.model.to(resolve_device(device))
    policy.device = next(policy.model.parameters()).device
    return policy


_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)


def place_of(path: str, field: str) -> str:
    """The folder or hub id that a name means: a run directory stands for its final model. UserError: neither."""
    folder = Path(path)
    if os.path.isfile(folder / "final" / "config.json"):
        folder = folder / "final"
    elif is_run(folder):
        raise UserError(field, path, "is a run that has not finished: resume it, or give one of its checkpoints")
    is_folder = os.path.isdir(folder)  # os.path: for a name that is too long for the system it returns False, no error
    if is_folder and not (folder / "config.json").is_file():
        raise UserError(field, path, "is not a model: it has no config.json (a run directory needs its final/ folder)")
    if not is_folder and (os.path.exists(folder) or not _HUB_ID.fullmatch(path)):
        raise UserError(field, path, "is not a model: no such folder, and not a hub id (OWNER/NAME)")
    if is_folder:
        names.check_entries(folder, field)
    return str(folder) if is_folder else path


def check_model(path: str, field: str) -> None:
    """UserError if this model is no server, no `scratch:...`, and cannot be there."""
    if names_server(path) or path.partition(":")[0] == "scratch":
        return
    place_of(path, field)


def _load_pretrained(path: str, field: str, dtype: str, trust_remote_code: bool) -> Policy:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name = place_of(path, field)
    if os.path.isfile(Path(name) / "adapter_config.json"):
        to_stderr(f"{path} holds an adapter beside the model's own weights: these are used as they are, without it")
    try:
        with quiet():  # transformers would apply an adapter that it finds there to weights that may hold it already
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
            model, info = AutoModelForCausalLM.from_pretrained(
                name, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code, use_safetensors=True,
                output_loading_info=True, adapter_kwargs={"subfolder": "none"},
            )  # fmt: skip
    except Exception as error:  # transformers raises many kinds here, all meaning: not a model we can load
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(field, path, f"cannot be loaded as a causal LM in safetensors ({reason})") from None
    if info["missing_keys"]:  # transformers would use random numbers instead
        missing = sorted(info["missing_keys"])
        raise UserError(field, path, f"lacks {len(missing)} of its weights ({missing[0]}, ...): copy the whole model")
    check_policy(model.eval(), tokenizer, field, path)
    return Policy(model, tokenizer, path, field)


def check_same_language(student: Any, expert: Any, expert_name: str) -> None:
    """UserError for an expert with another tokenizer, vocabulary or end tokens: its scores would mean nothing."""
    a, b = student.tokenizer, expert.tokenizer
    hint = ""
    if len(a) != len(b):
        hint = f"its tokenizer has {len(b)} tokens, the student's {len(a)}: use the same"
    elif a is not b and tokenizer_sha(a) != tokenizer_sha(b):
        hint = "its tokenizer gives other ids than the student's: use the same one"
    elif expert.vocabulary != student.vocabulary:
        hint = (
            f"its vocabulary (padded) is {expert.vocabulary}, the student's {student.vocabulary}: resize one of them "
            f"(a programmatic expert takes vocabulary={student.vocabulary})"
        )
    elif tuple(expert.end_ids) != student.end_ids:
        hint = (
            f"its end tokens {list(expert.end_ids)} are not the student's {list(student.end_ids)} "
            "(a base next to an instruct model?): align generation_config.eos_token_id"
        )
    if hint:
        raise UserError("expert", expert_name, hint)
