"""Prompts as tokens: the student's template, one BOS, no lost text, and the start of the completion."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from understudy.errors import UserError
from understudy.policy import tokens
from understudy.tasks.tokenizer import make_tokenizer
from understudy.types import Prompt

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
WORDS = [
    "<s>",
    "</s>",
    "<unk>",
    "<user>",
    "<assistant>",
    "<system>",
    "<think>",
    "two",
    "plus",
    "is",
    "four",
    "A",
    "B",
    "\n",
]


def words(template: str | None = TEMPLATE, closes: bool = False) -> Any:
    """A word-level tokenizer that puts <s> before a text (and </s> after it, if it `closes`), as Llama's does."""
    backend = Tokenizer(WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if closes else "<s> $A", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    out = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    out.add_special_tokens({"additional_special_tokens": ["<user>", "<assistant>", "<system>", "<think>"]})
    out.chat_template = template
    return out


def spelled(tokenizer: Any, ids: tuple[int, ...]) -> list[str]:
    return tokenizer.convert_ids_to_tokens(list(ids))


def test_plain_text_gets_one_bos() -> None:
    t = words()
    assert spelled(t, tokens.encode(t, Prompt("k", "two plus two"), "m")) == ["<s>", "two", "plus", "two"]
    assert spelled(t, tokens.encode(t, Prompt("k", "<s> two plus"), "m")) == ["<s>", "two", "plus"]


def test_a_prompt_is_not_closed() -> None:
    """Some tokenizers append the end token to every text; after it a model starts another text."""
    t = words(closes=True)
    assert spelled(t, tokens.encode(t, Prompt("k", "two plus"), "m")) == ["<s>", "two", "plus"]
    p = Prompt("k", "two plus")
    assert spelled(t, tokens.continuation(t, p, " two is four", "m")) == ["two", "is", "four"]


def test_a_chat_template_brings_its_own_bos() -> None:
    t = words()
    p = Prompt("k", "two", messages=(("system", "is"), ("user", "two plus two")), prefill="<think> ")
    ids = tokens.encode(t, p, "m")
    assert spelled(t, ids) == ["<s>", "<system>", "is", "<user>", "two", "plus", "two", "<assistant>", "<think>"]
    assert spelled(t, tokens.continuation(t, p.encoded(ids), "four", "m")) == ["four"]


def test_byte_level_round_trip_and_continuation() -> None:
    """The choice ` A` after `Answer:` is what the model would have to write, and both encode to the whole."""
    t = make_tokenizer()
    for text in ("Answer:", "é✓ 数学 \n\t$\\frac{1}{2}$", "a"):
        p = Prompt("k", text)
        ids = tokens.encode(t, p, "m")
        assert t.decode(list(ids)) == text
        for more in (" A", "B", "\n#### 5"):
            rest = tokens.continuation(t, p.encoded(ids), more, "m")
            assert t.decode(list(ids + rest)) == text + more


@pytest.mark.parametrize(
    ("tokenizer", "prompt", "message"),
    [
        (words(template=None), Prompt("k", "", messages=(("user", "two"),)), "no chat template: use template=plain"),
        (words("{{ raise_exception('no such role') }}"), Prompt("k", "", messages=(("x", "two"),)), "no such role"),
        (words(), Prompt("k9", "two plus seven"), "k9: does not survive the tokenizer of m: 'seven' becomes '<unk>'"),
        (words(), Prompt("k", "  "), "encodes to no tokens"),
        (make_tokenizer(), Prompt("k", ""), "encodes to no tokens"),
    ],
)
def test_prompts_that_are_refused(tokenizer: Any, prompt: Prompt, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        tokens.encode(tokenizer, prompt, "m")


def test_one_token() -> None:
    t = words()
    assert tokens.one_token(t, "</s>") == 1
    assert tokens.one_token(t, "<think>") == WORDS.index("<think>")
    assert tokens.one_token(t, "four") == WORDS.index("four")
    assert tokens.one_token(t, "two plus") is None
    assert tokens.one_token(make_tokenizer(), "\n") is not None
