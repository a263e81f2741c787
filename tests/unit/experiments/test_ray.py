"""Runs of compare on Ray, tested with a stand-in of the few calls of Ray that are used (Ray itself is 1.6 GB)."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import config

from understudy.errors import UserError
from understudy.experiments.job import Job, training
from understudy.experiments.jobs import run_all
from understudy.runs.read import is_done


class Ray:
    """Runs a task when it is waited for, and records which tasks run together."""

    def __init__(self) -> None:
        self.tasks: dict[int, Callable[[], Any]] = {}
        self.most, self.cancelled, self.options, self.up = 0, 0, [], False  # type: ignore[var-annotated]
        self.module: Any = types.ModuleType("ray")
        for name in ("is_initialized", "init", "shutdown", "cluster_resources", "remote", "wait", "get", "cancel"):
            setattr(self.module, name, getattr(self, name))

    def is_initialized(self) -> bool:
        return self.up

    def init(self, **_: Any) -> None:
        self.up = True

    def shutdown(self) -> None:
        self.up = False

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def remote(self, **options: Any) -> Any:
        self.options.append(options)

        def wrap(function: Any) -> Any:
            def start(*args: Any) -> int:
                self.tasks[len(self.options)] = lambda: function(*args)
                self.most = max(self.most, len(self.tasks))
                return len(self.options)

            return types.SimpleNamespace(remote=start)

        return wrap

    def wait(self, references: list[int], num_returns: int, timeout: float) -> tuple[list[int], list[int]]:
        return references[:num_returns], references[num_returns:]

    def get(self, reference: int) -> Any:
        return self.tasks.pop(reference)()

    def cancel(self, reference: int) -> None:
        self.cancelled += 1


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    fake = Ray()
    monkeypatch.setitem(sys.modules, "ray", fake.module)
    return fake


def jobs(tmp_path: Path, **changes: Any) -> list[Job]:
    base = training("base", config("sft", tmp_path / "base"))
    others = [
        training(f"{m}", config(m, tmp_path / m, student=str(tmp_path / "base"), **changes), ("base",))
        for m in ("word_kd", "grpo")
    ]
    return [*reversed(others), base]


def test_all_run_in_their_order_once(ray: Ray, tmp_path: Path) -> None:
    shown: list[tuple[str, str]] = []
    todo = jobs(tmp_path)
    assert run_all(todo, 2, lambda name, phase, *_: shown.append((name, phase)), launcher="ray") == []
    assert all(is_done(Path(j.config.out)) for j in todo)
    assert shown[:2] == [("base", "running on ray"), ("base", "done")]
    assert (ray.most, ray.up, ray.cancelled) == (2, False, 0)
    assert {o["num_gpus"] for o in ray.options} == {0}
    assert sorted(run_all(todo, 2, lambda *_: None, launcher="ray")) == ["base", "grpo", "word_kd"]
    assert len(ray.options) == 3, "a finished run was started again"


def test_a_failure_is_of_one_job_and_starts_no_more(ray: Ray, tmp_path: Path) -> None:
    todo = [training("bad", config("sft", tmp_path / "bad", student="nowhere")), *jobs(tmp_path)]
    with pytest.raises(UserError, match=r"student: nowhere \(job bad\): is not a model"):
        run_all(todo, 1, lambda *_: None, launcher="ray")
    assert len(ray.options) == 1
    assert not (tmp_path / "base").exists()


def test_keep_going_starts_all_that_does_not_need_the_failed_one(ray: Ray, tmp_path: Path) -> None:
    bad = training("bad", config("sft", tmp_path / "bad", student="nowhere"))
    after = training("after", config("sft", tmp_path / "after"), ("bad",))
    with pytest.raises(UserError, match="nowhere"):
        run_all([bad, after, *jobs(tmp_path)], 2, lambda *_: None, keep_going=True, launcher="ray")
    assert [is_done(tmp_path / n) for n in ("base", "grpo", "word_kd", "after")] == [True, True, True, False]


def test_a_worker_that_dies(ray: Ray, tmp_path: Path) -> None:
    def dies(_: int) -> Any:
        raise RuntimeError("task failed\nThe worker died: out of memory")

    ray.module.get = dies
    with pytest.raises(UserError, match="run: base: The worker died: out of memory; the same command resumes it"):
        run_all(jobs(tmp_path)[-1:], 1, lambda *_: None, launcher="ray")
    assert not ray.up


def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="launcher: slurm: unknown; one of local, ray"):
        run_all(jobs(tmp_path), 1, lambda *_: None, launcher="slurm")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"needs ray .*understudy\[ray\]"):
        run_all(jobs(tmp_path), 1, lambda *_: None, launcher="ray")
