"""What a chat template does to a prompt: text that it adds, the token that ends a turn, where two templates differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from understudy.policy.bounded import bounded
from understudy.policy.tokens import rendered
from understudy.types import Prompt

_MARK = "Quartz jackdaw 7391"  # words that no template writes


@dataclass(frozen=True)
class TurnEnd:
    """The special token that a template writes right after an assistant's turn. None: it writes none."""

    text: str
    token: int | None


def turn_end(tokenizer: Any, prompt: Prompt) -> TurnEnd:
    """Of the template; none for a plain prompt."""
    if not prompt.messages or not getattr(tokenizer, "chat_template", None):
        return TurnEnd("", None)
    turns = [{"role": role, "content": text} for role, text in (*prompt.messages, ("assistant", _MARK))]
    try:
        whole = bounded(tokenizer.chat_template, lambda: tokenizer.apply_chat_template(turns, tokenize=False))
    except Exception:  # a template can raise any error; `rendered` reports those of the prompt itself
        return TurnEnd("", None)
    text = whole.rpartition(_MARK)[2].strip()
    special = set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab())
    first = max((token for token in special if token and text.startswith(token)), key=len, default="")
    return TurnEnd(first, int(tokenizer.convert_tokens_to_ids(first)) if first else None)


def added_system(tokenizer: Any, prompt: Prompt, name: str) -> str:
    """The system prompt that the template writes where the prompt has none; "" for none."""
    if not prompt.messages or any(role == "system" for role, _ in prompt.messages):
        return ""
    marked = replace(prompt, messages=((prompt.messages[0][0], _MARK), *prompt.messages[1:]), prefill="")
    head = rendered(tokenizer, marked, name).partition(_MARK)[0]
    return head.strip() if "system" in head.lower() else ""


def lost_turns(tokenizer: Any, prompt: Prompt, name: str) -> list[str]:
    """Roles of the turns whose text is not in what the model reads: a template that drops system prompts, say."""
    text = _squeezed(rendered(tokenizer, prompt, name))
    lost = []
    for role, content in prompt.messages:
        if role == "assistant":  # of earlier turns, many templates leave the thought out
            content = content.rpartition("</think>")[2]
        if _squeezed(content) not in text:
            lost.append(role)
    return lost


def lost_note(tokenizer: Any, prompts: Sequence[Prompt], name: str) -> str:
    """One line that says whose text the model does not read; "" = it reads all. One prompt of each kind is tried."""
    kinds = {tuple(role for role, _ in p.messages): p for p in reversed(prompts)}
    lost = dict.fromkeys(role for p in kinds.values() for role in lost_turns(tokenizer, p, name))
    if not lost:
        return ""
    return (
        f"the chat template of {name} drops the text of the {' and the '.join(lost)} turn: it is not read "
        "(`understudy prompts` shows what is)"
    )


def last_token(tokenizer: Any, ends: Sequence[int], prompt: Prompt) -> int:
    """The end token of a completion that was written as text: the one with which the template ends the assistant's
    turn, else the tokenizer's own, else the first, always one of `ends`."""
    for token in (turn_end(tokenizer, prompt).token, tokenizer.eos_token_id):
        if token is not None and token in ends:
            return int(token)
    return ends[0]


def _squeezed(text: str) -> str:
    return "".join(text.split())


def first_difference(a: str, b: str, width: int = 40) -> tuple[str, str] | None:
    """The two texts from shortly before where they part; None: they are equal."""
    if a == b:
        return None
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    start = max(0, at - width // 4)
    return a[start : start + width], b[start : start + width]
