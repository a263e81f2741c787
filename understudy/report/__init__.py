"""The report: one self-contained HTML page from run directories, and the finding in words.

`build(paths, out)` writes the page. `load(paths)` gives a Comparison: `finding` makes sentences of it, `table`
rows, `terminal` a table for a terminal. Needs no torch and no models: a page can be rebuilt wherever the run
directories are.
"""

from __future__ import annotations

from understudy.report.comparison.finding import finding
from understudy.report.comparison.forecasts import terminal_beforehand
from understudy.report.comparison.load import Comparison, load
from understudy.report.comparison.page import build
from understudy.report.comparison.table import Row, headers, table, terminal

__all__ = ["Comparison", "Row", "build", "finding", "headers", "load", "table", "terminal", "terminal_beforehand"]
