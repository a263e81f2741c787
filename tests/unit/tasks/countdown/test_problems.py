"""Streams and splits are functions of (split, seed, index), and no train problem is in another split."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations_with_replacement
from pathlib import Path

import pytest

from understudy.errors import UserError
from understudy.protocols import Task
from understudy.tasks import load_task
from understudy.tasks.countdown import CountdownConfig, CountdownTask
from understudy.tasks.countdown.problems import candidates, difficulty, enumerate_problems, side
from understudy.types import Prompt

TASK = CountdownTask()


def problems_of(prompts: list[Prompt]) -> set[tuple[tuple[int, ...], int]]:
    return {(tuple(sorted(p.data["nums"])), p.data["target"]) for p in prompts}


def test_it_is_a_task() -> None:
    assert isinstance(load_task("countdown"), Task)


@pytest.mark.parametrize("ops", ["+-", "*/", "+-*/"])
def test_enumeration_agrees_with_listing_every_chain(ops: str) -> None:
    config = CountdownConfig(ops=ops, max_number=5, max_target=40)
    enumerated = {(p.numbers, p.target): p.difficulty for p in enumerate_problems(config, 5, 1, "max_number")}
    expected = {}
    for numbers in combinations_with_replacement(range(1, 6), 3):
        values = [value for _, value in candidates(numbers, ops)]
        for target in {v for v in values if 1 <= v <= 40}:
            expected[numbers, target] = 1 - values.count(target) / len(values)
    assert enumerated == pytest.approx(expected)
    assert all(difficulty(n, t, ops) == pytest.approx(d) for (n, t), d in enumerated.items())


def test_candidates_are_distinct_even_when_numbers_repeat() -> None:
    assert [text for text, _ in candidates((3, 3), "+-")] == ["3+3=6", "3-3=0"]
    assert len(candidates((3, 5, 7), "+-")) == 6 * 4
    assert len(candidates((3, 3, 7), "+-")) == 3 * 4


@pytest.mark.parametrize("split", ["train", "test", "ood"])
def test_a_stream_is_a_function_of_its_name(split: str) -> None:
    task = CountdownTask(CountdownConfig(wide_share=0.3))
    whole = task.prompts(split, 300, seed=5)
    again = CountdownTask(CountdownConfig(wide_share=0.3))
    assert again.prompts(split, 100, seed=5, start=200) == whole[200:], "neither calls nor batches before it matter"
    assert [again.prompts(split, 1, seed=5, start=i)[0] for i in range(9)] == whole[:9]
    assert task.prompts(split, 300, seed=6) != whole


def test_no_train_problem_is_in_test_or_ood_in_any_order_or_range() -> None:
    near, wide = CountdownTask(), CountdownTask(CountdownConfig(wide_share=1.0, wide_max=19))
    train = problems_of(near.prompts("train", 5000, seed=0)) | problems_of(wide.prompts("train", 20000, seed=0))
    held_out = problems_of(near.prompts("test", 2000, seed=1)) | problems_of(near.prompts("ood", 2000, seed=1))
    assert len(train) > 3000
    assert len(held_out) > 600
    assert not train & held_out
    assert problems_of(near.prompts("test", 500, seed=0)) == problems_of(wide.prompts("test", 500, seed=0))


def test_ranges() -> None:
    for p in TASK.prompts("train", 500, 0) + TASK.prompts("test", 200, 0):
        assert max(p.data["nums"]) <= 9
        assert 1 <= p.data["target"] <= 99
    for p in TASK.prompts("ood", 500, 0):
        assert 10 <= max(p.data["nums"]) <= 19
        assert min(p.data["nums"]) >= 1
    wide = CountdownTask(CountdownConfig(wide_share=0.5, wide_max=30)).prompts("train", 4000, 0)
    share = sum(max(p.data["nums"]) > 9 for p in wide) / 4000
    assert 0.45 < share < 0.5, "half of the stream, less the few that are small by chance"
    assert max(max(p.data["nums"]) for p in wide) == 30


def test_ranges_follow_the_usual_numbers_unless_stated(tmp_path: Path) -> None:
    config = CountdownTask(CountdownConfig(max_number=12)).config
    assert (config.ood_min, config.ood_max, config.wide_max) == (13, 22, 22)
    path = rows(tmp_path / "rows.jsonl", *({"nums": [n, 25], "target": n + 25} for n in range(1, 60)))
    task = CountdownTask(CountdownConfig(data=path, n_numbers=2))
    assert (task.config.ood_min, task.config.ood_max) == (60, 69)
    assert min(max(p.data["nums"]) for p in task.prompts("ood", 100, 0)) >= 60


def test_difficulty_range() -> None:
    task = CountdownTask(CountdownConfig(difficulty_min=0.8, difficulty_max=0.9))
    for split in task.splits:
        for p in task.prompts(split, 100, 0):
            numbers, target = task.problem(p)
            assert 0.8 <= difficulty(numbers, target, "+-") <= 0.9
            assert p.data["difficulty"] == pytest.approx(difficulty(numbers, target, "+-"))


@pytest.mark.parametrize("split", ["test", "ood"])
def test_held_out_streams_pass_over_every_problem_before_any_comes_back(split: str) -> None:
    n = len(TASK.pool(split))
    first, second = TASK.prompts(split, n, seed=2), TASK.prompts(split, n, seed=2, start=n)
    assert len(problems_of(first)) == len(problems_of(second)) == n
    assert len({p.key for p in first}) == n
    assert [p.key for p in first] != [p.key for p in second]


def test_train_draws_evenly_and_in_every_order() -> None:
    drawn = TASK.prompts("train", 46_000, seed=0)
    counts = Counter(TASK.problem(p) for p in drawn)
    n = len(TASK.pool("train"))
    assert len(counts) == n
    mean = 46_000 / n
    chi2 = sum((c - mean) ** 2 / mean for c in counts.values())
    assert abs(chi2 - (n - 1)) < 5 * (2 * (n - 1)) ** 0.5, "about one false failure in a million seeds"
    orders = Counter(p.data["nums"] for p in drawn if sorted(p.data["nums"]) == [3, 5, 7])
    assert len(orders) == 6


def test_a_key_names_one_problem_in_one_order() -> None:
    prompts = [p for split in TASK.splits for p in TASK.prompts(split, 3000, seed=0)]
    by_key = {p.key: (p.data["nums"], p.data["target"]) for p in prompts}
    assert len(by_key) == len(set(by_key.values()))
    assert all(by_key[p.key] == (p.data["nums"], p.data["target"]) for p in prompts)
    assert len({p.text for p in prompts}) == len(by_key)


def test_the_salt_moves_the_wall_and_the_share_its_place() -> None:
    other = CountdownTask(CountdownConfig(split_seed=1))
    assert set(other.pool("test")) != set(TASK.pool("test"))
    sides = [side((a, b), t, CountdownConfig()) for a in range(40) for b in range(40) for t in range(10)]
    assert abs(sides.count("test") / 16_000 - 0.15) < 0.015, "five standard errors"


# -- public rows ---------------------------------------------------------------------------------------------


def rows(path: Path, *lines: object) -> str:
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines) + "\n", encoding="utf-8")
    return str(path)


def test_public_rows_feed_train_and_test(tmp_path: Path) -> None:
    data = [{"nums": [a, b, 40 + a], "target": a + b + 40 + a} for a in range(1, 20) for b in range(1, 20)]
    path = rows(tmp_path / "rows.jsonl", *data, data[0], "")
    task = load_task(f"countdown:format=answer,ops=+-*/,data={path}")
    everything = problems_of(task.prompts("train", 5000, 0)) | problems_of(task.prompts("test", 200, 0))
    assert everything == {(tuple(sorted(d["nums"])), d["target"]) for d in data}
    assert not problems_of(task.prompts("train", 5000, 0)) & problems_of(task.prompts("test", 500, 0))
    prompt = task.prompts("test", 1, 0)[0]
    assert str(list(prompt.data["nums"])) in prompt.text
    assert task.verify(prompt, task.gold(prompt), True) == 1.0
    search = load_task(f"countdown:data={path}")
    longest = max(len(search.gold(p)) for p in search.prompts("train", 200, 0))
    assert search.max_new_tokens > 4 * longest


BAD_ROWS = {
    "not json": "{nums: [1]}",
    "not an object": "[1, 2]",
    "no target": '{"nums": [1, 2]}',
    "no nums": '{"target": 3}',
    "nums is text": '{"nums": "1 2", "target": 3}',
    "a number is text": '{"nums": ["1", 2], "target": 3}',
    "a fraction": '{"nums": [1.5, 2], "target": 3}',
    "true": '{"nums": [true, 2], "target": 3}',
    "negative": '{"nums": [-1, 2], "target": 3}',
    "one number": '{"nums": [3], "target": 3}',
    "seven numbers": '{"nums": [1, 1, 1, 1, 1, 1, 1], "target": 7}',
    "target is a fraction": '{"nums": [1, 2], "target": 1.5}',
    "target is null": '{"nums": [1, 2], "target": null}',
    "huge": '{"nums": [1, 2], "target": ' + "9" * 5000 + "}",
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("line", BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_malformed_row_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    path = rows(tmp_path / "rows.jsonl", {"nums": [1, 2], "target": 3}, "", line)
    with pytest.raises(UserError, match=r"^task\.data: .*rows\.jsonl, line 3: ") as caught:
        load_task(f"countdown:data={path}")
    assert "\n" not in str(caught.value)


def test_empty_missing_and_unsolvable_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no rows"):
        load_task(f"countdown:data={rows(tmp_path / 'empty.jsonl', '')}")
    with pytest.raises(UserError, match="cannot be read"):
        load_task(f"countdown:data={tmp_path / 'absent.jsonl'}")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        load_task(f"countdown:data={tmp_path / 'binary.jsonl'}")
    lost = rows(tmp_path / "lost.jsonl", *({"nums": [1, n], "target": 500} for n in range(2, 60)))
    with pytest.raises(UserError, match="no row can be solved"):
        load_task(f"countdown:data={lost}")
    with pytest.raises(UserError, match="no expression with ops"):
        load_task(f"countdown:format=answer,data={lost}")


BAD_OPTIONS = {
    "format=chat": "task.format",
    "n_numbers=1": "task.n_numbers",
    "n_numbers=7": "task.n_numbers",
    "n_numbers=three": "task.n_numbers",
    "ops=": "task.ops",
    "ops=+^": "task.ops",
    "ops=++": "task.ops",
    "max_number=0": "task.max_number",
    "max_target=0": "task.max_target",
    "ood_min=9": "task.ood_min",  # not out of distribution
    "ood_min=20,ood_max=19": "task.ood_max",
    "ood_min=-1": "task.ood_min",
    "attempts=0": "task.attempts",
    "test_share=0": "task.test_share",
    "test_share=1": "task.test_share",
    "wide_share=1.5": "task.wide_share",
    "difficulty_min=0.9,difficulty_max=0.1": "task.difficulty_max",
    "difficulty_min=0.999": "task.max_number",  # no problem is that hard
    "max_number=1,n_numbers=2,ops=-": "task.max_number",  # 1-1 is no target
    "n_numbers=6,max_number=99": "task.max_number",  # too many to enumerate
    "n_numbers=6,max_number=2000,ops=*": "task.ops",  # products overflow
    "numbers=3": "task.numbers",
}


@pytest.mark.parametrize(("options", "field"), BAD_OPTIONS.items())
def test_impossible_settings_are_refused_by_name(options: str, field: str) -> None:
    with pytest.raises(UserError) as caught:
        load_task(f"countdown:{options}")
    assert caught.value.field == field
    assert caught.value.hint


def test_unknown_task_and_split() -> None:
    with pytest.raises(UserError, match=r"^task: cuontdown: unknown; one of countdown"):
        load_task("cuontdown")
    with pytest.raises(UserError, match=r"^split: valid: unknown; one of train, test, ood"):
        TASK.prompts("valid", 1, 0)


def test_a_verifier_that_rejects_its_own_gold_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    task = CountdownTask()
    monkeypatch.setattr(task, "verify", lambda prompt, text, ended: 0.0)
    with pytest.raises(UserError, match="its verifier rejects its own gold"):
        task.check()
