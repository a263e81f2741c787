"""Output whose reader has gone, or that cannot be written; characters that a terminal must not get."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from tiny import STUDENT

from understudy.errors import UserError, shown
from understudy.runs.read import read_status

ROOT = Path(__file__).parents[3]
ENV = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
SMALL = [
    "--task", "countdown", "--updates", "3", "--prompts-per-update", "2", "--max-new-tokens", "8", "--eval-every", "0",
    "--final-prompts", "2", "--final-samples", "1", "--no-eval-expert", "--save-every", "0", "--device", "cpu",
]  # fmt: skip


def piped(command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A line of bash; {u} is understudy. Its status is that of understudy."""
    line = command.replace("{u}", f"{sys.executable} -m understudy")
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"], env=ENV | env, capture_output=True, text=True, check=False
    )


def test_a_training_goes_on_without_a_reader(tmp_path: Path) -> None:
    """Catches the broken pipe that ended it with exit status 0, and its line on the other stream."""
    words = f"train --method sft --student {STUDENT} --expert solver --out {tmp_path / 'run'} {' '.join(SMALL)}"
    done = piped(f"{{u}} {words} 2>&1 | head -1")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
    assert read_status(tmp_path / "run")["state"] == "done"


@pytest.mark.parametrize("words", ["--help", "train --help", "calibrate list", "tasks", "nonsense"])
@pytest.mark.parametrize("reader", ["| true", "| head -1 > /dev/null", ">&-", "> /dev/null 2>&-"])
def test_a_reader_that_has_gone_is_no_error(words: str, reader: str) -> None:
    done = piped(f"{{u}} {words} {reader}")
    assert done.returncode == (2 if words == "nonsense" else 0)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert len(done.stderr.splitlines()) == (words == "nonsense" and "2>" not in reader)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_an_error() -> None:
    done = piped("{u} calibrate list > /dev/full")
    assert (done.returncode, done.stderr) == (2, "error: output: cannot be written: No space left on device\n")


def test_characters_that_the_output_lacks() -> None:
    done = piped("{u} 'naïve'", PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert done.stderr.startswith("error: command: na\\xefve: unknown")


HOSTILE = ["\x1b]0;title\x07", "\x1b[2J", "a\u202egpj.exe", "\u2066x\u2069", "\x9b31m", "a\u200fb", "\ud800", "x\x00",
           "b\x08\x7f", "\u061c", "\ufeff", "\u2028"]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_control_character_reaches_the_terminal(text: str) -> None:
    """In the field, the value and the hint, for instance of a row, a file name or a server's answer."""
    for line in (str(UserError(f"f{text}", f"v{text}v", f"hint {text}.")), shown(text)):
        assert not [c for c in line if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
        line.encode()
    assert shown("日本 é\tx\ny") == "日本 é\tx\ny"


def test_notes_and_bars_are_clean(capsys: pytest.CaptureFixture[str]) -> None:
    from understudy.runs.directory import to_stderr
    from understudy.terminal import Board, console

    to_stderr("a\x1b[31mb")
    with Board() as board:
        board.show("job\x1b[2J", "work\u202e", 1, 1, "note\x07")
        board.show("job", "note", 0, 0, "x\x1b")
    console.print("y\x1b[0m", markup=False)
    got = capsys.readouterr()
    assert "\x1b" not in got.out + got.err
    assert "\u202e" not in got.out
    assert "a\\x1b[31mb" in got.err
    assert "y\\x1b[0m" in got.out
