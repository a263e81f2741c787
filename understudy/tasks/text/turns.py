"""Conversations: the turns of a row in the usual spellings, and which of them are prompt and which completion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from understudy.tasks.text.rows import Row, kind

ROLES = {
    "human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant",
    "ai": "assistant", "bing": "assistant", "bard": "assistant",
}  # fmt: skip
"""Names of roles elsewhere (ShareGPT, Gemini) -> ours."""
TOOLS = "holds a tool call or its result: only text is learned; leave such rows out with bad=drop"
_TOOL_ROLES = frozenset({"tool", "function", "function_call", "observation", "ipython", "tool_call", "tool_response"})
_REASONING = ("reasoning_content", "reasoning", "thinking")
_MEDIA = ("image", "images", "video", "videos", "audio", "audios")


@dataclass(frozen=True)
class Turn:
    role: str
    content: str
    reasoning: str = ""
    """A thought that the source keeps apart from the content."""
    learned: bool = True
    """False: the row says `"weight": 0`, as files for OpenAI's fine-tuning do."""

    @property
    def pair(self) -> tuple[str, str]:
        return self.role, self.content

    def completion(self, tag: str) -> str:
        """The text of an assistant's turn, with its thought in `tag` (""= left out)."""
        if not self.reasoning or not tag:
            return self.content
        return f"<{tag}>\n{self.reasoning.strip()}\n</{tag}>\n\n{self.content.lstrip()}"


def read_turns(row: Row, field: str) -> list[Turn]:
    """[{"role", "content"}, ...] or [{"from", "value"}, ...]. UserError: anything but text in words."""
    for name in ("tools", "functions"):
        if row.has(name) and row.get(name) not in ([], {}, "[]", "{}", "null"):
            raise row.refuse(name, TOOLS)
    for name in _MEDIA:
        if row.has(name) and row.get(name) not in ([], "[]", ""):
            raise row.refuse(name, "only text is learned; leave such rows out with bad=drop")
    turns = [_turn(row, f"{field}[{i}]", item) for i, item in enumerate(row.items(field))]
    if not turns:
        raise row.refuse(field, "holds no message")
    return turns


def _turn(row: Row, name: str, item: Any) -> Turn:
    if not isinstance(item, Mapping):
        raise row.refuse(name, f'must be {{"role": ..., "content": ...}}, not {kind(item)}')
    own = "role" in item or "from" not in item
    role, content = (item.get("role"), item.get("content")) if own else (item.get("from"), item.get("value"))
    if not isinstance(role, str):
        raise row.refuse(name, 'must be {"role": ..., "content": ...} or {"from": ..., "value": ...}')
    role = ROLES.get(role.lower(), role.lower())
    if role in _TOOL_ROLES or any(item.get(key) for key in ("tool_calls", "function_call", "tool_call_id")):
        raise row.refuse(name, TOOLS)
    reasoning = next((item[key] for key in _REASONING if isinstance(item.get(key), str)), "")
    field = f"{name}.{'content' if own else 'value'}"
    if isinstance(content, (list, tuple)):
        content = _parts(row, field, content)
    if content is None and role == "assistant":
        why = "has a thought and no answer" if reasoning.strip() else "is null, and not a tool call"
        raise row.refuse(field, f"{why}: there is nothing to learn; leave such rows out with bad=drop")
    if role == "system" and (content is None or not str(content).strip()):
        return Turn(role, "")  # an empty system prompt is none; the caller leaves it out
    weight = item.get("weight")
    return Turn(role, row.as_text(field, content), reasoning, weight is None or weight != 0)


def _parts(row: Row, field: str, parts: Sequence[Any]) -> str:
    """Content as a list of parts: {"type": "text", "text": ...}."""
    texts = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            what = part.get("type") if isinstance(part, Mapping) else kind(part)
            raise row.refuse(
                field, f"holds a part of type {what!r}: only text is learned; leave such rows out with bad=drop"
            )
    return "".join(texts)


def split_turns(row: Row, field: str, turns: Sequence[Turn]) -> tuple[list[tuple[str, str]], Turn | None]:
    """(the prompt: turns that end with a user's, the completion: the assistant's turn after them, or None).

    The completion is the last turn of the assistant that may be learned; what comes after it is left out. A
    conversation that ends with the user, or whose assistant's turns have weight 0, has no completion.
    """
    turns = [turn for turn in turns if turn.content]
    answer = None
    if turns and turns[-1].role == "assistant":
        last = max((i for i, t in enumerate(turns) if t.role == "assistant" and t.learned), default=None)
        if last is None:
            last = len(turns) - 1
        else:
            answer = turns[last]
        turns = turns[:last]
    if not turns:
        raise row.refuse(field, "has no user's message: one must come first")
    if turns[-1].role != "user":
        raise row.refuse(field, f"must end with a user's turn, not with role {turns[-1].role!r}")
    return [turn.pair for turn in turns], answer
