"""Completions of a student in another family's tokens: ends, spaces, special tokens, chat templates, and back."""

from __future__ import annotations

import math
from typing import Any

import pytest
from foreign import byte_level, letters, sentencepiece, student_of
from tokenizers import Tokenizer, decoders
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from understudy.errors import UserError
from understudy.experts.foreign.translation import Translation
from understudy.experts.foreign.vocabulary import Side, buckets, token_bytes
from understudy.policy import tokens
from understudy.types import Prompt, Rollout

SPACE = "\u2581"
LLAMA = sentencepiece([SPACE, *"abcok42:"], [(SPACE, "a"), ("o", "k"), (SPACE, "ok"), ("4", "2")])
BYTES = byte_level([("Ġ", "o"), ("Ġo", "k"), ("4", "2")])


class Reads:
    """A tokenizer with its end tokens, as a model reads."""

    def __init__(self, tokenizer: Any, end_ids: tuple[int, ...] = (), context: int = 0) -> None:
        self.tokenizer, self.name, self.context = tokenizer, "expert", context
        self.end_ids = end_ids or (tokenizer.eos_token_id,)

    def encode(self, prompts: list[Prompt]) -> list[Prompt]:
        return [p.encoded(i) for p, i in zip(prompts, tokens.encode_all(self.tokenizer, prompts, self.name))]


class Student(Reads):
    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer)
        self.vocabulary = len(tokenizer)

    def continuations(self, prompts: list[Prompt], texts: list[str]) -> list[tuple[int, ...]]:
        return [tokens.continuation(self.tokenizer, p, t, self.name) for p, t in zip(prompts, texts)]

    def decode(self, ids: list[list[int]]) -> list[str]:
        return list(self.tokenizer.batch_decode([list(i) for i in ids], skip_special_tokens=True))


def completion(student: Reads, text: str, ended: bool = True, prompt: Prompt | None = None) -> Rollout:
    prompt = student.encode([prompt or Prompt("p", "a:")])[0]
    ids = tuple(student.tokenizer(text, add_special_tokens=False)["input_ids"])
    ids += (student.end_ids[0],) if ended else ()
    return Rollout(prompt, 0, ids, (0.0,) * len(ids), ended, text, "student")


@pytest.mark.parametrize("tokenizer", [LLAMA, BYTES, byte_level()])
@pytest.mark.parametrize("text", ["abc ok", " ok 42", "é ok ✓", "a\n42"])
def test_the_bytes_of_tokens_are_the_text(tokenizer: Any, text: str) -> None:
    """Byte-level, byte fallback, letters for spaces. SentencePiece writes one space in front."""
    parts = token_bytes(tokenizer, "t")
    whole = b"".join(parts[i] for i in tokenizer(text, add_special_tokens=False)["input_ids"])
    assert whole in (text.encode(), b" " + text.encode())


@pytest.mark.parametrize(("of_student", "of_expert"), [(LLAMA, BYTES), (BYTES, LLAMA), (byte_level(), BYTES)])
@pytest.mark.parametrize("text", ["abc ok", " ok 42", "é ok ✓", "a\n42"])
def test_nothing_is_lost_between_families(of_student: Any, of_expert: Any, text: str) -> None:
    student, expert = Student(of_student), Reads(of_expert)
    known = Translation(student, expert)
    r = completion(student, "" if of_student is LLAMA else text)
    if of_student is LLAMA:  # as the student writes it behind its prompt
        ids = (*tokens.continuation(of_student, r.prompt, text, "s"), student.end_ids[0])
        r = Rollout(r.prompt, 0, ids, (0.0,) * len(ids), True, text, "student")
    written = known.write([r])
    (own,), (spans,) = written.rollouts, written.alignments
    assert own.ids[-1] == expert.end_ids[0]
    assert b"".join(known.own_texts[i] for i in own.ids[:-1]).decode().lstrip(" ") == text.lstrip(" ")
    assert (spans.student_T >= 0).all()
    assert (spans.expert_K >= 0).all()
    assert own.prompt.ids == expert.encode([Prompt("p", "a:")])[0].ids
    assert known.write([r]) is written


def test_ends_map_to_each_other_and_truncated_completions_have_none() -> None:
    student, expert = Student(byte_level(end="<|im_end|>")), Reads(byte_level([("4", "2")], end="<eos>"))
    known = Translation(student, expert)
    done, cut, empty = completion(student, "42"), completion(student, "42", False), completion(student, "")
    found = known.write([done, cut, empty])
    assert [r.ids[-1] == expert.end_ids[0] for r in found.rollouts] == [True, False, True]
    assert [a.student_T.tolist() for a in found.alignments] == [[0, 0, 1], [0, 0], [0]]
    two = Reads(byte_level([("4", "2")], end="<|im_end|>"), end_ids=(1, 5))
    assert Translation(student, two).end(done.prompt, student.end_ids[0]) == 1  # of the same name


def test_an_end_that_is_spelled_out_is_text() -> None:
    """A student cannot end the expert's turn by writing the name of its end token, nor its own."""
    student, expert = Student(byte_level(end="<|im_end|>")), Reads(byte_level([("4", "2")], end="<eos>"))
    r = completion(student, "<eos>a")
    (own,) = Translation(student, expert).write([r]).rollouts
    assert own.ids.count(expert.end_ids[0]) == 1
    prompt = student.encode([Prompt("p", "a:")])
    drawn = Rollout(expert.encode([Prompt("p", "a:")])[0], 0, (5, 1), (0.0, 0.0), True, "a<|im_end|>b", "expert")
    (back,) = Translation(student, expert).read(prompt, [drawn], 64)
    assert back.ids.count(student.end_ids[0]) == 1
    assert all(map(math.isnan, back.behavior_logp))


def test_the_expert_s_completions_in_the_student_s_tokens() -> None:
    """What is cut gets no end; what the expert did not end, neither."""
    student, expert = Student(byte_level()), Reads(BYTES)
    known, prompt = Translation(student, expert), student.encode([Prompt("p", "a:")])
    own = known.own_prompts(prompt)[0]
    ids = tuple(BYTES("abc ok")["input_ids"])
    drawn = [
        Rollout(own, 0, (*ids, 1), (0.0,) * (len(ids) + 1), True, "abc ok", "expert"),
        Rollout(own, 1, ids, (0.0,) * len(ids), False, "abc ok", "expert"),
    ]
    whole, open_ = known.read(prompt * 2, drawn, 64)
    assert (whole.ended, open_.ended) == (True, False)
    assert student.decode([whole.ids])[0] == student.decode([open_.ids])[0] == whole.text == "abc ok"
    assert whole.ids[:-1] == open_.ids
    assert whole.ids[-1] == student.end_ids[0]
    short = known.read(prompt, drawn[:1], 3)[0]
    assert (len(short.ids), short.ended, short.text) == (3, False, "abc")


def test_chat_templates_of_both_sides() -> None:
    """The expert reads its own rendering, and ends as its own template ends a turn."""
    student, expert = Student(byte_level(end="<|im_end|>")), Reads(byte_level(end="<eos>"), end_ids=(0, 1))
    student.tokenizer.chat_template = "{% for m in messages %}[{{ m.content }}]<|im_end|>{% endfor %}A"
    expert.tokenizer.chat_template = "{% for m in messages %}Q{{ m.content }}<p>{% endfor %}"
    prompt = Prompt("p", "hi", messages=(("user", "hi"),))
    r = completion(student, "b", prompt=prompt)
    (own,) = Translation(student, expert).write([r]).rollouts
    assert expert.tokenizer.decode(list(own.prompt.ids)) == "Qhi<p>"
    assert own.ids[-1] == 0
    expert.tokenizer.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        Translation(student, expert).write([r])


def test_what_no_expert_can_read_is_refused() -> None:
    words = PreTrainedTokenizerFast(
        tokenizer_object=_word_pieces(), eos_token="a", clean_up_tokenization_spaces=False
    )  # fmt: skip
    with pytest.raises(UserError, match="WordPiece"):
        Translation(Student(byte_level()), Reads(words))
    with pytest.raises(UserError, match="context is 3"):
        Translation(Student(byte_level()), Reads(BYTES, context=3)).write([completion(Student(byte_level()), "abc")])


def _word_pieces() -> Tokenizer:
    backend = Tokenizer(WordLevel({"a": 0}, unk_token="a"))
    backend.decoder = decoders.WordPiece()
    return backend


def test_buckets_of_two_vocabularies() -> None:
    """Equal texts share a bucket; with `first`, a token of one side goes where its first part is."""
    own, other = letters("abc", [("a", "b"), ("ab", "c")]), letters("abd", [("b", "a"), ("a", "d")])
    sides = [
        Side(token_bytes(t, "t"), len(t) + 1, lambda texts, t=t: t(texts, add_special_tokens=False)["input_ids"])  # type: ignore[misc]
        for t in (own, other)
    ]
    names = [[t.convert_ids_to_tokens(i) for i in range(len(t))] for t in (own, other)]
    for match, moved in (("shared", {}), ("first", {"ab": "a", "abc": "a", "ba": "b", "ad": "a"})):
        found = buckets(*sides, student_of(own) and {0: 0}, match)
        where = [dict(zip(n, b.tolist())) for n, b in zip(names, (found.student_V, found.expert_W))]
        assert found.count == 3  # the end, a, b
        for text in ("a", "b", "<|stop|>"):
            assert where[0][text] == where[1][text] < found.count
        for side in where:
            for text in {"c", "d", "ab", "abc", "ba", "ad"} & set(side):
                assert side[text] == (side[moved[text]] if text in moved else found.count), (match, text)
        assert found.student_V[-1] == found.expert_W[-1] == found.count  # padding
