"""Each preflight check fails on its own fault and on no other, and its message says how to correct it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import WrappedExpert

from understudy.diagnosis.cost import Sizes
from understudy.diagnosis.measures.collect import Setting
from understudy.diagnosis.preflight import FEW, block, preflight
from understudy.diagnosis.types import Check
from understudy.errors import UserError
from understudy.experts import LocalExpert, load_expert
from understudy.policy import load_policy
from understudy.protocols import Expert
from understudy.tasks import load_task
from understudy.types import Prompt, Rollout

LANGUAGE = "tokenizer, vocabulary and end tokens"
SCORES = "the expert scores the same text alike twice"
TEMPLATE = "the expert under its own template"
GOLD = "verifier accepts its own gold answers"


@pytest.fixture
def setting(models: dict[str, Path]) -> Setting:
    task = load_task("coin")
    student = load_policy(str(models["llama"]), "student", device="cpu")
    expert = load_expert("solver", task, student)
    return Setting(task, student, expert, Sizes(1.0, 0.0), 16, 0, True)


def with_expert(setting: Setting, path: Path) -> Setting:
    return dataclasses.replace(setting, expert=LocalExpert(load_policy(str(path), "expert", device="cpu")))


class Changed(WrappedExpert):
    """An expert with parts replaced."""

    def __init__(self, expert: Expert, **parts: Any) -> None:
        super().__init__(expert)
        self.__dict__ |= parts


def test_all_is_well(setting: Setting, models: dict[str, Path]) -> None:
    for one in (setting, with_expert(setting, models["qwen2"])):
        checks = preflight(one, "x")
        assert [c.name for c in checks if not c.passed] == []
        assert {LANGUAGE, "chat template", "context length", SCORES, GOLD, TEMPLATE} == {c.name for c in checks}
        block(checks)


def other_tokenizer(s: Setting) -> Setting:
    from transformers import PreTrainedTokenizerFast

    vocabulary = dict(sorted(s.student.tokenizer.get_vocab().items(), key=lambda item: item[1]))
    swapped = PreTrainedTokenizerFast(tokenizer_object=s.student.tokenizer.backend_tokenizer)
    swapped.add_tokens(["<another>"])
    assert len(swapped) == len(vocabulary) + 1
    return dataclasses.replace(s, expert=Changed(s.expert, tokenizer=swapped))


def other_end(s: Setting) -> Setting:
    return dataclasses.replace(s, expert=Changed(s.expert, end_ids=(2,)))


def other_vocabulary(s: Setting) -> Setting:
    return dataclasses.replace(s, expert=Changed(s.expert, vocabulary=s.student.vocabulary + 64))


def no_room(s: Setting) -> Setting:
    return dataclasses.replace(s, room=500)


def noisy(s: Setting) -> Setting:
    """Scores that depend on the batch, as with a server that rounds and batches."""

    def score(rollouts: list[Rollout]) -> list[torch.Tensor]:
        return [x + 0.2 * (len(rollouts) > 1) for x in s.expert.score(rollouts)]

    return dataclasses.replace(s, expert=Changed(s.expert, score=score))


def infinite(s: Setting) -> Setting:
    def score(rollouts: list[Rollout]) -> list[torch.Tensor]:
        return [x - torch.inf for x in s.expert.score(rollouts)]

    return dataclasses.replace(s, expert=Changed(s.expert, score=score))


def rejecting(s: Setting) -> Setting:
    class Task(type(s.task)):  # type: ignore[misc]
        def verify(self, prompt: Prompt, text: str, ended: bool) -> float:
            return 0.0

    task = Task.__new__(Task)
    task.__dict__ |= s.task.__dict__
    return dataclasses.replace(s, task=task)


@pytest.mark.parametrize(
    ("fault", "name", "hint"),
    [
        (other_tokenizer, LANGUAGE, "use the same"),
        (other_end, LANGUAGE, "align generation_config.eos_token_id"),
        (other_vocabulary, LANGUAGE, "resize one of them"),
        (no_room, "context length", "shorten the prompts or the completions"),
        (noisy, SCORES, "float32"),
        (infinite, SCORES, "smooth it"),
        (rejecting, GOLD, "rejects its own gold"),
    ],
)
def test_a_fault_is_named(setting: Setting, fault: Callable[[Setting], Setting], name: str, hint: str) -> None:
    checks = preflight(fault(setting), "that expert")
    assert [c.name for c in checks if not c.passed] == [name]
    with pytest.raises(UserError, match=f"preflight: {name}: .*{hint}"):
        block(checks)


def test_an_expert_that_needs_its_template_is_found(
    setting: Setting, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(models["llama"], tmp_path / "chat"))
    one = with_expert(setting, path)
    one.expert.tokenizer.chat_template = "{% for m in messages %}{{ '8 ' + m['content'] }}{% endfor %}"
    checks = preflight(one, "x")
    assert all(c.passed for c in checks), "no better with it"
    assert next(c for c in checks if c.name == "chat template").value.startswith("not the same")

    # a verifier that likes what comes after '8': correct after the template, wrong on the plain prompt
    dressed = one.expert.tokenizer("8 ", add_special_tokens=False)["input_ids"]
    sample = one.expert.sample
    answers: dict[bool, str] = {True: "right", False: "wrong"}

    def telling(prompts: list[Prompt], *args: Any) -> list[Rollout]:
        done = sample(prompts, *args)
        return [dataclasses.replace(r, text=answers[list(r.prompt.ids[: len(dressed)]) == dressed]) for r in done]

    monkeypatch.setattr(one.expert, "sample", telling)
    gold = one.task.gold
    monkeypatch.setattr(type(one.task), "verify", lambda self, p, text, ended: float(text in ("right", gold(p))))
    failed = [c for c in preflight(one, "x") if not c.passed]
    assert [c.name for c in failed] == [TEMPLATE]
    assert failed[0].value == "0.00 plain, 1.00 behind it"


STUDENTS = "{% for m in messages %}{{ m.content }}{% endfor %}A "
EXPERTS = "8 " + STUDENTS


@pytest.fixture
def chat(setting: Setting, models: dict[str, Path], tmp_path: Path) -> Setting:
    """Prompts as chat turns; student and expert have templates of their own."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"problem": f"1 + {i}?", "answer": str(1 + i)}) + "\n" for i in range(60)))
    task = load_task(f"data:path={rows},template=chat,max_new_tokens=8")
    one = with_expert(dataclasses.replace(setting, task=task), models["llama"])
    one.student.tokenizer.chat_template = STUDENTS
    one.expert.tokenizer.chat_template = EXPERTS
    return one


def named(checks: tuple[Check, ...], name: str) -> Check:
    return next(c for c in checks if c.name == name)


def test_chat_prompts_are_compared_with_the_experts_own(chat: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a check that compares a chat prompt with itself: it found no difference whatever the templates were."""
    seen: list[tuple[int, ...]] = []
    sample = chat.expert.sample
    header = chat.expert.tokenizer("8 ", add_special_tokens=False)["input_ids"]

    def telling(prompts: list[Prompt], *args: Any) -> list[Rollout]:
        seen.extend(p.ids for p in prompts)
        done = sample(prompts, *args)
        own = [list(r.prompt.ids[: len(header)]) == header for r in done]
        return [dataclasses.replace(r, text=chat.task.gold(r.prompt) if x else "?") for r, x in zip(done, own)]

    monkeypatch.setattr(chat.expert, "sample", telling)
    checks = preflight(chat, "x")
    assert "the student's writes '1 + " in named(checks, "chat template").value
    assert "the expert's '8 1 + " in named(checks, "chat template").value
    assert [c.name for c in checks if not c.passed] == [TEMPLATE]
    assert named(checks, TEMPLATE).value == "0.00 behind the student's, 1.00 behind its own"
    assert "the same chat_template" in named(checks, TEMPLATE).hint
    plain, own = seen[:FEW], seen[FEW:]
    assert own == [(*header, *ids) for ids in plain]

    seen.clear()
    chat.expert.tokenizer.chat_template = STUDENTS
    checks = preflight(chat, "x")
    assert all(c.passed for c in checks)
    assert named(checks, "chat template").value == "student and expert render the prompts alike"
    assert named(checks, TEMPLATE).value == "it is the student's"
    assert not seen, "nothing is sampled to compare equal prompts"


def test_a_template_whose_turns_end_otherwise_is_found(chat: Setting) -> None:
    """Catches a base checkpoint under a chat template: its completions never end."""
    end = "the template's end of a turn"
    tokenizer = chat.student.tokenizer
    ended = "{% for m in messages %}{{ m.content }}@{% endfor %}"
    chat.student.tokenizer.chat_template = chat.expert.tokenizer.chat_template = ended.replace("@", tokenizer.pad_token)
    failed = [c for c in preflight(chat, "x") if not c.passed]
    assert [c.name for c in failed] == [end]
    assert "generation_config.json" in failed[0].hint
    chat.student.tokenizer.chat_template = chat.expert.tokenizer.chat_template = ended.replace("@", tokenizer.eos_token)
    assert named(preflight(chat, "x"), end).passed


def test_an_expert_without_a_template_or_that_refuses(chat: Setting) -> None:
    refusing = "{{ raise_exception('no') }}"
    for template, words in ((None, "the expert has none"), (refusing, "the expert's refuses them")):
        chat.expert.tokenizer.chat_template = template
        checks = preflight(chat, "x")
        assert all(c.passed for c in checks)
        assert words in named(checks, "chat template").value


def test_without_scores_or_reward_what_needs_them_is_left_out(setting: Setting) -> None:
    expert = load_expert("good", setting.task, setting.student)
    checks = preflight(dataclasses.replace(setting, expert=expert, reward=False), "good")
    assert all(c.passed for c in checks)
    assert "only its samples" in next(c for c in checks if c.name == SCORES).value
    assert GOLD not in {c.name for c in checks}
