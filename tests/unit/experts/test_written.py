"""Text as completions of a student: one end, the right one; a thought opened once; nothing where there is none."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from understudy.experts.written import Written, as_rollouts
from understudy.policy import Policy, make_scratch
from understudy.policy.templates import last_token, lost_note
from understudy.specs import parse_spec
from understudy.tasks import load_task
from understudy.tasks.tokenizer import make_tokenizer
from understudy.types import Prompt

TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKS = TURNS.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>\n{% endif %}")
CHAT = Prompt("k", "", messages=(("user", "1+1?"),))
PLAIN = Prompt("k", "1+1=")


def student(template: str = TURNS, thinks: bool = False, eos: str = "<|im_end|>") -> Policy:
    """Qwen's ends: two of them, the template's is not the smallest. thinks: a thought's tags are special tokens."""
    t = make_tokenizer()
    t.split_special_tokens = False
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(["<think>", "</think>"] if thinks else [])]
    t.add_special_tokens({"additional_special_tokens": special})
    t.eos_token, t.chat_template = eos, template
    p = make_scratch(parse_spec("scratch:width=16,layers=1,heads=2", "student"), t, 0)
    p.end_ids = tuple(sorted(t.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])))
    return p


def written(p: Policy, prompt: Prompt, text: str, room: int = 100, ended: bool = True) -> Any:
    (prompt,) = p.encode([prompt])
    (r,) = as_rollouts(p, [Written(prompt, 0, text, ended)], room)
    return r


def last(p: Policy, r: Any) -> str:
    return str(p.tokenizer.convert_ids_to_tokens(r.ids[-1]))


@pytest.mark.parametrize("eos", ["<|im_end|>", "<|endoftext|>"])
def test_the_end_is_the_templates_own(eos: str) -> None:
    """Gemma's and Phi's tokenizers name another end than their templates write; a plain prompt has the tokenizer's."""
    p = student(eos=eos)
    assert p.end_ids[0] == p.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert last(p, written(p, CHAT, "2")) == "<|im_end|>"
    assert last(p, written(p, PLAIN, "2")) == eos
    assert last_token(p.tokenizer, (7, 9), PLAIN) == 7, "neither ends a completion: the first that does"


@pytest.mark.parametrize("text", ["2<|im_end|>", "2<|im_end|>\n", "2<|im_end|><|im_end|>", "2</s>", "2 <|eot_id|>\n"])
def test_one_end(text: str) -> None:
    p = student()
    r = written(p, CHAT, text)
    assert p.tokenizer.decode(list(r.ids)).replace(" ", "") == "2<|im_end|>"
    assert (r.ended, r.text.strip()) == (True, "2")


def test_an_end_in_the_middle_is_left_out_and_a_stop_text_ends() -> None:
    p = student()
    r = written(p, CHAT, "a<|endoftext|>b")
    assert (r.text, p.tokenizer.decode(list(r.ids))) == ("ab", "ab<|im_end|>")
    p.add_stop_tokens(["\n"])
    r = written(p, PLAIN, "a\nb")
    assert (r.text, r.ended, len(r.ids)) == ("a\n", True, 2)


@pytest.mark.parametrize(("room", "ended"), [(3, True), (2, False)])
def test_room_counts_the_end(room: int, ended: bool) -> None:
    r = written(student(), PLAIN, "ab", room)
    assert (len(r.ids), r.ended, r.text) == (room, ended, "ab")
    r = written(student(), PLAIN, "ab", room, ended=False)
    assert (len(r.ids), r.ended) == (2, False)


@pytest.mark.parametrize("text", ["", " \n", "<|im_end|>", "</s>"])
def test_nothing_is_a_blank_rollout(text: str) -> None:
    r = written(student(), CHAT, text)
    assert (r.blank, r.text, len(r.ids), r.ended) == (True, "", 1, True)
    r = written(student(), CHAT, "x")
    assert not r.blank
    assert all(math.isnan(x) for x in r.behavior_logp)


@pytest.mark.parametrize("thinks", [True, False])
def test_a_thought_is_opened_once_and_shown(thinks: bool) -> None:
    """Tags that are special tokens are part of the text, or the thought is graded."""
    p = student(THINKS, thinks)
    (prompt,) = p.encode([CHAT])
    assert prompt.opened == "think"
    for text in ("<think>\nhm\n</think>\n2", "hm\n</think>\n2"):
        r = written(p, CHAT, text)
        assert r.text == "hm\n</think>\n2"
        assert p.decode([r.ids]) == [r.text]
    (prompt,) = student(TURNS, thinks).encode([CHAT])
    assert prompt.opened == ""
    r = written(student(TURNS, thinks), CHAT, "<think>\nhm\n</think>\n2")
    assert p.decode([r.ids]) == ["<think>\nhm\n</think>\n2"]


@pytest.mark.parametrize("thinks", [True, False])
@pytest.mark.parametrize("options", ["", ",thinking_open=true"])
def test_what_is_graded_after_a_template_that_thinks(thinks: bool, options: str, tmp_path: Path) -> None:
    """A thought that never ends holds no answer, whether or not anybody said that the template opens one."""
    file = tmp_path / "d.jsonl"
    file.write_text("".join(f'{{"prompt": "Q{i}", "answer": 7, "verifier": "number"}}\n' for i in range(40)))
    task = load_task(f"data:path={file},template=chat{options}")
    p = student(THINKS, thinks)
    (prompt,) = p.encode(task.prompts("train", 1, 0))
    task.check()
    assert task.verify(prompt, task.gold(prompt), True) == 1
    for text, reward in (
        ("2+5\n</think>\n\\boxed{7}", 1), ("\\boxed{7}? no, I must", 0), ("\\boxed{7}</think>\\boxed{8}", 0),
        ("<think>\\boxed{7}</think>\\boxed{8}", 0), ("\\boxed{8}</think>\\boxed{7}", 1),
    ):  # fmt: skip
        ids = p.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert task.verify(prompt, p.decode([ids])[0], False) == reward, text
    closed = load_task(f"data:path={file},template=chat,thinking_open=false")
    assert closed.verify(prompt, "\\boxed{7}", True) == 1, "said otherwise"
    unopened = student(TURNS, thinks).encode(task.prompts("train", 1, 0))[0]
    if not options:
        assert task.verify(unopened, "\\boxed{7}", True) == 1
        assert task.verify(unopened, "<think>\\boxed{7}", True) == 0


def test_a_dropped_system_prompt_is_named() -> None:
    """One line for all prompts; a template that writes it into the user's turn drops nothing."""
    system = Prompt("k", "", messages=(("system", "Be brief."), ("user", "1+1?")))
    drops = "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}{% endif %}{% endfor %}"
    line = lost_note(student(drops).tokenizer, [CHAT, system, system], "m")
    assert line.startswith("the chat template of m drops the text of the system turn: it is not read")
    assert lost_note(student(drops).tokenizer, [CHAT, PLAIN], "m") == ""
    joins = "{{ messages[0].content | trim }}\n\n{{ messages[-1].content }}"
    assert lost_note(student(joins).tokenizer, [system], "m") == ""
    history = Prompt("k", "", messages=(("user", "1?"), ("assistant", "<think>hm</think>1"), ("user", "2?")))
    strips = "{% for m in messages %}{{ m.content.split('</think>')[-1] }} {% endfor %}"
    assert lost_note(student(strips).tokenizer, [history], "m") == "", "thoughts of earlier turns are usually left out"
