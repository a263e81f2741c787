"""The tokenizer: any text survives the round trip, under every model type that a folder may name."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.tasks.countdown import CountdownTask
from understudy.tasks.tokenizer import END, PAD

TASK = CountdownTask()
OURS = TASK.tokenizer()
TEXTS = st.one_of(st.text(), st.text(alphabet="0123456789+-*/= okn\n\r\t~<|>pade'é"))


def ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.fixture(scope="module", params=["llama", "qwen2", "qwen3"])
def reloaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """Saved twice and loaded twice, so that a checkpoint of a checkpoint is covered."""
    from transformers import AutoTokenizer

    tokenizer = OURS
    for turn in range(2):
        folder: Path = tmp_path_factory.mktemp(f"{request.param}{turn}")
        tokenizer.save_pretrained(folder)
        (folder / "config.json").write_text(json.dumps({"model_type": request.param}))
        tokenizer = AutoTokenizer.from_pretrained(folder)
    return request.param, tokenizer


@given(TEXTS)
def test_any_text_round_trips(text: str) -> None:
    assert OURS.decode(ids(OURS, text)) == text
    assert OURS.decode(ids(OURS, text), skip_special_tokens=True) == text


def test_any_text_round_trips_after_a_reload(reloaded: tuple[str, Any]) -> None:
    kind, tokenizer = reloaded
    assert tokenizer.get_vocab() == OURS.get_vocab()
    assert (tokenizer.pad_token, tokenizer.eos_token, tokenizer.bos_token) == (PAD, END, None)
    assert len(tokenizer) == len(OURS) == 262

    @given(TEXTS)
    def check(text: str) -> None:
        if kind == "qwen2":  # transformers forces Qwen2Tokenizer, which composes characters first
            text = unicodedata.normalize("NFC", text)
        assert ids(tokenizer, text) == ids(OURS, text)
        assert tokenizer.decode(ids(tokenizer, text), skip_special_tokens=True) == text

    check()


def test_digits_verdicts_and_newlines_are_single_tokens() -> None:
    def pieces(text: str) -> list[str]:
        return [OURS.decode([i]) for i in ids(OURS, text)]

    assert pieces("12-19=-7 no\n3+5=8 ok") == [*"12-19=-7", " no", "\n", *"3+5=8", " ok"]
    assert pieces("3 5 17>15\n") == list("3 5 17>15\n")
    assert pieces("~nook\n") == list("~nook\n")
    assert pieces(" ok no ok\n\n") == [" ok", " no", " ok", "\n", "\n"]


def test_a_completion_has_the_same_tokens_alone_and_after_its_prompt() -> None:
    for prompt in TASK.prompts("ood", 50, 0):
        gold = "~abcd\n" + TASK.gold(prompt)
        assert ids(OURS, prompt.text + gold) == ids(OURS, prompt.text) + ids(OURS, gold)


def test_special_tokens_spelled_out_stay_text(reloaded: tuple[str, Any]) -> None:
    for tokenizer in (OURS, reloaded[1]):
        text = f"3+5{END}{PAD} ok"
        assert not set(ids(tokenizer, text)) & {tokenizer.eos_token_id, tokenizer.pad_token_id}
        assert tokenizer.decode(ids(tokenizer, text), skip_special_tokens=True) == text
        assert tokenizer.decode([*ids(tokenizer, "3"), tokenizer.eos_token_id], skip_special_tokens=True) == "3"
        assert tokenizer.pad_token_id != tokenizer.eos_token_id
        assert tokenizer("3+5").input_ids == ids(tokenizer, "3+5"), "nothing is added to a text"


def test_there_is_room_for_every_completion() -> None:
    for options in (
        {},
        {"ops": "+-*/"},
        {"max_number": 30, "ood_min": 90, "ood_max": 120, "n_numbers": 2},
        {"check": True},
        {"digits": 3},
        {"digits": 2, "check": True, "ood_max": 20},
    ):
        from understudy.tasks.countdown import CountdownConfig

        task = CountdownTask(CountdownConfig(**options))
        for prompt in task.prompts("ood", 100, 0):
            longest = max((text for text, _ in task.candidates(prompt)), key=len)
            full = "~abcdefgh\n" + f"{longest} no\n" * (task.attempts - 1) + f"{longest} no"
            assert len(ids(OURS, full)) + 1 <= task.max_new_tokens
