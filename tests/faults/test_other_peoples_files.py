"""Files that are not ours stay: what looks temporary, what symbolic links point to, folders of other things."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from understudy.cli.main import main
from understudy.errors import UserError
from understudy.experiments.compare import plan_of
from understudy.experiments.config import CompareConfig
from understudy.experiments.plan import check_folder, distinct
from understudy.report.html import save
from understudy.runs.directory import RunDir
from understudy.runs.files import STEPS, TENSORS, new_folder, recover

CONFIG: dict[str, Any] = {"method": "sft", "seed": 1}
FOREIGN = (
    ".tmp", ".tmp-notes", ".tmpfile", ".tmp-notes-1", ".tmp.swp", ".tmp-run-12", ".old-notes", ".old-thesis",
    ".tmpAbC123", ".tmp-config.json", ".tmp-final", ".tmp-step-00000001-x",
)  # fmt: skip


def snapshot(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def fill(folder: Path, name: str, as_folder: bool) -> Path:
    path = folder / name
    if as_folder:
        path.mkdir(parents=True)
        path = path / "thesis.tex"
    path.write_text("mine")
    return path


@pytest.mark.fault("other people's files")
@pytest.mark.parametrize("as_folder", [False, True])
@pytest.mark.parametrize("name", FOREIGN)
def test_entries_that_look_temporary_stay(name: str, as_folder: bool, tmp_path: Path) -> None:
    """A folder that holds one is not empty; beside a run they are left alone, also when the run is resumed."""
    mine = fill(tmp_path, name, as_folder)
    with pytest.raises(UserError, match="is not empty and not a run"):
        RunDir.open(tmp_path, CONFIG)
    assert mine.read_text() == "mine"
    run = tmp_path / "run"
    RunDir.open(run, CONFIG).close()
    beside = fill(run, name, as_folder)
    RunDir.open(run, CONFIG).close()
    assert beside.read_text() == "mine"


@pytest.mark.parametrize("ours", [STEPS, TENSORS], ids=["checkpoints", "data"])
def test_inside_our_folders_too(ours: Any, tmp_path: Path) -> None:
    """Only names of this folder are recovered; nothing is moved over what is there."""
    for name in (".tmp-notes", ".tmp-notes-1", ".old-notes"):
        fill(tmp_path, name, True)
    before = snapshot(tmp_path)
    recover(tmp_path, ours)
    assert snapshot(tmp_path) == before
    (tmp_path / ".old-step-00000002").mkdir()
    (tmp_path / ".tmp-step-00000001-gone").mkdir()
    (tmp_path / ".tmp-a.safetensors-7").write_text("")
    recover(tmp_path, STEPS)
    recover(tmp_path, TENSORS)
    assert snapshot(tmp_path) == before
    assert (tmp_path / "step-00000002").is_dir()
    assert not (tmp_path / ".tmp-step-00000001-gone").exists()


def test_a_new_folder_that_fails_touches_no_neighbour(tmp_path: Path) -> None:
    for name in FOREIGN:
        fill(tmp_path, name, False)
    before = snapshot(tmp_path)

    def fails() -> None:
        with new_folder(tmp_path / "export") as folder:
            (folder / "half").write_text("")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fails()
    assert snapshot(tmp_path) == before


LINKS = (
    "metrics.jsonl", "samples.jsonl", ".lock", "status.json", "config.json", "provenance.json", "ledger.json",
    "checkpoints", "data", "final", "checkpoints/step-00000001", "data/labels.safetensors",
    "checkpoints/damaged-step-1", ".tmp-config.json-1", ".old-final", "phases",
)  # fmt: skip


@pytest.mark.fault("symbolic links")
@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("name", LINKS)
def test_links_are_not_followed(name: str, begun: bool, tmp_path: Path) -> None:
    """Catches a log that is cut, a folder that is emptied and a file that is overwritten somewhere else."""
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    for i in range(3):
        (elsewhere / f"step-0000000{i}").mkdir()
        (elsewhere / f"step-0000000{i}" / "state.json").write_text("{}")
    (elsewhere / "file").write_text("mine\n" * 3)
    RunDir.open(run, CONFIG).close()
    link = run / name
    link.parent.mkdir(exist_ok=True)
    target = elsewhere if "." not in name or name == ".old-final" else elsewhere / "file"
    if name == "config.json":
        target.write_text(link.read_text())
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    if not begun and name != "config.json":
        (run / "config.json").unlink()
    before = snapshot(elsewhere)
    with pytest.raises(UserError, match=r"symbolic link|without its config\.json|is not empty"):
        RunDir.open(run, CONFIG)
    assert snapshot(elsewhere) == before


@pytest.mark.fault("pipes and devices")
@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", [n for n in LINKS if "." in n])
def test_pipes_are_not_waited_for(name: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    RunDir.open(run, CONFIG).close()
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    with pytest.raises(UserError, match=r"is a pipe or a device|without its config\.json|is not empty|is not a file"):
        RunDir.open(run, CONFIG)


def test_a_run_folder_that_is_a_link_itself(tmp_path: Path) -> None:
    """The user names it, so it is where the run is."""
    (tmp_path / "big-disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "big-disk")
    RunDir.open(tmp_path / "run", CONFIG).close()
    RunDir.open(tmp_path / "run", CONFIG).close()
    assert (tmp_path / "big-disk" / "config.json").is_file()


# -- comparisons ----------------------------------------------------------------------------------------------------


def test_labels_have_folders_of_their_own(tmp_path: Path) -> None:
    """Catches two arms that share a run, of which the second takes the first one's results."""
    names = distinct(["a/b", "a-b", "a b", "A-b", "/", "c"])
    assert names["a/b"] == "a-b"
    assert names["c"] == "c"
    assert len({name.lower() for name in names.values()}) == 6
    experts = ("a/b=solver", "a-b=mediocre", "a=solver", "a-sft=solver")
    config = CompareConfig("scratch", experts, ("sft", "seq_kd"), (0,), out=str(tmp_path), axis="updates")
    runs = plan_of(config, ["x"]).runs
    assert len({r.config.out for r in runs}) == len(runs) == 8


@pytest.mark.fault("other people's files")
@pytest.mark.parametrize("name", ["thesis.tex", ".git", "metrics.jsonl", ".tmp-notes"])
def test_a_folder_of_other_things(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=r"is not empty and not a comparison \(it holds"):
        check_folder(tmp_path, {"a-sft-0"})
    (tmp_path / "compare.json").write_text("{}")
    check_folder(tmp_path, {"a-sft-0"})


def test_a_folder_of_a_comparison(tmp_path: Path) -> None:
    check_folder(tmp_path / "new", set())
    check_folder(tmp_path, set())
    (tmp_path / "a-sft-0").mkdir()
    check_folder(tmp_path, {"a-sft-0"})
    (tmp_path / "a-opd-0").symlink_to(tmp_path)
    with pytest.raises(UserError, match="symbolic link a-opd-0"):
        check_folder(tmp_path, {"a-sft-0", "a-opd-0"})


def test_compare_writes_nothing_into_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    before = snapshot(tmp_path)
    words = ["compare", "--student", "scratch", "--experts", "x=solver", "--out", str(tmp_path), "--axis", "updates"]
    assert main(words) == 2
    assert "is not empty and not a comparison" in capsys.readouterr().err
    assert snapshot(tmp_path) == before


@pytest.mark.fault("other people's files")
@pytest.mark.parametrize("content", ["\\documentclass{article}", "<p>mine", "{}"])
def test_a_page_replaces_pages_only(content: str, tmp_path: Path) -> None:
    """Catches a report that replaces a file of the user; a link is replaced, not followed."""
    mine = tmp_path / "thesis"
    mine.write_text(content)
    with pytest.raises(UserError, match="exists and is not a page of a report"):
        save("<!doctype html>", mine, "report.html")
    assert mine.read_text() == content
    for text in ("", "<!DOCTYPE html><p>old"):
        (tmp_path / "page.html").write_text(text)
        save("<!doctype html>new", tmp_path / "page.html", "")
        assert (tmp_path / "page.html").read_text() == "<!doctype html>new"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is not a file"):
        save("<!doctype html>", tmp_path / "pipe", "")


@pytest.mark.fault("other people's files")
def test_coefficients_replace_coefficients_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches rows that are lost because --out names them."""
    rows = Path(__file__).parents[2] / "docs" / "results" / "calibration.json"
    mine = tmp_path / "results.jsonl"
    mine.write_text('{"mine": 1}\n{"mine": 2}\n')
    assert main(["calibrate", "fit", "--rows", str(rows), "--out", str(mine)]) == 2
    assert "exists and is not coefficients" in capsys.readouterr().err
    assert mine.read_text() == '{"mine": 1}\n{"mine": 2}\n'
    (tmp_path / "new.json").write_text('{\n "older": 1}\n')
    assert main(["calibrate", "fit", "--rows", str(rows), "--out", str(tmp_path / "new.json")]) == 0
    assert "older" not in (tmp_path / "new.json").read_text()
