"""Trackers get every number of metrics.jsonl, are optional, and their faults never end a run."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import math
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from tiny import config

from understudy.config import to_dict
from understudy.errors import UserError
from understudy.runs.read import read_metrics, read_samples
from understudy.runs.trackers import COLUMNS, INSTALL, Trackers, names_of, numbers, open_trackers
from understudy.training.train import train


class Service:
    """A module like wandb or trackio that records its calls."""

    def __init__(self, name: str, fails_after: int = 10**9) -> None:
        self.inits: list[dict[str, Any]] = []
        self.lines: list[tuple[int | None, dict[str, Any]]] = []
        self.tables: list[tuple[int, str, list[str], list[list[Any]]]] = []
        self.finished, self.fails_after = 0, fails_after
        self.module: Any = types.ModuleType(name)
        self.module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        for word in ("init", "log", "finish", "define_metric", "Table"):
            setattr(self.module, word, getattr(self, word))

    def init(self, **options: Any) -> Any:
        self.inits.append(options)
        return self

    def define_metric(self, *_: Any, **__: Any) -> None: ...

    def Table(self, columns: list[str], data: list[list[Any]]) -> tuple[list[str], list[list[Any]]]:
        return columns, data

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        tables = [(name, value) for name, value in values.items() if isinstance(value, tuple)]
        if tables:
            ((name, (columns, data)),) = tables
            self.tables.append((values["update"] if step is None else step, name, columns, data))
            return
        if len(self.lines) >= self.fails_after:
            raise ConnectionError("the service is\ndown")
        self.lines.append((step, values))

    def finish(self) -> None:
        self.finished += 1


def test_numbers_of_a_record() -> None:
    record = {
        "kind": "eval", "step": 4, "split": "test", "sampled": 0.5, "greedy": None, "lengths": [1, 2], "n": 3,
        "ended": True, "kl_student_expert": math.inf, "expert": {"sampled": 1.0, "lengths": [3]},
        "ledger": {"updates": 4, "train_seconds": 1.5}, "keywords": {"ok": 1.0},
    }  # fmt: skip
    assert numbers(record) == {
        "eval/test/sampled": 0.5, "eval/test/n": 3.0, "eval/test/expert/sampled": 1.0, "ledger/updates": 4.0,
        "ledger/train_seconds": 1.5,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_service_gets_what_the_log_has(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(name)
    monkeypatch.setitem(sys.modules, name, service.module)
    run = train(config("grpo", tmp_path / "run", tracker=name, eval_every=1))
    records = read_metrics(run)
    assert len(service.lines) == len(records)
    for (step, got), record in zip(service.lines, records):
        assert (got.pop("update") if name == "wandb" else step) == record["step"]
        assert got == numbers(record)
    samples = read_samples(run)
    rows = [(step, name, dict(zip(columns, row))) for step, name, columns, data in service.tables for row in data]
    assert rows == [(s["step"], f"samples/{s['split']}", {k: s[k] for k in COLUMNS}) for s in samples]
    assert samples
    assert service.finished == 1
    (options,) = service.inits
    assert options["config"]["method"] == "grpo"
    assert options["resume"] == "allow"
    # a resume finds the same run, another folder another one
    other, key = Service(name), "id" if name == "wandb" else "name"
    monkeypatch.setitem(sys.modules, name, other.module)
    for path in (tmp_path / "run", tmp_path / "x" / "run"):
        open_trackers(name, path, {}, 3, print)
    assert [o[key] == options[key] for o in other.inits] == [True, False]


def test_a_service_that_goes_down_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service, notes = Service("trackio", fails_after=1), []
    monkeypatch.setitem(sys.modules, "trackio", service.module)
    run = train(config("sft", tmp_path / "run", tracker="trackio"), note=notes.append)
    assert len(service.lines) == 1
    assert len(read_metrics(run)) == 3
    assert [n for n in notes if "trackio" in n] == [
        "tracker trackio failed and gets no more: ConnectionError: the service is down; metrics.jsonl has everything"
    ]


def test_tensorboard_writes_and_forgets_what_was_undone(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def read() -> dict[int, float]:
        events = EventAccumulator(str(tmp_path / "tensorboard"))
        events.Reload()
        return {e.step: e.value for e in events.Scalars("train/loss")}

    for first, last in ((0, 5), (2, 4)):  # killed after update 5, resumed from 2
        with open_trackers("tensorboard", tmp_path, {}, first, print) as trackers:
            for step in range(first + 1, last + 1):
                trackers.on_record({"kind": "train", "step": step, "loss": 10.0 * first + step})
    assert read() == {1: 1.0, 2: 2.0, 3: 23.0, 4: 24.0}


def test_tensorboard_shows_completions_as_they_are(tmp_path: Path) -> None:
    """Model text must not become Markdown: every line of it is indented."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sample = {
        "step": 3,
        "split": "test",
        "actor": "student",
        "prompt": "1+1",
        "completion": "# 2\n\n<b>x",
        "reward": 1.0,
    }
    with open_trackers("tensorboard", tmp_path, {}, 0, print) as trackers:
        trackers.on_samples([sample])
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (event,) = events.Tensors("samples/test/text_summary")
    text = event.tensor_proto.string_val[0].decode()
    assert event.step == 3
    assert "completion: # 2" in text
    assert all(line.startswith("    ") for line in text.split("\n"))


def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="unknown; one of tensorboard, wandb, trackio"):
        names_of("mlflow")
    assert names_of(" wandb , wandb") == ["wandb"] if importlib.util.find_spec("wandb") else True
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in INSTALL:
        with pytest.raises(UserError, match=rf"is not installed: pip install 'understudy\[{name}\]'"):
            train(config("sft", tmp_path / "run", tracker=name))
    assert not (tmp_path / "run").exists(), "refused too late"


def test_off_by_default_and_not_part_of_the_result(tmp_path: Path) -> None:
    assert to_dict(config("sft", tmp_path))["tracker"] == ""
    assert Trackers({}, print).trackers == {}
    run = train(config("sft", tmp_path / "run"))
    assert (
        train(config("sft", tmp_path / "run", tracker="tensorboard")) == run
        if (importlib.util.find_spec("tensorboard"))
        else True
    )
