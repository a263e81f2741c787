"""Every command answers --help: what a stranger types first."""

from __future__ import annotations

import pytest

from understudy.cli import calibrate as calibrate_cli
from understudy.cli import main

NAMES = [[name] for name in main.COMMANDS] + [["calibrate", name] for name in calibrate_cli.COMMANDS]


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
