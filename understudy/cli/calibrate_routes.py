"""understudy calibrate fit-routes: what the recommendation of a diagnosis rests on, from the bank. Loads no model."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from understudy.calibrate import records
from understudy.calibrate.bank import routes
from understudy.calibrate.bank.rows import Row, read
from understudy.calibrate.table import markdown
from understudy.cli import options
from understudy.diagnosis.forecast.analogs import install, load, packed
from understudy.errors import UserError
from understudy.runs.files import write_output
from understudy.terminal import console

COMMAND = "understudy calibrate fit-routes"


@dataclass(frozen=True)
class FitRoutesConfig:
    rows: str = "docs/results/bank.jsonl"
    """Rows that `understudy calibrate bank` wrote."""
    diagnoses: str = "docs/results/calibration.json"
    """Diagnoses of the same scenarios and seeds, for the score."""
    group: str = ""
    """Score only these: set, score. Default: both."""
    out: str = ""
    """Write the cases and what was chosen to this JSON file."""
    install: bool = False
    """Judge routes by them from now on, in this installation."""
    json: bool = False
    """Print JSON."""


def calibrate_fit_routes(args: Sequence[str]) -> int:
    """understudy calibrate fit-routes"""
    config = options.parse(
        FitRoutesConfig,
        args,
        COMMAND,
        "Relate the accuracies of all routes to those of SFT and OPD by the rows of the bank, and score the advice\n"
        "that follows: regret, coverage, Brier skill, each scenario judged by the others.",
        epilog="examples\n"
        "  understudy calibrate fit-routes                  (how good is it?)\n"
        "  understudy calibrate fit-routes --install        (and use it)",
    )
    rows: list[Row] = read(Path(config.rows)) if Path(config.rows).is_file() else []
    if not rows and config.rows != FitRoutesConfig.rows:
        read(Path(config.rows))  # says what is wrong
    cases = routes.joined(rows, load().cases)
    units = f"{len(rows)} rows of the bank" + ("" if len(rows) == len(cases) else f", {len(cases) - len(rows)} notes")
    fitted = routes.fitted(cases, rows, f"{COMMAND}: {units}")
    diagnosed = records.read(config.diagnoses)
    seen = [r for r in diagnosed if not config.group or r.set == config.group]
    judged = routes.judged(fitted, diagnosed)
    kept = {(r.scenario, r.seed) for r in seen}
    judged = [j for j in judged if (j.case.scenario, j.case.seed) in kept]
    if not judged:
        raise UserError("diagnoses", config.diagnoses, "none is of a scenario and seed among the cases")
    score = _plain(routes.score(judged))
    if not config.group:
        fitted = replace(fitted, score=score, stretch=score["stretch"])
    if config.out:
        text = packed(fitted)
        write_output(config.out, text.encode(), text[:1].encode() + b"\n", "coefficients")
    if config.install:
        install(fitted)
    if config.json:
        print(json.dumps(score))
        return 0
    chosen = f"width {fitted.width:g}, even {fitted.even:g}, noise {fitted.noise:g}"
    console.print(f"{units}; {chosen}; an online phase shows after {fitted.visible} rollouts", markup=False)
    for line in lines(score):
        console.print(line, markup=False)
    return 0


def lines(score: Mapping[str, Any]) -> Iterator[str]:
    """The score as tables."""
    yield f"{score['cases']} diagnosed cases in {score['scenarios']} scenarios, each judged by the other scenarios"
    yield f"95% intervals that held: {score['covered']:.0%}, mean width {100 * score['width']:.0f} points"
    yield f"stretched as the other scenarios ask: {score['stretched']:.0%}; all ask for {score['stretch']:.2f} times"
    yield ""
    table = (
        (name, _(r["mean"]), _(r["worst"]), f"{r['above']:.0%}", r["cases"]) for name, r in score["regret"].items() if r
    )
    yield f"the advice was expected to lose {100 * score['stated']:.1f} points against the best route; measured:"
    yield from markdown(("rule", "mean regret", "worst", "above 5 points", "cases"), table)
    yield ""
    stated = (
        (text, _(s.get("stated")), _(s.get("happened")), _(s.get("skill"), 2), s["cases"])
        for text, s in score["skill"].items()
    )
    yield from markdown(("stated", "mean probability", "happened", "Brier skill", "cases"), stated)


def _(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _plain(value: Any) -> Any:
    """Floats with four decimals; None for nan."""
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, dict) else value
