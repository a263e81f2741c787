"""Regret of choosing an expert, by hand; groups share all but the expert; the committed numbers are made again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from understudy.calibrate import experts, records
from understudy.calibrate.experts import Case, Scored
from understudy.calibrate.records import Record
from understudy.cli.calibrate import calibrate_command
from understudy.diagnosis.types import Candidate, Estimate
from understudy.errors import UserError

DOCS = Path(__file__).parents[3] / "docs/results"


def _case(accuracy: float, outcome: float) -> Case:
    e = Estimate(accuracy, accuracy, accuracy, 64, "accuracy", "test")
    return Case(Record("s", "k", 0, {}), Candidate("a", "a", accuracy=e), None, outcome)


def test_regret_by_hand():
    """By accuracy: the first of each group. Outcomes .5 .8 .6 (regret .3), and .7 .4 (regret 0)."""
    groups = [[_case(0.9, 0.5), _case(0.8, 0.8), _case(0.7, 0.6)], [_case(0.9, 0.7), _case(0.2, 0.4)]]
    rule = experts.rules(scored=False)["the expert's own accuracy"]
    r = experts.rank("accuracy", rule, groups)
    assert (r.regret, r.worst) == (pytest.approx(0.15), pytest.approx(0.3))
    assert r.pairs == pytest.approx((0.3 + 0.1 + 0.0 + 0.0) / 4)  # .5 of .8, .5 of .6, .8 of .6, .7 of .4
    assert r.ordered == pytest.approx(2 / 4)
    assert r.correlation == pytest.approx(-0.5)  # ranks 3 2 1 against 1 3 2
    assert (r.groups, r.candidates, r.compared) == (2, 5, 4)
    chance = experts.by_chance(groups)
    assert chance.regret == pytest.approx(((0.8 - 1.9 / 3) + (0.7 - 0.55)) / 2)
    assert chance.pairs == pytest.approx((0.15 + 0.05 + 0.1 + 0.15) / 4)
    with pytest.raises(UserError):
        experts.rank("accuracy", rule, [])


def test_groups_differ_in_the_expert_alone():
    groups = experts.groups(records.read(DOCS / "calibration.json"))
    assert len(groups) >= 23
    for group in groups:
        of = [experts.SCENARIOS[c.record.scenario] for c in group]
        assert len({(s.task, s.student, s.updates, s.prompts_per_update) for s in of}) == 1
        assert len({s.expert for s in of}) == len(of) > 1
        assert len({c.record.seed for c in group}) == 1


def test_rows_survive_their_file(tmp_path: Path):
    row = Scored("search", 400, 12.345678, 1.0, 20.0, 0.2, 0.5, 64, 2)
    experts.write(tmp_path / "e.jsonl", [row])
    experts.write(tmp_path / "e.jsonl", [Scored("search", 400, 13.0, 1.0, 20.0, 0.2, 0.5, 64, 2)])
    assert experts.read(tmp_path / "e.jsonl")["search", 400].gradient == 13.0
    (tmp_path / "e.jsonl").write_text('{"scenario": "search"}\n')
    with pytest.raises(UserError):
        experts.read(tmp_path / "e.jsonl")


def test_the_command_judges_every_rule_on_the_committed_rows(capsys: pytest.CaptureFixture[str]):
    args = ["experts", "--records", str(DOCS / "calibration.json"), "--scores", str(DOCS / "experts.jsonl"), "--json"]
    assert calibrate_command(args) == 0
    tables = json.loads(capsys.readouterr().out)
    by = {title: {r["rule"]: r for r in rows} for title, rows in tables.items()}
    whole = by["all groups"]
    used = whole["the forecast, then accuracy (in use)"]
    # what docs/experts.md says of them
    assert used["pairs"] < whole["the expert's own accuracy"]["pairs"] < whole["at random"]["pairs"]
    assert used["correlation"] > whole["the expert's own accuracy"]["correlation"]
    assert whole["the expert's own accuracy"]["regret"] < used["regret"]
    assert "gradient score (GRACE)" in by["groups with gradient scores"]
