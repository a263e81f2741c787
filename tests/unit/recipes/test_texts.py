"""Fig. 2 on two files of texts: reading, bounds, and refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from understudy.cli import main
from understudy.errors import UserError
from understudy.recipes.texts import compare, has, read


def write(path: Path, mean: float, wait: float, seed: int, n: int = 80, k: int = 4) -> Path:
    dice = np.random.default_rng(seed)
    rows = [
        {"key": f"p{i}", "completion": "Wait, so" if dice.random() < wait else "awaiting", "tokens":
        int(dice.poisson(mean))}
        for i in range(n) for _ in range(k)
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_different_texts_are_bounded_below(tmp_path: Path):
    a, b = write(tmp_path / "a.jsonl", 50, 0.9, 1), write(tmp_path / "b.jsonl", 80, 0.2, 2)
    result = compare(read(a, "a"), read(b, "b"), ["wait"])
    assert result.shared
    assert 0.7 < result.length_bound.low < 1
    assert 0.5 < result.word_bound.low <= 0.75


def test_equal_texts_prove_nothing(tmp_path: Path):
    a, b = write(tmp_path / "a.jsonl", 50, 0.5, 1), write(tmp_path / "b.jsonl", 50, 0.5, 2)
    result = compare(read(a, "a"), read(b, "b"), ["wait", "so"])
    assert result.length_bound.low < 0.02
    assert result.word_bound.low < 0.02


def test_words_are_whole_and_in_any_case():
    assert has("Wait, awaiting", ["wait", "AWAIT", "awaiting"]) == [1, 0, 1]
    assert has("let me see", ["let me"]) == [1]
    assert has("a+b", ["+", "(x"]) == [1, 0]  # words are not patterns


def test_the_command_draws(tmp_path: Path, capsys: pytest.CaptureFixture):
    a, b = write(tmp_path / "a.jsonl", 50, 0.9, 1), write(tmp_path / "<b>.jsonl", 80, 0.2, 2)
    args = ["run", "fig2_discrepancy", "--a", str(a), "--b", str(b), "--words", "wait", "</svg><script>"]
    assert main.main([*args, "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out/figure.html").read_text()
    assert "<script>" not in page
    assert re.search(
        r"TV of lengths is at least 0\.\d+ with probability 0\.95 \([^)]*best of two; seen 0\.\d+, \d+ problems\)", page
    )
    assert "figure:" in capsys.readouterr().out


def test_tiny_and_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main.main(["run", "fig2_discrepancy", "--tiny", "--share", "0.2", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "figure-2.svg").is_file()
    assert main.main(["run", "fig2_discrepancy", "--dry-run"]) == 0
    assert "19.2 million tokens" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("nonsense", ":1: is no JSON"),
        ("[1]", ":1: must be a JSON object"),
        ('{"key": "a"}', ":1: has no text"),
        ('{"text": "a", "tokens": 3}\n{"text": "b"}', "state it in all or none"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str):
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read(path, "a")


def test_files_that_do_not_match(tmp_path: Path):
    a = write(tmp_path / "a.jsonl", 50, 0.5, 1)
    words = tmp_path / "w.jsonl"
    words.write_text('{"text": "a b", "key": "p0"}\n{"text": "c", "key": "p1"}')
    with pytest.raises(UserError, match="counts words"):
        compare(read(a, "a"), read(words, "b"), ["a"])
    few = write(tmp_path / "few.jsonl", 50, 0.5, 1, n=5)
    with pytest.raises(UserError, match="only 5 problems"):
        compare(read(a, "a"), read(few, "b"), ["a"])
