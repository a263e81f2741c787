"""Faults during a run: it stops in one line, keeps its last good state, and the same command goes on from there."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mistakes import Output, arguments, contents
from tiny import CoinTask, config

from understudy import tasks
from understudy.cli.main import main
from understudy.config import to_dict
from understudy.runs import checkpoint as checkpoint_module
from understudy.runs.checkpoint import load_tensors
from understudy.runs.directory import RunDir
from understudy.runs.read import checkpoints, read_metrics, read_status
from understudy.training import acting as acting_module
from understudy.training import rollouts as rollout_module
from understudy.training.labels import Labelled


def finished(out: Path) -> bytes:
    assert read_status(out)["state"] == "done"
    return (out / "final" / "model.safetensors").read_bytes()


LONGER: dict[str, Any] = {"updates": 6, "save_every": 2, "keep": 3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of the same run without a fault."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as m:
        m.setitem(tasks.TASKS, "coin", CoinTask.from_spec)
        assert main(arguments(out, **LONGER)) == 0
    return finished(out)


def stopped_run(out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Output:
    """A run in which a weight becomes NaN at the fifth update."""
    label, calls = rollout_module.label, [0]

    def poisoned(*args: Any, **options: Any) -> list[Labelled]:
        calls[0] += 1
        out = label(*args, **options)
        if calls[0] == 5:
            out[0] = dataclasses.replace(out[0], weight=torch.full_like(out[0].weight, torch.nan))
        return out

    with monkeypatch.context() as m:
        m.setattr(rollout_module, "label", poisoned)
        return Output(arguments(out, **LONGER), capsys)


def damage(path: Path) -> None:
    file = path / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-20] ^= 0xFF
    file.write_bytes(data)


@pytest.mark.fault("during a run")
def test_not_a_number_stops_and_resumes(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches NaN that reaches the weights, the optimizer or a checkpoint, a message without step and batch, and a run
    that cannot continue once the cause is gone (here it ends with the same weights)."""
    out = tmp_path / "run"
    result = stopped_run(out, monkeypatch, capsys)
    result.is_mistake("loss", "not finite at update 5, batch countdown .*, ...; stopped, the last checkpoint is kept")
    assert [p.name for p in checkpoints(out)] == ["step-00000002", "step-00000004"]
    status = read_status(out)
    assert status["state"] == "stopped"
    assert "update 5" in status["reason"]
    assert all(torch.isfinite(t).all() for t in load_tensors(checkpoints(out)[-1] / "model.safetensors").values())
    assert Output(arguments(out, **LONGER), capsys).code == 0
    assert finished(out) == whole


@pytest.mark.fault("during a run")
@pytest.mark.parametrize("lr", [1e10, 1e30])
def test_a_learning_rate_that_explodes(lr: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches infinite weights that are saved because the loss before the step was finite."""
    out = tmp_path / "run"
    result = Output(arguments(out, lr=lr, updates=4, save_every=1), capsys)
    assert result.code == 2
    assert re.match(r"error: (loss|grad_norm|weights): .* update [1-4].*lower --lr", result.errors[0]), result.errors
    for path in checkpoints(out):
        assert all(torch.isfinite(t).all() for t in load_tensors(path / "model.safetensors").values())
    assert not (out / "final").exists()


@pytest.mark.fault("during a run")
def test_drift_between_sampler_and_trainer_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches training on samples whose recorded log-probs are not the student's."""
    draw = acting_module.draw

    def shifted(*args: Any, **options: Any) -> Any:
        return [
            dataclasses.replace(r, behavior_logp=tuple(x - 1 for x in r.behavior_logp)) for r in draw(*args, **options)
        ]

    monkeypatch.setattr(acting_module, "draw", shifted)
    result = Output(arguments(tmp_path / "run", "opd"), capsys)
    result.is_mistake("logp_drift", "at update 1, batch countdown .* drift_limit=0.5")


@pytest.mark.fault("during a run")
def test_a_corrupt_checkpoint_falls_back(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a resume from damaged bytes, a fall-back without a message, and one that ends with other weights."""
    out = tmp_path / "run"
    stopped_run(out, monkeypatch, capsys)
    damage(checkpoints(out)[-1])
    result = Output(arguments(out, **LONGER), capsys)
    assert result.code == 0
    (note,) = result.notes
    assert re.search("step-00000004 is damaged: model.safetensors .*using step-00000002 instead", note)
    assert finished(out) == whole
    assert [line["step"] for line in read_metrics(out, "train")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.fault("during a run")
def test_all_checkpoints_corrupt(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a run that is lost, a restart without a message, and log lines kept from the first attempt."""
    out = tmp_path / "run"
    stopped_run(out, monkeypatch, capsys)
    for path in checkpoints(out):
        damage(path)
    result = Output(arguments(out, **LONGER), capsys)
    assert result.code == 0
    assert len(result.notes) == 2
    assert all("no good one is left, starting from the beginning" in note for note in result.notes)
    assert finished(out) == whole
    assert [line["step"] for line in read_metrics(out, "train")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.fault("during a run")
@pytest.mark.parametrize("where", ["state", "model"])
def test_a_full_disk(
    where: str, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Catches a half-written checkpoint, the loss of earlier ones, and a message that does not say how to continue."""
    from safetensors import SafetensorError

    from understudy.policy import Policy

    out = tmp_path / "run"
    save_state, save_model, calls = checkpoint_module.save_tensors, Policy.save, [0]

    def state_full(path: Path, *args: Any) -> None:
        calls[0] += path.name == "state.safetensors"
        if calls[0] == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        save_state(path, *args)

    def model_full(self: Policy, folder: Path) -> None:
        calls[0] += 1
        if calls[0] == 2:
            (folder / "model.safetensors").write_bytes(b"half")
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        save_model(self, folder)

    with monkeypatch.context() as m:
        if where == "state":
            m.setattr(checkpoint_module, "save_tensors", state_full)
        else:
            m.setattr(Policy, "save", model_full)
        result = Output(arguments(out, **LONGER), capsys)
    result.is_mistake(
        "out", "the disk is full; free some space, then run the same command again: it resumes from step 2"
    )
    assert [p.name for p in (out / "checkpoints").iterdir()] == ["step-00000002"]
    assert Output(arguments(out, **LONGER), capsys).code == 0
    assert finished(out) == whole


@pytest.mark.fault("during a run")
def test_a_run_that_is_being_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches two processes that write the same run."""
    from understudy.config import VOLATILE, resolve

    out = tmp_path / "run"
    c = resolve(config("sft", out))
    with RunDir.open(out, to_dict(c), {}, volatile=VOLATILE):
        before = contents(out)
        Output(arguments(out), capsys).is_mistake("out", f"in use by process {os.getpid()}")
        assert contents(out) == before


def test_a_finished_run_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a second run that overwrites the results of the first; --keep may differ, since it changes no number."""
    out = tmp_path / "run"
    assert Output(arguments(out), capsys).code == 0
    before = contents(out)
    assert Output(arguments(out, keep=1), capsys).code == 0
    assert contents(out) == before


@pytest.mark.fault("during a run")
def test_a_kill_at_the_start_does_not_block_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an incomplete start that blocks the folder: killed after the lock, before config.json."""
    out = tmp_path / "run"
    out.mkdir()
    (out / ".lock").write_text("123\n")
    (out / "provenance.json").write_text("{}")
    (out / ".tmp-config.json-123").write_text('{"method"')
    assert Output(arguments(out), capsys).code == 0
    assert read_status(out)["state"] == "done"
    assert not list(out.glob(".tmp*"))
