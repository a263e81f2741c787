"""Provides commands of a tiny run, what they print, and the folder that they work in, for the tables of mistakes."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny import config

from understudy.cli.main import main
from understudy.config import to_dict


def arguments(out: Path, method: str = "sft", **changes: Any) -> list[str]:
    """`understudy train ...` of a tiny run; a field set to None is left out."""
    fields = to_dict(config(method, out, **{k: v for k, v in changes.items() if v is not None}))
    words = ["train"]
    for name, value in fields.items():
        flag = name.replace("_", "-")
        if value is None or (name in changes and changes[name] is None):
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value)]
    return words


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file under `folder`, without locks (they name their last holder)."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }


class Output:
    """Exit status and output of a command."""

    def __init__(self, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        capsys.readouterr()
        self.code = main(words)
        self.out, self.err = capsys.readouterr()
        assert "Traceback" not in self.out + self.err
        lines = self.err.splitlines()
        self.errors = [line for line in lines if line.startswith("error: ")]
        notes = [line for line in lines if line.startswith("note: ")]
        self.notes = [line for line in notes if "has no effect here" not in line]  # `arguments` gives every field
        strange = [line for line in lines if line not in self.errors + notes]
        assert not strange, f"neither an error nor a note: {strange}"

    def is_mistake(self, field: str, words: str) -> None:
        assert self.code == 2
        assert len(self.errors) == 1, self.errors
        assert re.match(rf"error: {re.escape(field)}: ", self.errors[0]), self.errors[0]
        assert re.search(words, self.errors[0]), self.errors[0]


@dataclasses.dataclass(frozen=True)
class Place:
    """What a case works with: an empty folder and models."""

    tmp: Path
    models: dict[str, Path]

    @property
    def out(self) -> Path:
        return self.tmp / "run"

    def file(self, name: str, text: str | bytes) -> Path:
        path = self.tmp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def model(self, name: str = "model", of: str = "llama") -> Path:
        return Path(shutil.copytree(self.models[of], self.tmp / name))
