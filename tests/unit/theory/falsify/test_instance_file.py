"""The instance file: what is accepted, and one clear line per mistake."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from understudy.cli.main import main
from understudy.errors import UserError
from understudy.theory.falsify.examine import examine
from understudy.theory.falsify.instance_file import SCHEMA, dump, example, load, parse
from understudy.theory.families.instance import Bandit


def test_example_round_trips(tmp_path: Path) -> None:
    path = tmp_path / "example.json"
    path.write_text(json.dumps(example()))
    bandit = load(path)
    assert bandit.shape == (2, 1, 4)
    assert bandit.label(0) == "good, cannot fake the style"
    assert len(bandit.alternatives) == 2
    again = parse(json.loads(json.dumps(dump(bandit))))
    assert (again.expert == bandit.expert).all()
    assert (again.students == bandit.students).all()
    assert again.name == bandit.name


def test_example_fits_the_schema_by_hand() -> None:
    """No schema library here: required and known fields are compared directly."""
    data = example()
    assert set(SCHEMA["required"]) <= set(data) <= set(SCHEMA["properties"])


def _set(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = to

    return change


BAD: list[tuple[str, Callable[[dict[str, Any]], Any], str, str]] = [
    ("unknown field", _set("rewards", to=1), "instance", "unknown field"),
    ("missing field", lambda d: d.pop("reward"), "instance", "'reward' is missing"),
    ("wrong format", _set("format", to="v9"), "format", "write"),
    ("expert not a table", _set("expert", to=[1, 2]), "expert[0]", "non-empty list"),
    ("empty expert", _set("expert", to=[]), "expert", "non-empty list"),
    ("text for a number", _set("expert", 0, 0, to="a"), "expert[0][0]", "finite number"),
    ("a boolean", _set("expert", 0, 0, to=True), "expert[0][0]", "finite number"),
    ("not finite", _set("expert", 0, 0, to=float("nan")), "expert[0][0]", "finite number"),
    ("negative", _set("expert", 0, to=[-0.5, 0.5, 0.5, 0.5]), "expert[0]", "cannot be negative"),
    ("does not sum to one", _set("expert", 0, 0, to=0.9), "expert[0]", "sum to 1"),
    ("ragged", _set("expert", to=[[0.5, 0.5], [1.0]]), "expert[1]", "the first row has 2"),
    ("reward of another shape", _set("reward", to=[[0, 1]]), "reward", "like 'expert'"),
    ("reward above one", _set("reward", 0, 2, to=2), "reward[0][2]", "[0, 1]"),
    ("mu of another length", _set("mu", to=[0.5, 0.5]), "mu", "one for each of the 1 contexts"),
    ("mu does not sum to one", _set("mu", to=[0.5]), "mu", "sum to 1"),
    ("no students", _set("students", to=[]), "students", "non-empty"),
    ("student of another shape", _set("students", 0, to=[[1.0]]), "students[0]", "1 contexts x 4 actions"),
    ("student not a policy", _set("students", 1, 0, 0, to=0.9), "students[1][0]", "sum to 1"),
    ("names not strings", _set("student_names", to=[1, 2]), "student_names", "list of strings"),
    ("names of another number", _set("student_names", to=["a"]), "student_names", "there are 2 students"),
    ("name not a string", _set("name", to=3), "name", "string"),
    ("base does not cover", _set("base", to=[[1.0, 0.0, 0.0, 0.0]]), "base", "wherever some student plays"),
    ("alternatives not a list", _set("alternatives", to={}), "alternatives", "list"),
    ("alternative incomplete", _set("alternatives", 0, to={"expert": []}), "alternatives[0]", "exactly"),
    (
        "alternative not a policy",
        _set("alternatives", 0, "expert", 0, 0, to=0.9),
        "alternatives[0].expert[0]",
        "sum to 1",
    ),
]


@pytest.mark.parametrize(("name", "change", "field", "words"), BAD, ids=[b[0] for b in BAD])
def test_bad_files(name: str, change: Callable[[dict[str, Any]], Any], field: str, words: str) -> None:
    data = copy.deepcopy(json.loads(json.dumps(example())))
    change(data)
    with pytest.raises(UserError) as error:
        parse(data)
    assert error.value.field == field
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"{", b"[1, 2]", b"\xff\xfe\x00", b"[" * 100_000, b""])
def test_not_an_instance_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        load(path)
    assert error.value.field == "instance"


def test_too_large(tmp_path: Path) -> None:
    data = example()
    data["students"] = [[[1.0, 0.0, 0.0, 0.0]]] * 300_000
    with pytest.raises(UserError, match="at most 1000000"):
        parse(data)


def test_a_large_instance_with_graded_rewards_is_examined_in_little_memory() -> None:
    rng = np.random.default_rng(0)
    x, y, k = 10, 400, 4
    policies = rng.dirichlet(np.ones(y), (k + 1, x))
    bandit = Bandit(np.full(x, 1 / x), policies[0], policies[1:], rng.random((x, y)))
    assert not examine(bandit, n=16, runs=30).refuted


def test_too_many_cells() -> None:
    data = example()
    data["expert"] = [[1 / 30_000] * 30_000]
    with pytest.raises(UserError, match="at most 20000 cells"):
        parse(data)


def test_command_line_reports_a_mistake_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = example()
    data["expert"][0][0] = 0.9  # type: ignore[index]
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(data))
    assert main(["theory", "falsify", "--instance", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "expert[0]" in error
    assert main(["theory", "falsify", "--instance", str(tmp_path / "none.json")]) == 2


def test_command_line_on_a_good_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "good.json"
    path.write_text(json.dumps(example()))
    assert main(["theory", "falsify", "--instance", str(path), "--runs", "200", "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["refuted"] is False
    assert {f["code"] for f in out["findings"]} >= {"F1", "F2", "F3", "F4", "C5"}
