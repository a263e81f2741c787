"""A student's completions in the tokens of an expert of another family, and the other way round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from understudy.errors import UserError
from understudy.experts.foreign.alignment import LOST, Alignment, align, text_of
from understudy.experts.foreign.vocabulary import token_bytes
from understudy.experts.written import Written, as_rollouts
from understudy.policy import tokenizer_sha, tokens
from understudy.policy.templates import turn_end
from understudy.types import Prompt, Rollout


class Reads(Protocol):
    """What a model reads: policy.Policy, policy.reader.Reader."""

    name: str
    tokenizer: Any
    end_ids: tuple[int, ...]
    context: int

    def encode(self, prompts: Sequence[Prompt]) -> list[Prompt]: ...


@dataclass(frozen=True)
class Rewritten:
    """Completions of the student as the expert writes them, with the alignment of each."""

    source: Sequence[Rollout]
    rollouts: list[Rollout]
    alignments: list[Alignment]


class Translation:
    """Between the tokens of a student and those of an expert, by their text.

    The expert reads the prompt as its own tokenizer and chat template write it, and behind it the text of the
    completion in its own usual tokens: one tokenization of the text, not all that are possible.
    """

    def __init__(self, student: Any, expert: Reads) -> None:
        """student: a policy.Policy. UserError: a tokenizer whose tokens are not parts of the text."""
        self.student, self.expert = student, expert
        self.texts = token_bytes(student.tokenizer, student.name, "student")
        self.texts += [b""] * (student.vocabulary - len(self.texts))
        self.own_texts = token_bytes(expert.tokenizer, expert.name)
        self.same = tokenizer_sha(student.tokenizer) == tokenizer_sha(expert.tokenizer)
        special = student.tokenizer.added_tokens_decoder
        self._ends = frozenset(i for i in student.end_ids if i in special)
        self._last = Rewritten((), [], [])

    # -- of the student -> of the expert ------------------------------------------------------------------------

    def write(self, rollouts: Sequence[Rollout]) -> Rewritten:
        """UserError: a prompt that the expert's chat template refuses, or text beyond its context."""
        last = self._last
        if len(last.source) == len(rollouts) and all(a is b for a, b in zip(last.source, rollouts)):
            return last
        prompts = self._prompts([r.prompt for r in rollouts])
        bodies = [r.ids[:-1] if r.ended and r.ids[-1] in self._ends else r.ids for r in rollouts]
        texts = [text_of([self.texts[i] for i in body]) for body in bodies]
        written = [(body, None) for body in bodies] if self.same else self.encode(prompts, [t for t, _, _ in texts])
        out = []
        for r, prompt, body, (text, ends, bad), (ids, parts) in zip(rollouts, prompts, bodies, texts, written):
            if parts is None:
                known = _each_alone(len(body))
            else:
                known = align(text.encode(), ends, bad, parts)
            tail = (r.ids[-1] if self.same else self.end(prompt, r.ids[-1]),) if len(body) < len(r.ids) else ()
            if tail:
                known = _with_end(known)
            whole = (*ids, *tail) or (self.end(prompt, self.student.end_ids[0]),)  # no text: any token, no span
            out.append((Rollout(prompt, r.sample, whole, (0.0,) * len(whole), bool(tail), "", r.actor), known))
        self._check_room([r for r, _ in out])
        self._last = Rewritten(list(rollouts), [r for r, _ in out], [a for _, a in out])
        return self._last

    def _prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The prompts as the expert reads them, each prompt encoded once."""
        if self.same and self._templates_are_equal:
            return list(prompts)
        different = {id(p): p for p in prompts}
        bare = [replace(p, ids=(), text=self._text(p)) for p in different.values()]
        own = dict(zip(different, self.expert.encode(bare)))
        return [own[id(p)] for p in prompts]

    @cached_property
    def _templates_are_equal(self) -> bool:
        own, other = (getattr(x.tokenizer, "chat_template", None) for x in (self.student, self.expert))
        return bool(own == other)

    def _text(self, prompt: Prompt) -> str:
        """Its text; of a prompt that is known by its ids alone, what they say."""
        if prompt.text or prompt.messages:
            return prompt.text
        return str(self.student.tokenizer.decode(list(prompt.ids), skip_special_tokens=False))

    def encode(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[tuple[tuple[int, ...], list[bytes]]]:
        """(ids, the text of each) of completions, after the expert's prompts."""
        if not texts:
            return []
        tokenizer = self.expert.tokenizer
        if self._adds_a_space:  # a text alone would begin with a space
            name = self.expert.name
            many = [tokens.continuation(tokenizer, p, t, name) if t else () for p, t in zip(prompts, texts)]
        else:
            encoded = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True, padding=False)
            many = [tuple(ids) for ids in encoded["input_ids"]]
        out = []
        for ids, text in zip(many, texts):
            parts = [self.own_texts[i] for i in ids]
            if parts and parts[0][:1] == b" " and not text.startswith(" "):
                parts[0] = parts[0][1:]
            out.append((ids, parts))
        return out

    @cached_property
    def _adds_a_space(self) -> bool:
        ids = self.expert.tokenizer("a", add_special_tokens=False)["input_ids"]
        return b"".join(self.own_texts[i] for i in ids) != b"a"

    def end(self, prompt: Prompt, of: int) -> int:
        """The expert's end token for the student's end token `of`: that which its chat template writes behind a turn,
        else the one of the same name, else the usual one of its tokenizer."""
        ends, tokenizer = self.expert.end_ids, self.expert.tokenizer
        if prompt.messages:
            if self._turn_end is None:
                self._turn_end = turn_end(tokenizer, prompt).token
            if self._turn_end in ends:
                return int(self._turn_end or 0)
        for i in ends:
            if self.own_texts[i : i + 1] == [self.texts[of]]:
                return i
        return int(tokenizer.eos_token_id) if tokenizer.eos_token_id in ends else ends[0]

    _turn_end: int | None = None

    def ends(self, prompt: Prompt) -> dict[int, int]:
        """End token of the student -> that of the expert."""
        return {s: self.end(prompt, s) for s in self._ends}

    def _check_room(self, rollouts: Sequence[Rollout]) -> None:
        context = self.expert.context
        longest = max(rollouts, key=lambda r: len(r.prompt.ids) + len(r.ids), default=None)
        if not context or longest is None:
            return
        if (n := len(longest.prompt.ids) + len(longest.ids)) > context:
            hint = f"prompt {longest.prompt.key} with its completion has {n} tokens of the expert, whose context is "
            raise UserError("expert", self.expert.name, hint + f"{context}: shorten the prompts or the completions")

    # -- of the expert -> of the student ------------------------------------------------------------------------

    def own_prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Prompts of the student as the expert reads them."""
        return self._prompts(prompts)

    def read(self, prompts: Sequence[Prompt], drawn: Sequence[Rollout], room: int) -> list[Rollout]:
        """The expert's completions in the tokens of the student, at most `room` of them, log-probs not known (NaN).

        prompts: the student's, one for each.
        """
        texts = [Written(p, r.sample, r.text, r.ended) for p, r in zip(prompts, drawn)]
        return as_rollouts(self.student, texts, room)


def _each_alone(n: int) -> Alignment:
    own = np.arange(n)
    return Alignment(own, own, own)


def _with_end(known: Alignment) -> Alignment:
    """With one more token on either side: the two ends are one span."""
    span = 1 + max(int(known.student_T.max(initial=LOST)), int(known.expert_K.max(initial=LOST)))
    joined = [np.append(x, span) for x in (known.student_T, known.expert_K)]
    return Alignment(joined[0], joined[1], np.append(known.place_T, len(known.expert_K)))
