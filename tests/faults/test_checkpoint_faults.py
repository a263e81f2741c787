"""A run survives kill -9 anywhere, damaged bytes, a full disk, and a folder that cannot be written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import understudy
from understudy.errors import UserError
from understudy.runs import checkpoint as checkpoint_module
from understudy.runs import files
from understudy.runs.checkpoint import read_checkpoint, save_tensors
from understudy.runs.directory import RunDir
from understudy.runs.read import checkpoints, read_metrics, read_status

CONFIG = {"method": "sft", "lr": 0.001, "seed": 0}
TOY = Path(__file__).with_name("toy_run.py")


def write_model(folder: Path) -> None:
    save_tensors(folder / "model.safetensors", {"w": torch.arange(100.0)})


def save(run: RunDir, step: int) -> Path:
    run.log({"kind": "train", "step": step})
    run.samples([{"step": step}])
    state = {"ledger": {"updates": step}}
    return run.save(step, write_model, {"optimizer.0.step": torch.tensor(float(step))}, state)


def begin(path: Path, steps: int = 0, **options: Any) -> RunDir:
    run = RunDir.open(path, CONFIG, {"started": "now"}, **options)
    run.restore()
    for step in range(1, steps + 1):
        save(run, step)
    return run


def one_line(caught: pytest.ExceptionInfo[UserError]) -> str:
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{caught.value.field}: ")
    assert caught.value.hint
    return text


# ---------------------------------------------------------------- kill -9


@pytest.mark.fault("kills")
@pytest.mark.parametrize("mode", ["sweep", "random"])
def test_killed_anywhere_ends_the_same(mode: str, tmp_path: Path) -> None:
    """Bit-identical weights, optimizer, random state and logs.

    Catches logs that are not cut back on resume, and checkpoints deleted in place.
    """
    root = Path(understudy.__file__).parents[1]
    env = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(TOY), mode, str(tmp_path)], env=env, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    if mode == "sweep":
        assert outcome["kills"] > 50
        assert outcome["wrong"] == []
    else:
        assert outcome["kills"] > 0
        assert outcome["same"]


# ---------------------------------------------------------------- damaged bytes


def flip(path: Path, at: int = -3) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.fault("damaged checkpoints")
@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors", "state.json"])
@pytest.mark.parametrize("damage", [flip, cut, Path.unlink, lambda path: path.write_bytes(b"")])
def test_damaged_newest_checkpoint_falls_back(name: str, damage: Callable[[Path], object], tmp_path: Path) -> None:
    begin(tmp_path, steps=3).close()
    damage(tmp_path / "checkpoints" / "step-00000003" / name)
    notes: list[str] = []
    with RunDir.open(tmp_path, CONFIG, note=notes.append) as run:
        checkpoint = run.restore()
        assert checkpoint is not None
        assert checkpoint.step == 2
        assert checkpoint.tensors["optimizer.0.step"].item() == 2
        assert len(notes) == 1
        assert "step-00000003 is damaged" in notes[0]
        assert name in notes[0]
        assert "using step-00000002 instead" in notes[0]
        assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2]
        assert json.loads((tmp_path / "ledger.json").read_text()) == {"updates": 2}
        save(run, 3)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000002", "step-00000003"]
    assert not list((tmp_path / "checkpoints").glob("damaged-*"))


def test_every_bit_of_state_json_is_covered(tmp_path: Path) -> None:
    """A flipped bit can leave valid JSON (another step, another ledger): the checksum of state.json must detect it."""
    begin(tmp_path, steps=1).close()
    folder = tmp_path / "checkpoints" / "step-00000001"
    whole = (folder / "state.json").read_bytes()
    meant = json.loads(whole)
    for at in range(0, len(whole), 3):
        data = bytearray(whole)
        data[at] ^= 0x01
        (folder / "state.json").write_bytes(data)
        try:
            same = json.loads(data) == meant  # only white space changed
        except ValueError:
            same = False
        assert same or isinstance(read_checkpoint(folder), str), f"byte {at}"


@pytest.mark.fault("damaged checkpoints")
@pytest.mark.parametrize(
    "content", [b"[]", b"null", b"{}", b'{"sha256": 1}', b"\xff\xfe", b"[" * 100_000, b'{"sha256": "x", "files": 3}']
)
def test_any_state_json_is_only_a_damaged_checkpoint(content: bytes, tmp_path: Path) -> None:
    begin(tmp_path, steps=1).close()
    (tmp_path / "checkpoints" / "step-00000001" / "state.json").write_bytes(content)
    assert isinstance(read_checkpoint(tmp_path / "checkpoints" / "step-00000001"), str)


def test_no_good_checkpoint_starts_anew_and_says_so(tmp_path: Path) -> None:
    begin(tmp_path, steps=2).close()
    for path in checkpoints(tmp_path):
        flip(path / "model.safetensors")
    notes: list[str] = []
    with RunDir.open(tmp_path, CONFIG, note=notes.append) as run:
        assert run.restore() is None
        assert len(notes) == 2
        assert all("starting from the beginning" in note for note in notes)
        assert read_metrics(tmp_path) == []
        assert not (tmp_path / "ledger.json").exists()
        save(run, 1)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000001"]


def test_shortened_log_is_reported_not_fatal(tmp_path: Path) -> None:
    begin(tmp_path, steps=2).close()
    os.truncate(tmp_path / "metrics.jsonl", (tmp_path / "metrics.jsonl").stat().st_size - 4)
    notes: list[str] = []
    with RunDir.open(tmp_path, CONFIG, note=notes.append) as run:
        checkpoint = run.restore()
        assert checkpoint is not None
        assert checkpoint.step == 2
        assert "metrics.jsonl" in notes[0]
        run.log({"kind": "train", "step": 3})
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 3]


def test_damaged_cache_is_made_again(tmp_path: Path) -> None:
    notes: list[str] = []
    calls: list[int] = []

    def make() -> dict[str, torch.Tensor]:
        calls.append(1)
        return {"ids": torch.arange(5), "none": torch.zeros(0, 3), "half": torch.ones(2, dtype=torch.bfloat16)}

    with begin(tmp_path, note=notes.append) as run:
        first = run.cache("fixed", make)
        assert torch.equal(run.cache("fixed", make)["ids"], first["ids"])
        assert len(calls) == 1
        for damage in (flip, cut, lambda path: path.write_bytes(b"")):
            damage(tmp_path / "data" / "fixed.safetensors")
            again = run.cache("fixed", make)
            assert all(torch.equal(again[name], first[name]) for name in first)
    assert len(calls) == 4
    assert len(notes) == 3
    assert "making it again" in notes[0]


# ---------------------------------------------------------------- the disk is full


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.fault("full disks")
def test_full_disk_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(tmp_path, steps=2)
    for broken in (
        "os.fsync",
        "understudy.runs.checkpoint.save_tensors",
        "understudy.runs.checkpoint.sha256",
        "os.rename",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(broken, no_space)
            with pytest.raises(UserError) as caught:
                run.save(3, write_model, {}, {})
        text = one_line(caught)
        assert "the disk is full" in text
        assert "resumes from step 2" in text
        there = [path.name for path in (tmp_path / "checkpoints").iterdir()]
        assert sorted(there) == ["step-00000001", "step-00000002"], broken
    run.close()
    with begin(tmp_path) as run:
        save(run, 3)


@pytest.mark.fault("full disks")
def test_full_disk_while_logging_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(tmp_path, steps=1)
    real = os.write

    def half(handle: int, data: bytes) -> int:
        if len(data) < 10:
            no_space()
        return real(handle, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr("os.write", half)
        with pytest.raises(UserError, match="the disk is full"):
            run.log({"kind": "train", "step": 2, "text": "x" * 100})
    run.log({"kind": "train", "step": 2})
    run.close()
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_size_limit_of_the_system(tmp_path: Path) -> None:
    """A real refusal by the kernel (ulimit -f), which arrives as an exception of safetensors."""
    import resource

    def big_model(folder: Path) -> None:
        save_tensors(folder / "model.safetensors", {"w": torch.zeros(200_000)})

    begin(tmp_path, steps=1).close()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = "nothing was raised"
        try:
            run = begin(tmp_path)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            run.save(2, big_model, {}, {})
        except BaseException as error:
            text = f"{type(error).__name__} {error}"
        os.write(write, text.encode())
        os._exit(0)
    os.waitpid(pid, 0)
    text = os.read(read, 10_000).decode()
    assert text.startswith("UserError out: ")
    assert "ulimit -f" in text
    assert "resumes from step 1" in text
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]
    assert read_status(tmp_path)["state"] == "stopped"
    assert "ulimit -f" in read_status(tmp_path)["reason"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    place = tmp_path / "disk"
    place.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.fault("full disks")
@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_really_full_disk(small_disk: Path) -> None:
    run = begin(small_disk / "run", steps=2)
    (small_disk / "filler").write_bytes(bytes(small_disk_free(small_disk) - 4096))
    with pytest.raises(UserError) as caught:
        save(run, 3)
    assert "the disk is full" in one_line(caught)
    run.close()
    (small_disk / "filler").unlink()
    with begin(small_disk / "run") as run:
        assert [path.name for path in checkpoints(run.path)] == ["step-00000001", "step-00000002"]
        assert [record["step"] for record in read_metrics(run.path)] == [1, 2]
        save(run, 3)


def small_disk_free(path: Path) -> int:
    return os.statvfs(path).f_bavail * os.statvfs(path).f_frsize


def test_a_bug_in_the_caller_is_not_blamed_on_the_disk(tmp_path: Path) -> None:
    def broken(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise ZeroDivisionError

    run = begin(tmp_path, steps=1)
    with pytest.raises(ZeroDivisionError):
        run.save(2, broken, {}, {})
    with pytest.raises(ValueError, match="Out of range float"):
        run.save(2, write_model, {}, {"best": float("inf")})
    with pytest.raises(ValueError, match="survive JSON"):
        run.save(2, write_model, {}, {"by_step": {1: 2}})
    run.close()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]


def test_ctrl_c_while_saving_leaves_nothing_half(tmp_path: Path) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), begin(tmp_path, steps=1) as run:
        run.save(1, interrupted, {}, {})
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]
    assert read_status(tmp_path)["state"] == "stopped"
    assert read_status(tmp_path)["reason"] == "interrupted"


def test_same_step_again_replaces_it(tmp_path: Path) -> None:
    run = begin(tmp_path, steps=2)
    run.save(2, write_model, {"t": torch.ones(1)}, {"again": True})
    run.close()
    checkpoint = begin(tmp_path).restore()
    assert checkpoint is not None
    assert checkpoint.state == {"again": True}


# ---------------------------------------------------------------- the folder cannot be used


def test_folders_that_cannot_be_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path, words in (
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "below", "is a file"),
        (tmp_path / "link", "is a file"),
        (tmp_path / ("x" * 300), "too long"),
    ):
        with pytest.raises(UserError) as caught:
            RunDir.open(path, CONFIG)
        assert words in one_line(caught)
    assert (tmp_path / "file").read_text() == "mine"

    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    # root may write anywhere, so the refusal is simulated
    for call in ("os.mkdir", "os.open"):
        with monkeypatch.context() as patch:
            patch.setattr(call, denied)
            with pytest.raises(UserError) as caught:
                RunDir.open(tmp_path / f"new-{call}", CONFIG)
        assert "permission denied" in one_line(caught)


def test_modules_under_test_hold_no_pickle() -> None:
    for module in (checkpoint_module, files):
        text = Path(str(module.__file__)).read_text()
        assert "import pickle" not in text
        assert "torch.load" not in text
