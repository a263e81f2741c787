"""Every command prints --help, and the lists of commands import nothing large."""

from __future__ import annotations

import subprocess
import sys

import pytest

from understudy.cli import main
from understudy.cli.commands import CALIBRATE, COMMANDS

NAMES = [[name] for name in COMMANDS] + [["calibrate", name] for name in CALIBRATE]


@pytest.mark.parametrize("words", NAMES, ids=" ".join)
def test_help_is_printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a default with a percent sign that argparse takes for a format: `9%` crashed three commands."""
    status: object = 0
    try:
        status = main.main([*words, "--help"])
    except SystemExit as done:
        status = done.code or 0
    assert status == 0
    assert "understudy" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["calibrate", "--help"]], ids=" ".join)
def test_the_lists_of_commands_load_nothing_large(words: list[str]) -> None:
    """Catches an import on the way to the first help text, which is printed within 0.3 s."""
    code = "import sys; from understudy.cli.main import main; assert main(sys.argv[1:]) == 0; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"torch", "transformers", "numpy", "rich", "yaml", "argparse", "understudy.config"}


def test_the_help_of_a_command_loads_no_torch() -> None:
    """Catches a command whose --help takes seconds, because its options stand in a module that trains."""
    code = """
import sys
from understudy.cli.main import main
for name in sys.argv[1:]:
    try:
        main([name, "--help"])
    except SystemExit:
        pass
    assert not {"torch", "transformers"} & set(sys.modules), name
"""
    done = subprocess.run([sys.executable, "-c", code, *COMMANDS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
