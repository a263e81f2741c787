"""Tasks made in Python: in a few lines, from rows or as a class, by name or from a file, through train and eval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny import config

import understudy
from understudy.cli import rewards as cli
from understudy.errors import UserError
from understudy.runs.read import read_final
from understudy.tasks import load_task, make_task, python

ROWS = [{"prompt": f"{a}+{b}=", "answer": a + b, "completion": str(a + b)} for a in range(10) for b in range(10)]


def right(row: Any, completion: str) -> bool:
    return completion == str(row["answer"])


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python, "REGISTERED", {})


def test_ten_lines(tmp_path: Path) -> None:
    """What docs/tasks.md shows: train on the rows' completions, then measure."""
    task = understudy.text_task("sums", ROWS, right, max_new_tokens=4)
    run = understudy.train(config("sft", tmp_path / "a", task="sums", expert="recorded", samples_per_prompt=1))
    assert set((read_final(run) or {})["splits"]["test"]["keys"]) <= {p.key for p in task.prompts("test", 50, 0)}
    told = understudy.evaluate_model(understudy.EvalConfig(model=str(run), task="sums", prompts=4, samples=2, k=(1, 2)))
    assert set(told["measures"]) >= {"avg@2", "pass@2"}
    assert understudy.text_task("sums", ROWS[:50], right).digest() != task.digest(), "an unfinished run is refused"


def test_splits_share_no_problem_and_pass_over_all() -> None:
    task = understudy.text_task("sums", [*ROWS, *ROWS], right)
    train, test = ([p.key for p in task.prompts(s, task.size(s) or 0, 0)] for s in ("train", "test"))
    assert not set(train) & set(test)
    assert len(set(train)) + len(set(test)) == len(train) + len(test) == 100
    assert [p.key for p in task.prompts("train", 30, 0, start=70)] == [p.key for p in task.prompts("train", 100, 0)][
        70:
    ]
    chat = understudy.text_task("chat", [{"prompt": [{"role": "user", "content": str(i)}]} for i in range(30)])
    assert chat.prompts("train", 1, 0)[0].messages[0][0] == "user"
    assert not chat.verified


class Sums(understudy.Task):
    """The smallest subclass."""

    name, max_new_tokens = "sums", 4

    def __init__(self, largest: str = "9") -> None:
        self.largest = int(largest)

    def prompts(self, split: str, n: int, seed: int, start: int = 0) -> list[understudy.Prompt]:
        numbers = range(start, start + n)
        return [understudy.Prompt(f"sums {split} {i}", f"{i % self.largest}+1=", {"sum": i + 1}) for i in numbers]

    def verify(self, prompt: understudy.Prompt, text: str, ended: bool) -> float:
        return float(text == str(prompt.data["sum"]))

    def gold(self, prompt: understudy.Prompt) -> str:
        return str(prompt.data["sum"])


def test_a_subclass_is_registered() -> None:
    task = understudy.register_task(Sums())
    assert load_task("sums") is task
    with pytest.raises(UserError, match=r"must be an understudy.Task"):
        understudy.register_task(Sums)


FILE = """
import understudy
import helper

ROWS = [{"prompt": f"{a}+1=", "completion": str(a + 1)} for a in range(50)]
task = understudy.text_task("filed", ROWS, helper.right)

def sized(n="50"):
    return understudy.text_task("filed", ROWS[:int(n)], helper.right)

def nothing():
    return 3

def breaks():
    raise ValueError("no")
"""


def test_a_file(tmp_path: Path) -> None:
    """FILE.py:NAME is known in every process. A changed file is another task; its options are texts."""
    (tmp_path / "helper.py").write_text("def right(row, completion): return completion == row['completion']\n")
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    task = load_task(f"{path}:task")
    p = task.prompts("test", 1, 0)[0]
    assert (task.verify(p, task.gold(p), True), task.verify(p, "x", True)) == (1.0, 0.0)
    assert (load_task(f"{path}:sized,n=40").size("train") or 0) < (task.size("train") or 0)
    before = task.digest()
    assert load_task(f"{path}:task").digest() == before
    path.write_text(FILE + "\n# changed\n")
    assert load_task(f"{path}:task").digest() != before
    cases = {
        f"{path}:tsk": "defines no tsk: FILE.py:NAME, one of", f"{path}:nothing": "is a int: it must be",
        f"{path}:breaks": "raised ValueError: no", f"{path}:sized,m=2": "raised TypeError", str(path): "defines no",
        f"{tmp_path / 'none.py'}:task": "no such file",
    }  # fmt: skip
    for text, what in cases.items():
        with pytest.raises(UserError, match=what):
            make_task(text)
    path.write_text("import no_such_module\n")
    with pytest.raises(UserError, match="cannot be loaded"):
        make_task(f"{path}:task")


def test_a_file_of_options_may_not_name_a_task_of_code() -> None:
    with pytest.raises(UserError, match="confirm with --task"):
        cli.merged({}, {"task": "evil.py:task"}, "countdown")
    assert cli.merged({"task": "evil.py:task"}, {"task": "evil.py:task"}, "countdown") == {"task": "evil.py:task"}


BAD: tuple[tuple[Sequence[Any], Any, str], ...] = (
    ([{"answer": 1}], right, "row 0: needs `prompt`"),
    ([*ROWS, {"prompt": ""}], right, "row 100: needs `prompt`"),
    ([*ROWS, "text"], right, "row 100"),
    (ROWS[:1], right, "has no problem for"),
    (ROWS, lambda row, text: 2, "verify returned 2, outside 0..1"),
    (ROWS, lambda row, text: row["no"], "verify raised KeyError"),
    (ROWS, lambda row, text: False, "verify rejects the completion"),
)


@pytest.mark.parametrize("case", range(len(BAD)))
def test_bad_rows_and_functions_are_found_first(case: int) -> None:
    rows, verify, what = BAD[case]

    def made() -> None:
        understudy.text_task("bad", rows, verify)
        load_task("bad")

    with pytest.raises(UserError, match=what) as error:
        made()
    assert "\n" not in str(error.value)


def test_a_name_of_another_process() -> None:
    with pytest.raises(UserError, match="known in its own process only: put it in a file"):
        make_task("sums")
    with pytest.raises(UserError, match="must be a name"):
        understudy.text_task("my sums", ROWS)
