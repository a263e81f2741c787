"""docs/defaults.md: the usual values of the optimizer, from understudy/config/defaults.py."""

from __future__ import annotations

from typing import Any

from tools.markdown import replaced, table
from understudy.config.defaults import USUAL, kind
from understudy.methods import table as methods
from understudy.methods.cells import Method

NAMES = {"new": "new or small", "full": "pretrained, all weights", "lora": "pretrained, adapter"}


def page(text: str) -> str:
    of_kind: dict[str, list[str]] = {}
    for name, row in methods.TABLE.items():
        cells: dict[str, Any] = row.cells
        of_kind.setdefault(kind(Method(**cells)), []).append(f"`{name}`")
    rows = [
        (
            NAMES[student], ", ".join(of_kind[method]), f"{u.lr:g}", u.schedule,
            f"{100 * u.warmup:.0f}% of the updates" if u.warmup else "none", u.source,
        )
        for (student, method), u in USUAL.items()
    ]  # fmt: skip
    headings = ("student", "methods", "learning rate", "schedule", "warm-up", "source")
    return replaced(text, "defaults", table(headings, rows))
