"""Values that no command can use: counts that no memory holds, options of tasks, hostile configurations, special files.

Each is one line that names the field, at once: nothing is loaded, waited for or written. A number that is refused here
would otherwise fill the memory, or run until the user gives up.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from mistakes import Output, contents
from tiny import STUDENT

MANY = str(10**12)
TRAIN = ("train", "--method", "sft", "--student", STUDENT, "--expert", "solver", "--task", "coin", "--out", "out",
         "--device", "cpu")  # fmt: skip
EVAL = ("eval", "--model", "solver", "--task", "coin")
DIAGNOSE = ("diagnose", "--student", STUDENT, "--expert", "solver", "--task", "coin", "--out", "out")
AUTO = ("auto", "--student", STUDENT, "--expert", "solver", "--task", "coin", "--budget", "1e9", "--out", "out")
COMPARE = ("compare", "--student", STUDENT, "--experts", "s=solver", "--out", "out", "--no-diagnose")

COUNTS: dict[tuple[str, ...], str] = {
    TRAIN: "updates prompts-per-update samples-per-prompt updates-per-rollout prompt-pool first-prompt max-new-tokens "
    "eval-every eval-prompts eval-samples final-prompts final-samples round-updates top-k threads micro-batch "
    "micro-tokens logit-chunk lora-rank warmup save-every keep processes",
    EVAL: "prompts samples max-new-tokens",
    DIAGNOSE: "prompts samples expert-samples updates prompts-per-update",
    AUTO: "look-prompts final-prompts final-samples threads",
    COMPARE: "workers",
    ("calibrate", "run", "--out", "out"): "workers",
    ("demo", "--quick", "--out", "out"): "workers seeds",
    ("prompts", "--student", "x"): "n max-new-tokens",
}


@pytest.mark.wrong_input("counts that no memory holds")
@pytest.mark.parametrize(("command", "option"), [(c, o) for c, options in COUNTS.items() for o in options.split()],
                         ids=lambda x: x if isinstance(x, str) else x[0])  # fmt: skip
def test_counts(
    command: Sequence[str], option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Output([*command, f"--{option}", MANY], capsys).is_mistake(option.replace("-", "_"), "at most")
    assert contents(tmp_path) == {}


TOGETHER = {
    "completions of an update": ([*TRAIN, "--prompts-per-update", "200000", "--samples-per-prompt", "1000"],
                                 "prompts_per_update", "200,000,000 completions at a time"),
    "of an evaluation": ([*TRAIN, "--eval-prompts", "1000000", "--eval-samples", "1000"], "eval_prompts", "no memory"),
    "of the last": ([*TRAIN, "--final-prompts", "1000000", "--final-samples", "1000"], "final_prompts", "no memory"),
    "of a diagnosis": ([*DIAGNOSE, "--prompts", "1000000", "--samples", "1000"], "prompts", "no memory"),
    "of auto": ([*AUTO, "--final-prompts", "1000000", "--final-samples", "1000"], "final_prompts", "no memory"),
    "4000 digits": ([*TRAIN, "--updates", "9" * 4000], "updates", "at most 30 digits"),
    "5000 digits": ([*TRAIN, "--updates", "9" * 5000], "updates", "whole number"),
    "a seed of 5000 digits": ([*TRAIN, "--seed", "9" * 5000], "seed", "whole number"),
    "a rate of 5000 digits": ([*TRAIN, "--lr", "9" * 5000], "lr", "finite number"),
    "a budget without end": ([*TRAIN, "--budget", "1e999999"], "budget", "finite number"),
}  # fmt: skip


@pytest.mark.wrong_input("counts that no memory holds")
@pytest.mark.parametrize("name", TOGETHER)
def test_counts_together(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words, field, hint = TOGETHER[name]
    Output(list(words), capsys).is_mistake(field, hint)
    assert contents(tmp_path) == {}


SPECS: dict[str, tuple[str, str]] = {
    "addition:digits=99999999999": ("task.digits", "must lie in"),
    "addition:digits=1": ("task.digits", "must lie in"),
    "addition:attempts=0": ("task.attempts", "must lie in"),
    "addition:ood_digits=2": ("task.ood_digits", "must exceed digits"),
    "addition:format=words": ("task.format", "one of scratch, direct"),
    f"addition:max_new_tokens={MANY}": ("task.max_new_tokens", "at most"),
    "sort:alphabet=1": ("task.alphabet", "must lie in"),
    "sort:symbols=digits,alphabet=11": ("task.alphabet", "there are 10 digits"),
    "sort:length=99": ("task.length", "must lie in"),
    "sort:symbols=runes": ("task.symbols", "one of letters, digits"),
    "sort:ood_length=2": ("task.ood_length", "must exceed length"),
    f"sort:corrections={MANY}": ("task.corrections", "at most"),
    "chain:steps=0": ("task.steps", "must lie in"),
    "chain:modulus=11": ("task.modulus", "must lie in"),
    "chain:ops=/": ("task.ops", "some of"),
    "chain:ops=++": ("task.ops", "each once"),
    "chain:ood_steps=99": ("task.ood_steps", "at most 20"),
    f"chain:corrections={MANY}": ("task.corrections", "at most"),
    "path:arms=1": ("task.arms", "must lie in"),
    "path:reach=13": ("task.reach", "must lie in"),
    "path:arms=8,reach=12": ("task.reach", "and there are 26"),
    f"path:letters={MANY}": ("task.letters", "must be"),
    f"classify:bits={MANY}": ("task.bits", "must lie in"),
    "classify:rule=guess": ("task.rule", "one of count"),
    "classify:classes=1": ("task.classes", "must lie in"),
    "countdown:max_target=0": ("task.max_target", "must lie in"),
    "countdown:ops=%": ("task.ops", "must be some of"),
    "countdown:ops=++": ("task.ops", "names an operator twice"),
    "countdown:difficulty_min=0.9,difficulty_max=0.1": ("task.difficulty_max", "at least difficulty_min"),
    "countdown:attempts=65": ("task.attempts", "must lie in"),
    "countdown:digits=10": ("task.digits", "must lie in"),
    "countdown:ood_min=3": ("task.ood_min", "must be above 9"),
    "countdown:ood_max=5": ("task.ood_max", "at least ood_min"),
    f"countdown:max_number={MANY}": ("task.max_number", "at most"),
    "countdown:max_number=900000000": ("task.max_number", "too many to try"),
    f"countdown:max_new_tokens={MANY}": ("task.max_new_tokens", "at most"),
    "countdown:test_share=1": ("task.test_share", "must lie in"),
    "countdown:split_seed=" + "9" * 5000: ("task.split_seed", "whole number"),
    "pair:main=pair": ("task.main", "not supported"),
    "pair:share=2": ("task.share", "must lie in"),
}


@pytest.mark.wrong_input("options of tasks")
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec[:60])
def test_options_of_tasks(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    field, hint = SPECS[spec]
    Output([*TRAIN, "--task", spec], capsys).is_mistake(field, hint)
    assert contents(tmp_path) == {}


SCRATCH = {
    "width=1000000": ("student.width", "at most"), "layers=1000000000": ("student.layers", "at most"),
    f"heads={MANY}": ("student.heads", "at most"), f"context={MANY}": ("student.context", "at most"),
    "width=65536,layers=100": ("student.width", "too many to train"), "init=2": ("student.init", "must lie in"),
}  # fmt: skip


@pytest.mark.wrong_input("counts that no memory holds")
@pytest.mark.parametrize("shape", SCRATCH)
def test_models_from_scratch(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Output([*TRAIN, "--student", f"scratch:{shape}"], capsys).is_mistake(*SCRATCH[shape])
    assert contents(tmp_path) == {}


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefghijklmnopqrstuvwx", "bcdefghijklmnopqrstuvwxy")
)
CONFIGURATIONS: dict[str, tuple[str, str, str, str]] = {
    "a billion laughs": ("c.yaml", LAUGHS + "lr: *y\n", "config", "stands for too many values"),
    "itself": ("c.yaml", "lr: &a [*a]\n", "config.lr", "finite number"),
    "digits in base 60": ("c.yaml", f"seed: {':'.join('1' * 20_000)}\n", "config", "has a line of more"),
    "a fraction in base 60": ("c.yaml", f"lr: {':'.join('1' * 500)}:1.5\n", "config", "cannot be read"),
    "a hexadecimal number": ("c.yaml", f"seed: 0x{'f' * 9000}\n", "config.seed", "at most 30 digits"),
    "one as text": ("c.yaml", f"out: 0x{'f' * 9000}\n", "config.out", "must be text"),
    "depth": ("c.json", '{"out": ' + "[" * 100_000, "config", "cannot be read as JSON"),
    "depth in YAML": ("c.yaml", "out: " + "[" * 2000, "config", "cannot be read as YAML"),
    "digits": ("c.json", f'{{"seed": {"9" * 5000}}}', "config", "cannot be read as JSON"),
    "infinity": ("c.json", '{"lr": 1e999999}', "config.lr", "finite number"),
    "no number": ("c.json", '{"lr": NaN}', "config.lr", "finite number"),
    "half a character": ("c.json", '{"student": "\\ud800"}', "expert|student", "."),
    "UTF-16": ("c.json", "\ufeff{", "config", "cannot be read as JSON"),
    "a list": ("c.json", "[1]", "config", "must be a JSON object"),
    "a date": ("c.yaml", "out: 2001-01-01\n", "config.out", "must be text"),
    "updates of many": ("c.json", f'{{"method": "sft", "updates": {MANY}}}', "updates", "at most"),
}


@pytest.mark.wrong_input("hostile configurations")
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configurations(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file, text, field, hint = CONFIGURATIONS[name]
    Path(file).write_text(text, encoding="utf-16" if name == "UTF-16" else "utf-8")
    output = Output(["train", "--config", file], capsys)
    output.is_mistake(next(f for f in field.split("|") if output.errors[0].startswith(f"error: {f}: ")), hint)
    assert list(contents(tmp_path)) == [file]


# -- special files --------------------------------------------------------------------------------------------------

Words = Callable[[Path], Sequence[str]]


def renamed(pipe: Path, name: str) -> str:
    """Another name of the pipe."""
    place = pipe.parent / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(pipe)
    return str(place)


def inside(pipe: Path, name: str, **others: str) -> str:
    """A folder that holds the pipe as `name`, and these files."""
    folder = Path(renamed(pipe, f"folder/{name}")).parent
    for other, text in others.items():
        (folder / f"{other}.json").write_text(text)
    return str(folder)


PIPES: dict[str, tuple[Words, str]] = {
    "configuration": (lambda pipe: ["train", "--config", str(pipe)], "config"),
    "problems": (lambda pipe: [*TRAIN, "--task", f"coin:data={pipe}"], "task.data"),
    "rows": (lambda pipe: [*TRAIN, "--task", f"data:path={renamed(pipe, 'a.parquet')}"], "task.path"),
    "system prompt": (
        lambda pipe: [*TRAIN, "--task", f"data:path={pipe.parent},system=@{pipe}"],
        "task.system|task.path",
    ),
    "reward": (lambda pipe: [*TRAIN, "--reward", f"{renamed(pipe, 'r.py')}:f"], "reward"),
    "task": (lambda pipe: [*TRAIN, "--task", f"{renamed(pipe, 't.py')}:f"], "task"),
    "completions": (lambda pipe: ["score", "--expert", "solver", "--rollouts", str(pipe), "--out", "o"], "rollouts"),
    "log": (lambda pipe: ["watch", renamed(pipe, "a.log")], "log"),
    "state of a trainer": (lambda pipe: ["watch", inside(pipe, "trainer_state.json")], "log"),
    "metrics": (lambda pipe: ["watch", inside(pipe, "metrics.jsonl")], "log"),
    "comparison": (lambda pipe: ["report", inside(pipe, "compare.json")], "compare.json|paths"),
    "instance": (lambda pipe: ["theory", "falsify", "--instance", str(pipe)], "instance"),
    "rows of diagnoses": (lambda pipe: ["calibrate", "score", "--rows", renamed(pipe, "r.jsonl")], "rows"),
    "bank": (lambda pipe: ["calibrate", "policies", "--rows", str(pipe)], "rows"),
    "scores": (lambda pipe: [*TRAIN, "--score-cache", inside(pipe, "scores-1")], "score_cache"),
    "export": (lambda pipe: ["export", renamed(pipe, "c.json"), "--to", "trl", "--out", "o"], "source"),
}


@pytest.mark.fault("pipes and devices")
@pytest.mark.timeout(200)
@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", PIPES)
def test_what_is_no_file(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a command that waits for a pipe, or reads a device without an end."""
    monkeypatch.chdir(tmp_path)
    pipe = tmp_path / "special"
    if kind == "pipe":
        os.mkfifo(pipe)
    else:
        pipe.symlink_to("/dev/zero")
    words, fields = PIPES[name]
    output = Output(list(words(pipe)), capsys)
    field = next((f for f in fields.split("|") if output.errors[0].startswith(f"error: {f}: ")), fields)
    output.is_mistake(field, "is not a file|no such file|is neither|holds no|no compare.json")


@pytest.mark.fault("models that are bombs")
@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("tokenizer.json", None, "is not a file"), ("chat_template.jinja", None, "is not a file"),
        ("tokenizer_config.json", "[" * 100_000, "cannot be loaded"),
        ("tokenizer.json", "[" * 100_000, "cannot be loaded"), ("config.json", "[" * 100_000, "cannot be loaded"),
        ("config.json", {"num_hidden_layers": 10**9}, "no model has"),
        ("config.json", {"vocab_size": 10**12}, "no model has"),
        ("config.json", {"hidden_size": 10**400}, "no model has"),
        ("config.json", {"num_attention_heads": 10**9}, "no model has"),
        ("tokenizer.json", 1 << 40, "has more than 512"), ("config.json", 1 << 40, "has more than 16 MiB"),
    ],
)  # fmt: skip
def test_models(
    file: str, text: object, words: str, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    folder = Path(shutil.copytree(models["llama"], tmp_path / "model"))
    place = folder / file
    old = place.read_text() if place.exists() else ""
    place.unlink(missing_ok=True)
    if text is None:
        os.mkfifo(place)
    elif isinstance(text, int):
        with place.open("wb") as sparse:
            sparse.truncate(text)
    else:
        place.write_text(text if isinstance(text, str) else json.dumps(json.loads(old) | dict(text)))  # type: ignore[call-overload]
    Output([*TRAIN, "--student", str(folder)], capsys).is_mistake("student", words)
