"""The run directory: created, resumed, refused, read."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import understudy
from understudy.errors import UserError
from understudy.runs.checkpoint import save_tensors
from understudy.runs.directory import RunDir
from understudy.runs.files import dumps, new_folder, plain, read_json, recover, write_json
from understudy.runs.provenance import git_state, provenance
from understudy.runs.read import (
    checkpoints,
    differences,
    is_done,
    is_run,
    read_config,
    read_final,
    read_ledger,
    read_metrics,
    read_provenance,
    read_samples,
    read_status,
)

ROOT = Path(understudy.__file__).parents[1]
CONFIG: dict[str, Any] = {"method": "sft", "lr": 0.001, "seed": 0, "task": {"name": "countdown", "hard": [1, 2]}}


def write_model(folder: Path) -> None:

    save_tensors(folder / "model.safetensors", {"w": torch.ones(2)})


def finished(path: Path) -> Path:
    with RunDir.open(path, CONFIG, {"started": "now"}) as run:
        run.log({"kind": "train", "step": 1, "ledger": {"updates": 1}})
        run.finish(write_model, {"splits": {}})
    return path


# ---------------------------------------------------------------- from start to finish


def test_a_run_from_start_to_finish(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "x"
    with RunDir.open(out, CONFIG, lambda: {"started": "now"}) as run:
        assert not run.resumed
        assert not run.done
        assert read_config(out) == CONFIG
        assert read_status(out) == {"state": "running", "step": 0, "updates": 0, "reason": ""}
        assert run.restore() is None
        run.describe(expert={"name": "solver", "capabilities": frozenset({"score", "sample"})})
        for step in (1, 2, 3):
            run.log({"kind": "train", "step": step, "loss": 1 / step, "ledger": {"updates": step}})
            run.samples([{"step": step, "completion": "1 + 2\n= 3\u2028é"}] * 2)
            run.save(step, write_model, {}, {"ledger": {"updates": step}, "updates": 10 * step})
        run.log({"kind": "eval", "step": 3, "sampled": 0.5})
        assert read_ledger(out) == {"updates": 3}
        assert read_status(out)["updates"] == 30
        assert read_final(out) is None
        run.finish(write_model, {"splits": {"test": {"sampled": [[1, 0]]}}})
    assert is_run(out)
    assert is_done(out)
    assert read_status(out) == {"state": "done", "step": 3, "updates": 30, "reason": ""}
    assert [record["step"] for record in read_metrics(out, "train")] == [1, 2, 3]
    assert len(read_metrics(out)) == 4
    assert read_samples(out)[0]["completion"] == "1 + 2\n= 3\u2028é"
    assert read_final(out) == {"splits": {"test": {"sampled": [[1, 0]]}}}
    assert read_provenance(out)["expert"]["capabilities"] == ["sample", "score"]
    assert [path.name for path in checkpoints(out)] == ["step-00000002", "step-00000003"]
    for path in out.rglob("*"):
        assert not path.name.startswith((".tmp", ".old")), path
        if path.suffix in (".json", ".jsonl"):
            assert path.read_bytes().endswith(b"\n"), path
            path.read_bytes().decode("utf-8")
        if path.is_file():
            assert path.stat().st_mode & 0o777 == (out / "config.json").stat().st_mode & 0o777, path


def test_a_finished_run_is_reused_by_many_and_unchanged(tmp_path: Path) -> None:
    out = finished(tmp_path / "x")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with RunDir.open(out, CONFIG) as one, RunDir.open(out, CONFIG, lambda: pytest.fail("not needed")) as two:
        assert one.done
        assert two.done
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("lost", ["final.json", "final", "status.json"])
def test_done_counts_only_with_its_results(lost: str, tmp_path: Path) -> None:
    out = finished(tmp_path / "x")
    os.rename(out / lost, tmp_path / "moved")
    with RunDir.open(out, CONFIG) as run:
        assert not run.done
        run.restore()
        run.finish(write_model, {"again": True})
    assert read_final(out) == {"again": True}
    assert is_done(out)


def test_resume_is_recorded_and_other_versions_are_noted(tmp_path: Path) -> None:
    facts = {"versions": {"torch": "1"}, "device": "cpu", "started": "first", "git": None, "threads": 1}
    RunDir.open(tmp_path, CONFIG, facts).close()
    notes: list[str] = []
    RunDir.open(tmp_path, CONFIG, facts | {"started": "second"}, note=notes.append).close()
    assert notes == []
    newer = facts | {"started": "third", "versions": {"torch": "2"}}
    RunDir.open(tmp_path, CONFIG, newer, note=notes.append).close()
    assert "resumed with other versions" in notes[0]
    kept = read_provenance(tmp_path)
    assert kept["started"] == "first"
    assert kept["resumes"][1] == {"started": "third", "changed": {"versions": {"torch": "2"}}}


def test_logging_before_restore_is_a_bug_that_is_caught(tmp_path: Path) -> None:
    RunDir.open(tmp_path, CONFIG).close()
    with RunDir.open(tmp_path, CONFIG) as run, pytest.raises(RuntimeError, match="restore"):
        run.log({"step": 1})


def test_an_error_is_the_reason_it_stopped(tmp_path: Path) -> None:
    with pytest.raises(UserError), RunDir.open(tmp_path, CONFIG) as run:
        raise UserError("loss", "nan", "lower the\nlearning rate")
    assert run.path == tmp_path
    assert read_status(tmp_path)["state"] == "stopped"
    assert read_status(tmp_path)["reason"] == "loss: nan: lower the learning rate"


# ---------------------------------------------------------------- refused


def refused(path: Path, config: dict[str, Any] = CONFIG, **options: Any) -> str:
    before = sorted(path.rglob("*"))
    with pytest.raises(UserError) as caught:
        RunDir.open(path, config, **options)
    assert sorted(path.rglob("*")) == before, "a refusal touches nothing"
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_another_configuration_is_refused_field_by_field(tmp_path: Path) -> None:
    RunDir.open(tmp_path, CONFIG).close()
    other = {"method": "opd", "lr": 0.001, "task": {"name": "countdown", "hard": [1, 3], "new": None}}
    text = refused(tmp_path, other)
    for piece in (
        'method "sft" -> "opd"',
        "task.hard [1, 2] -> [1, 3]",
        "seed 0 -> (absent)",
        "task.new (absent) -> null",
    ):
        assert piece in text
    assert "lr" not in text.replace("original", "")
    assert "choose another --out, or the original settings" in text
    assert read_config(tmp_path) == CONFIG


def test_volatile_fields_may_change(tmp_path: Path) -> None:
    RunDir.open(tmp_path, CONFIG).close()
    other = CONFIG | {"task": {"name": "other"}, "seed": 1}
    RunDir.open(tmp_path, other, volatile=frozenset({"task", "seed"})).close()
    assert "task.name" in refused(tmp_path, other, volatile=frozenset({"task.hard", "seed", "tas"}))


def test_many_changes_stay_one_line(tmp_path: Path) -> None:
    RunDir.open(tmp_path, {f"field{i}": "long\n" * 100 for i in range(50)}).close()
    text = refused(tmp_path, {f"field{i}": i for i in range(50)})
    assert "and 38 more" in text
    assert len(text) < 2500


def test_numbers_that_json_cannot_hold_are_refused_in_a_configuration(tmp_path: Path) -> None:
    assert "task.hard" in refused(tmp_path, {"task": {"hard": math.inf}})


def test_never_resume(tmp_path: Path) -> None:
    RunDir.open(tmp_path, CONFIG).close()
    assert "already holds a run" in refused(tmp_path, resume="never")


def test_folders_of_others_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    assert "not a run (it holds thesis.tex)" in refused(tmp_path)
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    (model / "model.safetensors").write_text("")
    assert "not a run" in refused(model)
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "status.json").write_text("{}")
    assert "not a run" in refused(alone)


def test_a_beginning_that_was_killed_is_begun_again(tmp_path: Path) -> None:
    RunDir.open(tmp_path, CONFIG).close()
    (tmp_path / "config.json").unlink()
    (tmp_path / ".tmp-config.json-1").write_text("{")
    with RunDir.open(tmp_path, CONFIG | {"seed": 5}) as run:
        assert not run.resumed
    assert read_config(tmp_path)["seed"] == 5
    assert not list(tmp_path.glob(".tmp*"))


def test_a_run_that_lost_its_configuration_is_refused(tmp_path: Path) -> None:
    out = finished(tmp_path / "x")
    (out / "config.json").unlink()
    assert "a run without its config.json; put the file back" in refused(out)
    for content in (b"", b"{", b"[1]", b"\xff"):
        (out / "config.json").write_bytes(content)
        assert "config.json" in refused(out)
        assert "restore the file" in refused(out)


def test_two_writers(tmp_path: Path) -> None:
    script = (
        "import sys, time; from understudy.runs.directory import RunDir;"
        f"run = RunDir.open(sys.argv[1], {CONFIG!r}); print('open', flush=True); time.sleep(60)"
    )
    out = tmp_path / "x"
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(out)], env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        assert f"in use by process {child.pid}" in refused(out)
        assert read_status(out)["state"] == "running"
    finally:
        child.kill()
        child.wait()
    assert read_status(out)["state"] == "stopped"
    RunDir.open(out, CONFIG).close()


def test_two_writers_in_one_process(tmp_path: Path) -> None:
    with RunDir.open(tmp_path, CONFIG):
        assert f"in use by process {os.getpid()}" in refused(tmp_path)
    RunDir.open(tmp_path, CONFIG).close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_of_a_killed_writer_does_not_keep_the_lock(tmp_path: Path) -> None:
    script = (
        "import os, sys, time; from understudy.runs.directory import RunDir;"
        f"run = RunDir.open(sys.argv[1], {CONFIG!r}); child = os.fork();"
        "child and print(child, flush=True); time.sleep(60)"
    )
    out = tmp_path / "x"
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(out)], env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        parent.kill()
        parent.wait()
        RunDir.open(out, CONFIG).close()
        os.kill(child, 0)  # it is still alive
    finally:
        os.kill(child, 9)


# ---------------------------------------------------------------- JSON

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()))
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def without_non_finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: without_non_finite(item) for key, item in value.items()}
    return [without_non_finite(item) for item in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text(st.characters(exclude_categories=())), values, max_size=5))
@settings(max_examples=150)
def test_any_record_is_one_valid_line(record: dict[str, Any]) -> None:
    assert dumps(record).count(b"\n") == 1

    def no_constants(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    for data in (dumps(record), dumps(record, readable=True)):
        assert json.loads(data.decode("utf-8"), parse_constant=no_constants) == without_non_finite(record)


@given(records=st.lists(st.dictionaries(st.text(max_size=3), values, max_size=3), max_size=4), data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_log_cut_anywhere_is_read_up_to_there(records: list[dict[str, Any]], data: Any, tmp_path: Path) -> None:
    with RunDir.open(tmp_path, CONFIG) as run:
        run.restore()  # cuts what an earlier example wrote
        for record in records:
            run.samples([record])
    path = tmp_path / "samples.jsonl"
    whole = path.read_bytes() if path.exists() else b""
    size = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:size])
    got = read_samples(tmp_path)
    assert got == [without_non_finite(record) for record in records][: len(got)]
    assert len(got) == whole[:size].count(b"\n")


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    RunDir.open(tmp_path, CONFIG).close()
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step"\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl line 2: is not a JSON object"):
        read_metrics(tmp_path)


def test_what_json_takes_and_what_it_does_not() -> None:

    @dataclass
    class Point:
        x: float
        y: Any

    got = plain({
        "numpy": np.float32(0.5), "array": np.arange(3), "bool": np.bool_(True), "tensor": torch.ones(2),
        "scalar": torch.tensor(float("nan")), "path": Path("a/b"), "set": {"b", "a"},
        "point": Point(1.0, (2,)), 3: "three",
    })  # fmt: skip
    assert got == {
        "numpy": 0.5, "array": [0, 1, 2], "bool": True, "tensor": [1.0, 1.0], "scalar": None, "path": "a/b",
        "set": ["a", "b"], "point": {"x": 1.0, "y": [2]}, "3": "three",
    }  # fmt: skip
    for bad in (object(), b"bytes", {1.5: 1}, {None: 1}, {True: 1}):
        with pytest.raises(TypeError):
            plain(bad)


def test_files_for_people_have_one_field_per_line() -> None:
    value = {"a": {"b": [1, 2]}, "c": [[1, 0], [0, 0]], "d": [{"e": 1}], "f": {}, "g": []}
    text = """{
  "a": {
    "b": [1, 2]
  },
  "c": [
    [1, 0],
    [0, 0]
  ],
  "d": [
    {"e": 1}
  ],
  "f": {},
  "g": []
}
"""
    assert dumps(value, readable=True).decode() == text


def test_differences_name_what_changed() -> None:
    assert differences({"a": 1, "b": {"c": 1.0}}, {"b": {"c": 1}, "a": 1}) == []
    assert differences({"a": {}}, {"a": {"x": 1}}) == ["a.x (absent) -> 1", "a {} -> (absent)"]
    assert differences({"a": None}, {}) == ["a null -> (absent)"]


# ---------------------------------------------------------------- atomic writes


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    for call in ("os.fsync", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(call, lambda *_: (_ for _ in ()).throw(OSError(5, "io")))
            with pytest.raises(OSError, match="io"):
                write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


def test_a_folder_moved_aside_comes_back(tmp_path: Path) -> None:
    """The process died between the two renames of new_folder."""
    (tmp_path / ".old-x").mkdir()
    (tmp_path / ".old-x" / "precious").write_text("1")
    (tmp_path / ".tmp-x-1").mkdir()
    (tmp_path / ".tmpAbC123").write_text("safetensors died here")
    recover(tmp_path, re.compile("x"))
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["x", "x/precious"]
    with new_folder(tmp_path / "x") as folder:
        (folder / "new").write_text("2")
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["new"]


def test_readers_of_nothing(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none", "does not exist"), (tmp_path, "is not a run directory")):
        for reader in (read_config, read_metrics, read_status, read_ledger, read_final, read_samples):
            with pytest.raises(UserError, match=words):
                reader(path)
    RunDir.open(tmp_path / "new", CONFIG).close()
    assert read_metrics(tmp_path / "new") == []
    assert read_ledger(tmp_path / "new") == {}


# ---------------------------------------------------------------- docs/run-directory.md


def documented() -> list[str]:
    text = (ROOT / "docs" / "run-directory.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_documented_way_to_write_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    reading, writing = documented()
    monkeypatch.chdir(tmp_path)
    model = torch.nn.Linear(1, 1)
    around = {"optimizer": torch.optim.AdamW(model.parameters()), "learn": lambda: 0.5, "write_model": write_model}
    exec(writing, around)  # noqa: S102
    exec(writing, around)  # noqa: S102
    assert is_done(tmp_path / "runs" / "mine")
    assert len(read_metrics(tmp_path / "runs" / "mine")) == 10
    with RunDir.open("runs/opd-0", {"method": "opd"}) as run:
        run.log({"kind": "eval", "step": 1, "split": "test", "sampled": 0.5, "ledger": {"expert_tokens_scored": 7}})
        run.finish(write_model, {"splits": {"test": {"sampled": [[1, 0], [1, 1]]}}})
    exec(reading, {})  # noqa: S102
    assert capsys.readouterr().out == "opd done 7\n1 test 0.5\n3\n"


def test_the_documented_examples_are_json() -> None:
    text = (ROOT / "docs" / "run-directory.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 7
    for block in blocks:
        json.loads(block)


# ---------------------------------------------------------------- the rest


def test_reading_runs_loads_no_torch(tmp_path: Path) -> None:
    out = finished(tmp_path / "x")
    script = (
        "import sys; from understudy.runs.read import *;"
        "from understudy.runs.provenance import provenance;"
        "read_metrics(sys.argv[1]); read_status(sys.argv[1]); provenance();"
        "assert not {'torch', 'transformers', 'safetensors'} & set(sys.modules)"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script, str(out)], env=env, check=True)


def test_provenance_names_the_version_that_runs_also_where_none_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(understudy, "__version__", "9.9")
    assert provenance()["versions"]["understudy"] == "9.9"


def test_a_model_folder_with_metrics_is_no_run_but_a_run_with_damage_can_be_shown(tmp_path: Path) -> None:
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / name).write_text("{}\n")
    assert not is_run(tmp_path)
    assert is_run(tmp_path, damaged=True)


def test_provenance_has_no_folders_of_this_machine(tmp_path: Path) -> None:
    facts = provenance(["/somewhere/bin/understudy", "train", "--method", "sft"])
    assert facts["command"] == ["understudy", "train", "--method", "sft"]
    assert str(ROOT) not in json.dumps(facts)
    assert facts["versions"]["torch"]
    assert facts["cpus"] >= 1
    assert provenance([])["command"] == []


def test_git_state_is_of_the_source_not_of_a_surrounding_repository(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert git_state(package) is None, "no repository"
    git("init")
    assert git_state(package) is None, "in a repository that does not track it"
    git("add", ".")
    git("commit", "-m", "x")
    state = git_state(package)
    assert state is not None
    assert len(state["commit"]) == 40
    assert not state["dirty"]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "metrics.jsonl").write_text("")
    assert git_state(package) == state, "what runs write is not a change of the source"
    (package / "new.py").write_text("")
    assert git_state(package) == state | {"dirty": True}


def test_a_field_that_an_earlier_version_did_not_have_means_its_default(tmp_path):
    """Catches an upgrade that can resume no earlier run, and a default that differs from the old behaviour."""
    old = {"lr": 1e-3, "task": "countdown"}
    with RunDir.open(tmp_path / "r", old):
        pass
    later = old | {"eval_top_p": 1.0}
    assert differences(old, later) == ["eval_top_p (absent) -> 1.0"]
    with RunDir.open(tmp_path / "r", later, defaults={"eval_top_p": 1.0}):
        pass
    with pytest.raises(UserError, match="eval_top_p"):
        RunDir.open(tmp_path / "r", old | {"eval_top_p": 0.9}, defaults={"eval_top_p": 1.0})
    with pytest.raises(UserError, match="task"):
        RunDir.open(tmp_path / "r", later | {"task": "addition"}, defaults={"task": "addition", "eval_top_p": 1.0})
