"""understudy report"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from understudy.cli import options
from understudy.errors import UserError
from understudy.terminal import console


@dataclass(frozen=True)
class ReportConfig:
    runs: tuple[str, ...] = ()
    """One directory of a comparison, of a diagnosis or of `understudy auto`, or run directories."""
    out: str = ""
    """File of the page. Default: report.html (of a diagnosis: diagnosis.html) in the first directory."""


def report_command(args: Sequence[str]) -> int:
    """understudy report"""
    config = options.parse(
        ReportConfig,
        args,
        "understudy report",
        "One self-contained HTML page from run directories. Loads no model and needs no network.",
        epilog="examples\n  understudy report runs/demo\n  understudy report runs/sft-0 runs/opd-0 --out page.html\n"
        "  understudy report runs/diagnose-solver-0\n  understudy report runs/auto-0",
        positional="runs",
    )
    if not config.runs:
        raise UserError("runs", "", "missing: give one comparison directory, or run directories")
    from understudy import report  # seconds of imports, which --help does not need
    from understudy.report import auto
    from understudy.report.diagnosis import page

    paths, out = [Path(r) for r in config.runs], Path(config.out) if config.out else None
    diagnosed = [path for path in paths if page.is_diagnosis(path)]
    if diagnosed and len(paths) > 1:
        raise UserError("runs", diagnosed[0], "is a diagnosis: report on it alone")
    routed = [path for path in paths if auto.is_auto(path)]
    if routed and len(paths) > 1:
        raise UserError("runs", routed[0], "is a directory of auto: report on it alone, or name its phases")
    if diagnosed:
        written = page.build(paths[0], out)
    else:
        written = auto.build(paths[0], out) if routed else report.build(paths, out)
    console.print(f"report: {written}", markup=False)
    return 0
