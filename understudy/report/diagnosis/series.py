"""Number rows of a diagnosis's `series`, which is plain JSON of any shape: what is no number is left out."""

from __future__ import annotations

from typing import Any

from understudy.diagnosis.codec import finite
from understudy.report.text import mapping


def rows(raw: Any, width: int) -> list[tuple[float, ...]]:
    """The rows of a list of lists whose first `width` entries are numbers."""
    out = []
    for item in raw if isinstance(raw, list) else []:
        values = [finite(x) for x in item[:width]] if isinstance(item, list) else []
        known = tuple(v for v in values if v is not None)
        if len(known) == width:
            out.append(known)
    return out


def columns(raw: Any, *names: str) -> list[tuple[float, ...]]:
    """Lists of equal length in an object, as rows: {"t": [..], "value": [..]} -> [(t, value), ...]."""
    lists = [v if isinstance(v := mapping(raw).get(name), list) else [] for name in names]
    return rows([list(row) for row in zip(*lists)], len(names))
