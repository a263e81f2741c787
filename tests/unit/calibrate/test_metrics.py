"""Scores of verdicts equal hand counts; rows survive their file; the commands that need no model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from understudy.calibrate import records
from understudy.calibrate.fit import fit, without
from understudy.calibrate.metrics import regrets, score
from understudy.calibrate.records import Record
from understudy.cli.calibrate import calibrate_command
from understudy.diagnosis.forecast.model import load
from understudy.diagnosis.outcome import ANSWERS
from understudy.diagnosis.types import Estimate, Verdict
from understudy.errors import UserError

COMMITTED = Path(__file__).parents[3] / "docs/results/calibration.json"


def _est(value: float, half: float = 0.0) -> Estimate:
    return Estimate(value, value - half, value + half, 100, "accuracy", "test")


def _row(answer: str, student: float, sft: float, opd: float, half: float = 0.0, sure: float = 0.9) -> Record:
    rest = (1 - sure) / 3
    p = {a: sure if a == answer else rest for a in ANSWERS}
    outcome = {"student": _est(student, half), "sft": _est(sft, half), "opd": _est(opd, half)}
    return Record("s", "k", 0, outcome, None, Verdict(answer, p, {}, ("r",), ("w",), "test"), 0.05)


def test_score_counts_what_it_says():
    rows = [
        _row("go online", 0.4, 0.5, 0.8),  # right
        _row("go online", 0.4, 0.8, 0.8),  # clearly wrong
        _row("go online", 0.4, 0.7, 0.74),  # wrong by a close call: .04 against a margin of .05
        _row("neither", 0.4, 0.5, 0.5, half=0.08),  # wrong, but the outcome itself is as uncertain
        _row("undecided", 0.4, 0.5, 0.8),
    ]
    result = score(rows)
    assert (result.n, result.decided, result.wrong, result.clearly_wrong, result.close) == (5, 4, 3, 1, 2)
    assert result.confusion["go online"] == {"offline suffices": 0, "go online": 1, "neither": 0, "undecided": 1}
    assert result.cost_share == pytest.approx(0.05)
    assert result.kinds["k"].n == 5
    right, rest = 0.9, 0.1 / 3
    assert score(rows[:1]).brier == pytest.approx((1 - right) ** 2 + 3 * rest**2)
    assert sum(b.n for b in result.bins) == 20
    with pytest.raises(UserError):
        score([])


def test_regret_by_hand():
    """Forecasts: online, then offline. Outcomes (student, SFT, online): .4 .5 .8, then .4 .3 .6."""
    rows = []
    for outcome, expected in (((0.4, 0.5, 0.8), (0.4, 0.5, 0.6)), ((0.4, 0.3, 0.6), (0.5, 0.45, 0.4))):
        row = _row("go online", *outcome)
        claims = {k: _est(v) for k, v in zip(("student", "sft", "opd"), expected)}
        rows.append(dataclasses.replace(row, verdict=dataclasses.replace(row.verdict, expected=claims)))
    found = regrets(rows)
    assert found["no training"] == pytest.approx((0.3, 0.4, 1.0))
    assert found["always SFT"] == pytest.approx((0.3, 0.3, 1.0))
    assert found["always OPD"] == pytest.approx((0.0, 0.0, 0.0))
    assert found["the likeliest answer"] == pytest.approx((0.0, 0.0, 0.0))
    assert found["the better forecast (SFT, OPD)"] == pytest.approx((0.15, 0.3, 0.5))
    assert found["the best forecast (no training too)"] == pytest.approx((0.1, 0.2, 0.5))
    assert regrets([_row("go online", 0.4, 0.5, 0.8)]) == {}  # it expects nothing


@pytest.fixture(scope="module")
def committed() -> list[Record]:
    """Six diagnoses of language models with online pilots, as they are committed."""
    rows = [r for r in records.read(str(COMMITTED)) if r.set == "set" and r.evidence]
    return [r for r in rows if any(p.kind == "opd" for p in r.evidence.pilots)][:6]


def test_rows_survive_their_file(committed, tmp_path):
    rows = [dataclasses.replace(committed[0], verdict=_row("neither", 0.1, 0.2, 0.3).verdict)]
    records.write(tmp_path / "rows.jsonl", rows)
    assert records.read(tmp_path / "rows.jsonl") == rows
    (tmp_path / "bad.jsonl").write_text('{"scenario": "x"}\n')
    with pytest.raises(UserError):
        records.read(tmp_path / "bad.jsonl")
    (tmp_path / "bad.jsonl").write_text("{\n")
    with pytest.raises(UserError):
        records.read(tmp_path / "bad.jsonl")


def test_a_black_box_has_no_scores_and_no_online_pilot(committed):
    less = without(committed[0].evidence, "scores", "opd")
    assert less.capabilities == ("sample",)
    assert less.pilots
    assert not any(p.kind == "opd" or p.kl_student_expert for p in less.pilots)
    assert "student_accuracy" in less.measures
    assert not [name for name in less.measures if name.startswith("kl_") or name == "tilt_ceiling"]
    assert without(committed[0].evidence, "pilots").pilots == ()


def test_command_line_mistakes(tmp_path):
    for words in (["nothing"], ["lab"], ["score"], ["fit", "--rows", "none"]):
        with pytest.raises(UserError):
            calibrate_command(words)
    assert calibrate_command(["--help"]) == 0


def test_fit_and_score_from_a_file(committed, tmp_path, capsys):
    records.write(tmp_path / "r.jsonl", committed)
    out = tmp_path / "m.json"
    assert calibrate_command(["fit", "--rows", str(tmp_path / "r.jsonl"), "--prior", "prior", "--out", str(out)]) == 0
    assert calibrate_command(["score", "--rows", str(tmp_path / "r.jsonl"), "--model", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["n"] == 6
    fitted = fit([r.case() for r in committed], load("prior"))
    assert fitted.lines["all"]["sft"].slopes == pytest.approx(load("prior").lines["all"]["sft"].slopes, abs=0.8)
