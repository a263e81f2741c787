"""Two tokenizations of one text, aligned by bytes: spans between the places where both have a boundary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LOST = -1
"""Span of the tokens whose text the other tokenizer did not write as it is."""


@dataclass(frozen=True)
class Alignment:
    """Of T tokens of the student and K of the expert."""

    student_T: np.ndarray
    """Span of each token of the student: 0, 1, ... in order, or LOST."""
    expert_K: np.ndarray
    """Span of each token of the expert, likewise."""
    place_T: np.ndarray
    """Token of the expert that begins where this one of the student begins; -1: none does."""

    @property
    def one_to_one(self) -> np.ndarray:
        """(T,) whether a token of the student is a span with one token of the expert."""
        n = 1 + max(int(self.student_T.max(initial=0)), int(self.expert_K.max(initial=0)))
        alone = [np.bincount(x[x != LOST], minlength=n) == 1 for x in (self.student_T, self.expert_K)]
        return (self.student_T != LOST) & (alone[0] & alone[1])[self.student_T]


def text_of(parts: Sequence[bytes]) -> tuple[str, np.ndarray, np.ndarray]:
    """(the text of these tokens; the end of each in it, in bytes; whether each has bytes that are no text), (T,).

    Bytes that are no UTF-8 (half of a character) become U+FFFD, one for each.
    """
    whole, ends = b"".join(parts), np.cumsum([len(p) for p in parts], dtype=np.int64)
    try:
        return whole.decode(), ends, np.zeros(len(parts), bool)
    except UnicodeDecodeError:
        marked = whole.decode(errors="surrogateescape")
    broken = np.array(["\udc80" <= c <= "\udcff" for c in marked])
    before, after = (
        np.cumsum([0, *(width if bad else len(c.encode()) for c, bad in zip(marked, broken))]) for width in (1, 3)
    )
    char = np.searchsorted(before, ends, "right") - 1
    moved = after[char] + ends - before[char]
    bad_before = np.concatenate([[0], np.cumsum(broken)])
    starts = np.concatenate([[0], ends])[:-1]
    bad = bad_before[char] > bad_before[np.searchsorted(before, starts, "right") - 1]
    return "".join("\N{REPLACEMENT CHARACTER}" if b else c for c, b in zip(marked, broken)), moved, bad


def align(text: bytes, ends_T: np.ndarray, bad_T: np.ndarray, expert: Sequence[bytes]) -> Alignment:
    """The tokens of the student end at the bytes ends_T of the text; `expert` are the texts of the expert's tokens.

    bad_T: tokens of the student that are lost in any case. Where the expert's tokens do not spell the text (a
    tokenizer that normalises it, or knows some characters not), what lies between their common beginning and end is.
    """
    ends_K = np.cumsum([len(p) for p in expert], dtype=np.int64)
    spelled = b"".join(expert)
    first, last = (len(text), len(text)) if spelled == text else _differ(text, spelled)
    there_T = np.where(ends_T <= first, ends_T, ends_T + len(spelled) - len(text))  # where they are in `spelled`
    both = ((ends_T <= first) | ((ends_T >= last) & (there_T > first))) & np.isin(there_T, ends_K)
    common_T, common_K = np.unique(ends_T[both]), np.unique(there_T[both])
    student_T, expert_K = np.searchsorted(common_T, ends_T), np.searchsorted(common_K, ends_K)
    lost = np.zeros(len(common_T) + 1, bool)
    lost[-1] = True  # behind the last common boundary
    lost[student_T[bad_T]] = True
    if spelled != text:
        lost[np.searchsorted(common_T, first, "right")] = True
    starts_T, starts_K = (np.concatenate([[0], ends])[:-1] for ends in (ends_T, ends_K))
    begins_T, begins_K = (np.concatenate([[0], common]) for common in (common_T, common_K))
    span = np.searchsorted(begins_T, starts_T).clip(max=len(begins_T) - 1)
    place = np.searchsorted(starts_K, begins_K)[span]
    place_T = np.where((begins_T[span] == starts_T) & (place < len(expert)), place, -1)
    return Alignment(
        np.where(lost[student_T], LOST, student_T), np.where(lost[expert_K], LOST, expert_K), place_T
    )  # fmt: skip


def _differ(a: bytes, b: bytes) -> tuple[int, int]:
    """(first, last): a[:first] and a[last:] are the beginning and the end of b too, and do not overlap in either."""
    n = min(len(a), len(b))
    x, y = np.frombuffer(a, np.uint8), np.frombuffer(b, np.uint8)
    apart = np.flatnonzero(x[:n] != y[:n])
    first = int(apart[0]) if len(apart) else n
    apart = np.flatnonzero(x[::-1][: n - first] != y[::-1][: n - first])
    return first, len(a) - (int(apart[0]) if len(apart) else n - first)
