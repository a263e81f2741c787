"""What `understudy export` writes for every target: files of whole exports, or the refusal.

UNDERSTUDY_WRITE_GOLDEN=1 python -m pytest tests/golden/test_export_golden.py     writes them again
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from understudy.config import TrainConfig
from understudy.errors import UserError
from understudy.export.config import ExportConfig
from understudy.export.limits import TARGETS
from understudy.export.write import export
from understudy.routes.route import RouteConfig, recorded

FOLDER = Path(__file__).parent / "export"
METHODS = ("sft", "opd", "opd_full", "gkd", "grpo", "sft+gkd")


def source(method: str, folder: Path, models: dict[str, Path]) -> Path:
    """A file of options, or the folder of a route that has not begun."""
    expert = "solver" if method == "sft" else str(models["qwen2"])
    train = TrainConfig(
        method=method, student=str(models["llama"]), expert=expert, task="countdown", updates=2, prompts_per_update=2,
        max_new_tokens=8,
    )  # fmt: skip
    path = folder / "run"
    path.mkdir()
    values = recorded(RouteConfig(method, train=train, out=str(path)))
    if "+" not in method:
        values = {k: v for k, v in values.items() if k not in ("route", "look_prompts", "select_prompts")}
        (folder / "run.json").write_text(json.dumps(values))
        return folder / "run.json"
    (path / "config.json").write_text(json.dumps(values))
    (path / "status.json").write_text('{"state": "running"}')
    return path


def shown(target: str, method: str, folder: Path, models: dict[str, Path]) -> str:
    """Every file of an export, of data its columns; refused: the message, then what --allow-differences writes."""
    path, out = source(method, folder, models), ""
    names = {"student": "OWNER/STUDENT", "expert": "OWNER/EXPERT" if method != "sft" else ""}
    for allowed in (False, True):
        place = folder / f"out-{allowed}"
        config = ExportConfig((str(path),), target, str(place), allowed, **names, sample_expert=True)
        try:
            export(config)
        except UserError as error:
            out += f"error: {error}\n"
            continue
        for file in sorted(p for p in place.rglob("*") if p.is_file()):
            text = file.read_text(encoding="utf-8")
            if file.suffix == ".jsonl":  # completions of a model are no golden text
                lines = [json.loads(line) for line in text.split("\n")[:-1]]
                text = f"{len(lines)} rows of {', '.join(lines[0])}"
            out += f"---- {file.relative_to(place)}\n{text.rstrip()}\n"
        break
    return out.replace(str(models["qwen2"]), "EXPERT").replace(str(models["llama"]), "STUDENT")


@pytest.mark.parametrize("target", TARGETS)
def test_exports_are_as_they_were(target: str, tmp_path: Path, models: dict[str, Path]) -> None:
    """Catches a default that is no longer pinned, a key that is lost, and a refusal that became silent."""
    parts = []
    for method in METHODS:
        folder = tmp_path / method.replace("+", "-")
        folder.mkdir()
        parts.append(f"======== {method}\n{shown(target, method, folder, models)}")
    golden = FOLDER / f"{target}.txt"
    text = "".join(parts)
    if os.environ.get("UNDERSTUDY_WRITE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")
