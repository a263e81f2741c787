"""understudy calibrate score | fit | table: no language model is loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from understudy.calibrate import metrics
from understudy.calibrate.fit import fit
from understudy.calibrate.records import Record, read
from understudy.calibrate.table import COMMAND, confusion_table, kinds_table, regret_table, write
from understudy.cli import options
from understudy.diagnosis.forecast.model import find, install
from understudy.errors import UserError
from understudy.runs.files import write_output
from understudy.terminal import console


@dataclass(frozen=True)
class MetricsConfig:
    rows: str = ""
    """JSON lines with outcomes and evidence, such as results.jsonl, or the committed calibration.json."""
    model: str = ""
    """Judge again by this model of verdict.json, or of a file that `fit` wrote. Default: the verdicts in the rows."""
    set: str = ""
    """Only rows of this set: set (the rule was fitted on them) or score. Default: all."""
    json: bool = False
    """Print JSON."""


def calibrate_score(args: Sequence[str]) -> int:
    config = options.parse(MetricsConfig, args, "understudy calibrate score", "Verdicts against outcomes.")
    rows = _rows(config.rows, config.set)
    if config.model:
        rows = metrics.rejudged(rows, find(config.model))
    result = metrics.score(rows)
    if config.json:
        lost = {name: r._asdict() for name, r in metrics.regrets(rows).items()}
        print(json.dumps(result.to_dict() | {"regret": lost}))
        return 0
    for line in [*kinds_table(result), "", *confusion_table(result), "", *regret_table(metrics.regrets(rows))]:
        console.print(line, markup=False)
    if result.cost_share == result.cost_share:
        console.print(f"\nthe most expensive diagnosis took {result.cost_share:.1%} of both trainings", markup=False)
    return 0


@dataclass(frozen=True)
class FitConfig:
    rows: str = ""
    """JSON lines with outcomes and evidence, or the committed calibration.json."""
    set: str = "set"
    """Only rows of this set."""
    prior: str = "prior"
    """Model of verdict.json towards which the coefficients are shrunk."""
    weight: float = 1.0
    """Weight of the prior: 1 = as stated, 4 = as if it were known twice as precisely."""
    confidence: float = 0.0
    """Probability that an answer needs. 0 = as in the prior."""
    name: str = "fitted"
    """Name of the new model."""
    out: str = ""
    """Write the coefficients to this JSON file."""
    install: bool = False
    """Write them to this installation's verdict.json, and use them from now on."""


def calibrate_fit(args: Sequence[str]) -> int:
    config = options.parse(FitConfig, args, "understudy calibrate fit", "Coefficients of the verdict from rows.")
    if config.weight <= 0:
        raise UserError(
            "weight", config.weight, "must be above 0: without a prior a few rows do not fix the coefficients"
        )
    if config.confidence and not 0.5 <= config.confidence < 1:
        raise UserError("confidence", config.confidence, "must be at least 0.5 and below 1 (0: as the prior's)")
    rows = _rows(config.rows, config.set)
    prior = find(config.prior)
    confidence = config.confidence or prior.confidence
    source = f"understudy calibrate fit --set {config.set} --prior {config.prior} --weight {config.weight:g}"
    source += f" --confidence {confidence:g}"
    model = fit([r.case() for r in rows], prior, config.weight, config.name, source)
    model = replace(model, confidence=confidence)
    if config.out:
        text = json.dumps(model.to_dict(), indent=1) + "\n"
        write_output(config.out, text.encode(), text[:1].encode() + b"\n", "coefficients")
    if config.install:
        install(model, use=True)
    console.print(f"{model.name}: fitted to {len(rows)} rows", markup=False)
    return 0


@dataclass(frozen=True)
class TableConfig:
    rows: str = "runs/calibrate/results.jsonl"
    """Rows that `run` wrote, or a committed calibration.json; the rows are judged again."""
    out: str = "docs/results"
    """Directory of calibration.md and calibration.json."""


def calibrate_table(args: Sequence[str]) -> int:
    """understudy calibrate table"""
    config = options.parse(
        TableConfig,
        args,
        COMMAND,
        "Judge every row by the rule in use, score the verdicts, and write the page. Loads no model.",
        epilog="examples\n"
        "  understudy calibrate table\n"
        "  understudy calibrate table --rows docs/results/calibration.json     (the page again, without any run)",
    )
    console.print(f"page: {write(read(config.rows), Path(config.out))}", markup=False)
    return 0


def _rows(path: str, chosen: str) -> list[Record]:
    if not path:
        raise UserError("rows", "", "missing: give a file such as runs/calibrate/results.jsonl")
    rows = [r for r in read(path) if not chosen or r.set == chosen]
    if not rows:
        raise UserError("rows", path, f"no row of set '{chosen}'" if chosen else "is empty")
    return rows
