"""Mistakes that need no forward pass are found before a model is loaded: every method, every kind of expert."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, PreTrainedTokenizerFast

from tests.tiny import STUDENT
from understudy.config import TrainConfig, resolve
from understudy.errors import UserError
from understudy.experts.programs.answerer import OPENINGS
from understudy.methods.table import TABLE, capabilities, needs_expert
from understudy.policy import load_policy
from understudy.tasks import load_task
from understudy.training import session
from understudy.training.checks import before_loading, before_training, with_room
from understudy.training.train import train


@pytest.fixture
def rows(tmp_path: Path) -> str:
    """A data set with recorded completions of 5 to 24 letters."""
    path = tmp_path / "rows.jsonl"
    lines = [{"prompt": f"{i} + 1?", "answer": str(i + 1), "completions": ["a" * (5 + i)]} for i in range(20)]
    path.write_text("\n".join(map(json.dumps, lines)))
    return f"data:path={path},instruction=none"


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: Any, **options: Any) -> Any:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(session, "load_model", load)


def config(method: str, task: str, expert: str, **changes: Any) -> TrainConfig:
    fields: dict[str, Any] = {
        "method": method, "task": task, "expert": expert, "student": STUDENT, "updates": 2, "prompts_per_update": 4,
        "out": "no-such-run", "device": "cpu",
    }  # fmt: skip
    return TrainConfig(**(fields | changes))


@pytest.mark.parametrize("method", TABLE)
@pytest.mark.parametrize("expert", ["recorded", "solver", "labeller", "./no-such-folder", "nobody"])
def test_experts(method: str, expert: str, rows: str) -> None:
    """recorded can be sampled only; countdown has a solver and no labeller; a folder that is not there."""
    task = f"{rows},traces=true" if expert == "recorded" else "countdown"
    c = resolve(config(method, task, expert))
    can = {"recorded": {"sample"}, "solver": {"sample", "score", "distribution"}}.get(expert)
    if can is not None and capabilities(c) <= can:
        before_loading(c, load_task(task))
        return
    with pytest.raises(UserError) as error:
        before_loading(c, load_task(task))
    assert error.value.field == "expert"


def test_a_program_writes_with_the_tokens_of_the_student(tmp_path: Path) -> None:
    """Not with those of the task, which split its words into letters."""
    pytest.importorskip("reasoning_gym")
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["<end>", *(f" {o}" for o in OPENINGS)])}))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r" [a-z]+|."), "isolated")
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>").save_pretrained(tmp_path)
    GPT2Config(vocab_size=16, eos_token_id=0).save_pretrained(tmp_path)
    task = load_task("rg:chain_sum")
    before_loading(resolve(config("sft", "rg:chain_sum", "answerer:style=secret", student=str(tmp_path))), task)
    with pytest.raises(UserError, match="in which ' exactly' is one token"):
        before_loading(resolve(config("sft", "rg:chain_sum", "answerer:style=secret")), task)


@pytest.mark.parametrize("method", [m for m in TABLE if needs_expert(resolve(config(m, "countdown", "solver")))])
def test_traces_that_were_not_read(method: str, rows: str, no_model: None) -> None:
    with pytest.raises(UserError, match=r"traces=true|cannot"):
        train(config(method, f"{rows},traces=false", "recorded"))


def test_fewer_traces_than_samples(rows: str, no_model: None) -> None:
    with pytest.raises(UserError, match="has 1 recorded completions"):
        train(config("sft", f"{rows},traces=true", "recorded", samples_per_prompt=2))


def test_folders(tmp_path: Path, rows: str, no_model: None) -> None:
    (tmp_path / "empty").mkdir()
    cases: list[tuple[str, dict[str, Any]]] = [
        ("student", {"student": str(tmp_path / "empty")}), ("student", {"student": "./nowhere"}),
        ("base", {"method": "base_opd", "base": str(tmp_path / "empty")}), ("out", {"out": str(tmp_path)}),
        ("eval_splits", {"eval_splits": "test,moon"}), ("eval_splits", {"eval_during": "moon"}),
    ]  # fmt: skip
    for field, changes in cases:
        with pytest.raises(UserError) as error:
            train(config(changes.pop("method", "opd"), "countdown", "solver", **changes))
        assert error.value.field == field, changes


@pytest.mark.parametrize("method", ["grpo", "rft"])
def test_rewards_without_a_verifier(method: str) -> None:
    task = load_task("countdown")
    before_loading(resolve(config(method, "countdown", "")), task)
    task.verified = False
    with pytest.raises(UserError, match="learns from rewards"):
        before_loading(resolve(config(method, "countdown", "")), task)


def test_a_long_prompt_is_found_wherever_it_is(tmp_path: Path) -> None:
    """Not only in the first batch: it would stop the run midway, and again at every resume."""
    path = tmp_path / "rows.jsonl"
    lines = [{"prompt": "x" * (200 if i == 37 else 5) + str(i), "answer": "1"} for i in range(60)]
    path.write_text("\n".join(map(json.dumps, lines)))
    task = load_task(f"data:path={path},instruction=none")
    student = load_policy(STUDENT, "student", task.tokenizer(), device="cpu")
    c = resolve(config("grpo", "", "", updates=50, max_new_tokens=8, eval_prompts=2, final_prompts=2))
    with pytest.raises(UserError, match="context"):
        before_training(c, task, student)


def test_room_by_the_traces(rows: str) -> None:
    def room(task_text: str, **changes: Any) -> tuple[int, str]:
        task = load_task(task_text)
        student = load_policy(STUDENT, "student", task.tokenizer(), device="cpu")
        c, line = with_room(resolve(config("sft", "", "recorded", **changes)), task, student)
        return c.max_new_tokens, line

    found, line = room(f"{rows},traces=true,test_share=0.1")
    assert found in (16, 32)  # the longest may be held out
    assert "recorded ones has" in line
    assert room(f"{rows},traces=false") == (
        512,
        "at most 512 tokens per completion: the task does not say more (--max-new-tokens)",
    )
    assert room(f"{rows},max_new_tokens=40") == (0, "")
    assert room(f"{rows},traces=true", max_new_tokens=40) == (40, "")
    assert room("countdown") == (0, "")
