"""Two tokenizations of one text: which tokens belong together, and what is lost."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.experts.foreign.alignment import LOST, Alignment, align, text_of


def aligned(student: Sequence[str | bytes], expert: Sequence[str | bytes]) -> Alignment:
    own, other = ([x if isinstance(x, bytes) else x.encode() for x in side] for side in (student, expert))
    text, ends, bad = text_of(own)
    return align(text.encode(), ends, bad, other)


@pytest.mark.parametrize(
    ("student", "expert", "of_student", "of_expert", "place"),
    [
        (["a", "b", "c"], ["ab", "c"], [0, 0, 1], [0, 1], [0, -1, 1]),
        (["ab", "c"], ["a", "b", "c"], [0, 1], [0, 0, 1], [0, 2]),
        (["a", "bc"], ["ab", "c"], [0, 0], [0, 0], [0, -1]),  # no boundary in common
        ([b"\xc3", b"\xa9", "x"], ["é", "x"], [0, 0, 1], [0, 1], [0, -1, 1]),  # half characters
        (["é", "b"], [b"\xc3", b"\xa9", "b"], [0, 1], [0, 0, 1], [0, 2]),  # byte fallback
        (["a", b"\xc3"], ["a", "\ufffd"], [0, LOST], [0, LOST], [0, 1]),  # cut in the middle of a character
        (["a", b"\xc3", "b"], ["a", "\ufffd", "b"], [0, LOST, 2], [0, LOST, 2], [0, 1, 2]),
        ([b"\xff", b"\xff", "b"], ["\ufffd\ufffd", "b"], [LOST, LOST, 1], [LOST, 1], [0, -1, 1]),
        (["a", "B", "c"], ["a", "b", "c"], [0, LOST, 2], [0, LOST, 2], [0, 1, 2]),  # a tokenizer without capitals
        (["a", " ", "b"], ["a", "b"], [0, LOST, LOST], [0, LOST], [0, 1, -1]),  # or without spaces
        (["a", "b"], ["a", " ", "b"], [0, LOST], [0, LOST, LOST], [0, 1]),
        (["ab", "c"], ["a"], [LOST, LOST], [LOST], [0, -1]),
        (["a"], [], [LOST], [], [-1]),
        ([], [], [], [], []),
    ],
)  # fmt: skip
def test_spans(
    student: list[str | bytes], expert: list[str | bytes], of_student: list[int], of_expert: list[int], place: list[int]
) -> None:
    found = aligned(student, expert)
    assert found.student_T.tolist() == of_student
    assert found.expert_K.tolist() == of_expert
    assert found.place_T.tolist() == place


def test_one_to_one_tokens() -> None:
    assert aligned(["a", "b", "c", "de"], ["ab", "c", "d", "e"]).one_to_one.tolist() == [False, False, True, False]
    assert aligned(["a", b"\xc3", "b"], ["a", "\ufffd", "b"]).one_to_one.tolist() == [True, False, True]


def cut(text: bytes, places: set[int]) -> list[bytes]:
    edges = [0, *sorted(p for p in places if 0 < p < len(text)), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges) if a < b]


@given(st.text(max_size=8), st.sets(st.integers(1, 30)), st.sets(st.integers(1, 30)))
def test_two_cuts_of_one_text(text: str, first: set[int], second: set[int]) -> None:
    """Both sides' spans have the same bytes, none is lost, and they end exactly at the common boundaries."""
    whole = text.encode()
    a, b = cut(whole, first), cut(whole, second)
    found = aligned(a, b)
    spans = max(found.student_T, default=-1) + 1
    for k in range(spans):
        own = b"".join(x for x, s in zip(a, found.student_T) if s == k)
        assert own == b"".join(x for x, s in zip(b, found.expert_K) if s == k) != b""
    assert LOST not in found.student_T
    assert spans == len(set(np.cumsum([len(x) for x in a]).tolist()) & set(np.cumsum([len(x) for x in b]).tolist()))
    starts = [np.cumsum([0, *map(len, x)])[:-1].tolist() for x in (a, b)]
    assert found.place_T.tolist() == [starts[1].index(s) if s in starts[1] else -1 for s in starts[0]]
