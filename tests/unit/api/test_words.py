"""TRL's words and objects from Python: rows become a file that a hash names, and a training is resumed by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import understudy
from understudy.errors import UserError
from understudy.runs.read import read_config
from understudy.tasks import load_task

TINY = "scratch:width=16,layers=1,heads=2,context=256"
ROWS = [
    {"messages": [{"role": "user", "content": f"Say {i}."}, {"role": "assistant", "content": f"It is {i}."}]}
    for i in range(40)
]
SHORT: dict[str, Any] = {
    "max_steps": 2, "prompts_per_update": 4, "max_completion_length": 12, "eval_steps": 0, "final_prompts": 2,
    "final_samples": 1, "eval_splits": "test", "device": "cpu",
}  # fmt: skip


def reward(completions: list[str], **columns: Any) -> list[float]:
    return [0.0 for _ in completions]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_training_in_trls_words(tmp_path: Path) -> None:
    """The same rows give the same file, so that the same call returns the finished run."""
    words = SHORT | {"method": "sft", "model": TINY, "learning_rate": 1e-2, "output_dir": str(tmp_path / "run")}
    path = understudy.train(train_dataset=ROWS, **words)
    config = read_config(path)
    assert config["expert"] == "recorded"
    assert (config["lr"], config["updates"], config["max_new_tokens"]) == (0.01, 2, 12)
    assert understudy.train(train_dataset=[dict(row) for row in ROWS], **words) == path
    with pytest.raises(UserError, match="belongs to another configuration: task"):
        understudy.train(train_dataset=ROWS[1:], **words)


def test_objects_that_hold_rows(cache: Path) -> None:
    expected = understudy.data_task(ROWS)
    assert expected == f"data:path={next((cache / 'rows').glob('*.jsonl'))}"
    assert understudy.data_task(iter(ROWS)) == expected
    arrays = [{"prompt": "a", "answer": np.int64(3), "completions": np.array(["x"])}]
    file = understudy.data_task(arrays).partition("=")[2]
    assert json.loads(Path(file).read_text()) == {"prompt": "a", "answer": 3, "completions": ["x"]}
    both = understudy.data_task({"train": ROWS, "test": ROWS[:3]})
    assert load_task(both).size("test") == 3
    options = understudy.data_task(ROWS, test_rows=ROWS[:2], template="plain", traces=True)
    assert options.endswith(",template=plain,traces=true")
    assert load_task(options).size("test") == 2
    assert understudy.data_task("trl-lib/Capybara") == "data:hub=trl-lib/Capybara"
    assert understudy.data_task(Path("rows.jsonl"), verifier="number") == "data:path=rows.jsonl,verifier=number"


def test_the_datasets_library(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_list(ROWS)
    assert understudy.data_task(table) == understudy.data_task(ROWS)
    assert understudy.data_task(table.to_iterable_dataset()) == understudy.data_task(ROWS)
    split = datasets.DatasetDict({"train": table, "test": table.select(range(3))})
    assert load_task(understudy.data_task(split)).size("test") == 3
    table.save_to_disk(tmp_path / "disk")
    loaded = load_task(f"data:path={tmp_path / 'disk'}")
    assert "40 rows, format messages, traces yes" in loaded.about()


def test_pandas_frames() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"prompt": [f"Q{i}" for i in range(20)], "answer": [1.0, None] * 10})
    about = load_task(understudy.data_task(frame, missing="drop", verifier="number")).about()
    assert "20 rows" in about
    assert "left out: 10 without an answer" in about


def test_rewards(tmp_path: Path) -> None:
    task = understudy.train_config(model=TINY, method="grpo", train_dataset=ROWS, reward_funcs=reward).task
    assert task.endswith(f",reward={Path(__file__).resolve()}:reward")
    assert load_task(task).verified
    with pytest.raises(UserError, match=r"define it at the top of a \.py file"):
        understudy.train_config(model=TINY, train_dataset=ROWS, reward_funcs=lambda completions: [0.0])
    with pytest.raises(UserError, match="2 functions: one is possible"):
        understudy.train_config(model=TINY, train_dataset=ROWS, reward_funcs=[reward, reward])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"model": object()}, r"model: object: is a model in memory.*save_pretrained\(DIR\)"),
        ({"teacher_model": 3}, "teacher_model: int: is a model in memory"),
        ({"model": TINY, "student": TINY}, "student: .*: is student, which is given too"),
        ({"learning_rat": 1e-3}, r"learning_rat: 0.001: unknown.*did you mean learning_rate"),
        ({"num_train_epochs": 3}, "num_train_epochs: 3: updates=N: an epoch"),
        ({"args": object()}, "args: object: give its fields as arguments"),
        ({"train_dataset": 3}, "train_dataset: int: must be a list of dicts"),
        ({"train_dataset": []}, "train_dataset: list: holds no row"),
        ({"train_dataset": ["a"]}, "train_dataset: row 0: must be a dict of fields, not str"),
        ({"train_dataset": [{"image": object()}]}, "train_dataset: row 0: holds what JSON cannot"),
        ({"train_dataset": ROWS, "system": "Be brief, please"}, "system: .*a comma is not possible"),
        ({"train_dataset": ROWS, "task": "countdown"}, "task: countdown: train_dataset is the task's data"),
        ({"template": "chat"}, "template: chat: is an option of the data: give train_dataset too"),
        ({"learning_rate": "fast", "model": TINY}, "lr: fast: must be a finite number"),
    ],
)
def test_mistakes(words: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        understudy.train_config(**words)
