"""The diagnoses that a comparison made before its runs, one per expert and seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.diagnosis.codec import finite
from understudy.diagnosis.types import FILE, Diagnosis
from understudy.errors import UserError
from understudy.report.text import label, visible
from understudy.runs.files import read_json


@dataclass(frozen=True, eq=False)
class OfExpert:
    """diagnosis: None where it is not finished, or `refused` (then that says why)."""

    expert: str
    seed: int
    diagnosis: Diagnosis | None = None
    refused: str = ""


def read(root: Path, raw: Any, notes: list[str]) -> list[OfExpert]:
    """Those that compare.json in `root` lists; what cannot be read is left out and said in `notes`."""
    out = []
    for item in raw if isinstance(raw, list) else []:
        if not isinstance(item, dict) or not isinstance(item.get("path"), str):
            notes.append("compare.json: a diagnosis without a path was skipped")
            continue
        directory, expert, seed = root / item["path"], str(item.get("expert", "")), int(finite(item.get("seed")) or 0)
        if (directory / FILE).is_file():
            try:
                out.append(OfExpert(expert, seed, Diagnosis.load(directory, tolerant=True)))
            except UserError as error:
                notes.append(f"{label(item['path'], 200)}/{FILE} was skipped: {error.hint}")
        else:
            out.append(OfExpert(expert, seed, refused=_refused(directory)))
    return out


def _refused(directory: Path) -> str:
    try:
        return visible(read_json(directory / "refused.json").get("error", ""), 400)
    except UserError:
        return ""
