"""The page, the picture and the words of a training by `understudy auto`, from its directory. Loads no model.

`build(folder)` writes report.html, `picture(folder, target)` the path as SVG or PNG; `finding(folder)` gives two to
five sentences, `terminal(folder, width)` what a terminal shows at the end.
"""

from __future__ import annotations

from pathlib import Path

from understudy.report.auto import words
from understudy.report.auto.load import is_auto, load
from understudy.report.auto.page import build, picture
from understudy.report.auto.terminal import terminal


def finding(folder: Path) -> list[str]:
    """What was done, what it gave and cost, why it stopped, and the roads not taken; UserError as `build`."""
    return words.finding(load(folder))


__all__ = ["build", "finding", "is_auto", "picture", "terminal"]
