"""The committed calibration page: written from rows, and identically from its own JSON, with every row counted."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from understudy.calibrate import records, table
from understudy.calibrate.metrics import levels
from understudy.calibrate.records import Record
from understudy.calibrate.scenarios import CALIBRATED, SCENARIOS
from understudy.cli import main
from understudy.diagnosis.outcome import ANSWERS, UNDECIDED
from understudy.diagnosis.types import Estimate, Evidence, Verdict
from understudy.errors import UserError


def estimate(value: float) -> Estimate:
    return Estimate(value, value - 0.02, value + 0.02, 240, "accuracy", "test")


def row(name: str, seed: int, student: float, sft: float, opd: float) -> Record:
    s = SCENARIOS[name]
    evidence = Evidence({"student_accuracy": estimate(student), "expert_accuracy": estimate(0.9)})
    ends = {"student": estimate(student), "sft": estimate(sft), "opd": estimate(opd)}
    return Record(name, s.kind, seed, ends, evidence, None, 0.025, s.set)


KEPT = next(s.name for s in SCENARIOS.values() if s.set == "score")
ROWS = [row("rl", 400, 0.4, 0.7, 0.71), row(KEPT, 500, 0.4, 0.5, 0.8), row("peer", 400, 0.4, 0.41, 0.42),
        row(KEPT, 501, 0.4, 0.41, 0.6)]  # fmt: skip


def test_the_page_comes_again_from_its_own_json(tmp_path: Path) -> None:
    records.write(tmp_path / "results.jsonl", ROWS)
    first, second = tmp_path / "a", tmp_path / "b"
    assert main.main(["calibrate", "table", "--rows", str(tmp_path / "results.jsonl"), "--out", str(first)]) == 0
    kept = str(first / "calibration.json")
    assert main.main(["calibrate", "table", "--rows", kept, "--out", str(second)]) == 0
    for name in ("calibration.md", "calibration.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    again = {(r.scenario, r.seed): (r.values, r.outcome["sft"].method) for r in records.read(kept)}
    assert again == {(r.scenario, r.seed): (r.values, "test") for r in ROWS}
    data = json.loads((first / "calibration.json").read_text())
    assert [(r["scenario"], r["seed"], r["set"]) for r in data["rows"]] == [
        (KEPT, 500, "score"), (KEPT, 501, "score"), ("rl", 400, "set"), ("peer", 400, "set"),
    ]  # fmt: skip
    assert data["scores"]["score"]["n"] == data["scores"]["set"]["n"] == 2
    page = (first / "calibration.md").read_text()
    assert page.count(f"| {KEPT} | 50") == 2
    assert "2.5%" in page
    assert all(f"| {name} | {s.set} | {s.kind} |" in page for name, s in CALIBRATED.items())


def test_another_confidence_counts_by_hand() -> None:
    """True answers: neither, go online. Catches `undecided` counted as an answer, and wrong denominators."""

    def record(p: tuple[float, ...], *ends: float) -> Record:
        verdict = Verdict(UNDECIDED, dict(zip(ANSWERS, p)), {}, (), (), "by hand")
        return replace(row("rl", 400, *ends), verdict=verdict)

    rows = [record((0.1, 0.05, 0.55, 0.3), 0.4, 0.2, 0.2), record((0.65, 0.1, 0.05, 0.2), 0.4, 0.5, 0.8)]
    counted = [(x.confidence, x.decided, x.wrong, x.clearly_wrong) for x in levels(rows, (0.5, 0.6, 0.7))]
    assert counted == [(0.5, 1.0, 0.5, 0.5), (0.6, 0.5, 1.0, 1.0), (0.7, 0.0, 0.0, 0.0)]


def test_a_row_is_in_the_set_that_its_scenario_is_in_now(tmp_path: Path) -> None:
    records.write(tmp_path / "results.jsonl", [replace(ROWS[0], set="score")])
    assert [r.set for r in records.read(str(tmp_path / "results.jsonl"))] == ["set"]


def test_nothing_to_show_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="calibrate run"):
        table.write([replace(ROWS[0], evidence=None)], tmp_path)
    with pytest.raises(UserError):
        records.read(str(tmp_path / "none.jsonl"))
    with pytest.raises(UserError):
        records.read(str(tmp_path / "none.json"))


def test_the_rule_in_use_is_what_the_committed_rows_give() -> None:
    """Catches a verdict.json that was fitted on other rows than those shown, or on rows of the score set."""
    from understudy.calibrate.fit import fit
    from understudy.diagnosis.forecast.model import TERMS, load

    page = Path(__file__).parents[3] / "docs/results/calibration.json"
    model = load()
    assert "--set set" in model.source
    weight = float(model.source.split("--weight ")[1].split()[0])
    again = fit([r.case() for r in records.read(page) if r.set == "set"], load("prior"), weight)
    for which in TERMS:
        a, b = (m.lines["all"][which] for m in (again, model))
        np.testing.assert_allclose(a.slopes, b.slopes, rtol=2e-2, atol=5e-3)
        np.testing.assert_allclose(a.spreads, b.spreads, rtol=2e-2, atol=5e-3)


NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def test_the_committed_page_comes_again_from_the_committed_rows(tmp_path: Path) -> None:
    """Catches a change of the rule, the scores or the table without `understudy calibrate table`. Numbers may differ as
    much as another processor's optimizer makes them; every other character must be the same."""
    committed = Path(__file__).parents[3] / "docs/results"
    table.write(records.read(committed / "calibration.json"), tmp_path)
    for name in ("calibration.md", "calibration.json"):
        texts = [(folder / name).read_text(encoding="utf-8") for folder in (tmp_path, committed)]
        words = [NUMBER.split(text) for text in texts]
        assert words[0] == words[1], name
        numbers = [np.array(NUMBER.findall(text), dtype=float) for text in texts]
        np.testing.assert_allclose(*numbers, rtol=2e-2, atol=0.02)
