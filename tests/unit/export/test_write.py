"""Exports of runs, routes and diagnoses; the data; mistakes are reported before anything is written."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import config

from understudy.cli.main import main
from understudy.config import to_dict
from understudy.errors import UserError
from understudy.export.config import ExportConfig
from understudy.export.data import language_of, problem_from, problem_of
from understudy.export.job import Setting, Settings, scalar, shell_options, yaml_lines
from understudy.export.rewards import bundled
from understudy.export.write import Exported, checked, export
from understudy.tasks import load_task
from understudy.training.train import train


def options(folder: Path, method: str = "sft", **changes: Any) -> str:
    """A file of options."""
    n = 2 if method == "grpo" else 1
    values = to_dict(
        config(method, folder / "unused", task="countdown", **({"updates": 2, "samples_per_prompt": n} | changes))
    )
    path = folder / "options.json"
    path.write_text(json.dumps(values))
    return str(path)


def rows(done: Exported, number: int = 0) -> list[dict[str, Any]]:
    text = (done.folder / done.jobs[number].data).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n")[:-1]]


# ---------------------------------------------------------------- data


def test_a_run_is_exported_with_the_completions_that_it_was_trained_on(tmp_path: Path) -> None:
    run = train(config("sft", tmp_path / "run", task="countdown"))
    done = export(ExportConfig((str(run),), "trl", str(tmp_path / "out")))
    task = load_task("countdown")
    written = rows(done)
    assert len(written) == 2 * 4 * 2
    for row in written:
        n = row["completion_mask"].count(0)
        assert row["completion_mask"] == [0] * n + [1] * (len(row["input_ids"]) - n)
        assert row["input_ids"][-1] in done.jobs[0].end_ids
    kept = done.jobs[0].rows.rollouts
    assert task.verify(kept[0].prompt, written[0]["completion"], True) == 1.0
    student = json.loads((done.folder / "student" / "config.json").read_text())  # made from scratch: it exists nowhere
    assert student["hidden_size"] == 16


def test_a_pool_comes_back_in_every_pass_with_the_same_completions(tmp_path: Path) -> None:
    done = export(ExportConfig((options(tmp_path, prompt_pool=3, prompts_per_update=3),), "trl", str(tmp_path / "out")))
    texts = [(row["prompt"], row["completion"]) for row in rows(done)]
    assert len(texts) == 6
    assert set(texts[:3]) == set(texts[3:])
    assert len(set(texts)) == 3


def test_fewer_prompts_make_a_shorter_training(tmp_path: Path) -> None:
    done = export(ExportConfig((options(tmp_path),), "verl", str(tmp_path / "out"), prompts=4))
    assert done.jobs[0].config.updates == 1
    assert yaml.safe_load((tmp_path / "out/1-sft/config.yaml").read_text())["trainer"]["total_training_steps"] == 1


def test_phases_of_a_route_follow_each_other(tmp_path: Path, models: dict[str, Path]) -> None:
    """Catches a second phase that starts from the student, or that sees the first one's prompts again."""
    from understudy.config import TrainConfig
    from understudy.routes.route import RouteConfig, recorded

    folder = tmp_path / "route"
    folder.mkdir()
    shared = TrainConfig(student=str(models["llama"]), expert=str(models["qwen2"]), prompts_per_update=2, updates=4,
                         max_new_tokens=4)  # fmt: skip
    values = recorded(RouteConfig("sft:1+opd_full", train=shared, out=str(folder)))
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "status.json").write_text("{}")
    done = export(ExportConfig((str(folder),), "trl", str(tmp_path / "out"), sample_expert=True))
    assert [job.config.updates for job in done.jobs] == [1, 3]
    assert 'STUDENT = "models/1-sft"' in (done.folder / "2-opd_full/train.py").read_text()
    assert f'TEACHER = "{models["qwen2"]}"' in (done.folder / "2-opd_full/train.py").read_text()
    first, second = ({row["prompt"] for row in rows(done, i)} for i in (0, 1))
    assert not first & second
    commands = (done.folder / "run.sh").read_text().splitlines()[-2:]
    assert commands == ["python 1-sft/train.py", "python 2-opd_full/train.py"]


def test_rewards_of_the_file_are_the_verifiers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a reward that needs what JSON cannot hold, or that swaps rows."""
    done = export(ExportConfig((options(tmp_path, "grpo"),), "trl", str(tmp_path / "out")))
    spec = importlib.util.spec_from_file_location("exported_rewards", done.folder / "rewards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    task, written = load_task("countdown"), rows(done)
    gold = [task.gold(p) for p in done.jobs[0].rows.prompts]
    columns = {"understudy": [row["understudy"] for row in written]}
    ids = [list(done.jobs[0].end_ids)] * len(gold)
    assert module.reward(completions=gold, completion_ids=ids, **columns) == [1.0] * len(gold)
    assert module.reward(completions=gold, completion_ids=[[7]] * len(gold), **columns) == [0.0] * len(gold)  # cut off
    assert module.reward(completions=gold[1:] + gold[:1], completion_ids=ids, **columns) != [1.0] * len(gold)


@pytest.mark.parametrize("name", ["countdown", "addition", "classify", "sort", "path", "chain"])
def test_problems_survive_a_file(name: str) -> None:
    task = load_task(name)
    for prompt in task.prompts("train", 5, seed=1):
        again = problem_from(problem_of(prompt))
        assert task.verify(again, task.gold(prompt), True) == 1.0
        assert task.verify(again, "", True) == 0.0


def test_prompts_are_read_without_the_weights(models: dict[str, Path]) -> None:
    from understudy.policy import load_policy

    task, whole = load_task("countdown"), load_policy(str(models["llama"]), "student", device="cpu")
    language = language_of(config("sft", Path("x"), student=str(models["llama"])), task)  # type: ignore[arg-type]
    prompts = task.prompts("train", 3, seed=0)
    assert language.encode(prompts) == whole.encode(prompts)
    assert (language.end_ids, language.pad_id, language.context) == (whole.end_ids, whole.pad_id, whole.context)
    assert language.vocabulary == whole.vocabulary


# ---------------------------------------------------------------- text


def test_settings_are_read_back_as_they_were() -> None:
    """Catches 1e-05, which YAML 1.1 reads as text, and text with quotes."""
    s = Settings([Setting(*pair) for pair in [
        ("a.lr", 1e-5), ("a.big", 1e9), ("a.n", 3), ("a.b.text", "it's {{ \"x\" }}: # no comment"), ("a.b.none", None),
        ("c", [0.9, 1e-8]), ("d.e", True),
    ]])  # fmt: skip
    read = yaml.safe_load(yaml_lines(s))
    expected = {"a": {"lr": 1e-5, "big": 1e9, "n": 3, "b": {"text": s.items[3].value, "none": None}}, "c": [0.9, 1e-8],
                "d": {"e": True}}  # fmt: skip
    assert read == expected
    assert isinstance(read["a"]["lr"], float)
    assert scalar(1e-5) == "1.0e-05"
    assert "--x 'it'\\''s'" in shell_options(Settings([Setting("x", "it's")]))


@pytest.mark.parametrize("target", ["verl", "trl"])
def test_no_name_is_written_twice_in_yaml(target: str, tmp_path: Path) -> None:
    """Catches groups of dotted names that are opened again: YAML keeps the last one only."""
    done = export(ExportConfig((options(tmp_path, "grpo"),), target, str(tmp_path / "out")))
    read = yaml.safe_load((done.folder / "1-grpo/config.yaml").read_text())
    for name, value in done.written[0].settings.values.items():
        found: Any = read
        for part in name.split("."):
            found = found[part]
        assert found == value, name


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"to": "trll"}, r"to: trll: unknown; one of trl, verl, ms-swift, tinker \(did you mean trl\?\)"),
        ({"to": ""}, "to: missing: trl, verl"),
        ({"source": ("nowhere",)}, "source: nowhere: no such folder"),
        ({"source": ()}, "source: give one run"),
        ({"devices": 3}, "devices: 3: an update has 4 completions, which 3 devices cannot share"),
        ({"micro_batch": 3}, "micro_batch: 3: a device has 4 completions"),
        ({"to": "tinker", "allow_differences": True}, "student: scratch.*tinker hosts its models: give --student"),
        ({"to": "tinker"}, "lora_rank: 0: tinker-cookbook cannot express this cell of sft.*--allow-differences"),
    ],
)
def test_mistakes_leave_nothing_behind(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    fields = {"source": (options(tmp_path),), "to": "trl", "out": str(tmp_path / "out")} | changes
    with pytest.raises(UserError, match=message):
        export(ExportConfig(**fields))
    assert {p.name for p in tmp_path.iterdir()} <= {"options.json"}


def test_what_exists_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    assert main(["export", options(tmp_path), "--to", "trl", "--out", str(tmp_path / "out")]) == 2
    assert "exists already" in capsys.readouterr().err
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert main(["export", str(tmp_path / "model"), "--to", "trl"]) == 2
    assert "is neither a run, a route" in capsys.readouterr().err


def test_a_program_is_no_teacher_but_gives_samples(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expert: solver: is a program: method opd needs a teacher"):
        checked(ExportConfig((options(tmp_path, "opd"),), "trl"))
    checked(ExportConfig((options(tmp_path, "sft"),), "trl"))
    with pytest.raises(UserError, match=r"loads its teacher itself: give --expert MODEL"):
        checked(ExportConfig((options(tmp_path, "opd", expert="http://127.0.0.1:8000/v1"),), "trl"))


def test_samples_of_a_model_are_drawn_only_when_asked(tmp_path: Path, models: dict[str, Path]) -> None:
    source = options(tmp_path, "sft", student=str(models["llama"]), expert=str(models["qwen2"]))
    with pytest.raises(UserError, match="add --sample-expert"):
        export(ExportConfig((source,), "trl", str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_a_file_of_options_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", options(tmp_path), "--to", "ms-swift"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"1-sft: 2 updates of 4 completions", out)
    assert (tmp_path / "options-ms-swift" / "README.md").is_file()


def test_files_that_a_task_names_go_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a reward that the cluster cannot find: the export is moved, and the user's file is gone."""
    source = tmp_path / "mine"
    source.mkdir()
    (source / "r.py").write_text("def half(completions, **_):\n    return [0.5 for _ in completions]\n")
    task = f"countdown:max_number=9,reward={source}/r.py:half"
    path = options(tmp_path, "grpo")
    values = json.loads(Path(path).read_text()) | {"task": task}
    Path(path).write_text(json.dumps(values))
    done = export(ExportConfig((path,), "trl", str(tmp_path / "out")))
    (source / "r.py").unlink()
    moved = done.folder.rename(tmp_path / "moved")
    assert (moved / "task" / "r.py").is_file()
    assert str(source) not in (moved / "rewards.py").read_text()
    spec = importlib.util.spec_from_file_location("moved_rewards", moved / "rewards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.judge(rows(done_at(done, moved))[0]["understudy"], "1+1=2 ok", True) == 0.5


def done_at(done: Exported, folder: Path) -> Exported:
    return dataclasses.replace(done, folder=folder)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("countdown", "countdown"),
        ("countdown:max_number=9,n_numbers=3", "countdown:max_number=9,n_numbers=3"),
        ("data:path={d}/rows.jsonl,system=@{d}/s.txt", "data:path=HERE/task/rows.jsonl,system=@HERE/task/s.txt"),
        ("{d}/t.py:sums,size=3", "HERE/task/t.py:sums,size=3"),
        ("{d}/t.py:sums", "HERE/task/t.py:sums"),
        ("data:path={d}", "data:path={d}"),
    ],
)
def test_only_files_are_bundled(text: str, expected: str, tmp_path: Path) -> None:
    for name in ("rows.jsonl", "s.txt", "t.py"):
        (tmp_path / name).write_text("")
    assert bundled(text.format(d=tmp_path))[0] == expected.format(d=tmp_path)
