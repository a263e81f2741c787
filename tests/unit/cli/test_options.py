"""Command lines derived from dataclasses: each field, its help, its type, and one line per mistake."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from understudy.cli import options
from understudy.cli.main import main
from understudy.cli.report import ReportConfig
from understudy.config import TrainConfig, load, resolve, to_dict
from understudy.errors import UserError
from understudy.evaluation.config import EvalConfig
from understudy.experiments.config import CompareConfig
from understudy.specs import options_of, parse_spec


@dataclass(frozen=True)
class Sample:
    name: str = "x"
    """A name with 50% in it."""
    count: int = 3
    """How many."""
    rate: float | None = None
    """A rate. Default: the row's."""
    on: bool = True
    """A switch."""
    off: bool = False
    """Another."""
    items: tuple[int, ...] = (1, 2)
    """Some numbers."""
    words: tuple[str, ...] = ()
    """Bare words."""


def parsed(*args: str, **more: Any) -> Sample:
    return options.parse(Sample, args, "prog", "What it does.", positional="words", **more)


def test_defaults_and_types() -> None:
    """Catches text that stays text, and an unset option that overrides a default."""
    assert parsed() == Sample()
    got = parsed("--count", "7", "--rate", "1e-3", "--no-on", "--off", "--items", "4", "5", "--name=y z")
    assert got == Sample("y z", 7, 1e-3, False, True, (4, 5))
    assert parsed("a", "b").words == ("a", "b")
    assert parsed("--rate", "-0.5").rate == -0.5


def test_default_from_a_file_gives_way_to_the_command_line() -> None:
    """Catches --config overriding an explicit option."""
    start = Sample("file", 9, 0.5, False, True, (3,), ("w",))
    files = {"a": start}
    assert parsed("--config", "a", read=files.__getitem__) == start
    changed = dataclasses.replace(start, count=1, on=True)
    assert parsed("--count", "1", "--config=a", "--on", read=files.__getitem__) == changed


@pytest.mark.parametrize(
    ("args", "field"),
    [
        (["--count", "many"], "count"),
        (["--count", "1.5"], "count"),
        (["--count", ""], "count"),
        (["--rate", "fast"], "rate"),
        (["--rate", "nan"], "rate"),
        (["--rate", "1e999"], "rate"),
        (["--items", "1", "b"], "items"),
        (["--cuont", "1"], "command line"),
        (["--cou", "1"], "command line"),
        (["--count"], "command line"),
        (["--on=maybe"], "command line"),
    ],
)
def test_every_mistake_is_one_line(args: list[str], field: str) -> None:
    """Catches argparse's own usage dump and SystemExit, an abbreviation that changes meaning when a field is added, and
    NaN, which passes every comparison."""
    with pytest.raises(UserError) as caught:
        parsed(*args)
    assert caught.value.field == field
    assert "\n" not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("args", "close"),
    [
        (["--cuont", "1"], "--count"), (["--nmae=x"], "--name"), (["--of"], "--off"), (["--zzzz"], ""),
        (["--eps", "1"], ""), (["--l", "1"], ""),
    ],
)  # fmt: skip
def test_an_unknown_option_gets_the_nearest_one(args: list[str], close: str) -> None:
    """Catches a refusal of a misspelled option without a suggestion, and an unrelated suggestion (--eps is no --help:
    the dashes, which all options share, make no two of them alike)."""
    with pytest.raises(UserError, match="unrecognized arguments") as caught:
        parsed(*args)
    assert re.findall(r"did you mean (\S+)\?", str(caught.value)) == ([close] if close else [])


@pytest.mark.parametrize("command", ["train", "diagnose", "score", "compare"])
def test_teacher_is_an_alias_of_expert(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a command that accepts only one of the names --expert and --teacher."""
    calls: list[dict[str, Any]] = []

    def keep(cls: type, values: dict[str, Any], field: str) -> None:
        calls.append(values)
        sys.exit(0)

    monkeypatch.setattr(options, "build", keep)
    for word in ("expert", "teacher"):
        with pytest.raises(SystemExit):
            main([command, f"--{word}s" if command == "compare" else f"--{word}", "solver"])
    assert calls[0] == calls[1] != {}
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "--teacher" in capsys.readouterr().out


@pytest.mark.parametrize("cls", [TrainConfig, EvalConfig, CompareConfig, ReportConfig])
def test_every_field_has_help(cls: type) -> None:
    """Catches a field without a docstring: its --help would be empty."""
    docs = options.field_docs(cls)
    for field in dataclasses.fields(cls):
        assert len(docs.get(field.name, "")) > 3, field.name


def test_help_shows_every_option_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an option without help, a % that argparse takes for a format, or a heading without fields."""
    with pytest.raises(SystemExit) as stop:
        options.parse(TrainConfig, ["--help"], "understudy train", "Words.")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for field in dataclasses.fields(TrainConfig):
        flag = "--" + field.name.replace("_", "-")
        assert sum(line.split()[:1] == [flag] or line.strip().startswith(f"{flag},") for line in text.splitlines()) == 1
    headings = [m["heading"] for m in options_of(TrainConfig).values() if m.get("heading")]
    assert len(headings) > 3
    assert all(f"\n{heading}:" in text for heading in headings)
    with pytest.raises(SystemExit):
        parsed("--help")
    assert "50% in it" in capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("text", ["x", "x:a=1", "x:a=1,b=2", "x: a = 1 , b=2"])
def test_spec(text: str) -> None:
    """Catches blanks that become part of a name."""
    spec = parse_spec(text, "f")
    assert spec.name == "x"
    assert set(spec.args) <= {"a", "b"}
    assert all(v == v.strip() for v in spec.args.values())


@pytest.mark.parametrize("text", ["x:a", "x:=1", "x:a=1,a=2", "x:a=1, a=2"])
def test_bad_spec(text: str) -> None:
    """Catches a key without a value, and a key given twice of which one is silently dropped."""
    with pytest.raises(UserError) as caught:
        parse_spec(text, "f")
    assert caught.value.field == "f"


HOSTILE = {
    "not json": "{",
    "not an object": "[1]",
    "infinite int": '{"updates": Infinity}',
    "huge float": f'{{"lr": 1{"0" * 400}}}',
    "deep": "[" * 100_000,
    "unknown field": '{"learning_rate": 1}',
    "wrong type": '{"lr": "fast"}',
    "null": '{"updates": null}',
    "bool for int": '{"updates": true}',
    "list for text": '{"method": ["sft"]}',
    "not utf-8": "\udcff",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_config_file_mistakes(name: str, tmp_path: Path) -> None:
    """Catches a traceback for a damaged or hand-edited config.json."""
    file = tmp_path / "config.json"
    file.write_bytes(HOSTILE[name].encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError) as caught:
        load(file)
    assert caught.value.field.startswith("config")
    assert "\n" not in str(caught.value)


YAML_MISTAKES = {
    "a list": ("- method: sft", "config", "must be a YAML mapping"),
    "a number": ("3", "config", "must be a YAML mapping"),
    "nothing": ("# lr: 1", "config", "must be a YAML mapping"),
    "a tab": ("method: sft\n\tlr: 1", "config", r"cannot be read as YAML .*'\\t'.* line 2"),
    "a Python object": ("method: !!python/object/apply:os.getcwd []", "config", "cannot be read as YAML"),
    "not utf-8": ("method: \udcff", "config", "cannot be read as YAML"),
    "wrong type": ("lr: fast", "config.lr", "must be a finite number"),
    "list for a number": ("updates: [1, 2]", "config.updates", "must be a whole number"),
    "yes for text": ("method: yes", "config.method", "must be text"),
    "a number as a key": ("1: 2", "config.1", "unknown"),
    "unknown field": ("lora_rnak: 8", "config.lora_rnak", r"did you mean lora_rank\?$"),
    "two of them": ("warmpu: 1\nupdatess: 8", "config.warmpu", r"did you mean warmup\?$"),
    "a cycle": ("method: &a [*a]", "config.method", "must be text"),
}


@pytest.mark.parametrize("name", YAML_MISTAKES)
def test_yaml_config_mistakes(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a traceback, a second line, another exit status than 2, and a YAML tag that runs code."""
    text, field, words = YAML_MISTAKES[name]
    file = tmp_path / "config.yaml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert main(["train", "--config", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {field}: ")
    assert re.search(words, line)


def test_config_file_in_yaml(tmp_path: Path) -> None:
    """Catches numbers that YAML reads as text (1e-3), and a YAML file that means something else than the same JSON."""
    fields = {"method": "grpo", "student": "s", "lr": 1e-3, "updates": 7, "eval_expert": False, "clip": None}
    lines = ["# a comment", "method: grpo", "student: s", "lr: 1e-3", "updates: 7", "eval_expert: no", "clip:"]
    (tmp_path / "c.yml").write_text("\n".join(lines))
    (tmp_path / "c.json").write_text(json.dumps(fields))
    assert load(tmp_path / "c.yml") == load(tmp_path / "c.json") == TrainConfig(**fields)  # type: ignore[arg-type]


def test_config_of_an_earlier_version(tmp_path: Path) -> None:
    """Catches a new field that makes an earlier config.json unreadable; a missing field has its default."""
    want = resolve(TrainConfig(method="opd", student="s", expert="solver", seed=3))
    old = to_dict(want)
    for name in ("tracker", "processes", "eval_temperature", "lora_targets", "sampler", "score_cache"):
        del old[name]
    (tmp_path / "config.json").write_text(json.dumps(old))
    assert resolve(load(tmp_path)) == want


def test_config_file_round_trip(tmp_path: Path) -> None:
    """Catches a field that JSON changes on the way (a tuple, an infinity): a re-run would differ."""
    c = resolve(TrainConfig(method="grpo", student="s", lr=3e-4, gamma=0.0, clip=0.3))
    (tmp_path / "config.json").write_text(json.dumps(to_dict(c)))
    assert to_dict(load(tmp_path)) == to_dict(c)
    assert resolve(load(tmp_path / "config.json")) == c


@pytest.mark.parametrize(
    "bad",
    [
        {"lr": -1.0}, {"adam_beta2": 1.0}, {"adam_beta2": -0.1}, {"clip": 0.0, "method": "grpo"}, {"drift_limit": -1.0},
        {"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"student_share": 2.0}, {"updates": 0}, {"threads": 0},
        {"seed": 2**64}, {"seed": -(2**63) - 1}, {"schedule": "step"}, {"budget_axis": "joules"}, {"eval_splits": ""},
        {"method": "sftt"}, {"importance_cap": 0.5}, {"keep": 0},
    ],
    ids=str,
)  # fmt: skip
def test_values_out_of_range(bad: dict[str, Any]) -> None:
    """Catches a value that torch or NumPy would refuse with a traceback after the model was loaded."""
    with pytest.raises(UserError) as caught:
        resolve(TrainConfig(**({"student": "s", "expert": "e"} | bad)))
    assert caught.value.field in bad


@pytest.mark.parametrize(
    ("words", "idle"),
    [
        (["--method", "sft", "--beta", "0.3"], ["--beta"]),
        (["--method", "sft", "--budget-axis", "flops", "--look-prompts", "9"], ["--look-prompts", "--budget-axis"]),
        (["--route", "sft+gkd", "--beta", "0.3", "--look-prompts", "9", "--expert-share", "0.2"], ["--expert-share"]),
        (["--method", "opd", "--guard-reserve", "0.1"], ["--guard-reserve"]),
        (["--method", "opd", "--guard-reserve", "0.1", "--budget", "9"], []),
        (["--method", "gkd", "--beta", "0.3", "--student-share", "0.2", "--lr", "1e-3"], []),
        (["--method", "sft", "--dry-run", "--push-to-hub", "a/b"], ["--push-to-hub"]),
    ],
)
def test_options_without_effect_are_named(words: list[str], idle: list[str]) -> None:
    from understudy.cli.train import TrainOptions, _idle, _route

    config = options.parse(TrainOptions, [*words, "--student", "x", "--expert", "y"], "understudy train", "")
    one = TrainConfig(**{f.name: getattr(config, f.name) for f in dataclasses.fields(TrainConfig)})
    lines = list(_idle(config, one, _route(config)))
    assert [line.split()[0] for line in lines] == idle
    assert all("has no effect here: " in line for line in lines)
