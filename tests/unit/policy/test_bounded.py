"""A chat template that does not end, or fills the memory, is one line within seconds."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable
from typing import Any

import pytest

from understudy.errors import UserError
from understudy.policy import bounded as module
from understudy.policy.bounded import TooMuch, bounded
from understudy.policy.tokens import rendered
from understudy.tasks import load_task
from understudy.types import Prompt

PROMPT = Prompt("p", "q", {}, messages=(("user", "q"),))
LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
DOUBLED = "{% set n = namespace(x='xxxxxxxx') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}"
LONG = "{% for a in range(3000) %}{{ 'x' * 10000 }}{% endfor %}"
POWER = "{{ 9 ** (9 ** 9) }}"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 1)
    monkeypatch.setattr(module, "_tried", set())


@pytest.mark.parametrize(
    ("template", "words"),
    [(LOOPS, "takes more than 1 seconds"), (POWER, "takes more than"), (DOUBLED, "needs more than|takes more"),
     (LONG, "writes more than"), ("{{ 'x' * 10 ** 11 }}", "needs more than")],
)  # fmt: skip
def test_templates_that_are_bombs(template: str, words: str) -> None:
    tokenizer: Any = load_task("countdown").tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=rf"^task.template: chat: the chat template of m ({words}).* for prompt p"):
        rendered(tokenizer, PROMPT, "m")


def test_an_ordinary_template() -> None:
    """Its first use is tried in a child, the others are not; what it raises itself is reported as before."""
    tokenizer: Any = load_task("countdown").tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    assert [rendered(tokenizer, PROMPT, "m") for _ in range(3)] == ["[user]q"] * 3
    assert len(module._tried) == 1
    tokenizer.chat_template = "{{ raise_exception('no system') }}"
    with pytest.raises(UserError, match=r"refuses prompt p .no system"):
        rendered(tokenizer, PROMPT, "m")


def test_one_that_is_harmless_at_first() -> None:
    """In the main thread its time is limited at every use."""
    own, calls = os.getpid(), [0]

    def later() -> str:
        calls[0] += os.getpid() == own
        while calls[0] == 2:
            pass
        return "x"

    assert bounded("t", later) == "x"
    with pytest.raises(TooMuch, match="takes more than 1 seconds"):
        bounded("t", later)
    assert bounded("t", later) == "x"


def test_one_that_needs_little_memory_at_first() -> None:
    """Catches a limit that holds for the first use only, and one that stays. In a process of one thread: with more of
    them there is no limit, and this text would take 4 GB."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _little_at_first()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _little_at_first() -> None:
    own, calls = os.getpid(), [0]

    def later() -> str:
        calls[0] += os.getpid() == own
        return "x" if calls[0] != 2 else "x" * (1 << 32)

    assert threading.active_count() == 1
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    before = resource.getrlimit(resource.RLIMIT_AS)
    assert bounded("t", later) == "x"
    with pytest.raises(TooMuch, match="needs more than 2 GiB"):
        bounded("t", later)
    assert bounded("t", later) == "x"
    assert resource.getrlimit(resource.RLIMIT_AS) == before


@pytest.mark.parametrize("render", [lambda: 5, lambda: None])
def test_what_is_no_text(render: Callable[[], Any]) -> None:
    assert bounded("u", render) == str(render())
