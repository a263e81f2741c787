"""Options of other tools: every word of the table gets an option that the command really has, or a sentence."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from understudy.cli import foreign, options, rewards
from understudy.cli.foreign import ROWS, Row
from understudy.cli.main import main
from understudy.cli.score import ScoreConfig
from understudy.cli.train import TrainOptions
from understudy.config import TrainConfig
from understudy.diagnosis.config import DiagnoseConfig
from understudy.errors import UserError
from understudy.evaluation.config import EvalConfig
from understudy.experiments.config import CompareConfig
from understudy.routes.auto_config import AutoConfig

COMMANDS: dict[str, Any] = {
    "train": TrainOptions, "diagnose": DiagnoseConfig, "compare": CompareConfig, "auto": AutoConfig,
    "eval": EvalConfig, "score": ScoreConfig,
}  # fmt: skip


def refused(cls: type, *args: str) -> str:
    with pytest.raises(UserError) as caught:
        options.parse(cls, args, "understudy x", "")
    assert caught.value.field == "command line"
    return str(caught.value)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.words.split()[0])
def test_every_row_names_what_does_it_here(row: Row) -> None:
    """Catches a table that names an option which the command refuses, a bare refusal, and a word that only works with
    dashes or without =."""
    assert row.fields or row.why
    train = {f.name for f in dataclasses.fields(TrainConfig)}
    for command, cls in COMMANDS.items():
        own = {f.name for f in dataclasses.fields(cls)}
        for word in row.words.split():
            if word in own or word in options.SYNONYMS.values():
                continue
            line = refused(cls, f"--{word.replace('_', '-')}", "7")
            assert f"unrecognized arguments: --{word.replace('_', '-')}" in line
            for name in re.findall(r"\bhere --([a-z0-9-]+)", line):
                field = name.replace("-", "_")
                assert field in own or field == "config" or (field in rewards.HELP and "task" in own), (
                    command,
                    word,
                    line,
                )
            for field in re.findall(r"here --set ([a-z0-9_]+)=", line):
                assert field in train
                assert "set" in own
            for name in re.findall(r"an option of `understudy train`: --([a-z0-9-]+)", line):
                assert name.replace("-", "_") in train
            spellings = [refused(cls, f"--{word}", "7"), refused(cls, f"--{word.replace('_', '-')}=7")]
            hints = {re.sub(r"arguments: --[\w-]+(?:[= ](?:7|\.\.\.))?", "", x) for x in [line, *spellings]}
            assert len(hints) == 1, hints
    for name in row.fields.split():
        field = re.split("[=!]", name)[0]
        known = train | {f.name for cls in COMMANDS.values() for f in dataclasses.fields(cls)}
        assert field in known | {"config", "reward", "push_to_hub"}


def test_no_word_is_there_twice() -> None:
    words = [word for row in ROWS for word in row.words.split()]
    assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("command", "args", "words"),
    [
        ("train", ["--bf16"], "here --dtype bfloat16"),
        ("diagnose", ["--bf16"], "here --set dtype=bfloat16"),
        ("train", ["--per_device_train_batch_size=4"], "here --prompts-per-update 4"),
        ("train", ["--gradient-accumulation-steps", "8"], "--micro-tokens"),
        ("train", ["--num_train_epochs", "3"], "an epoch over P problems"),
        ("compare", ["--max-steps", "50"], "here --set updates=50"),
        ("auto", ["--max-steps", "50"], "here --budget updates=50"),
        ("train", ["--load_in_4bit"], "--lora-rank 16"),
        ("train", ["--lora"], "here --lora-rank 16"),
        ("diagnose", ["--learning-rate", "1e-5"], "here --set lr=1e-5"),
        ("train", ["--model_name_or_path", "Qwen/Q"], "here --student Qwen/Q"),
        ("train", ["--dataset", "rows.jsonl"], "here --task data:path=rows.jsonl"),
        ("eval", ["--batch_size", "8"], "as many rows as memory allows"),
        ("eval", ["--limit", "100"], "here --prompts 100"),
        ("eval", ["--student", "x"], "here --model x"),
        ("train", ["--use-vllm"], "here --sampler vllm"),
        ("train", ["--push-to-hub=x"], "push"),
        ("train", ["--report_to", "none"], "here --tracker none"),
        ("train", ["config.yaml"], "here --config config.yaml"),
        ("train", ["rows.jsonl"], "here --task data:path=rows.jsonl"),
    ],
)
def test_what_people_type(
    command: str, args: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    """The whole command: one line, exit status 2."""
    if args[0].startswith("--push") and hasattr(TrainConfig, "push_to_hub"):
        pytest.skip("train has the option")
    assert main([command, *args]) == 2
    line = capsys.readouterr().err
    assert words in line
    assert line.count("\n") == 1


def test_a_key_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a secret that an error line prints."""
    for args in (["--api-key", "sk-secret"], ["--hf_token=sk-secret"], ["--lora", "--api_key", "sk-secret"]):
        assert main(["train", *args]) == 2
        assert "secret" not in capsys.readouterr().err


def test_underscores_are_dashes() -> None:
    """Catches --max_new_tokens refused where --max-new-tokens is meant, and a value that is changed with it."""
    config = options.parse(EvalConfig, ["--max_new_tokens=7", "--model", "a_b"], "x", "")
    assert (config.max_new_tokens, config.model) == (7, "a_b")
    assert foreign.shown(["--a_b", "c_d"]) == "--a_b c_d"
