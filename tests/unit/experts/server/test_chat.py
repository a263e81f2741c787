"""Answers of chat APIs: the thought is kept, nothing said is no reason to stop, odd answers are refused in words."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.experts.server.chat import read_chat
from understudy.servers.http import BadAnswer


def answer(finish: Any = "stop", **message: Any) -> Any:
    return {"choices": [{"message": {"role": "assistant", **message}, "finish_reason": finish}]}


THOUGHT = "<think>\nhm\n</think>\n\n2"


@pytest.mark.parametrize(
    ("got", "text", "ended"),
    [
        (answer(content="2"), "2", True),
        (answer("length", content="2"), "2", False),
        (answer("eos_token", content="2"), "2", True),
        (answer("STOP", content="2"), "2", True),
        (answer("MAX_TOKENS", content="2"), "2", False),
        (answer(content="2", reasoning_content="hm"), THOUGHT, True),
        (answer(content="\n\n2", reasoning="hm\n"), THOUGHT, True),
        (answer(content="2", reasoning_content=None, reasoning=None), "2", True),
        (answer(content="2", reasoning_content="hm", reasoning="hm"), THOUGHT, True),
        (answer(content=THOUGHT, reasoning_content="hm"), THOUGHT, True),
        (answer("length", content=None, reasoning_content="hm"), "<think>\nhm", False),
        (answer("length", content="", reasoning_content="hm"), "<think>\nhm", False),
        (answer(content=None), "", True),
        (answer("length", content=None), "", False),
        (answer(content=None, refusal="I cannot."), "", True),
        (answer("content_filter", content="half of"), "", True),
        (answer("stop"), "", True),
        (answer(content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab", True),
        (
            answer(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"text": "2"}]),
            THOUGHT, True,
        ),
    ],
)  # fmt: skip
def test_what_is_said(got: Any, text: str, ended: bool) -> None:
    said = read_chat(got)
    assert (said.written("think"), said.ended) == (text, ended)


def test_a_thought_in_another_tag_or_none() -> None:
    said = read_chat(answer(content="2", reasoning_content="hm"))
    assert said.written("reasoning") == THOUGHT.replace("think", "reasoning")
    assert said.written("") == "2"


@pytest.mark.parametrize(
    "got",
    [
        None, [], {}, {"choices": []}, {"choices": [1]}, answer("tool_calls", content="2"), answer(None, content="2"),
        answer(["stop"], content="2"), answer(content=2), answer(content=[{"type": "image_url"}]), answer(content=[1]),
        answer(content="\ud800"), answer(content="", reasoning_content="\udfff"),
        {"choices": [{"message": "2", "finish_reason": "stop"}]},
    ],
)  # fmt: skip
def test_what_is_no_answer(got: Any) -> None:
    with pytest.raises(BadAnswer):
        read_chat(got)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["stop", "length"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
        st.sampled_from(["choices", "message", "content", "reasoning", "finish_reason", "text", "thinking"]), inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(_JSON)
def test_any_answer_is_read_or_refused(value: Any) -> None:
    for got in (value, {"choices": [value]}, {"choices": [{"message": value, "finish_reason": "stop"}]}):
        with contextlib.suppress(BadAnswer):
            json.dumps(read_chat(got).written("think"))
