"""Every option that an export writes exists in the sources of its target; no package is imported.

pip download --no-deps -d wheels verl==0.9.1 ms-swift==4.6.0 tinker-cookbook==0.6.1     and unzip each into SOURCES
UNDERSTUDY_EXPORT_SOURCES=SOURCES python -m pytest tests/optin/test_export_keys.py
"""

from __future__ import annotations

import ast
import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import config

from understudy.config import to_dict
from understudy.errors import UserError
from understudy.export.config import ExportConfig
from understudy.export.write import export

SOURCES = Path(os.environ.get("UNDERSTUDY_EXPORT_SOURCES", ""))
pytestmark = pytest.mark.skipif(str(SOURCES) == ".", reason="needs UNDERSTUDY_EXPORT_SOURCES")
METHODS = ("sft", "word_kd", "gkd", "opd", "opd_full", "grpo")


def fields(*folders: str) -> dict[str, set[str]]:
    """Class -> the names that it annotates, of all modules in these folders (or files)."""
    out: dict[str, set[str]] = {}
    for folder in folders:
        path = SOURCES / folder
        for file in [path] if path.is_file() else path.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    names = (x.target for x in node.body if isinstance(x, ast.AnnAssign))
                    out.setdefault(node.name, set()).update(x.id for x in names if isinstance(x, ast.Name))
    return out


def dotted(value: Any, before: str = "") -> Iterator[str]:
    for name, inner in value.items():
        yield f"{before}{name}"
        if isinstance(inner, dict):
            yield from dotted(inner, f"{before}{name}.")


def verl(method: str) -> set[str]:
    folder = SOURCES / "verl/trainer/config"
    if method != "sft":
        return set(dotted(yaml.safe_load((folder / "_generated_ppo_trainer.yaml").read_text())))
    known = set(dotted(yaml.safe_load((folder / "sft_trainer_engine.yaml").read_text())))
    for group, file in (("model", "hf_model"), ("engine", "fsdp"), ("optim", "fsdp")):
        known |= {f"{group}.{x}" for x in dotted(yaml.safe_load((folder / group / f"{file}.yaml").read_text()))}
    return known


def swift(method: str) -> set[str]:
    from transformers import TrainingArguments

    found = fields("swift/arguments", "swift/rlhf_trainers", "swift/trainers")
    return set().union(*found.values()) | {f.name for f in dataclasses.fields(TrainingArguments)}


def tinker(method: str) -> set[str]:
    file = {"sft": "supervised/train.py", "grpo": "rl/train.py"}.get(method, "distillation/train_on_policy.py")
    return fields(f"tinker_cookbook/{file}")["Config"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("target", "known"), [("verl", verl), ("ms-swift", swift), ("tinker", tinker)])
def test_every_key_exists(target: str, known: Any, method: str, tmp_path: Path, models: dict[str, Path]) -> None:
    expert = "solver" if method == "sft" else str(models["qwen2"])
    c = config(method, tmp_path / "unused", task="countdown", student=str(models["llama"]), expert=expert, lora_rank=4)
    (tmp_path / "options.json").write_text(json.dumps(to_dict(c)))
    names = {"student": "OWNER/STUDENT", "expert": "OWNER/EXPERT"} if target == "tinker" else {}
    place = ExportConfig((str(tmp_path / "options.json"),), target, str(tmp_path / "out"), True, **names)
    try:
        done = export(dataclasses.replace(place, sample_expert=True))
    except UserError as error:
        pytest.skip(str(error))
    written = set(done.written[0].settings.values)
    assert written <= known(method), written - known(method)
