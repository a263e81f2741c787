"""understudy calibrate lab: the verdict on finite worlds whose outcome is known, scored.

For every world of every kind (worlds.py): its outcome under full SFT and full online training (learners.py, exact or
with a stated error), the evidence that a diagnosis at a few percent would have (evidence.py), the verdict, the score.
Worlds with seeds DEV, DEV + 1, ... set the coefficients, worlds with seeds TEST, TEST + 1, ... score them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from understudy.calibrate import metrics as scoring
from understudy.calibrate.evidence import Design, gather, without
from understudy.calibrate.fit import fit
from understudy.calibrate.learners import TARGET, online_outcome, sft_outcome
from understudy.calibrate.metrics import Row, Score, rejudged, score
from understudy.calibrate.worlds import KINDS, make
from understudy.diagnosis.forecast.judge import RULE
from understudy.diagnosis.forecast.model import SPREADS, TERMS, VerdictModel, load
from understudy.diagnosis.types import Estimate
from understudy.errors import UserError

DEV, TEST = 0, 10_000
SHOWN_WITHOUT: dict[str, tuple[str, ...]] = {
    "no online pilot": ("opd",),
    "no takeover": ("takeover",),
    "black-box expert (no scores), no online pilot": ("scores", "opd"),
    "no pilots at all": ("pilots",),
}
Show = Callable[[int, int, str], None]


@dataclass(frozen=True)
class LabConfig:
    worlds: int = 500
    """Worlds of each kind that score the rule."""
    dev: int = 150
    """Worlds of each kind that set its coefficients."""
    kinds: tuple[str, ...] = ()
    """Only these kinds. Default: all eight."""
    lesser: int = 100
    """Worlds of each kind that are judged again with less evidence (no online pilot, a black-box expert, ...)."""
    out: str = "runs/calibrate-lab"
    """Where lab.json, lab.svg and lab.md are written."""
    rows: bool = False
    """Also write every row (evidence, outcome, verdict) to rows.jsonl."""
    install: bool = False
    """Put the fitted coefficients into this installation's verdict.json, as the model `lab`."""


@dataclass(frozen=True)
class Result:
    config: LabConfig
    model: VerdictModel
    rows: list[Row]
    found: Score
    before: Score
    """The same worlds judged by the prior."""
    unseen: Score
    """Every kind judged by coefficients fitted on the dev worlds of the other kinds."""
    lesser: dict[str, Score]
    full: Score
    """The worlds of `lesser`, with all evidence."""
    error: float
    """Largest standard error of an outcome."""
    exact: float
    """Share of outcomes that are exact."""
    seconds: float


def row(kind: str, seed: int, design: Design | None = None) -> tuple[Row, float]:
    """One world as a row without verdict, and the standard error of its SFT outcome (the online one is exact)."""
    world = make(kind, seed)
    rng = np.random.default_rng([seed, len(kind)])
    sft, opd = sft_outcome(world, world.n, rng), online_outcome(world, world.n)

    def known(value: float, error: float) -> Estimate:
        how = "exact" if error == 0 else "replications"
        return Estimate(value, value - 1.96 * error, value + 1.96 * error, world.n, "accuracy", how)

    outcome = {
        "student": known(world.value(world.start), 0.0), "expert": known(world.value(world.expert), 0.0),
        "sft": known(sft.value, sft.error), "opd": known(opd.value, opd.error),
    }  # fmt: skip
    return Row(f"{kind}/{seed}", kind, seed, outcome, gather(world, rng, design)), sft.error


def calibrate(config: LabConfig, show: Show = lambda done, total, note: None) -> Result:
    """Make the worlds, fit on the dev ones, judge and score the others. Deterministic."""
    began = time.perf_counter()
    kinds = config.kinds or tuple(KINDS)
    for kind in kinds:
        if kind not in KINDS:
            raise UserError("kinds", kind, f"unknown; of {', '.join(KINDS)}")
    for name in ("worlds", "dev"):
        if getattr(config, name) < 2:
            raise UserError(name, getattr(config, name), "at least 2 worlds of each kind")
    total, dev, test, errors = len(kinds) * (config.worlds + config.dev), [], [], []
    for kind in kinds:
        for i in range(config.dev):
            dev.append(row(kind, DEV + i)[0])
        for i in range(config.worlds):
            one, error = row(kind, TEST + i)
            test.append(one)
            errors.append(error)
            if i % 25 == 0:
                show(len(dev) + len(test), total, kind)
    source = f"understudy calibrate lab --dev {config.dev}" + (f" --kinds {' '.join(kinds)}" if config.kinds else "")
    cases = [r.case() for r in dev]
    model = fit(cases, load("prior"), name="lab", source=source)
    judged = rejudged(test, model)
    unseen: list[Row] = []
    for kind in kinds if len(kinds) > 1 else ():
        others = fit([r.case() for r in dev if r.kind != kind], load("prior"), name=f"all but {kind}")
        unseen += rejudged([r for r in test if r.kind == kind], others)
    few = [r for r in test if r.seed < TEST + config.lesser]
    lesser = {}
    for name, what in SHOWN_WITHOUT.items():
        some = [Row(r.scenario, r.kind, r.seed, r.outcome, without(r.evidence, *what)) for r in few if r.evidence]
        lesser[name] = score(rejudged(some, model), by_kind=False)
    exact = (len(test) + errors.count(0.0)) / (2 * len(test))
    return Result(
        config, model, judged, score(judged), score(rejudged(test, load("prior")), by_kind=False),
        score(unseen or judged), lesser, score([r for r in judged if r.seed < TEST + config.lesser], by_kind=False),
        max(errors), exact, time.perf_counter() - began,
    )  # fmt: skip


# --- what is written ------------------------------------------------------------------------------------


def record(result: Result) -> dict[str, Any]:
    """lab.json"""
    c, design = result.config, Design()
    return {
        "rule": RULE, "model": result.model.to_dict(),
        "seeds": {"dev": [DEV, DEV + c.dev - 1], "test": [TEST, TEST + c.worlds - 1]},
        "pilots": {"sft": list(design.sft_shares), "opd": list(design.opd_shares), "prompts": design.prompts},
        "largest_standard_error": round(result.error, 5), "exact_share": round(result.exact, 4),
        "score": result.found.to_dict(), "prior": result.before.to_dict(), "unseen_kind": result.unseen.to_dict(),
        "all_evidence": result.full.to_dict(), "less_evidence": {k: s.to_dict() for k, s in result.lesser.items()},
        "confidence": [vars(level) for level in scoring.levels(result.rows)],
    }  # fmt: skip


def page(result: Result) -> str:
    """lab.md"""
    c, d, m = result.config, Design(), result.model
    command = f"understudy calibrate lab --worlds {c.worlds} --dev {c.dev}"
    lines = [
        "# The verdict in the lab", "",
        f"Written by `{command} --out docs/results`; edit nothing here. The rule is `{RULE}` "
        "(understudy/diagnosis/forecast/judge.py).", "",
        f"Worlds: understudy/calibrate/worlds.py, {c.worlds} of every kind, seeds {TEST} to {TEST + c.worlds - 1}. The "
        f"coefficients were set on {c.dev} others of every kind, seeds {DEV} to {DEV + c.dev - 1}. Outcomes at the "
        f"full budget: {result.exact:.0%} exact, the others replicated to a standard error below {TARGET:g} (largest "
        f"{result.error:.4f}).",
        f"Evidence: {d.prompts} prompts, SFT pilots at {_parts(d.sft_shares)} and an online "
        f"pilot at {_parts(d.opd_shares)} of the full training's sequences: "
        f"{d.cost_share:.1%} of both trainings.", "",
        "*Wrong*: decided, and not the truth. A *close call* is an outcome within .02 (or its own interval) of a "
        "boundary. *Brier*: over the four probabilities, 0 best, 2 worst. *Skill*: 1 - Brier / Brier of always "
        "claiming the frequencies of that line.", "",
        *scoring.table(result.found), "", "![reliability](lab.svg)", "", "Truth against answer:", "",
        *scoring.confusion_table(result.found), "", "Every probability of every verdict:", "",
        *scoring.bins_table(result.found), "", "## If an answer needed another probability", "",
        *scoring.levels_table(result.rows), "", "## With other coefficients, or less evidence", "",
        "*A kind never seen*: each kind is judged by coefficients fitted on the other kinds. Less evidence: the first "
        f"{min(c.lesser, c.worlds)} worlds of every kind.", "",
        "| | n | decided | wrong | clearly wrong | Brier |", "|---|---|---|---|---|---|",
        *(_line(name, s) for name, s in (
            ("fitted", result.found), ("prior, nothing fitted", result.before), ("a kind never seen", result.unseen),
            ("all evidence", result.full), *result.lesser.items())),
        "", "## The coefficients", "",
        *coefficients(m),
    ]  # fmt: skip
    return "\n".join(lines)


def coefficients(model: VerdictModel, kind: str = "all") -> list[str]:
    """Markdown: slopes and spreads of one kind of evidence."""
    out = []
    for which, title in (("sft", "SFT's gain over the student"), ("lead", "Online training's lead over SFT")):
        line = model.lines[kind][which]
        out += [f"{title}, in points of accuracy:", "", "| | meaning | slope |", "|---|---|---|"]
        out += [f"| {t} | {told} | {x:+.2f} |" for (t, told), x in zip(TERMS[which].items(), line.slopes)]
        spreads = zip(SPREADS[which].items(), line.spreads[1:])
        wide = "; ".join(f"{x:.2f} times {told} ({t})" for (t, told), x in spreads)
        out += ["", f"Scale of its error: the root of the squares of {line.spreads[0]:.3f}; {wide}.", ""]
    return [*out, f"Correlation of the two errors: {model.correlation[kind]:+.2f}.", ""]


def _parts(shares: Sequence[float]) -> str:
    return ", ".join(f"1/{1 / s:.0f}" for s in shares)


def _line(name: str, s: Score) -> str:
    wrong = f"{s.wrong / s.decided:.1%} | {s.clearly_wrong / s.decided:.1%}" if s.decided else "- | -"
    return f"| {name} | {s.n} | {s.decided_share:.0%} | {wrong} | {s.brier:.3f} |"


def write(result: Result, out: Path) -> None:
    """lab.json, lab.md, lab.svg and, if asked for, rows.jsonl. UserError if it cannot be written."""
    from understudy.calibrate.plots import reliability

    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "lab.json").write_text(json.dumps(record(result), indent=1) + "\n", encoding="utf-8")
        (out / "lab.md").write_text(page(result), encoding="utf-8")
        (out / "lab.svg").write_text(reliability({"lab": result.found}), encoding="utf-8")
        if result.config.rows:
            scoring.write_rows(out / "rows.jsonl", result.rows)
    except OSError as error:
        raise UserError("out", out, f"cannot be written ({error.strerror}): give another directory") from None
