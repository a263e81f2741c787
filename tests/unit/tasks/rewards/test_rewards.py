"""The user's own reward: TRL's signature, scaled rewards, one line for whatever is wrong with it, a time limit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from tiny import config

from understudy.cli import rewards as cli
from understudy.errors import UserError
from understudy.runs.read import read_final, read_ledger
from understudy.tasks import load_task, make_task
from understudy.tasks.rewards import OPTIONS, RewardConfig, RewardTask
from understudy.tasks.rewards.calling import Fault, call
from understudy.training.train import train
from understudy.types import Prompt

FILE = """
import neighbour

def short(prompts, completions, **columns):
    return [max(0.0, 1 - len(c) / 100) for c in completions]

def right(completions, target):
    return [float(str(t) in c) for c, t in zip(completions, target)]

def ten(prompts, completions, **columns):
    return [10.0 if c else None for c in completions]

def raises(prompts, completions, **columns):
    return [1 / len(c) for c in completions]

def hangs(prompts, completions, **columns):
    while True:
        pass

def dies(prompts, completions, **columns):
    import os
    os._exit(1)

def prints(prompts, completions, **columns):
    print("{}")
    return [neighbour.HALF for c in completions]

def odd(prompts, completions, **columns):
    return [float(len(c) % 2) for c in completions]
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rewards")
    (folder / "neighbour.py").write_text("HALF = 0.5\n")
    path = folder / "mine.py"
    path.write_text(FILE)
    return path


def loaded(file: Path, function: str, more: str = "") -> RewardTask:
    task = load_task(f"countdown:max_number=9,reward={file}:{function}{more}")
    assert isinstance(task, RewardTask)
    return task


def first(task: Any) -> Prompt:
    return task.prompts("test", 1, 0)[0]


# -- one call ---------------------------------------------------------------------------------------------------------


class Array(list):
    def tolist(self) -> list[float]:
        return list(self)


async def later(prompts: Any, completions: Any, **columns: Any) -> list[float]:
    return [0.25] * len(completions)


GOOD = {
    "numbers": (lambda completions: [1, True, 0.5], [1.0, 1.0, 0.5]),
    "not graded": (lambda prompts, completions, **columns: [None, 1, None], [None, 1.0, None]),
    "an array": (lambda completions: Array([0.0, 1.0, 0.0]), [0.0, 1.0, 0.0]),
    "a tuple": (lambda completions, answer: tuple(float(c == a) for c, a in zip(completions, answer)), [1.0, 0.0, 0.0]),
    "async": (later, [0.25] * 3),
    "positional too": (lambda prompts, completions: [0.0] * len(prompts), [0.0] * 3),
}  # fmt: skip
BAD = {
    "nan": (lambda completions: [0.0, float("nan"), 0.0], "returned nan", 1),
    "infinite": (lambda completions: [0.0, 0.0, float("inf")], "returned inf", 2),
    "text": (lambda completions: [0.0, "good", 0.0], "returned 'good', which is no number", 1),
    "few": (lambda completions: [0.0], "returned 1 rewards for 3 completions", None),
    "nothing": (lambda completions: None, "returned nothing: it must return a list", None),
    "one number": (lambda completions: 1.0, "returned a float", None),
    "a text": (lambda completions: "abc", "returned a str", None),
    "raises at one": (lambda completions: [1 / (c != "b") for c in completions], "raised ZeroDivisionError", 1),
    "raises at none alone": (lambda completions: [{}[1] for c in completions[1:]], "raised KeyError", None),
    "a column": (lambda completions, solution: [], "needs solution: there is only prompts, completions, answer", None),
}  # fmt: skip
ROWS: tuple[Any, ...] = (["p"] * 3, ["a", "b", "c"], {"answer": ["a", "a", "a"]})


@pytest.mark.parametrize("name", GOOD)
def test_what_it_may_return(name: str) -> None:
    function, rewards = GOOD[name]
    assert call(function, *ROWS) == rewards


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_with_its_row(name: str) -> None:
    function, what, at = BAD[name]
    with pytest.raises(Fault, match=what) as fault:
        call(function, *ROWS)
    assert fault.value.at == at
    assert "\n" not in fault.value.what


# -- the task ---------------------------------------------------------------------------------------------------------


def test_rewards_of_a_file(file: Path) -> None:
    """It may import its neighbours, print, take columns of the rows; what it does not grade gets 0."""
    task = loaded(file, "short")
    p = first(task)
    assert task.verify_many([(p, "x" * n, True) for n in (0, 50, 300)]) == [1.0, 0.5, 0.0]
    assert loaded(file, "prints").verify(p, "", True) == 0.5
    assert loaded(file, "right").verify_many([(p, str(p.data["target"]), True), (p, "", True)]) == [1.0, 0.0]
    scaled = loaded(file, "ten", ",reward_range=-10:30")
    assert scaled.verify_many([(p, "x", True), (p, "", True)]) == [0.5, 0.0]
    assert "scaled from -10..30 to 0..1" in scaled.about()


def test_a_conversation_is_passed_as_one(tmp_path: Path) -> None:
    """As TRL does for a chat template. Catches a function that is given the text of the template."""
    path = tmp_path / "chat.py"
    path.write_text(
        "def user(prompts, completions, **kwargs):\n"
        "    assert [m['role'] for m in prompts[0]] == ['user'] and completions[0][0]['role'] == 'assistant'\n"
        "    return [float(c[0]['content'] == 'four') for c in completions]\n"
    )
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"prompt": "What is {i} + 2?", "answer": "{i + 2}"}}\n' for i in range(40)))
    task = load_task(f"data:path={rows},template=chat,verifier=exact,reward={path}:user")
    assert task.verify_many([(first(task), text, True) for text in ("four", "4")]) == [1.0, 0.0]


def test_completions_of_a_prompt_stay_together(tmp_path: Path) -> None:
    """A function may compare them. 100 completions of 3 prompts: no call splits a prompt's."""
    path = tmp_path / "groups.py"
    path.write_text(
        "def share(prompts, completions, **kwargs):\n    return [prompts.count(p) / 100 for p in prompts]\n"
    )
    task = load_task(f"countdown:reward={path}:share")
    one, two, three = task.prompts("test", 3, 0)
    whole = [(p, "x", True) for p, n in ((one, 50), (two, 40), (three, 10)) for _ in range(n)]
    assert task.verify_many(whole) == [0.5] * 50 + [0.4] * 40 + [0.1] * 10


WRONG = {
    "raises": r"mine.py:raises: raised ZeroDivisionError: division by zero, row countdown .*, completion ''",
    "hangs,reward_limit=0.5": r"did not return within 0.5 seconds, .* on 8 completions, .*give --reward-limit",
    "dies": "or ended its process",
    "ten": "returned 10, outside 0..1, row .*: give --reward-range=LOW:HIGH",
    "shrt": r"did you mean short\?",
    "short,reward_range=1": "must be LOW:HIGH",
    "short,reward_range=2:1": "must be LOW:HIGH",
    "short,reward_pass=2": r"must lie in \(0, 1\]",
    "short,reward_rnge=1": r"did you mean reward_range\?|unknown",
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_functions_are_found_before_training(file: Path, name: str) -> None:
    with pytest.raises(UserError, match=WRONG[name]) as error:
        loaded(file, name)
    assert "\n" not in str(error.value)


def test_wrong_files(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("def f(:\n")
    cases = {
        f"{path}:f": "is no Python", f"{tmp_path / 'none.py'}:f": "cannot be read", "f": "must be FILE.py:function",
        f"{tmp_path}:f": "is no .py file", str(path): "must be FILE.py:function",
    }  # fmt: skip
    for text, what in cases.items():
        with pytest.raises(UserError, match=what):
            make_task(f"countdown:reward={text}")
    path.write_text("import no_such_module\ndef f(prompts, completions): return []\n")
    with pytest.raises(UserError, match=r"cannot be loaded \(ModuleNotFoundError: No module named 'no_such_module'\)"):
        load_task(f"countdown:reward={path}:f")
    with pytest.raises(UserError, match=r"there is no reward=FILE.py:function"):
        make_task("countdown:reward_range=0:2")


def test_a_changed_file_is_another_task(tmp_path: Path) -> None:
    path = tmp_path / "changing.py"
    path.write_text("def f(prompts, completions, **kwargs): return [0.0] * len(completions)\n")
    text = f"countdown:reward={path}:f"
    before = load_task(text)
    assert before.digest() == load_task(text).digest() != load_task(f"{text},reward_range=0:2").digest()
    path.write_text("def f(prompts, completions, **kwargs): return [1.0] * len(completions)\n")
    after = load_task(text)
    assert after.digest() != before.digest()
    assert after.verify(first(after), "x", True) == 1.0, "its process has the new file"


def test_training_on_a_reward_between_0_and_1(file: Path, tmp_path: Path) -> None:
    """grpo and rft. Catches rewards cut to whole numbers, and completions kept because their reward is not zero."""
    task = f"countdown:max_number=9,reward={file}:odd,reward_range=0:2"  # 0 or 0.5
    trained = {}
    for method, threshold in (("grpo", ""), ("rft", ",reward_pass=1"), ("rft", "")):
        changes: dict[str, Any] = {"task": task + threshold, "expert": "", "final_samples": 2, "max_new_tokens": 8}
        run = train(config(method, tmp_path / f"{method}{threshold}", **changes))
        sampled = (read_final(run) or {})["splits"]["test"]["sampled"]
        assert {x for row in sampled for x in row} <= {0, 0.5}
        trained[method + threshold] = read_ledger(run)["student_tokens_trained"]
    assert trained["grpo"] > trained["rft,reward_pass=1"] > 0
    assert trained["rft"] == 0, "nothing reaches 2, the largest reward"


# -- the command line -------------------------------------------------------------------------------------------------


def test_options_of_the_command_line_are_those_of_the_task() -> None:
    assert set(cli.NAMES) == set(OPTIONS) == {f.name for f in dataclasses.fields(RewardConfig)}


def test_the_command_line_moves_it_into_the_task() -> None:
    given = {"reward": "r.py:f", "reward_range": "-1:1", "seed": "3"}
    task = "countdown:reward=r.py:f,reward_range=-1:1"
    assert cli.merged(dict(given), {}, "countdown") == {"seed": "3", "task": task}
    with_task = cli.merged(given | {"task": "rg:chain_sum,reward=old.py:g"}, {}, "countdown")
    assert with_task["task"] == "rg:chain_sum,reward=r.py:f,reward_range=-1:1"
    with pytest.raises(UserError, match="there is no reward"):
        cli.merged({"reward_range": "0:2"}, {}, "countdown")


def test_a_file_of_options_may_not_name_code() -> None:
    """Catches a configuration from a stranger that runs what lies beside it."""
    start = {"task": "countdown:reward=evil.py:f"}
    with pytest.raises(UserError, match=r"is named by the configuration, .*: confirm with --reward evil.py:f"):
        cli.merged({}, start, "countdown")
    with pytest.raises(UserError, match="confirm with"):
        cli.merged({"reward": "mine.py:f"}, start, "countdown")
    assert cli.merged({"reward": "evil.py:f"}, start, "countdown") == start
    assert cli.merged({"task": "countdown"}, start, "countdown") == {"task": "countdown"}
    assert cli.merged({}, {"task": "countdown"}, "countdown") == {}


def test_columns_of_a_row_reach_the_function(tmp_path: Path) -> None:
    """As TRL passes those of its data set; `answer` is the gold answer, however the row writes it."""
    rows = [
        {"question": f"{i}+1?", "answer": f"so #### {i + 1}", "level": i, "problem": "p", "tags": [i]} for i in range(9)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "mine.py").write_text(
        "def f(prompts, completions, answer, level, tags, problem, **columns):\n"
        "    assert 'question' in columns and 'completions' not in columns and set(problem) == {'p'}\n"
        "    return [(a == str(n + 1)) * (t == [n]) / 2 for a, n, t in zip(answer, level, tags)]\n"
    )
    task = load_task(f"data:path={tmp_path / 'rows.jsonl'},reward={tmp_path / 'mine.py'}:f")
    assert task.verify_many([(p, "", True) for p in task.prompts("train", 4, 0)]) == [0.5] * 4
