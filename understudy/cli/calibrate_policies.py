"""understudy calibrate policies"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from understudy.cli import options
from understudy.terminal import console

ROWS = "docs/results/bank.jsonl"


@dataclass(frozen=True)
class PoliciesConfig:
    rows: str = ROWS
    """Rows of the bank (understudy calibrate bank)."""
    diagnoses: str = "docs/results/bank-diagnoses.jsonl"
    """Diagnoses of these rows (understudy calibrate bank --diagnoses only)."""
    autos: str = "docs/results/bank-autos.jsonl"
    """What `auto` did on these rows (understudy calibrate bank --autos only)."""
    records: str = "docs/results/calibration.json"
    """Older diagnoses with outcomes (understudy calibrate table): of rows with the same scenario and seed, and for the
    coefficients of the forecast."""
    group: str = ""
    """set or score: judge only on these scenarios. Default: all."""
    write: bool = False
    """Write routes/gains.json, from which `auto` takes what a phase is expected to give."""
    json: bool = False
    """Print JSON."""


def calibrate_policies(args: Sequence[str]) -> int:
    """understudy calibrate policies"""
    config = options.parse(
        PoliciesConfig,
        args,
        "understudy calibrate policies",
        "Replay every decision rule on the rows of the bank, at equal FLOPs: accuracy, regret against the best of\n"
        "nothing, SFT, OPD, GKD, SFT+OPD and SFT+GKD, harm and cost, with 95% intervals over scenarios. What is\n"
        "fitted is judged on scenarios that it was not fitted on.",
    )
    from understudy.calibrate.bank import autos, diagnoses, policies, rows  # numpy, which --help must not load
    from understudy.routes import gains
    from understudy.runs.files import dumps

    known = rows.read(Path(config.rows))
    judged = [r for r in known if config.group in ("", r.set)]
    if config.write:
        gains.write(policies.gains_of(known))
    older = diagnoses.older(Path(config.records))
    ran = autos.read(Path(config.autos))
    rules = policies.rules(judged, diagnoses.read(Path(config.diagnoses), older), older, ran)
    scores = [policies.score(name, rule, judged, known) for name, rule in rules.items()]
    by_row, leads = policies.by_row(judged), policies.leads(judged, ran)
    if config.json:
        found = {"rules": [asdict(s) for s in scores], "leads": leads, "rows": by_row}
        console.out(dumps(found, readable=True).decode())
        return 0
    console.out(f"{len(judged)} rows of {len({r.scenario for r in judged})} scenarios, regret with 95% interval\n")
    shown = ["", "auto, as it ran, on the same rows:", *policies.lines_of_leads(leads)] if leads else []
    for line in [*policies.lines(scores), *shown, "", *policies.lines_by_row(by_row)]:
        console.out(line)
    return 0
