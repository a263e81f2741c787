"""Every command answers --help: what a stranger types first."""

from __future__ import annotations

import pytest

from understudy.cli import main
from understudy.cli.commands import CALIBRATE, COMMANDS

NAMES = [[name] for name in COMMANDS] + [["calibrate", name] for name in CALIBRATE]


@pytest.mark.parametrize("words", NAMES, ids=" ".join)
def test_help_is_printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a default with a percent sign that argparse takes for a format: three commands died of `9%`."""
    status: object = 0
    try:
        status = main.main([*words, "--help"])
    except SystemExit as done:
        status = done.code or 0
    assert status == 0
    assert "understudy" in capsys.readouterr().out
