"""The theory page: one self-contained HTML file, no network, no scripts, every text escaped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from understudy.report.html import filled
from understudy.theory.claims.claim import Claim, Options, Result, Row, number
from understudy.theory.claims.registry import PARTS
from understudy.theory.information import Info
from understudy.theory.page.figures import panels
from understudy.theory.page.typeset import typeset


def render(results: Sequence[tuple[Claim, Result]], options: Options, version: str = "") -> str:
    """The page of these results as text."""
    sections = {claim.name: _section(claim, result, options) for claim, result in results}
    parts = [
        {"title": title, "lead": lead, "claims": [sections[c.name] for c in claims if c.name in sections]}
        for title, lead, claims in PARTS
    ]
    rows = [row for _, result in results for row in result.rows]
    values = {
        "title": "Online or offline imitation: the claims, computed",
        "version": version,
        "seed": options.seed,
        "given": " ".join(options.words()),
        "parts": [part for part in parts if part["claims"]],
        "whole": len(results) > 1,
        "claims": len(results),
        "rows": len(rows),
        "broken": sum(not row.holds for row in rows),
        "models": [(info.value, info.sees, info.online) for info in Info],
    }
    return filled("page.html.j2", ("style.css", "page.css"), values, Path(__file__).parent, {"math": typeset})


def _section(claim: Claim, result: Result, options: Options) -> dict[str, Any]:
    words = ["understudy theory", claim.name, *options.words(), *([f"--seed {options.seed}"] if options.seed else [])]
    return {
        "claim": claim,
        "holds": result.holds,
        "headlines": [_row(row) for row in result.headlines],
        "rows": [_row(row) for row in result.rows],
        "figures": panels(claim.name, result.data, claim.alt) if claim.figure and result.data else [],
        "command": " ".join(words),
    }


def _row(row: Row) -> dict[str, Any]:
    return {"computed": row.computed, "bound": row.bound_text, "observed": number(row.observed), "holds": row.holds}
