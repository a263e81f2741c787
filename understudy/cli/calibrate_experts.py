"""understudy calibrate experts"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from understudy.cli import options
from understudy.specs import option
from understudy.terminal import console

if TYPE_CHECKING:
    from understudy.calibrate.experts import Rank


@dataclass(frozen=True)
class ExpertsConfig:
    records: str = "docs/results/calibration.json"
    """Diagnoses with outcomes (understudy calibrate table)."""
    scores: str = "docs/results/experts.jsonl"
    """Gradient scores of the same scenarios and seeds; --measure adds to them."""
    measure: str = ""
    """Directory of `calibrate run` or `calibrate bank`: score the experts whose models are finished there, first."""
    truth: str = option("best", choices=("best", "sft"))
    """What an expert is judged by: best = of no training, SFT and online training; sft = SFT alone."""
    json: bool = False
    """Print JSON."""


def calibrate_experts(args: Sequence[str]) -> int:
    """understudy calibrate experts"""
    config = options.parse(
        ExpertsConfig,
        args,
        "understudy calibrate experts",
        "Choose among the experts that a student was trained with, by what was known before: the expert's own\n"
        "accuracy, the forecast, a gradient score (GRACE, arXiv 2511.02833), divergences. Regret against the best\n"
        "expert of each group (same student, task, training and seed), of all groups and of all pairs, and rank\n"
        "correlation with what training gave. What is fitted was fitted to other scenarios.",
        epilog="examples\n"
        "  understudy calibrate experts\n"
        "  understudy calibrate experts --measure runs/calibrate     (a few seconds per expert)",
    )
    from understudy.calibrate import experts, records  # numpy and scipy, which --help must not load
    from understudy.runs.files import dumps

    known, path = records.read(config.records), Path(config.scores)
    if config.measure:
        from understudy.calibrate.expert_scores import measure, ready  # torch

        missing = [(r.scenario, r.seed) for r in known if (r.scenario, r.seed) not in experts.read(path)]
        units = ready(Path(config.measure), missing)
        console.print(f"{len(units)} of {len(missing)} experts without a score can be scored", markup=False)
        for scored in measure(units):
            experts.write(path, [scored])
            console.print(f"{scored.scenario}, seed {scored.seed}: {scored.gradient:.4g}", markup=False)
    scores = experts.read(path)
    tables = {"all groups": experts.groups(known, truth=config.truth)}
    if some := experts.groups(known, scores, config.truth):
        tables["groups with gradient scores"] = some
    ranks = {
        title: [*(experts.rank(n, rule, cases) for n, rule in experts.rules(title != "all groups").items()),
                experts.by_chance(cases)] for title, cases in tables.items()
    }  # fmt: skip
    if config.json:
        console.out(dumps({title: [asdict(r) for r in rows] for title, rows in ranks.items()}, readable=True).decode())
        return 0
    for title, rows in ranks.items():
        for line in lines(title, rows):
            console.out(line)
    return 0


def lines(title: str, rows: Sequence[Rank]) -> Iterator[str]:
    """A table in Markdown, the rule with the least regret over pairs first."""
    from understudy.calibrate.table import markdown

    one = rows[0]
    yield f"{title}: {one.groups} groups, {one.candidates} experts, {one.compared} pairs"
    yield ""
    head = ("chosen by", "regret, groups", "worst", "regret, pairs", "worst", "pairs in order", "Spearman")
    yield from markdown(head, (
        (r.rule, f"{r.regret:.3f}", f"{r.worst:.2f}", f"{r.pairs:.3f}", f"{r.worst_pair:.2f}", f"{r.ordered:.0%}",
         f"{r.correlation:.2f}") for r in sorted(rows, key=lambda r: r.pairs)
    ))  # fmt: skip
    yield ""
