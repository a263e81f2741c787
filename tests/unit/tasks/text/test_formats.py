"""Rows in the formats that people have: recognised, read alike from every kind of file, refused in words."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from understudy.errors import UserError
from understudy.tasks import load_task
from understudy.tasks.text import TextTask
from understudy.tasks.text.formats import FORMATS, recognise
from understudy.tasks.text.rows import Row

Rows = list[dict[str, Any]]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text} | more


def write(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def task(path: Path, options: str = "") -> TextTask:
    loaded = load_task(f"data:path={path}{',' if options else ''}{options}")
    assert isinstance(loaded, TextTask)
    return loaded


def items(loaded: TextTask) -> list[Any]:
    return [i for split in loaded.splits for i in loaded.pool(split)]


def read(row: dict[str, Any], name: str = "") -> Any:
    where = Row("here", row)
    return FORMATS[name or recognise(where)].read(where, "think")


# ---------------------------------------------------------------- formats

USER_TURN = (("user", "Q"),)
CASES: list[tuple[str, dict[str, Any], str, Any, tuple[str, ...], str]] = [
    # format, row, problem, turns, completions, answer
    ("messages", {"messages": [user("Q"), assistant("A")]}, "Q", USER_TURN, ("A",), ""),
    ("messages", {"conversations": [user("Q"), assistant("A")], "id": 3}, "Q", USER_TURN, ("A",), ""),
    ("messages", {"messages": json.dumps([user("Q"), assistant("A")])}, "Q", USER_TURN, ("A",), ""),
    ("messages", {"messages": [user("Q")]}, "Q", USER_TURN, (), ""),
    ("messages", {"messages": [user("Q"), assistant("A")], "tools": [], "answer": 4}, "Q", USER_TURN, ("A",), "4"),
    ("sharegpt", {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}, "Q", USER_TURN,
     ("A",), ""),
    ("prompt", {"prompt": "Q", "completion": "A"}, "Q", (), ("A",), ""),
    ("prompt", {"prompt": [user("Q")], "completion": [assistant("A")]}, "Q", USER_TURN, ("A",), ""),
    ("prompt", {"prompt": "Q", "completion": "A", "label": True}, "Q", (), ("A",), ""),
    ("prompt", {"prompt": "Q"}, "Q", (), (), ""),
    ("prompt", {"prompt": "Q", "answer": float("nan")}, "Q", (), (), ""),
    ("prompt", {"prompt": "Q", "ground_truth": 0.5, "completions": ["A", "B"]}, "Q", (), ("A", "B"), "0.5"),
    ("verl", {"prompt": [user("Q")], "reward_model": {"style": "rule", "ground_truth": "7"}}, "Q", USER_TURN, (), "7"),
    ("verl", {"prompt": [user("Q")], "reward_model": {"ground_truth": {"target": 3}}}, "Q", USER_TURN, (), ""),
    ("alpaca", {"instruction": "Q", "input": "", "output": "A"}, "Q", USER_TURN, ("A",), ""),
    ("alpaca", {"instruction": "Add", "input": "1", "output": "3"}, "Add\n\n1", (("user", "Add\n\n1"),), ("3",), ""),
    ("alpaca", {"instruction": "Q", "output": "A", "system": "S", "history": [["a", "b"]]}, "S\n\na\n\nb\n\nQ",
     (("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "Q")), ("A",), ""),
    ("question", {"question": "Q", "answer": "A"}, "Q", (), ("A",), "A"),
    ("question", {"question": "Q", "answer": "It is 4. #### 4"}, "Q", (), ("It is 4.\n#### 4",), "4"),
    ("question", {"question": "Q", "answer": 4, "response": "Four"}, "Q", (), ("Four",), "4"),
    ("question", {"question": "Q", "choices": ["x", "y"], "answer": 1, "subject": ""}, "Q", (), (), "B"),
    ("problem", {"problem": "Q", "solution": "So \\boxed{3}"}, "Q", (), ("So \\boxed{3}",), "3"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "problem", "turns", "completions", "answer"), CASES)
def test_formats(
    name: str, row: dict[str, Any], problem: str, turns: Any, completions: tuple[str, ...], answer: str
) -> None:
    assert recognise(Row("here", row)) == name
    item = read(row)
    assert (item.problem, item.turns, item.traces, item.answer) == (problem, turns, completions, answer)


def test_conversations_of_several_turns() -> None:
    """The last answer is the completion, all before it is the prompt; weight 0 is not learned."""
    system = {"role": "system", "content": "S"}
    turns = [system, user("a"), assistant("b"), user("c"), assistant("d")]
    item = read({"messages": turns})
    assert item.turns == (("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "c"))
    assert item.traces == ("d",)
    item = read({"messages": [*turns[:2], assistant("b", weight=1), user("c"), assistant("d", weight=0)]})
    assert (item.turns, item.traces) == ((("system", "S"), ("user", "a")), ("b",))
    item = read({"messages": [user("a"), assistant("b", weight=0)]})
    assert (item.turns, item.traces) == ((("user", "a"),), ())
    item = read({"messages": [{"role": "system", "content": ""}, user("a"), assistant("b")]})
    assert item.turns == (("user", "a"),)
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert read({"messages": [{"role": "user", "content": parts}]}).turns == (("user", "ab"),)


def test_thoughts_that_are_kept_apart() -> None:
    row = {"messages": [user("Q"), assistant("A", reasoning_content="hm\n")]}
    assert read(row).traces == ("<think>\nhm\n</think>\n\nA",)
    assert FORMATS["messages"].read(Row("here", row), "").traces == ("A",), "thinking=none"
    assert read({"prompt": "Q", "completion": [assistant("A", reasoning="hm")]}).traces[0].startswith("<think>\nhm")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "Q", "chosen": "A", "rejected": "B"}, "is a preference pair: format=chosen"),
        ({"messages": [user("Q"), assistant(None, tool_calls=[{}])]}, r"messages\[1\]`: holds a tool call"),
        ({"messages": [user("Q"), {"role": "tool", "content": "3"}, assistant("A")]}, "holds a tool call"),
        ({"messages": [user("Q"), assistant("A")], "tools": [{"name": "f"}]}, "`tools`: holds a tool call"),
        ({"conversations": [{"from": "human", "value": "Q"}, {"from": "function_call", "value": "f"}]}, "tool call"),
        ({"messages": [user("Q"), assistant(None)]}, "is null, and not a tool call"),
        ({"messages": [user("Q"), assistant(None, reasoning_content="hm")]}, "has a thought and no answer"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "part of type 'image_url'"),
        ({"messages": [user("Q"), assistant("A")], "images": ["x"]}, "only text is learned"),
        ({"messages": [assistant("A")]}, "has no user's message"),
        ({"messages": [user(" ")]}, "must be text that is not empty"),
        ({"messages": ["Q"]}, 'must be {"role": ..., "content": ...}, not text'),
        ({"messages": "[{'role': 'user'}]"}, "print of a Python object, not JSON"),
        ({"prompt": "Q", "completion": "A", "label": False}, "completion that is not wanted"),
        ({"prompt": "Q", "completion": [user("Q"), assistant("A")]}, "must be one turn of the assistant"),
        ({"text": "Q A"}, "so that it is known where the prompt ends"),
        ({"Q": "x", "A": "y"}, "this one has `Q`, `A`; rename=old:new"),
        ({"prompt": "Q", "answer": [1]}, "must be text or a number, not a list"),
    ],
)
def test_what_is_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(row)


def test_chosen_of_a_pair() -> None:
    whole = {"prompt": "Q", "chosen": [user("Q"), assistant("A")], "rejected": [user("Q"), assistant("B")]}
    assert read(whole, "chosen").traces == ("A",)
    assert read({"prompt": "Q", "chosen": "A", "rejected": "B"}, "chosen").traces == ("A",)
    assert read({"prompt": [user("Q")], "chosen": [assistant("A")], "rejected": []}, "chosen").turns == USER_TURN


# ---------------------------------------------------------------- files

ROWS: Rows = [{"prompt": f"Say {i}, please.", "answer": i, "verifier": "number"} for i in range(30)]


def test_every_kind_of_file(tmp_path: Path) -> None:
    """The same problems, keys and answers from each: a byte order mark, NaN and csv's text columns are no matter."""
    expected = {(i.key("data"), i.answer) for i in items(task(write(tmp_path / "a.jsonl", ROWS)))}
    (tmp_path / "b.json").write_text(json.dumps(ROWS, indent=1))
    (tmp_path / "c.json").write_text(json.dumps({"version": 1, "data": ROWS}))
    (tmp_path / "d.json").write_text("\n".join(map(json.dumps, ROWS)))
    (tmp_path / "e.jsonl").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.jsonl").read_bytes())
    with gzip.open(tmp_path / "f.json.gz", "wt") as zipped:
        zipped.write(json.dumps(ROWS))
    for name, dialect in (("g.csv", "excel"), ("h.tsv", "excel-tab")):
        with (tmp_path / name).open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, ["prompt", "answer", "verifier", "note"], dialect=dialect)
            writer.writeheader()
            writer.writerows(ROWS)
    (tmp_path / "i.jsonl").write_text("\n".join(json.dumps(r | {"completion": float("nan")}) for r in ROWS))
    for file in sorted(tmp_path.glob("[b-i].*")):
        assert {(i.key("data"), i.answer) for i in items(task(file))} == expected, file


def test_columns_of_parquet_and_arrow(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"messages": [user(f"Q{i}"), assistant(f"A{i}")], "extra": 1.5} for i in range(20)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    loaded = task(tmp_path / "t.parquet")
    assert {i.traces for i in items(loaded)} == {(f"A{i}",) for i in range(20)}
    table = pyarrow.Table.from_pylist(ROWS)
    (tmp_path / "d").mkdir()
    with pyarrow.OSFile(str(tmp_path / "d/data-00000-of-00001.arrow"), "wb") as sink, \
            pyarrow.ipc.new_stream(sink, table.schema) as out:  # fmt: skip
        out.write_table(table)
    (tmp_path / "d/state.json").write_text("{}")
    assert len(items(task(tmp_path / "d"))) == len(ROWS)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "prompt,prompt\n1,2\n", "name each column once"),
        ("a.csv", "prompt,answer\nHi, you,2\n", "line 2: has more cells than the header's 2"),
        ("a.json", '[{"prompt": "a"}, 3]', "row 2: must be a JSON object, not a number"),
        ("a.json", "[{", "is neither JSON nor an object per line"),
        ("a.jsonl", '{"prompt": "a"}\n{"prompt', "line 2: is not JSON"),
        ("a.jsonl", "[1]\n", "line 1: must be a JSON object"),
    ],
)
def test_broken_files(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        task(tmp_path / name)


def test_other_encodings_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("prompt\nné\n".encode("utf-16"))
    with pytest.raises(UserError, match="it is not UTF-8"):
        task(tmp_path / "a.csv")


def test_folders(tmp_path: Path) -> None:
    """validation stands for a test split that has no file; what no split has is named; a TEST file is a test file."""
    write(tmp_path / "a/train.jsonl", ROWS[:20])
    write(tmp_path / "a/Validation.jsonl", ROWS[20:])
    write(tmp_path / "a/notes.jsonl", ROWS[:1])
    loaded = task(tmp_path / "a")
    assert (loaded.size("train"), loaded.size("test")) == (20, 10)
    assert "not read: notes.jsonl" in loaded.about()
    write(tmp_path / "a/TEST.jsonl", ROWS[25:])
    loaded = task(tmp_path / "a")
    assert loaded.size("test") == 5
    assert "not read: Validation.jsonl, notes.jsonl" in loaded.about()


# ---------------------------------------------------------------- what was read


def test_one_line_says_what_was_read(tmp_path: Path) -> None:
    rows: Rows = [{"messages": [user(f"Q{i}"), assistant("A")]} for i in range(40)]
    loaded = task(write(tmp_path / "a.jsonl", [*rows, rows[0], {"messages": []}]), "bad=drop")
    sizes = f"train {loaded.size('train')}; test {loaded.size('test')}"
    assert loaded.about() == (
        f"data: 42 rows, format messages, traces yes, answers no, template chat, {sizes}; left out: 1 that cannot be "
        "used (holds no message), 1 repeated; verifier none: accuracy is not measured, methods that need rewards are "
        "refused"
    )
    assert not loaded.verified
    assert not loaded.graded("test")
    with pytest.raises(UserError, match="line 42, field `messages`: holds no message"):
        task(tmp_path / "a.jsonl")


def test_some_answers_are_a_mistake(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [*ROWS, {"prompt": "And?"}])
    with pytest.raises(UserError, match=r"line 31.*missing=drop or verifier=none"):
        task(file)
    assert "left out: 1 without an answer" in task(file, "missing=drop").about()
    loaded = task(file, "verifier=none")
    assert len(items(loaded)) == 31
    assert not loaded.verified


def test_fields_by_other_names(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"Q": f"{i}?", "gold label": i} for i in range(20)])
    loaded = task(file, "rename=Q:prompt||gold label:answer,verifier=number")
    assert loaded.verified
    with pytest.raises(UserError, match="Q: write old:new"):
        task(file, "rename=Q")
    with pytest.raises(UserError, match="did you mean messages"):
        task(file, "format=message")


def test_same_text_is_the_same_problem(tmp_path: Path) -> None:
    """Spaces, case and superscripts make another problem, with its own traces, on the same side of the split."""
    texts = ["Add 1 23", "Add 12 3", "ADD 1 23", "Find 2^5", "Find 2⁵", *(f"Number {i}" for i in range(40))]
    rows: Rows = [
        {"prompt": t, "answer": i, "verifier": "number", "completions": [f"c{i}"]} for i, t in enumerate(texts)
    ]
    loaded = task(write(tmp_path / "a.jsonl", [*rows, rows[1] | {"completions": ["other"]}, rows[2] | {"answer": 77}]))
    by_text = {i.problem: i for i in items(loaded)}
    assert set(by_text) == set(texts)
    assert loaded.dropped == {"repeated": 1, "repeated with another answer": 1}
    assert by_text["Add 12 3"].traces == ("c1", "other")
    assert len({i.key("data") for i in items(loaded)}) == len(texts)
    sides = {split: {i.problem for i in loaded.pool(split)} for split in loaded.splits}
    for same in (texts[:3],):
        assert any(set(same) <= side for side in sides.values())
    shuffled = task(write(tmp_path / "b.jsonl", rows[::-1]))
    assert {i.key("data") for i in items(shuffled)} == {i.key("data") for i in items(loaded)}


def test_the_digest_is_of_what_is_learned(tmp_path: Path) -> None:
    first = task(write(tmp_path / "a.jsonl", ROWS)).digest()
    assert task(write(tmp_path / "b.jsonl", [r | {"id": 1} for r in ROWS])).digest() == first
    for changed in ({"answer": 99}, {"prompt": "Other"}, {"completion": "It is"}):
        assert task(write(tmp_path / "c.jsonl", [ROWS[0] | changed, *ROWS[1:]])).digest() != first
    assert task(tmp_path / "a.jsonl", "system=Be brief").digest() != first
