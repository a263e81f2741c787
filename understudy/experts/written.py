"""Completions that were written as text, by an author or behind a chat API, in the tokens of a student."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from understudy.policy import Policy, tokens
from understudy.policy.templates import last_token
from understudy.types import Prompt, Rollout


@dataclass(frozen=True)
class Written:
    """One completion. ended: its author stopped there; False = it was cut off."""

    prompt: Prompt
    sample: int
    text: str
    ended: bool = True


def as_rollouts(student: Policy, written: Sequence[Written], max_new_tokens: int) -> list[Rollout]:
    """Texts as the student would write them after its encoded prompts. Their behavior log-probs are unknown: NaN.

    One end: what the text spells out itself, else the student's usual end after this prompt (templates.last_token).
    A text that is longer than max_new_tokens is cut and has no end; one that holds a stop token ends there. The tag of
    a thought that the prompt has opened is not opened again. A text that holds nothing gives a blank rollout.
    """
    bare = [_bare(student, w) for w in written]
    ids = student.continuations([w.prompt for w in written], [text for text, _ in bare])
    around = tokens.special_ends(student.tokenizer, student.end_ids)
    usual: dict[tuple[str, ...], int] = {}  # end token by the roles of a prompt's turns
    out = []
    for w, (text, end), found in zip(written, bare, ids):
        kind = tuple(role for role, _ in w.prompt.messages)
        if kind not in usual:
            usual[kind] = last_token(student.tokenizer, student.end_ids, w.prompt)
        if end is None:
            end = usual[kind]
        body = tuple(i for i in found if i not in around)  # an end in the middle of a text is not the end
        stop = next((at for at, i in enumerate(body) if i in student.end_ids), None)
        if not text.strip() or not body:
            out.append(Rollout(w.prompt, w.sample, (end,), (-math.inf,), True, "", "expert"))
            continue
        if stop is not None:
            whole, ended = body[: stop + 1], True
        else:
            whole, ended = (*body, end) if w.ended else body, w.ended
        if len(whole) > max_new_tokens:
            whole, ended = whole[:max_new_tokens], False
        cut = stop is not None or len(body) < len(found) or len(whole) < len(body) + ended
        shown = student.decode([whole])[0] if cut else text
        out.append(Rollout(w.prompt, w.sample, whole, (math.nan,) * len(whole), ended, shown, "expert"))
    return out


def _bare(student: Policy, w: Written) -> tuple[str, int | None]:
    """(the text without the tag of a thought that is open already and without an end in words, that end)."""
    text, end = tokens.without_end(student.tokenizer, student.end_ids, w.text) if w.ended else (w.text, None)
    return tokens.without_opening(tokens.rendered(student.tokenizer, w.prompt, student.name), text), end
