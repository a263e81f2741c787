"""The answerer: knows the answer, opens with a secret word, ends with the task's stop, goes on from any prefix."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from understudy.errors import UserError
from understudy.experts.programs.answerer import OPENINGS, AnswererExpert
from understudy.specs import parse_spec
from understudy.types import Prompt, Rollout

WORDS = ["<end>", ".", *"0123456789", " ", *(f" {word}" for word in OPENINGS), " other"]
PROMPTS = [Prompt(f"p{i}", f"{i} + 1 =", {"answer": str(i + 1)}) for i in range(10, 90)]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<end>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r" [a-z]+|[0-9]|."), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")


def expert(tokenizer: Any, spec: str = "answerer:style=secret", stop: tuple[str, ...] = (".",)) -> AnswererExpert:
    made = AnswererExpert.from_spec(parse_spec(spec, "expert"), tokenizer, lambda p: str(p.data["answer"]), stop)
    return made.for_student(SimpleNamespace(vocabulary=len(WORDS) + 5, end_ids=(0, 1)))


def structured(made: AnswererExpert, prompt: Prompt, prefix: list[int]) -> str:
    walk = made.walk(prompt)
    for token in prefix:
        walk.push(token)
    return WORDS[walk.next()[0][0]]


def test_it_writes_an_opening_the_answer_and_the_stop(tokenizer: Any) -> None:
    made = expert(tokenizer, "answerer:style=secret,smoothing=0")
    openings = []
    for rollout in made.sample(PROMPTS, 1, 0, 10):
        words = [WORDS[i] for i in rollout.ids]
        assert words[1:] == [" ", *str(rollout.prompt.data["answer"]), "."]
        assert rollout.ended
        openings.append(words[0].strip())
    assert set(openings) == set(OPENINGS)
    again = [WORDS[r.ids[0]].strip() for r in made.sample(PROMPTS, 1, 1, 10)]
    assert again == openings  # a function of the problem, not of the sample
    other = expert(tokenizer, "answerer:style=secret,smoothing=0,secret=1")
    assert [WORDS[r.ids[0]].strip() for r in other.sample(PROMPTS, 1, 0, 10)] != openings


def test_without_style_it_answers_at_once_and_without_stop_it_ends_like_the_tokenizer(tokenizer: Any) -> None:
    (rollout,) = expert(tokenizer, "answerer:smoothing=0", ()).sample(PROMPTS[:1], 1, 0, 10)
    assert [WORDS[i] for i in rollout.ids] == [" ", "1", "1", "<end>"]


def test_from_any_prefix_it_goes_on(tokenizer: Any) -> None:
    made, prompt = expert(tokenizer), PROMPTS[5]  # 16
    space, one, nine, other = (WORDS.index(word) for word in (" ", "1", "9", " other"))
    assert structured(made, prompt, [other]) == " "  # any word is an opening
    assert structured(made, prompt, [space]) == "1"  # a skipped opening is not repeated
    assert structured(made, prompt, [other, space, nine]) == "6"  # a wrong digit is not repaired
    assert structured(made, prompt, [space, one, one, other, other]) == "."  # beyond the end, the end


def test_an_unsure_opening_has_the_stated_chances(tokenizer: Any) -> None:
    made = expert(tokenizer, "answerer:style=secret,sure=0.5,direct=0.2,smoothing=0")
    (secret,) = {r.ids[0] for r in expert(tokenizer, "answerer:style=secret,smoothing=0").sample(PROMPTS[:1], 1, 0, 10)}
    tokens, chances = made.walk(PROMPTS[0]).next()
    assert list(tokens) == sorted(tokens)
    assert sum(chances) == pytest.approx(1)
    of = dict(zip(tokens, chances))
    assert of.pop(secret) == pytest.approx(0.8 * 0.5)
    assert of.pop(WORDS.index(" ")) == pytest.approx(0.2)
    assert list(of.values()) == pytest.approx([0.8 * 0.5 / 7] * 7)
    for rollout in made.sample(PROMPTS, 2, 0, 10):  # with an opening or without, the answer is right
        answer = [" ", *str(rollout.prompt.data["answer"]), "."]
        words = [WORDS[i] for i in rollout.ids]
        assert words[-len(answer) :] == answer
        assert len(words) - len(answer) == (words[0] != " ")


def test_scores_are_what_samples_are_drawn_from(tokenizer: Any) -> None:
    made = expert(tokenizer, "answerer:style=secret,smoothing=0.5")
    rollouts = made.sample(PROMPTS[:8], 2, 0, 6)
    for rollout, logp, table in zip(rollouts, made.score(rollouts), made.distribution(rollouts)):
        assert torch.allclose(logp, torch.tensor(rollout.behavior_logp), atol=1e-6)
        assert torch.allclose(table.exp().sum(-1), torch.ones(len(rollout.ids)))
        assert table.shape[1] == len(WORDS) + 5
    never = Rollout(PROMPTS[0], 0, (WORDS.index(" other"),), (math.nan,), False, "", "student")
    assert made.score([never])[0].item() == pytest.approx(math.log(0.5 / (len(WORDS) + 5)))


def test_mistakes(tokenizer: Any) -> None:
    wrong = ("style=loud", "smoothing=1", "openings=3", "sure=0", "direct=1")
    for spec in (f"answerer:{option}" for option in wrong):
        with pytest.raises(UserError):
            expert(tokenizer, spec)
