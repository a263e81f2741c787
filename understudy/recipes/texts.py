"""Two files of completions: their lengths and words, and the lower bounds on total variation that follow.

A file is JSON lines, one completion per line: its text under `completion`, `text`, `response`, `output` or
`generation`; the problem's name under `key`, `id`, `problem_id`, `prompt` or `problem` (completions of one problem are
not independent); its length in tokens under `tokens` or `length`, else words are counted. Text is data: read and
counted, never executed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from understudy.diagnosis.types import Estimate
from understudy.errors import UserError, check_file
from understudy.recipes.bounds import KeywordGap, keyword_bounds, length_bound

TEXT = ("completion", "text", "response", "output", "generation")
NAME = ("key", "id", "problem_id", "prompt", "problem")
LENGTH = ("tokens", "length")


@dataclass(frozen=True)
class Texts:
    """problem -> its completions and their lengths, in the order of the file."""

    name: str
    rows: dict[str, list[tuple[str, float]]]
    unit: str
    """tokens, or words where the file states no length."""

    @property
    def samples(self) -> int:
        return min(len(r) for r in self.rows.values())


def read(path: Path, field: str) -> Texts:
    """UserError: no such file, a line that is no JSON object, a row without text; the line is named."""
    check_file(path, field)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(field, path, "no such file: give JSON lines, one completion per line") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(field, path, f"cannot be read as UTF-8 text ({error})") from None
    rows: dict[str, list[tuple[str, float]]] = {}
    counted = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise UserError(field, where, "is no JSON") from None
        if not isinstance(row, dict):
            raise UserError(field, where, "must be a JSON object")
        text = _first(row, TEXT)
        if not isinstance(text, str):
            raise UserError(field, where, f"has no text: write it under {TEXT[0]} ({', '.join(TEXT[1:])} work too)")
        length = _first(row, LENGTH)
        stated = isinstance(length, (int, float)) and not isinstance(length, bool) and 0 <= length < 1e12
        counted += not stated
        name = _first(row, NAME)
        key = name if isinstance(name, str) else json.dumps(name) if name is not None else f"row {number}"
        rows.setdefault(key, []).append((text, float(length) if stated else float(len(text.split()))))
    if not rows:
        raise UserError(field, path, "is empty")
    if counted and counted < sum(map(len, rows.values())):
        raise UserError(field, path, f"{counted} rows state no length ({', '.join(LENGTH)}): state it in all or none")
    return Texts(path.stem, rows, "words" if counted else "tokens")


def _first(row: dict[str, Any], names: Sequence[str]) -> Any:
    return next((row[n] for n in names if row.get(n) is not None), None)


@dataclass(frozen=True)
class TextGap:
    """`lengths` (P, K) of the problems that are used; bounds at 95% each for lengths and for words."""

    a: Texts
    b: Texts
    lengths_a: np.ndarray
    lengths_b: np.ndarray
    length_bound: Estimate
    word_bound: Estimate
    words: tuple[KeywordGap, ...]
    shared: bool
    """Whether both files have the same problems."""


def compare(a: Texts, b: Texts, words: Sequence[str]) -> TextGap:
    """Paired by problem where the files share them. UserError: too little to say anything, or two units of length."""
    if a.unit != b.unit:
        raise UserError("b", b.name, f"counts {b.unit}, the other file {a.unit}: state lengths in both or in neither")
    both = [k for k in a.rows if k in b.rows]
    shared = len(both) >= 2
    if shared and len(both) < max(len(a.rows), len(b.rows)) / 2:
        raise UserError("b", b.name, f"only {len(both)} problems are in both files: give the same problems")
    keys_a, keys_b = (both, both) if shared else (list(a.rows), list(b.rows))
    k = min(min(len(a.rows[x]) for x in keys_a), min(len(b.rows[x]) for x in keys_b))
    table_a, table_b = ([t.rows[x][:k] for x in keys] for t, keys in ((a, keys_a), (b, keys_b)))
    lengths = [np.array([[n for _, n in row] for row in t]) for t in (table_a, table_b)]
    flags = [np.array([[has(text, words) for text, _ in row] for row in t]) for t in (table_a, table_b)]
    longer = length_bound(lengths[0], lengths[1], shared_prompts=shared)
    best, gaps = keyword_bounds(flags[0], flags[1], list(words), shared_prompts=shared)
    return TextGap(a, b, lengths[0], lengths[1], longer, best, gaps, shared)


def has(text: str, words: Sequence[str]) -> list[int]:
    """0 or 1 per word: whether it occurs, whole and in any case."""
    low = text.lower()
    return [int(re.search(_whole(w.lower()), low) is not None) for w in words]


def _whole(word: str) -> str:
    """A pattern of the word alone: no letter or digit touches a letter or digit at its ends."""
    before = r"(?<!\w)" if word[:1].isalnum() else ""
    after = r"(?!\w)" if word[-1:].isalnum() else ""
    return before + re.escape(word) + after
