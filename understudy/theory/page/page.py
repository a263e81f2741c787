"""The theory page: one self-contained HTML file, no network, no scripts, every text escaped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from understudy import __version__
from understudy.runs.files import write_bytes
from understudy.theory.claims.claim import Claim, Options, Result, Row, number
from understudy.theory.claims.registry import PARTS
from understudy.theory.information import Info
from understudy.theory.page.figures import FIGURES
from understudy.theory.page.plots import drawing, to_svg
from understudy.theory.page.typeset import typeset

_HERE = Path(__file__).parent


def write_page(path: Path, results: Sequence[tuple[Claim, Result]], options: Options) -> Path:
    """Write the page of these results and return its path. The file is replaced whole or not at all."""
    write_bytes(path, render(results, options).encode("utf-8"))
    return path


def render(results: Sequence[tuple[Claim, Result]], options: Options) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["math"] = typeset
    sections = {claim.name: _section(claim, result, options) for claim, result in results}
    parts = [
        {"title": title, "lead": lead, "claims": [sections[c.name] for c in claims if c.name in sections]}
        for title, lead, claims in PARTS
    ]
    rows = [row for _, result in results for row in result.rows]
    return environment.get_template("page.html.j2").render(
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        version=__version__,
        seed=options.seed,
        given=" ".join(options.words()),
        parts=[part for part in parts if part["claims"]],
        whole=len(results) > 1,
        claims=len(results),
        rows=len(rows),
        broken=sum(not row.holds for row in rows),
        models=[(info.value, info.sees, info.online) for info in Info],
    )


def _section(claim: Claim, result: Result, options: Options) -> dict[str, Any]:
    svg = None
    if claim.figure and result.data:
        with drawing():
            svg = Markup(to_svg(FIGURES[claim.name](result.data), f"fig-{claim.name}", claim.alt))
    words = ["understudy theory", claim.name, *options.words(), *([f"--seed {options.seed}"] if options.seed else [])]
    return {
        "claim": claim,
        "holds": result.holds,
        "headlines": [_row(row) for row in result.headlines],
        "rows": [_row(row) for row in result.rows],
        "svg": svg,
        "command": " ".join(words),
    }


def _row(row: Row) -> dict[str, Any]:
    return {"computed": row.computed, "bound": row.bound_text, "observed": number(row.observed), "holds": row.holds}
