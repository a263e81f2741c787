"""Tasks whose rows have no answers: what works without rewards, what is not measured, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import config

from understudy.cli.main import main
from understudy.errors import UserError
from understudy.experiments.compare import compare
from understudy.experiments.config import CompareConfig
from understudy.policy import make_scratch
from understudy.runs.read import read_final, read_metrics, read_provenance
from understudy.specs import parse_spec
from understudy.tasks import load_task
from understudy.training.train import train

TINY = "scratch:width=16,layers=1,heads=2,context=256"
MODEL = "a model"  # stands for the folder of one


def rows(n: int = 40, salt: str = "") -> list[dict[str, Any]]:
    return [
        {"messages": [{"role": "user", "content": f"Say {i}{salt}."}, {"role": "assistant", "content": f"It is {i}."}]}
        for i in range(n)
    ]


@pytest.fixture
def chat(tmp_path: Path) -> str:
    return f"data:path={write(tmp_path / 'rows.jsonl', rows())}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of another tiny model: an expert."""
    folder = tmp_path_factory.mktemp("expert") / "model"
    make_scratch(parse_spec(TINY, "student"), load_task("addition").tokenizer(), seed=5).save(folder)
    return str(folder)


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("method", "expert", "fields"),
    [("sft", "recorded", {"samples_per_prompt": 1}), ("opd_full", MODEL, {}), ("opd", MODEL, {}), ("gkd", MODEL, {}),
     ("word_kd", MODEL, {}), ("dagger", MODEL, {})],
)  # fmt: skip
def test_methods_without_rewards(
    method: str, expert: str, fields: dict[str, Any], chat: str, model: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A whole training with the guard on: no reward and no accuracy is made up anywhere."""
    said: list[str] = []
    chosen = expert.replace(MODEL, model)
    c = config(
        method, tmp_path / "run", task=chat, expert=chosen, student=TINY, max_new_tokens=8, eval_every=1, save_every=1,
        eval_expert=True, **fields,
    )  # fmt: skip
    path = train(c, note=said.append)
    assert any("format messages, traces yes, answers no" in line and "verifier none" in line for line in said)
    final = read_final(path)
    assert final is not None
    assert final["splits"]["test"]["sampled"] is None
    assert final["splits"]["test"]["greedy"] is None
    assert all(line["reward"] is None for line in read_metrics(path, "train"))
    assert all(line["sampled"] is None and line["length"] > 0 for line in read_metrics(path, "eval"))
    losses = [line["held_out_loss"] for line in read_metrics(path, "eval")]
    assert losses[-1] == final["splits"]["test"]["loss"]
    assert 0 < losses[-1] < losses[0] or method != "sft", "nats per token of the held-out completions"
    assert bool(final["divergences"]) == (expert == MODEL)
    assert "accuracy was not measured" in (path / "final/README.md").read_text()
    if method not in ("sft", "opd_full"):
        return
    assert main(["report", str(path)]) == 0
    assert main(["eval", "--model", str(path), "--task", chat, "--prompts", "2", "--max-new-tokens", "4"]) == 0
    assert "are not graded" in capsys.readouterr().out


@pytest.mark.parametrize(("method", "fields"), [("grpo", {}), ("rft", {}), ("sft", {"weight": "passed"})])
def test_methods_that_learn_from_rewards(method: str, fields: dict[str, Any], chat: str, tmp_path: Path) -> None:
    expert = "recorded" if method == "sft" else ""
    with pytest.raises(UserError, match=r"has no answers, and method .* learns from rewards"):
        train(config(method, tmp_path / "run", task=chat, expert=expert, student=TINY, **fields))
    assert not (tmp_path / "run").exists()


def test_a_comparison_without_accuracy(chat: str, model: str, tmp_path: Path) -> None:
    """Its page has the divergences."""
    c = CompareConfig(
        student=TINY, experts=(f"other={model}",), routes=("word_kd", "opd_full"), seeds=(0,), task=chat,
        out=str(tmp_path / "c"), workers=1,
        set=("updates=2", "prompts_per_update=4", "max_new_tokens=8", "final_prompts=4", "eval_every=0",
             "eval_divergences=true"),
    )  # fmt: skip
    page = compare(c, quiet=True)
    assert "nats per completion from the expert" in page.read_text()


def test_prompts_alone(model: str, tmp_path: Path) -> None:
    """Distillation on-policy needs no completions; imitation of them says what is missing, and writes nothing."""
    file = write(tmp_path / "p.jsonl", [{"prompt": f"Tell me about {i}."} for i in range(30)])
    task = f"data:path={file}"
    train(config("opd_full", tmp_path / "a", task=task, expert=model, student=TINY, max_new_tokens=6))
    with pytest.raises(UserError, match="no row has a completion to imitate"):
        train(config("sft", tmp_path / "b", task=task, expert="recorded", student=TINY, samples_per_prompt=1))
    write(file, [{"prompt": "Hi.", "completion": "Ho."}, *({"prompt": f"Tell me about {i}."} for i in range(30))])
    with pytest.raises(UserError, match=r"29 of 30|2\d of 2\d train problems have no completion, first .*line "):
        train(config("sft", tmp_path / "b", task=task, expert="recorded", student=TINY, samples_per_prompt=1))
    assert not (tmp_path / "b").exists()


def test_edited_rows_are_noticed(chat: str, tmp_path: Path) -> None:
    """A training goes on only with the rows that it began with."""
    file = tmp_path / "rows.jsonl"
    c = config(
        "sft", tmp_path / "run", task=chat, expert="recorded", student=TINY, samples_per_prompt=1, max_new_tokens=30
    )
    path = train(c)
    assert read_provenance(path)["data"] == load_task(chat).digest()
    (path / "final.json").unlink()
    (path / "status.json").write_text(json.dumps({"state": "stopped", "reason": "", "step": 2, "updates": 2}))
    write(file, rows(salt="!"))
    with pytest.raises(UserError, match="was begun with other rows than these"):
        train(c)
    write(file, rows())
    assert train(c) == path
