"""Each mistake of a user is reported in one line with exit status 2, and no file is touched.

One table: a mistake, the field that must be named, and words of the hint. Each test catches a traceback, a second
line, a wrong exit status, a mistake that is noticed only after something was written, and a file that was touched.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle  # noqa: TID251 - to write a harmful file
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mistakes import Output, Place, arguments, contents
from tiny import STUDENT, CoinTask
from transformers import AutoModelForCausalLM

from understudy import tasks
from understudy.cli.main import main
from understudy.runs.checkpoint import load_tensors, save_tensors
from understudy.runs.directory import RunDir

Make = Callable[[Place], list[str]]
CASES: dict[str, tuple[Make, str, str]] = {}


def case(name: str, field: str, words: str) -> Callable[[Make], Make]:
    def add(make: Make) -> Make:
        assert name not in CASES
        CASES[name] = (make, field, words)
        return make

    return add


def simple(name: str, field: str, words: str, method: str = "sft", **changes: Any) -> None:
    case(name, field, words)(lambda place: arguments(place.out, method, **changes))


LONG = "x" * 5000

# -- words and numbers
case("unknown command", "command", r"unknown; one of demo, auto, diagnose, train.* \(did you mean train\?\)")(
    lambda p: ["trian"]
)
case("nearest option", "command line", r"unrecognized arguments: --updaets 1 \(did you mean --updates\?\)")(
    lambda p: [*arguments(p.out), "--updaets", "1"]
)
case("unknown option", "command line", "unrecognized arguments: --learning-rate")(
    lambda p: [*arguments(p.out), "--learning-rate", "1"]
)
case("option without value", "command line", "expected one argument")(lambda p: [*arguments(p.out), "--lr"])
simple("bad number", "updates", "whole number", updates="many")
simple("a fraction of an update", "updates", "whole number", updates="1.5")
simple("a step that overflows", "lr", "at most 1e30", lr="1e38")
simple("not a number", "lr", "finite number", lr="nan")
simple("no update", "updates", "at least 1", updates=0)
case("unknown method", "method", "unknown; one of sft, seq_kd")(lambda p: [*arguments(p.out), "--method", "sftt"])
simple("illegal cell", "replay", "not legal for method sft: .*use --replay fixed", replay="aggregate")
simple("clip without a ratio", "clip", "drop --clip", clip=0.2)
simple("unknown schedule", "schedule", "one of constant", schedule="step")
simple("unknown split", "eval_splits", "unknown; one of train, test, ood", eval_splits="tset")

# -- tasks
simple("unknown task", "task", "unknown; one of countdown", task="countup")
simple("unknown task option", "task.max_numbr", "unknown; one of format", task="coin:max_numbr=9")
simple("bad task option", "task.n_numbers", "must lie in .2, 6.", task="coin:n_numbers=1")
simple("malformed task", "task", "not a new key=value", task="coin:max_number")
simple("broken verifier", "task", "its verifier rejects its own gold", task="broken")
simple("missing data file", "task.data", "cannot be read", task="coin:data=/nowhere/rows.jsonl")


@case("empty data file", "task.data", "holds no rows")
def _(p: Place) -> list[str]:
    return arguments(p.out, task=f"coin:data={p.file('rows.jsonl', '')}")


@case("malformed data row", "task.data", r"rows.jsonl, line 3: is not JSON")
def _(p: Place) -> list[str]:
    good = '{"nums": [1, 2, 3], "target": 6}\n'
    file = p.file("rows.jsonl", good + "\n" + '{"nums": [1,\n' + good)
    return arguments(p.out, task=f"coin:data={file}")


@case("data row without a target", "task.data", r"rows.jsonl, line 2: must be an object with `nums` and `target`")
def _(p: Place) -> list[str]:
    rows = '{"nums": [1, 2, 3], "target": 6}\n{"nums": [1, 2, 3]}\n'
    return arguments(p.out, task=f"coin:data={p.file('rows.jsonl', rows)}")


# -- tasks from data sets
GOOD = {"question": "1+1?", "answer": "It is 2.\n#### 2"}


def rows_case(name: str, words: str, *lines: Any, spec: str = "gsm8k:path={}", field: str = "task.data") -> None:
    """A case: these rows (objects, or lines verbatim) in one file, and the expected message."""

    @case(name, field, words)
    def _(p: Place) -> list[str]:
        text = "\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines) + "\n"
        return arguments(p.out, expert=str(p.models["llama"]), task=spec.format(p.file("rows.jsonl", text)))


OWN, MMLU = "data:path={}", "mmlu:path={}"
ASKED = {"prompt": "1+1?", "answer": "2", "verifier": "number"}
CHOICE = {"question": "x", "subject": "s", "choices": ["a", "b"], "answer": 1}
MANY = [{**GOOD, "question": f"{i}?"} for i in range(40)]
UNSURE = [{**ASKED, "prompt": f"{i}?", "verifier": "judge"} for i in range(40)]
WORDS = [{**row, "answer": "#### two"} for row in MANY]
ASSISTANT = {"prompt": [{"role": "assistant", "content": "x"}], "answer": 1}
NO_ROLE = {"messages": [{"content": "x"}], "answer": 1}

rows_case("row that is not JSON", "rows.jsonl, line 2: is not JSON: one object per line", GOOD, "{'question': 1}")
rows_case("row that is a list", "line 2: must be a JSON object", GOOD, [1, 2])
rows_case(
    "row of another data set",
    "field `question`: is missing; this row has `problem`",
    {"problem": "x", "answer": "#### 1"},
)
rows_case("row with an empty question", "field `question`: must be text that is not empty", {**GOOD, "question": " "})
rows_case("row with half a character", "holds half a surrogate pair", {**GOOD, "question": "\ud800"})
rows_case("gsm8k without its mark", "field `answer`: must end in `#### ANSWER`", {**GOOD, "answer": "2"})
rows_case("gold that is no number", "answer 'two': is not a plain number: use verifier=math or exact", *WORDS)
rows_case(
    "no box in the solution", "has no answer: .*missing=drop", {"problem": "x", "solution": "y"}, spec="math:path={}"
)
rows_case("choices out of range", "must be a whole number from 0 to 1, not 2", {**CHOICE, "answer": 2}, spec=MMLU)
rows_case("prompt that ends with the assistant", "must end with a user.s turn", ASSISTANT, spec=OWN)
rows_case("message without a role", r"field `messages.0.`: must be", NO_ROLE, spec=OWN)
rows_case("row without a prompt", "a row needs `prompt` or `messages`", {"text": "x", "answer": 1}, spec=OWN)
rows_case("unknown verifier in a row", "unknown; one of math, number", *UNSURE, spec=OWN, field="task.verifier")
rows_case("rows that leave nothing to test", "leaves no problem for test", GOOD, field="task")
rows_case("too few examples", "has only [0-9]+ examples", *MANY, spec="gsm8k:path={},shots=60", field="task.shots")
rows_case("no few-shot file", "has no dev file to take examples from", CHOICE, spec=MMLU, field="task.shots")
simple("data without a path", "task", "needs path=FILE_OR_FOLDER", task="data")
simple("no such data", "task.path", "no such file or folder", task="gsm8k:path=/nowhere")
simple("unknown template", "task.template", "one of plain, chat", task="gsm8k:path=x,template=chatml")
simple("system prompt file missing", "task.system", "cannot be read", task="gsm8k:path=x,system=@/nowhere.txt")
simple("unknown held-out set", "task.ood", "unknown; one of gsm8k", task="gsm8k:path=x,ood=gsm9k")
simple("text option that is none", "task.shot", "unknown; one of template", task="gsm8k:path=x,shot=1")


@case("chat without a template", "task.template", "has no chat template: use template=plain")
def _(p: Place) -> list[str]:
    rows = p.file("rows.jsonl", "\n".join(map(json.dumps, MANY)))
    model = str(p.models["llama"])
    return arguments(p.out, student=model, expert=model, task=f"gsm8k:path={rows},template=chat")


@case("a data file of another kind", "task.path", "is not a data file: one of .jsonl")
def _(p: Place) -> list[str]:
    return arguments(p.out, task=f"gsm8k:path={p.file('rows.txt', 'question,answer')}")


@case("a folder without the test split", "task.path", "holds no file of the official split test: name one test.jsonl")
def _(p: Place) -> list[str]:
    return arguments(p.out, task=f"gsm8k:path={p.file('d/train.jsonl', json.dumps(GOOD)).parent}")


@case("a broken parquet file", "task.path", "cannot be read as parquet")
def _(p: Place) -> list[str]:
    return arguments(p.out, task=f"gsm8k:path={p.file('rows.parquet', b'PAR1 no')}")


@case("bytes that are no text", "task.path", "cannot be read")
def _(p: Place) -> list[str]:
    return arguments(p.out, task=f"gsm8k:path={p.file('rows.jsonl', bytes(range(128, 256)))}")


# -- models
simple("missing student", "student", "missing", student=None)
simple("missing expert", "expert", "missing: method sft imitates one", expert=None)
simple("no such student", "student", "no such folder", student="/nowhere/at/all")
simple("no such student, no slash", "student", "no such folder", student="nowhere")
simple("student with an endless name", "student", "not a model", student=LONG)
simple("expert with an endless name", "expert", "unknown; one of solver", expert=LONG)
simple("unknown expert", "expert", "unknown; one of solver", expert="oracle")
simple("unknown expert option", "expert.p_rigth", "unknown; one of p_right", expert="solver:p_rigth=1")
simple(
    "expert that cannot score",
    "expert",
    "cannot score, which method opd needs; it can sample",
    "opd",
    expert="mediocre",
)
simple(
    "expert that cannot give distributions", "expert", "cannot distribution, .*word_kd", "word_kd", expert="mediocre"
)
simple("scratch without heads", "student.heads", "at least 1", student="scratch:heads=0")
simple("tempered solver", "temperature", "samples from what it scores", temperature=0.5)
simple("nucleus of the solver", "top_p", "samples from what it scores", top_p=0.5)
SHORT = "scratch:width=16,layers=1,heads=2,context=20"
simple("prompts longer than the context", "max_new_tokens", "tokens and the context of .* is 20", student=SHORT)
simple("no such base", "base", "no such folder", "base_opd", base="/nowhere/at/all")


@case("expert that is only needed to evaluate", "expert", "unknown; one of solver")
def _(p: Place) -> list[str]:
    return arguments(p.out, "grpo", expert="oracle", eval_expert=True)


@case("a folder that is not a model", "student", "has no config.json")
def _(p: Place) -> list[str]:
    return arguments(p.out, student=str(p.file("folder/notes.txt", "hello").parent))


@case("a file that is not a model", "student", "is not a model")
def _(p: Place) -> list[str]:
    return arguments(p.out, student=str(p.file("notes.txt", "hello")))


@case("a run that has not finished", "expert", "has not finished: resume it")
def _(p: Place) -> list[str]:
    run = p.file("other/config.json", "{}").parent
    p.file("other/status.json", "{}")
    return arguments(p.out, expert=str(run))


@case("garbage in config.json", "student", "cannot be loaded")
def _(p: Place) -> list[str]:
    folder = p.model()
    (folder / "config.json").write_text("{")
    return arguments(p.out, student=str(folder))


@case("pickled weights", "expert", "safetensors")
def _(p: Place) -> list[str]:
    folder = p.model()
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(str(p.tmp / "went-off"))))
    return arguments(p.out, expert=str(folder))


class Bomb:
    """Writes a file when it is unpickled, so that the test finds a new file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (self.path,))


@case("weights cut short", "student", "cannot be loaded")
def _(p: Place) -> list[str]:
    file = p.model() / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-64])
    return arguments(p.out, student=str(file.parent))


@case("weights missing", "student", "lacks 1 of its weights")
def _(p: Place) -> list[str]:
    file = p.model() / "model.safetensors"
    weights = load_tensors(file)
    save_tensors(file, {k: v for k, v in weights.items() if "down_proj" not in k}, {"format": "pt"})
    return arguments(p.out, student=str(file.parent))


@case(
    "a mixture with an expert of other tokens of the same number", "expert", "cannot distribution.* another tokenizer"
)
def _(p: Place) -> list[str]:
    file = p.model() / "tokenizer.json"
    data = json.loads(file.read_text())
    vocabulary = data["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    file.write_text(json.dumps(data))
    return arguments(p.out, "dagger", student=str(p.models["llama"]), expert=str(file.parent))


@case("dagger with another number of tokens", "expert", "cannot distribution.* another tokenizer")
def _(p: Place) -> list[str]:
    file = p.model() / "tokenizer.json"
    data = json.loads(file.read_text())
    data["added_tokens"].append(dict(data["added_tokens"][0], id=262, content="<|new|>"))
    file.write_text(json.dumps(data))
    return arguments(p.out, "dagger", student=str(p.models["llama"]), expert=str(file.parent))


def padded_model(p: Place) -> Path:
    folder = p.model("padded")
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(272)
    model.save_pretrained(folder)
    return folder


@case("a smaller padded vocabulary", "expert", r"vocabulary \(padded\) is 262, the student's 272")
def _(p: Place) -> list[str]:
    return arguments(p.out, student=str(padded_model(p)), expert=str(p.models["llama"]))


@case("a solver next to a padded vocabulary", "expert", "is 262, the student's 272.*takes vocabulary=272")
def _(p: Place) -> list[str]:
    return arguments(p.out, student=str(padded_model(p)), expert="solver")


@case("other end tokens", "expert", r"end tokens \[1, 5\] are not the student's \[1\]")
def _(p: Place) -> list[str]:
    file = p.model() / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": [1, 5]}))
    return arguments(p.out, student=str(p.models["llama"]), expert=str(file.parent))


simple("a device that is not there", "device", "not available here", device="cuda:99")
simple("a device that does not exist", "device", "not available here", device="quantum")

# -- evaluation and reports
EVAL = ["eval", "--model", "solver", "--task", "coin", "--samples", "4", "--k", "1"]
case("k larger than the samples", "k", "must be 1..samples=4")(lambda p: [*EVAL, "5"])
case("k of nothing", "k", "must be 1..samples=4")(lambda p: [*EVAL, "0"])
case("eval without a model", "model", "missing")(lambda p: ["eval"])
case("eval of nothing", "model", "no such folder")(lambda p: ["eval", "--model", "/nowhere/at/all"])
case("eval of an unknown split", "split", "one of train, test, ood")(
    lambda p: ["eval", "--model", "solver", "--split", "dev"]
)
case("report without runs", "runs", "missing")(lambda p: ["report"])
case("report on nothing", "paths", "does not exist")(lambda p: ["report", str(p.tmp / "nowhere")])
case("report on a file", "paths", "is not a directory")(lambda p: ["report", str(p.file("x", "x"))])
case("report on a model", "paths", "no compare.json, no run")(lambda p: ["report", str(p.model())])
case("compare without a student", "student", "missing")(lambda p: ["compare"])
case("compare without experts", "experts", "missing")(lambda p: ["compare", "--student", STUDENT])
case("compare with an unlabelled expert", "experts", "LABEL=SPEC")(
    lambda p: ["compare", "--student", STUDENT, "--experts", "solver"]
)
case("compare with an unknown method", "method", "unknown")(
    lambda p: ["compare", "--student", STUDENT, "--experts", "s=solver", "--methods", "sftt", "--out", str(p.out)]
)
case("compare with a seed twice", "seeds", "different numbers")(
    lambda p: ["compare", "--student", STUDENT, "--experts", "s=solver", "--seeds", "1", "1", "--out", str(p.out)]
)

# -- diagnoses
DIAGNOSE = ["diagnose", "--task", "coin", "--student", STUDENT, "--expert", "solver", "--device", "cpu"]


def diagnose(name: str, field: str, words: str, *more: str) -> None:
    case(f"diagnose {name}", field, words)(lambda p: [*DIAGNOSE, "--out", str(p.out), *more])


case("diagnose without a student", "student", "missing")(lambda p: ["diagnose"])
case("diagnose without an expert", "expert", "missing")(lambda p: ["diagnose", "--student", STUDENT])
diagnose("with a budget in words", "budget", "a share such as 5%", "--budget", "little")
diagnose("with no budget", "budget", "above 0", "--budget", "0%")
diagnose("with too few prompts", "prompts", "at least 8", "--prompts", "2")
diagnose("with one sample per prompt", "samples", "at least 2", "--samples", "1")
diagnose("with unknown controls", "controls", "one of budget, all, none", "--controls", "some")
diagnose("with a field of its own set", "set", "have options of their own", "--set", "updates=3")
diagnose("with an unknown field set", "set.learning_rate", "unknown", "--set", "learning_rate=3")
diagnose("an illegal training", "lr", "at most 1e30", "--set", "lr=1e38")
diagnose("with an unknown expert", "expert", "unknown; one of solver", "--expert", "solvr")
diagnose("with one name", "expert", "names one expert: leave the name out", "--expert", "a=solver")
diagnose("with a name twice", "expert", "is the name of two experts", "--expert", "a=solver", "a=half")
diagnose("with a wrong field for all", "lr", "expert a: must be", "--expert", "a=solver", "b=half", "--set", "lr=-1")
diagnose(
    "several, none usable",
    "expert",
    "expert a: unknown; one of solver.*none of the experts can be used",
    "--expert",
    "a=solvr",
    "b=hlf",
)
diagnose("on an unknown task", "task", "unknown; one of", "--task", "countup")
diagnose("with negative speed", "device_flops", "not be negative", "--device-flops", "-1")
diagnose("without room", "preflight: context length", "shorten the prompts", "--set", "max_new_tokens=1000")


@case("diagnose an expert of another vocabulary", "preflight: tokenizer, vocabulary and end tokens", "resize one")
def _(p: Place) -> list[str]:
    return [*DIAGNOSE, "--out", str(p.out), "--expert", "solver:vocabulary=512"]


@case("a diagnosis of another question", "out", "another diagnosis: .*seed 0 -> 1")
def _(p: Place) -> list[str]:
    from understudy.diagnosis.config import DiagnoseConfig

    config = DiagnoseConfig(task="coin", student=STUDENT, expert="solver", device="cpu", out=str(p.out))
    with RunDir.open(p.out, dataclasses.asdict(config)):
        p.file("run/diagnosis.json", "{}")
    return [*DIAGNOSE, "--out", str(p.out), "--seed", "1"]


@case("half a diagnosis", "diagnosis", "not valid JSON")
def _(p: Place) -> list[str]:
    from understudy.diagnosis.config import DiagnoseConfig

    config = DiagnoseConfig(task="coin", student=STUDENT, expert="solver", device="cpu", out=str(p.out))
    with RunDir.open(p.out, dataclasses.asdict(config)):
        p.file("run/diagnosis.json", "{")
    return [*DIAGNOSE, "--out", str(p.out)]


# -- configuration files
case("no such configuration", "config", "no such file")(lambda p: ["train", "--config", str(p.tmp / "c.json")])
case("configuration without a value", "config", "needs a value")(lambda p: ["train", "--config"])
case("configuration that is not JSON", "config", "cannot be read as JSON")(
    lambda p: ["train", "--config", str(p.file("c.json", "{'lr': 1}"))]
)
case("configuration with an unknown field", "config.learning_rate", "unknown; one of method")(
    lambda p: ["train", "--config", str(p.file("c.json", '{"learning_rate": 1}'))]
)
case("configuration with a bad value", "config.updates", "whole number")(
    lambda p: ["train", "--config", str(p.file("c.json", '{"updates": Infinity}'))]
)
case("configuration with an endless name", "config", "cannot be read|no such file")(
    lambda p: ["train", "--config", LONG]
)


# -- where the run goes
@case("a folder of other files", "out", "is not empty and not a run .it holds thesis.tex")
def _(p: Place) -> list[str]:
    return arguments(p.file("run/thesis.tex", "years of work").parent)


@case("a file where the run should go", "out", "is a file, not a folder")
def _(p: Place) -> list[str]:
    return arguments(p.file("run", "hello"))


@case("a file where a parent should be", "out", "part of this path is a file")
def _(p: Place) -> list[str]:
    return arguments(p.file("parent", "hello") / "run")


case("a run with an endless name", "out", "name is too long")(lambda p: arguments(p.tmp / LONG[:300]))


@case("a run of another configuration", "out", r"another configuration: seed 0 -> 1, lr 0.001 -> 0.01;")
def _(p: Place) -> list[str]:
    assert main(arguments(p.out)) == 0
    return arguments(p.out, lr=0.01, seed=1)


@case("a run without its config.json", "out", "is a run without its config.json")
def _(p: Place) -> list[str]:
    assert main(arguments(p.out)) == 0
    (p.out / "config.json").unlink()
    return arguments(p.out)


@case("a run with half a config.json", "out", "is not valid JSON")
def _(p: Place) -> list[str]:
    assert main(arguments(p.out)) == 0
    (p.out / "config.json").write_bytes((p.out / "config.json").read_bytes()[:40])
    return arguments(p.out)


@case("a model folder as the run", "out", "is not empty and not a run")
def _(p: Place) -> list[str]:
    return arguments(p.model())


class BrokenTask(CoinTask):
    """A task whose verifier rejects everything."""

    name = "broken"

    def verify(self, prompt: Any, text: str, ended: bool) -> float:
        return 0.0


@pytest.mark.wrong_input("commands, tasks, models, runs")
@pytest.mark.parametrize("name", CASES)
def test_mistake(
    name: str,
    models: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """See the top of this file."""
    monkeypatch.setitem(tasks.TASKS, "broken", BrokenTask.from_spec)
    monkeypatch.chdir(tmp_path)
    make, field, words = CASES[name]
    command = make(Place(tmp_path, models))
    before, model_files = contents(tmp_path), contents(models["llama"])
    Output(command, capsys).is_mistake(field, words)
    assert contents(tmp_path) == before, "something was written, changed or removed"
    assert contents(models["llama"]) == model_files
