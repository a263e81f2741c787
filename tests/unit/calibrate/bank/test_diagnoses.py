"""Diagnoses of the bank: kept and read again, and followed without knowledge of the scenario that is judged."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from understudy.calibrate import records
from understudy.calibrate.bank import diagnoses
from understudy.calibrate.bank.diagnoses import Diagnosed, Follow
from understudy.calibrate.bank.policies import rules, score
from understudy.calibrate.bank.replay import fixed
from understudy.calibrate.bank.rows import Row, read
from understudy.calibrate.bank.run import BankConfig, jobs_of, units_of
from understudy.diagnosis.forecast.analogs import Analogs
from understudy.errors import UserError

RESULTS = Path(__file__).parents[4] / "docs/results"


@pytest.fixture(scope="module")
def known() -> tuple[list[Row], list[records.Record]]:
    return read(RESULTS / "bank.jsonl")[:3], records.read(RESULTS / "calibration.json")


def test_a_diagnosis_round_trips(known: tuple[list[Row], list[records.Record]], tmp_path: Path) -> None:
    """Catches evidence that is not what it was: the recommendation is made again from it."""
    kept = list(diagnoses.read(tmp_path / "none", known[1][:2]).values())
    diagnoses.write(tmp_path / "d.jsonl", kept)
    diagnoses.write(tmp_path / "d.jsonl", [replace(kept[0], share=0.5)])  # the same unit: replaced
    got = diagnoses.read(tmp_path / "d.jsonl")
    assert [got[d.scenario, d.seed].share for d in kept] == [0.5, kept[1].share]
    want, have = (d.evidence for d in (kept[1], got[kept[1].scenario, kept[1].seed]))
    assert have.measures.keys() == want.measures.keys()
    for name, estimate in want.measures.items():
        assert have.measures[name].value == pytest.approx(estimate.value, rel=1e-4, nan_ok=True)


def test_a_damaged_line_is_one_message() -> None:
    with pytest.raises(UserError, match="lacks or misuses"):
        Diagnosed.from_dict({"scenario": "a", "seed": 1})


def test_follow_judges_by_other_scenarios(
    known: tuple[list[Row], list[records.Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a forecast that knows the outcome: coefficients, cases and rows are of other scenarios."""
    (row, *others), older = known
    used: list[set[str]] = []

    def fit(cases: Any, *rest: Any, work: Any = diagnoses.fit) -> Any:
        used.append({c.scenario for c in cases})
        return work(cases, *rest)

    def recommend(*args: Any, analogs: Analogs, work: Any = diagnoses.recommend, **options: Any) -> Any:
        used.append({c.scenario for c in analogs.cases})
        return work(*args, analogs=analogs, **options)

    monkeypatch.setattr(diagnoses, "fit", fit)
    monkeypatch.setattr(diagnoses, "recommend", recommend)
    result = Follow(diagnoses.read(Path("none"), older), older)(row, others)
    assert len(used) == 2
    assert all(used)
    assert not any(row.scenario in names for names in used)
    branch = diagnoses.BRANCH[result.route]
    assert result.accuracy == pytest.approx(fixed(row, branch), nan_ok=True)
    assert (1.0 if branch else 0.0) < result.cost < 1.3


def test_a_recommended_mixture_with_rewards_is_followed(known: tuple[list[Row], list[records.Record]]) -> None:
    """On a row that has the branch "reward", to its end; one without it does not count, whatever is recommended there:
    the rows where it is something else are no fair sample."""

    def with_reward(row: Row) -> Row:
        end = replace(row.start, test=str(row.start.samples) * len(row.start.test))
        return replace(row, branches={**row.branches, "reward": replace(row.branches["gkd"], end=end)})

    rows, older = known
    (row, *others), old = [with_reward(r) for r in rows], replace(rows[0], branches=dict(rows[0].branches))
    old.branches.pop("reward", None)
    follow = Follow(diagnoses.read(Path("none"), older), older)
    result = follow(row, others)
    assert result.route == "gkd_reward"
    assert result.accuracy == 1.0
    assert math.isnan(follow(old, others).accuracy)
    assert score("diagnose", follow, [old, row], others).rows == 1
    assert score("diagnose", follow, [old], others).rows == 0
    assert "what diagnose recommends (1 rows)" in rules([old, row], follow.known, older)
    assert not any("diagnose" in name for name in rules([old], follow.known, older))


@pytest.mark.parametrize(("which", "kinds"), [("no", {"sft"}), ("also", {"sft", "diagnosis"}), ("only", {"diagnosis"})])
def test_which_jobs(which: str, kinds: set[str], tmp_path: Path) -> None:
    """Rows that exist can get their diagnosis without their trainings."""
    config = BankConfig(only=("search",), seeds=1, out=str(tmp_path), diagnoses=which)
    names = [job.name for unit in units_of(config) for job in jobs_of(unit, config)]
    assert {name.partition(" ")[0] for name in names} & {"sft", "diagnosis"} == kinds
    with pytest.raises(UserError, match="unknown"):
        units_of(replace(config, diagnoses="yes"))
