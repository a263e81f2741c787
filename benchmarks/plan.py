"""What is measured: items of seven sections, each with the seconds that it takes at three repeats on one core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SECTIONS = ("rollouts", "opd", "others", "memory", "shares", "diagnosis", "scaling")
LARGE = 151_936
"""Vocabulary of Qwen2.5."""


@dataclass(frozen=True)
class Item:
    """One measurement. seconds: start + each * (repeats + 1)."""

    section: str
    name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    start: float = 1.0
    each: float = 0.0
    quick: bool = False
    """Whether it is part of the quick run."""

    def seconds(self, repeats: int) -> float:
        """About how long it takes."""
        return self.start + self.each * (repeats + 1)


def _rollouts() -> list[Item]:
    out = []

    def add(model: str, kind: str, rows: int, room: int, each: float, vocabulary: int = 0, quick: bool = False) -> None:
        prompts, samples, length = (rows // 8, 8, 256) if kind == "groups" else (rows, 1, 16)
        args = {
            "model": model, "vocabulary": vocabulary, "mean": room / 2 if kind == "ends" else 0,
            "size": [prompts, samples, length, room],
        }  # fmt: skip
        label = f"{model}, vocabulary {vocabulary}" if vocabulary else model
        out.append(Item("rollouts", f"{label}; {kind}; {rows} x {room}", args, 2.0, each, quick))

    for kind in ("full", "ends", "groups"):
        for rows, each in ((8, 1.5), (32, 3.0), (64, 5.0)):
            add("1M", kind, rows, 64, each, quick=rows == 32)
    for rows, each in ((8, 2.0), (32, 4.0), (64, 8.0)):
        add("1M", "full", rows, 24, each, LARGE)
    add("135M", "full", 8, 16, 5.0)
    add("135M", "full", 32, 12, 10.0)
    add("135M", "full", 64, 8, 14.0)
    add("135M", "ends", 32, 16, 10.0)
    add("135M", "groups", 16, 8, 22.0)
    return out


def _opd() -> list[Item]:
    out = []
    for rows, room, each in ((16, 32, 2.0), (32, 64, 6.0), (64, 64, 12.0)):
        out.append(
            Item("opd", f"full; {rows} x {room}", {"size": [rows, 1, 16, room], "mean": 0}, 6.0, each, rows == 16)
        )
    out.append(Item("opd", "ends, groups of 4; 32 x 64", {"size": [8, 4, 256, 64], "mean": 32}, 6.0, 20.0))
    return out


def _memory() -> list[Item]:
    out = []
    for method in ("opd", "opd_full", "gkd"):
        for vocabulary, prompts, micro in (
            (1024, 16, 0), (32_768, 16, 0), (LARGE, 16, 0), (LARGE, 64, 0), (LARGE, 16, 4), (LARGE, 64, 4)
        ):  # fmt: skip
            name = f"{method}; {vocabulary}; {prompts}; {micro or 'default'}"
            args = {"method": method, "vocabulary": vocabulary, "prompts": prompts, "micro": micro}
            seconds = 8.0 + prompts * vocabulary / LARGE * 0.3
            out.append(Item("memory", name, args, seconds, quick=vocabulary == 1024 and method == "opd_full"))
    return out


def items(only: Sequence[str] = SECTIONS, quick: bool = False) -> list[Item]:
    """Of these sections, in order."""
    size = [32, 1, 16, 64]
    everything = [
        *_rollouts(), *_opd(),
        Item("others", "sft; 32 x 64", {"method": "sft", "size": size}, 4.0, 1.5, True),
        Item("others", "grpo, groups of 4; 32 x 64", {"method": "grpo", "size": [8, 4, 16, 64]}, 4.0, 4.0),
        *_memory(),
        Item("shares", "1M student, 4M expert; 32 x 64", {"size": size}, 3.0, 2.5, True),
        Item("diagnosis", "kept rows", start=0.1, quick=True),
        Item("scaling", "compare", {"kind": "compare", "updates": 10}, 5.0, 22.0),
        Item("scaling", "fsdp", {"kind": "fsdp", "updates": 6}, 5.0, 30.0),
    ]  # fmt: skip
    return [item for item in everything if item.section in only and (item.quick or not quick)]
