"""Tasks from data sets: every public schema, from JSON lines and parquet; splits that share nothing; stable keys."""

from __future__ import annotations

import dataclasses
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import public_rows as public
import pytest

from understudy.errors import UserError
from understudy.specs import parse_spec
from understudy.tasks import load_task
from understudy.tasks.text import DATASETS, TextTask
from understudy.tasks.text.files import by_split, read_hub
from understudy.tasks.text.rows import Row
from understudy.tasks.text.schemas import SCHEMAS, normal
from understudy.types import Prompt

pytest.importorskip("math_verify")


def layout(root: Path, name: str, suffix: str) -> Path:
    """The data set `name` in a folder, with the file names that the hub gives."""
    part = f"00000-of-00001.{suffix}"
    if name == "gsm8k":
        public.write(root / f"main/train-{part}", public.gsm8k(6))
        public.write(root / f"main/test-{part}", public.gsm8k(3, start=100))
        public.write(root / f"socratic/train-{part}", public.gsm8k(2, start=900))
    elif name == "math":
        for i, subject in enumerate(("algebra", "geometry")):
            public.write(root / f"{subject}/train-{part}", public.solved(3, start=10 * i))
            public.write(root / f"{subject}/test-{part}", public.solved(2, start=100 + 10 * i))
    elif name == "mmlu":
        public.write(root / f"all/auxiliary_train-{part}", public.mmlu(3, start=500))
        public.write(root / f"all/dev-{part}", public.mmlu(5))
        public.write(root / f"all/validation-{part}", public.mmlu(1, start=50))
        public.write(root / f"all/test-{part}", public.mmlu(4, start=100))
    else:
        makers: dict[str, Callable[[], public.Rows]] = {
            "math500": lambda: [r | {"answer": f"{i}/7"} for i, r in enumerate(public.solved(4))],
            "deepscaler": lambda: public.deepscaler(100),
            "dapo": lambda: public.dapo([f"What is {i} squared?" for i in range(100)] * 3),
            "openr1": lambda: public.openr1(100),
            "aime24": public.aime24,
            "aime25": public.aime25,
            "data": lambda: [{"prompt": f"Say {i}.", "answer": i, "verifier": "number"} for i in range(100)],
        }
        split = {"aime24": "train", "aime25": "test", "math500": "test"}.get(name, "train")
        rows = makers[name]()
        if name == "math500":
            rows = [r | {"solution": "", "subject": "Algebra", "level": 1, "unique_id": "x"} for r in rows]
        public.write(root / f"data/{split}-{part}", rows)
    return root


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", list(DATASETS))
def test_every_public_schema(name: str, suffix: str, tmp_path: Path) -> None:
    """Catches a schema read wrongly, a split that is not the official one, and train problems in a held-out split."""
    task = load_task(f"{name}:path={layout(tmp_path, name, suffix)}")
    assert isinstance(task, TextTask)
    held = {i.fingerprint() for s in task.splits if s != "train" for i in task.pool(s)}
    for split in task.splits:
        pool = task.pool(split)
        assert len({i.fingerprint() for i in pool}) == len(pool) == task.size(split)
        assert split != "train" or not held & {i.fingerprint() for i in pool}
        prompts = task.prompts(split, len(pool), seed=3)
        assert len({p.key for p in prompts}) == len(pool), "a pass is over all problems, each once"
        for p in prompts:
            assert task.verify(p, task.gold(p), True) == 1.0
            assert task.verify(p, "\\boxed{no such answer}", True) == 0.0
            assert task.verify(p, "", False) == 0.0
    assert task.splits == {
        "gsm8k": ("train", "test"), "math": ("train", "test"), "mmlu": ("test",), "math500": ("test",),
        "aime24": ("test",), "aime25": ("test",),
    }.get(name, ("train", "test"))  # fmt: skip
    sizes = {"gsm8k": (6, 3), "math": (6, 4), "mmlu": (8,), "math500": (4,), "aime24": (4,), "aime25": (4,)}
    assert sum(task.size(s) or 0 for s in task.splits) == sum(sizes.get(name, (100,)))


@pytest.mark.parametrize("name", list(DATASETS))
def test_prompts_do_not_depend_on_the_format_or_the_place(name: str, tmp_path: Path) -> None:
    """Catches keys or texts that change with the file, and a stream that is not a function of (split, seed, index)."""
    one = load_task(f"{name}:path={layout(tmp_path / 'a', name, 'jsonl')}")
    two = load_task(f"{name}:path={layout(tmp_path / 'b', name, 'parquet')}")

    def seen(task: Any, **options: Any) -> list[tuple[Any, ...]]:
        return [(p.key, p.text, p.messages, p.data["answer"]) for p in task.prompts("test", **options)]

    assert seen(one, n=7, seed=1) == seen(two, n=7, seed=1)
    assert seen(one, n=4, seed=1, start=3) == seen(one, n=7, seed=1)[3:]
    assert seen(one, n=7, seed=1) != seen(one, n=7, seed=2)


def test_train_problems_in_test_are_left_out(tmp_path: Path) -> None:
    """The same problem in other spelling and spacing, and wrapped in DAPO's instructions, is the same problem."""
    test = public.aime24(3)
    same = ["AIME  PROBLEM $1$?", "aime problem 2?\n"]
    rows = public.dapo([*same, "Another one?", "And one more?"])
    train = public.write(tmp_path / "dapo.jsonl", rows)
    held = public.write(tmp_path / "aime.jsonl", test)
    task = load_task(f"dapo:path={train},test=aime24,test_path={held}")
    assert isinstance(task, TextTask)
    assert [i.problem for i in task.pool("train")] == ["Another one?", "And one more?"]
    assert task.dropped == {"also in a held-out split": 2}
    assert {p.key.split()[0] for p in task.prompts("test", 3, 0)} == {"aime24"}


def test_normal_keeps_what_makes_a_problem() -> None:
    assert normal("Find  $x + 1$.") == normal("find x+1.\n")
    assert normal("Find $x + 1$.") != normal("Find $x - 1$.")


def test_held_out_by_hash_is_stable_and_near_its_share(tmp_path: Path) -> None:
    rows = [{"prompt": f"Number {i}?", "answer": i, "verifier": "number"} for i in range(400)]
    file = public.write(tmp_path / "rows.jsonl", rows)
    shuffled = public.write(tmp_path / "other.jsonl", rows[::-1])
    one, two = (load_task(f"data:path={p}") for p in (file, shuffled))
    assert isinstance(one, TextTask) and isinstance(two, TextTask)  # noqa: PT018
    held = [{i.problem for i in t.pool("test")} for t in (one, two)]
    assert held[0] == held[1]
    assert 20 < len(held[0]) < 65


def test_repeated_rows_count_once(tmp_path: Path) -> None:
    """DAPO's file on the hub holds every problem about a hundred times."""
    file = public.write(tmp_path / "d.jsonl", public.dapo([f"Q{i}?" for i in range(20)]) * 5)
    task = load_task(f"dapo:path={file}")
    assert isinstance(task, TextTask)
    assert task.dropped == {"repeated": 80}


# ---------------------------------------------------------------- prompts


def first_prompt(spec: str, split: str = "test") -> Prompt:
    return load_task(spec).prompts(split, 1, 0)[0]


def test_plain_and_chat(tmp_path: Path) -> None:
    root = layout(tmp_path, "gsm8k", "jsonl")
    plain = first_prompt(f"gsm8k:path={root}")
    assert plain.messages == ()
    assert plain.text.startswith("Question: Ann has 10")
    assert plain.text.endswith("put your final answer within \\boxed{}.\nAnswer:")
    system = tmp_path / "system.txt"
    system.write_text('Think, then answer. "Carefully".\n')
    chat = first_prompt(f"gsm8k:path={root},template=chat,system=@{system},prefill=<think>")
    assert chat.key == plain.key, "the format of a prompt does not change its key"
    assert chat.messages[0] == ("system", 'Think, then answer. "Carefully".')
    assert chat.messages[1][0] == "user"
    assert chat.messages[1][1].startswith("Ann has")
    assert chat.prefill == "<think>"
    assert "Please reason" not in first_prompt(f"gsm8k:path={root},instruction=none").text


def test_few_shot(tmp_path: Path) -> None:
    root = layout(tmp_path, "gsm8k", "jsonl")
    text = first_prompt(f"gsm8k:path={root},shots=2").text
    assert text.count("Question: ") == text.count("Answer:") == 3
    assert "<<" not in text, "calculator calls are removed"
    assert "#### 1\n\nQuestion: Ann has 1 pens" in text
    assert "boxed" not in text, "the examples show another answer format"
    task = load_task(f"gsm8k:path={root},shots=5")
    for p in task.prompts("train", 6, 0):
        assert p.text.count(p.text.rsplit("Question: ")[-1].split("\n")[0]) == 1, "its own answer is in its prompt"
    turns = first_prompt(f"gsm8k:path={root},shots=2,template=chat").messages
    assert [role for role, _ in turns] == ["user", "assistant"] * 2 + ["user"]


def test_mmlu_asks_as_usual(tmp_path: Path) -> None:
    root = layout(tmp_path, "mmlu", "jsonl")
    task = load_task(f"mmlu:path={root},shots=2")
    p = next(p for p in task.prompts("test", 8, 0) if "virology" in p.text)
    head = "The following are multiple choice questions (with answers) about virology.\n\nWhich of these is 0 in"
    assert p.text.startswith(head)
    assert p.text.count("Answer: ") == 2
    assert p.text.endswith("\nAnswer:")
    assert "algebra" not in p.text
    assert p.data["choices"] == (" A", " B", " C", " D")
    assert task.verify(p, f" {p.data['answer']}", True) == 1.0


def test_thoughts_stops_and_gold(tmp_path: Path) -> None:
    root = layout(tmp_path, "gsm8k", "jsonl")
    task = load_task(f"gsm8k:path={root},thinking_open=true,stop=\\n\\nQuestion:||<|im_end|>")
    p = task.prompts("test", 1, 0)[0]
    answer = p.data["answer"]
    assert task.verify(p, f"hm</think>It is \\boxed{{{answer}}}", True) == 1.0
    assert task.verify(p, f"It is \\boxed{{{answer}}}, wait", False) == 0.0
    assert task.verify(p, f"</think>\\boxed{{{answer}}}\n\nQuestion: 1+1\nAnswer: \\boxed{{2}}", False) == 1.0
    task.check()


@pytest.mark.parametrize(
    "hostile",
    ["\\boxed{" * 5000, "\x00\ud800", "9" * 100_000, "\\boxed{__import__('os').system('touch HERE')}", "<think>" * 1000,
     "Answer:" * 20_000, "#" * 50_000, "\\boxed{9^{9^{9^9}}}"],
)  # fmt: skip
def test_hostile_text_is_just_wrong(hostile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    task = load_task(f"math:path={layout(tmp_path / 'd', 'math', 'jsonl')},time_limit=1")
    p = task.prompts("test", 1, 0)[0]
    assert task.verify(p, hostile, False) == 0.0
    assert not (tmp_path / "HERE").exists()


def test_own_rows(tmp_path: Path) -> None:
    """`prompt` as text or turns, or `messages`; numbers as answers; each row may name its verifier."""

    def user(text: str) -> dict[str, str]:
        return {"role": "user", "content": text}

    rows: public.Rows = [
        {"prompt": "Capital of France?\n", "answer": "Paris", "verifier": "exact"},
        {"prompt": [{"role": "user", "content": "2+2?"}], "answer": 4, "verifier": "number"},
        {"messages": [user("Short.") | {"role": "system"}, user("3+3?")], "answer": 6.0, "verifier": "number"},
        {"messages": [user("Pick."), user("(B)") | {"role": "assistant"}], "answer": "B", "verifier": "letter"},
    ]
    public.write(tmp_path / "d/train.jsonl", rows)
    public.write(tmp_path / "d/test.jsonl", [{"prompt": "Other?", "answer": "1", "verifier": "exact"}])
    task = load_task(f"data:path={tmp_path / 'd'}")
    prompts = {p.data["answer"]: p for p in task.prompts("train", 4, 0)}
    assert set(prompts) == {"Paris", "4", "6", "B"}
    assert prompts["Paris"].text == "Capital of France?\n"
    assert task.verify(prompts["Paris"], " paris.", True) == 1.0
    assert task.verify(prompts["Paris"], "London", True) == 0.0
    assert task.verify(prompts["4"], "4", True) == 1.0
    chat = load_task(f"data:path={tmp_path / 'd'},template=chat")
    turns = {p.data["answer"]: p.messages for p in chat.prompts("train", 4, 0)}
    assert turns["6"] == (("system", "Short."), ("user", "3+3?"))
    assert turns["B"] == (("user", "Pick."),), "what the assistant said is a trace, not part of the prompt"


def test_several_held_out_splits(tmp_path: Path) -> None:
    mmlu = layout(tmp_path / "mmlu", "mmlu", "jsonl")
    spec = (
        f"gsm8k:path={layout(tmp_path / 'g', 'gsm8k', 'jsonl')},ood=aime25,"
        f"ood_path={layout(tmp_path / 'a', 'aime25', 'jsonl')},forget=mmlu,forget_path={mmlu}"
    )
    task = load_task(spec)
    assert task.splits == ("train", "test", "ood", "forget")
    assert "choices" in task.prompts("forget", 1, 0)[0].data
    assert task.prompts("ood", 1, 0)[0].key.startswith("aime25 ")


def test_files_belong_to_the_split_that_they_name(tmp_path: Path) -> None:
    for name in ("a/train-0.jsonl", "auxiliary_train.jsonl", "test/part-1.jsonl", "latest.jsonl", "train/test.jsonl"):
        public.write(tmp_path / name, public.gsm8k(1))
    files = by_split(str(tmp_path), ["train", "test", "auxiliary_train"])
    names = {k: sorted(str(p.relative_to(tmp_path)) for p in v) for k, v in files.items()}
    assert names == {
        "train": ["a/train-0.jsonl"], "auxiliary_train": ["auxiliary_train.jsonl"],
        "test": ["test/part-1.jsonl", "train/test.jsonl"],
    }  # fmt: skip


def test_the_hub_is_asked_for_the_official_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for `datasets` records its calls: ids, configurations, splits, the pinned revision."""
    calls: list[tuple[Any, ...]] = []

    class Table:
        column_names = ("problem", "level", "type", "solution")

        def __init__(self, rows: public.Rows) -> None:
            self.rows = rows

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, part: slice) -> dict[str, list[Any]]:
            return {name: [row[name] for row in self.rows[part]] for name in ("problem", "solution")}

        def select_columns(self, names: list[str]) -> Table:
            assert names == ["problem", "solution"]
            return self

    def load_dataset(hub: str, subset: str | None, split: str, revision: str | None) -> Table:
        calls.append((hub, subset, split, revision))
        return Table(public.solved(1, start=len(calls)))

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    task = load_task("math:revision=abc")
    assert task.splits == ("train", "test")
    assert len(calls) == 14
    assert calls[0] == ("EleutherAI/hendrycks_math", "algebra", "train", "abc")
    assert calls[-1] == ("EleutherAI/hendrycks_math", "precalculus", "test", "abc")


def test_no_network_is_reported_as_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*args: Any, **options: Any) -> Any:
        raise ConnectionError("no route\nto host")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(UserError, match=r"cannot be loaded from the hub \(no route\): give path="):
        load_task("gsm8k")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"needs datasets: pip install 'understudy\[hub\]', or give path="):
        load_task("gsm8k")


def test_every_option_is_described() -> None:
    from understudy.cli.options import field_docs
    from understudy.tasks.text import TextConfig

    assert set(field_docs(TextConfig)) == {f.name for f in dataclasses.fields(TextConfig)}
    assert parse_spec("gsm8k:path=x", "task").name in DATASETS


def test_keys_are_stable() -> None:
    """Runs are resumed and paired by these keys, so they must never change."""
    read = SCHEMAS["gsm8k"].read(Row("here", public.gsm8k(1)[0]), False)
    assert read.key("gsm8k") == "gsm8k 7d4de85159b30e82"


# ---------------------------------------------------------------- docs/tasks.md

GENERATED = ("addition", "chain", "classify", "countdown", "path", "sort")  # they read no rows
PAGE = (Path(__file__).parents[4] / "docs/tasks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("spec", sorted(set(re.findall(r"--task ([a-z][\w:=/.,-]+)", PAGE))))
def test_the_tasks_of_the_page_load(spec: str, tmp_path: Path) -> None:
    """Every example command's task, on tiny rows in place of the paths it names."""
    name, _, rest = spec.partition(":")
    if name.endswith(".py") or name in ("rg", "env"):
        pytest.skip("tests of their own: tests/unit/tasks/gym, environments and rewards")
    if name in GENERATED:
        assert load_task(spec).prompts("train", 1, 0)
        return
    args = dict(item.split("=", 1) for item in filter(None, rest.split(",")))
    args.setdefault("path", "")
    for field in [k for k in args if k.endswith("path")]:
        of = name if field == "path" else args.get(field.removesuffix("_path"), name)
        args[field] = str(layout(tmp_path / field, of, "jsonl"))
    task = load_task(f"{name}:" + ",".join(f"{k}={v}" for k, v in args.items()))
    assert isinstance(task, TextTask)
    assert task.prompts(task.splits[0], 1, 0)


def test_the_real_datasets_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same calls to the real library, which reads a local folder where the hub's name is one."""
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    public.write(tmp_path / "me/rows/train.jsonl", public.gsm8k(1200))
    rows = list(read_hub(str(tmp_path / "me/rows"), "", "train", "", ("question", "answer"), limit=1100))
    assert [dict(r.values) for r in rows] == public.gsm8k(1100)
    assert rows[-1].where.endswith("train, row 1100")
