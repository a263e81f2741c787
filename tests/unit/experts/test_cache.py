"""Scores on disk are found for exactly what was scored, and never when damaged."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stub_server import Stub
from tiny import config

from understudy.cli.main import main
from understudy.config import to_dict
from understudy.errors import UserError
from understudy.experts.cache.store import ScoreCache, identity_name, key
from understudy.policy import Policy, load_policy
from understudy.runs.read import read_metrics


@pytest.fixture(scope="module")
def policy(models: dict[str, Path]) -> Policy:
    return load_policy(str(models["llama"]), "expert", device="cpu")


@pytest.fixture
def stub(policy: Policy) -> Iterator[Stub]:
    with Stub(policy).running() as server:
        yield server


def entry(seed: int = 0, t: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"logp": -rng.random(t, dtype=np.float32), "top_ids": rng.integers(0, 9, (t, 2)).astype(np.int32)}


def same(a: dict[str, np.ndarray] | None, b: dict[str, np.ndarray]) -> bool:
    return (
        a is not None and set(a) == set(b) and all(a[k].dtype == b[k].dtype and np.array_equal(a[k], b[k]) for k in b)
    )


def test_what_is_put_is_found_bit_by_bit(tmp_path: Path) -> None:
    """Also by another process, after a kill, and while another process writes."""
    first, second = ScoreCache(tmp_path / "c"), ScoreCache(tmp_path / "c")
    names = [key("e", [1, 2], [i], "score") for i in range(20)]
    for i, name in enumerate(names):
        (first if i % 2 else second).put(name, entry(i))
    assert all(same((first if i % 2 else second).get(n), entry(i)) for i, n in enumerate(names))
    third = ScoreCache(tmp_path / "c")
    assert len(third) == 20
    assert all(same(third.get(n), entry(i)) for i, n in enumerate(names))
    assert third.get(key("e", [1, 2], [99], "score")) is None


def test_keys_distinguish_everything() -> None:
    """Catches a prompt that runs into its completion, another expert, another k, another revision."""
    names = {
        key(e, p, c, k)
        for e in ("a", "b")
        for p, c in (((1, 2), (3,)), ((1,), (2, 3)), ((1, 2, 3), ()), ((12,), (3,)), ((1, 2), (4,)), ((), (1, 2, 3)))
        for k in ("score", "top_k:1", "top_k:11")
    }
    assert len(names) == 2 * 6 * 3
    server = {"kind": "server", "model": "m", "root": "r", "revision": ""}
    assert (
        len({identity_name(server | change) for change in ({}, {"model": "n"}, {"revision": "2"}, {"root": "s"})}) == 4
    )


@settings(max_examples=60)
@given(data=st.data())
def test_any_damage_is_a_miss(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Flipped bytes, cut ends, swapped lines: an entry is what was put, or absent."""
    folder = tmp_path_factory.mktemp("cache")
    cache = ScoreCache(folder)
    names = [key("e", [1], [i], "score") for i in range(4)]
    for i, name in enumerate(names):
        cache.put(name, entry(i))
    cache.close()
    (shard,) = folder.glob("scores-*")
    content = bytearray(shard.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert"]))
    if kind == "flip":
        content[at] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del content[at:]
    else:
        content[at:at] = data.draw(st.binary(min_size=1, max_size=5))
    open_before = ScoreCache(folder)
    shard.write_bytes(content)
    for reader in (ScoreCache(folder), open_before):
        lost = 0
        for i, name in enumerate(names):
            result = reader.get(name)
            assert result is None or same(result, entry(i))
            lost += result is None
        assert kind == "cut" or lost <= (2 if reader is not open_before else 4)


def test_a_killed_writer_leaves_the_rest(tmp_path: Path) -> None:
    messages: list[str] = []
    cache = ScoreCache(tmp_path)
    name, other = key("e", [1], [1], "score"), key("e", [1], [2], "score")
    cache.put(name, entry(1))
    cache.put(other, entry(2))
    (shard,) = tmp_path.glob("scores-*")
    shard.write_bytes(shard.read_bytes()[:-9])
    again = ScoreCache(tmp_path, messages.append)
    assert same(again.get(name), entry(1))
    assert again.get(other) is None
    assert not messages, "an end that is cut short is a kill, not damage"
    again.put(other, entry(2))
    assert same(ScoreCache(tmp_path).get(other), entry(2))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"is not a score cache .it holds thesis.tex"):
        ScoreCache(tmp_path)
    with pytest.raises(UserError, match="is a file"):
        ScoreCache(tmp_path / "thesis.tex")


# -- in training ----------------------------------------------------------------------------------------------------


def arguments(out: Path, method: str, **changes: Any) -> list[str]:
    words = ["train"]
    for name, value in to_dict(config(method, out, **changes)).items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            words += [f"--{flag}", str(value)]
    return words


def weights(out: Path) -> bytes:
    return (out / "final" / "model.safetensors").read_bytes()


BASE_TOKENS: dict[str, Any] = {"target": "token", "weight": "log_ratio", "importance": "token", "prompt_pool": 6}
TOP: dict[str, Any] = {"top_k": 4, "top_k_of": "expert", "prompt_pool": 6}


@pytest.mark.parametrize("cells", [BASE_TOKENS, TOP], ids=["token", "top_k"])
def test_a_teacher_that_is_not_here(
    cells: dict[str, Any],
    models: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the teacher the run samples, stops and says what to do; the teacher scores the kept rollouts; the same
    command continues without it, to the weights of a run that had the teacher all the time."""
    student, teacher = str(models["llama"]), tmp_path / "teacher"
    shutil.copytree(models["qwen2"], teacher)
    more = {"student": student, "expert": str(teacher), "task": "countdown", **cells}
    assert main(arguments(tmp_path / "beside", "base_opd", **more)) == 0
    away = tmp_path / "away"
    teacher.rename(away)
    out, cache = tmp_path / "run", tmp_path / "scores"
    command = [*arguments(out, "base_opd", **more), "--score-cache", str(cache)]
    capsys.readouterr()
    assert main(command) == 2
    err = capsys.readouterr().err
    assert re.search(
        r"error: score_cache: .*: (8 of 8|12 of 12) completions have no score in .*understudy score", err
    ), err
    away.rename(teacher)
    assert main(["score", "--expert", str(teacher), "--run", str(out), "--out", str(cache), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["completions"] == summary["new"] == 12
    teacher.rename(away)
    assert main(command) == 0
    want, got = (load_policy(str(d / "final"), "x").model.state_dict() for d in (tmp_path / "beside", out))
    for name in want:
        torch.testing.assert_close(got[name], want[name], atol=1e-5, rtol=0)
    # a second look costs nothing, and another expert's scores are not these
    away.rename(teacher)
    assert main(["score", "--expert", str(teacher), "--run", str(out), "--out", str(cache), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["new"] == 0
    assert main(["score", "--expert", str(models["qwen3"]), "--run", str(out), "--out", str(cache), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["new"] == 12
    monkeypatch.chdir(tmp_path)
    expert = str(tmp_path / "elsewhere")
    assert main([*arguments(tmp_path / "b", "base_opd", **more), "--score-cache", str(cache), "--expert", expert]) == 2
    assert re.search(r"error: expert: .*/elsewhere: cannot be had .* holds scores of ", capsys.readouterr().err)


def test_scores_of_a_server_are_paid_for_once(
    stub: Stub, models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same run again, with its cache and without its server; scores of a server that has changed are refused."""
    more = {
        "student": str(models["qwen2"]), "expert": f"server:url={stub.url},tries=2,wait=0.001",
        "score_cache": str(tmp_path / "cache"), "task": "countdown", "updates": 3,
    }  # fmt: skip
    assert main(arguments(tmp_path / "a", "opd", **more)) == 0
    first = sum("prompt_logprobs" in b and b["prompt_logprobs"] is not None for _, b in stub.bodies)
    stub.bodies.clear()
    assert main(arguments(tmp_path / "b", "opd", **more)) == 0
    again = sum("prompt_logprobs" in b and b["prompt_logprobs"] is not None for _, b in stub.bodies)
    assert again < first, "kept scores were asked for again"
    stub.down = True
    assert main(arguments(tmp_path / "c", "opd", **more)) == 0
    assert weights(tmp_path / "a") == weights(tmp_path / "b") == weights(tmp_path / "c")
    assert [x["loss"] for x in read_metrics(tmp_path / "c", "train")] == [
        x["loss"] for x in read_metrics(tmp_path / "a", "train")
    ]
    capsys.readouterr()
    assert main(arguments(tmp_path / "d", "opd", **more | {"seed": 3})) == 2
    assert "completions have no score in" in capsys.readouterr().err
    stub.down = False
    other = load_policy(str(models["qwen3"]), "expert", device="cpu")
    with Stub(other).running() as changed:
        changed.name = "tiny"
        more["expert"] = f"server:url={changed.url}"
        assert main(arguments(tmp_path / "e", "opd", **more)) == 2
    assert "its weights have changed; give it another revision" in capsys.readouterr().err


def test_score_from_a_file(models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids as they are, text by the tokenizer; a bad line is named."""
    file = tmp_path / "rows.jsonl"
    rows = [
        {"prompt_ids": [5, 6], "ids": [7, 8, 1]},
        {"prompt": "1 2 3|", "completion": "1+2=3 ok", "ended": True},
        {"prompt": "1 2 3|", "completion": "1+2=3 ok", "ended": False},
    ]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows) + "\n")
    command = [
        "score",
        "--expert",
        str(models["llama"]),
        "--rollouts",
        str(file),
        "--out",
        str(tmp_path / "c"),
        "--json",
    ]
    assert main(command) == 0
    output = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert output["completions"] == output["new"] == 3
    assert len(ScoreCache(tmp_path / "c")) == 3
    for bad in ('{"prompt_ids": [5], "ids": []}', '{"ids": [1]}', "[1", '{"prompt_ids": [5], "ids": [999]}', '"x"'):
        file.write_text(json.dumps(rows[0]) + "\n" + bad + "\n")
        assert main(command) == 2
        assert re.search(r"error: rollouts: .*rows.jsonl, line 2: ", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "error: expert: missing"),
        (["--expert", "solver"], "error: out: missing"),
        (["--expert", "solver", "--out", "c"], "error: run: give either"),
        (["--expert", "solver", "--out", "c", "--run", "/nowhere"], "error: config: .*no such file"),
        (["--expert", "solver", "--out", "c", "--rollouts", "/nowhere"], "error: rollouts: .*cannot be read"),
        (["--expert", "solver", "--out", "c", "--rollouts", "x", "--top-k", "-1"], "error: top_k"),
    ],
)
def test_mistakes_of_score(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["score", *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.match(message, lines[0])
    assert os.listdir(tmp_path) == []
