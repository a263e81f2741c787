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
from understudy.theory.families.information import Info
from understudy.theory.page.figures import FIGURES
from understudy.theory.page.plots import drawing, to_svg
from understudy.theory.page.typeset import typeset

_HERE = Path(__file__).parent

PARTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "The expert is within reach",
        "When some student equals the expert, its samples suffice, at any horizon.",
        ("realizable", "scores", "constant"),
    ),
    (
        "The expert is out of reach: the offline bottleneck",
        "What follows is about a single action, H = 1, so no error accumulates. Horizon is not the reason.",
        ("bottleneck", "truncated", "rate", "two-point", "logits", "coverage", "baseline", "trap", "gaussian"),
    ),
    (
        "Misspecified, but relative to the reward",
        "A student that cannot match the expert may still match what is rewarded.",
        ("figure3", "benign", "asymmetry", "alignment", "gradient", "best-of-two"),
    ),
    (
        "Finite samples, horizon, and the search for a counter-example",
        "How much data, how long, and every attempt of ours to break it.",
        ("base-policy", "horizon", "falsifiers"),
    ),
    (
        "The program",
        "The statements are about the code that trains: its own losses, labels, rollouts and updates.",
        ("rows",),
    ),
)


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
    by_name = {claim.name: _section(claim, result, options) for claim, result in results}
    parts = []
    for title, lead, names in PARTS:
        sections = [by_name[name] for name in names if name in by_name]
        if sections:
            parts.append({"title": title, "lead": lead, "claims": sections})
    rows = [row for _, result in results for row in result.rows]
    given = " ".join(f"--{k} {getattr(options, k):g}" for k in sorted(options.given()))
    return environment.get_template("page.html.j2").render(
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        version=__version__,
        seed=options.seed,
        given=given,
        parts=parts,
        whole=len(results) > 1,
        claims=len(results),
        rows=len(rows),
        broken=sum(not row.holds for row in rows),
        models=[(info.value, info.sees, info.online) for info in Info],
    )


def _section(claim: Claim, result: Result, options: Options) -> dict[str, Any]:
    figure = None
    if claim.name in FIGURES and result.data:
        drawn = FIGURES[claim.name]
        with drawing():
            svg = to_svg(drawn.draw(result.data), f"fig-{claim.name}", drawn.alt)
        figure = {"svg": Markup(svg), "caption": drawn.caption}
    command = " ".join(
        ["understudy theory", claim.name]
        + [f"--{k} {getattr(options, k):g}" for k in sorted(options.given())]
        + ([f"--seed {options.seed}"] if options.seed else [])
    )
    return {
        "claim": claim,
        "holds": result.holds,
        "headlines": [_row(row) for row in result.headlines],
        "rows": [_row(row) for row in result.rows],
        "figure": figure,
        "command": command,
    }


def _row(row: Row) -> dict[str, Any]:
    return {"computed": row.computed, "bound": row.bound_text, "observed": number(row.observed), "holds": row.holds}
