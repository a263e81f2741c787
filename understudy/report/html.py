"""Writes the page: one file, no network, no scripts, every text escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from understudy.errors import UserError
from understudy.report.comparison.load import Comparison, load
from understudy.report.comparison.page import context
from understudy.runs.files import describe_os_error, write_bytes

_HERE = Path(__file__).parent


def build(paths: Sequence[Path], out: Path | None = None) -> Path:
    """Write the report on one comparison directory, or on one or more run directories; returns its path.

    out: the HTML file, by default report.html in the first directory. The file is replaced whole or not at
    all. UserError when a path is no such directory or `out` cannot be written.
    """
    comparison = load(paths)
    target = Path(out) if out is not None else Path(paths[0]) / "report.html"
    return save(render(comparison), target, "report.html")


def render(comparison: Comparison) -> str:
    """The page as text."""
    return filled("comparison/page.html.j2", ("style.css",), context(comparison))


def filled(template: str, styles: Sequence[str], values: Mapping[str, Any]) -> str:
    """A template of this folder with its style sheets and `values`; every text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,  # for every file name: model text is data, never markup
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup("\n".join((_HERE / name).read_text(encoding="utf-8").strip() for name in styles))
    return environment.get_template(template).render(style=style, **values)


def save(page: str, target: Path, name: str) -> Path:
    """Write `page`, whole or not at all, to `target`, or to `name` in it if that is a folder."""
    if target.is_dir():
        target = target / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, page.encode("utf-8", errors="replace"))
    except OSError as error:
        raise UserError("out", target, describe_os_error(error) or str(error)) from error
    return target
