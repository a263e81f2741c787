"""`understudy prompts`: what is shown is what the model reads, on both sides; what is odd about it is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from understudy.cli.main import main
from understudy.evaluation.config import EvalConfig, PromptsConfig
from understudy.evaluation.model import evaluate_model
from understudy.evaluation.prompts import look
from understudy.policy import load_policy
from understudy.tasks import load_task

PLAIN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}bot: {% endif %}"
)
SYSTEM = "system: be kind\n" + PLAIN
ENDED = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ pad_token }}\n{% endfor %}"


@pytest.fixture
def task(tmp_path: Path) -> str:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"problem": f"1 + {i}?", "answer": str(1 + i)}) + "\n" for i in range(60)))
    return f"data:path={rows},template=chat,max_new_tokens=8"


def with_template(models: dict[str, Path], to: Path, template: str) -> str:
    shutil.copytree(models["llama"], to)
    tokenizer = AutoTokenizer.from_pretrained(to)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(to)
    return str(to)


def test_both_prompts_of_a_student_with_a_context(models: dict[str, Path], task: str, tmp_path: Path) -> None:
    student = with_template(models, tmp_path / "s", PLAIN)
    got = look(PromptsConfig(task, student, "self:context=gold", n=1))
    (shown,) = got["prompts"]
    assert shown["gold"] not in shown["student"]
    assert shown["gold"] in shown["with_context"]
    assert shown["with_context"].endswith("bot: ")
    assert shown["tokens_with_context"] > shown["tokens"]
    assert got["expert"] == "the student before training, which reads gold in its prompt"


def test_shown_is_what_the_model_reads(models: dict[str, Path], task: str, tmp_path: Path) -> None:
    """Catches a rendering, a length or an end token that is not the training's own; and an expert that looks alike."""
    student = with_template(models, tmp_path / "s", PLAIN)
    expert = with_template(models, tmp_path / "e", SYSTEM)
    got = look(PromptsConfig(task, student, expert, n=2))
    policy = load_policy(student, "student", device="cpu")
    read = policy.encode(load_task(task).prompts("train", 2, 0))
    for p, shown in zip(read, got["prompts"]):
        assert shown["student"] == policy.tokenizer.decode(list(p.ids))
        assert shown["tokens"] == len(p.ids)
        assert shown["expert"] == "system: be kind\n" + shown["student"]
        assert shown["gold"].startswith(r"\boxed{")
    assert set(map(int, got["student"]["ends"])) == set(policy.end_ids)
    assert got["room"] == 8
    notes = "\n".join(got["notes"])
    assert "the expert's template writes a system prompt of its own: 'system: be kind" in notes
    assert "renderings part" in notes
    same = look(PromptsConfig(task, student, student, n=1))
    assert "expert" not in same["prompts"][0]
    assert same["notes"] == []


def test_what_is_odd_is_said(models: dict[str, Path], task: str, tmp_path: Path) -> None:
    """Catches a template that ends turns with another token, one that is not used, one that drops the system prompt,
    and a room that does not fit: silent until now."""
    ended = with_template(models, tmp_path / "end", ENDED)
    assert any("not one of its end tokens" in note for note in look(PromptsConfig(task, ended))["notes"])
    plain = task.replace("template=chat", "template=plain")
    assert any("do not use it" in note for note in look(PromptsConfig(plain, ended))["notes"])
    assert any(
        "exceeds the student's context" in x for x in look(PromptsConfig(task, ended, max_new_tokens=999))["notes"]
    )
    users = "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }} {% endif %}{% endfor %}"
    drops = with_template(models, tmp_path / "drops", users)
    got = look(PromptsConfig(task + ",system=Answer briefly", drops))
    assert any("drops the text of the system turn" in note for note in got["notes"])
    notes: list[str] = []
    config = EvalConfig(drops, task + ",system=Answer briefly", prompts=1, samples=1, max_new_tokens=2)
    evaluate_model(config, note=notes.append)
    assert len(notes) == 1, "an evaluation says it too"
    assert "drops the text of the system turn" in notes[0]


def test_command_and_mistakes(
    models: dict[str, Path], task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student = with_template(models, tmp_path / "s", PLAIN)
    assert main(["prompts", "--student", student, "--expert", "http://127.0.0.1:9/v1", "--task", task, "-n", "1"]) == 0
    shown = capsys.readouterr().out
    assert "bot: <<<" in shown
    assert "a server" in shown
    assert shown.count("===") == 1
    assert main(["prompts", "--student", "scratch", "--expert", "solver", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["student"]["context"] == 256
    wrong: tuple[tuple[list[str], str], ...] = (
        (["--student", "scratch", "--n", "0"], "n: 0: must be at least 1"),
        (["--student", ""], "student: missing"),
        (["--student", "scratch", "--split", "x"], "split: x: unknown"),
        (["--student", str(tmp_path)], "student"),
        (["--student", str(models["llama"]), "--task", task], "has no chat template"),
    )
    for args, line in wrong:
        assert main(["prompts", *args]) == 2
        error = capsys.readouterr().err
        assert line in error
        assert error.count("\n") == 1


def test_control_characters_do_nothing() -> None:
    from understudy.cli.prompts import visible

    assert visible("a\x1b[2J\nb\u202e") == "a\\x1b[2J\nb\\u202e"


def test_no_weights_are_loaded(
    models: dict[str, Path], task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = with_template(models, tmp_path / "s", PLAIN)
    (tmp_path / "s" / "model.safetensors").write_bytes(b"damaged")
    seen: list[Any] = []
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lambda *a, **k: seen.append(a))
    assert look(PromptsConfig(task, student))["prompts"]
    assert not seen
