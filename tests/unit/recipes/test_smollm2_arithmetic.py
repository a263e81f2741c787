"""The recipe of the real model: its plan is fair, its dry run checks and costs it, mistakes come before anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from understudy.cli.main import main
from understudy.experiments.plan import flags
from understudy.recipes import smollm2_arithmetic as recipe
from understudy.recipes.recipe import Scale


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_arm_of_an_expert_differs_in_what_is_studied_alone(tmp_path: Path) -> None:
    pytest.importorskip("reasoning_gym")
    plan = recipe.plan(Scale(tmp_path, 2))
    assert flags(plan.runs) == []
    assert len(plan.runs) == 2 * 2 * 4
    assert {r.expert for r in plan.runs if r.auto is not None} == set(recipe.EXPERTS)
    first = [r.seed for r in plan.runs]
    assert first == sorted(first)  # a run that is stopped has whole seeds
    assert len({job.name for job in plan.jobs()}) == len({job.out for job in plan.jobs()}) == len(plan.jobs())
    needing = [job for job in plan.jobs() if job.needs]
    assert len(needing) == 8  # those that imitate the expert that is made
    assert not (tmp_path / "expert").exists()


def test_a_dry_run_says_what_is_missing_and_what_it_costs(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", "smollm2_arithmetic", "--dry-run", "--json", "--seeds", "1"])
    one = json.loads(capsys.readouterr().out)
    assert len(one["runs"]) == 1 + 8
    (elsewhere / "m").mkdir()
    model = f"{recipe.HUB_ID}=m"
    assert main(["run", "smollm2_arithmetic", "--dry-run", "--json", "--model", model]) == 1
    three = json.loads(capsys.readouterr().out)
    assert 2 < three["cost"]["total"] / one["cost"]["total"] < 3  # the expert and the base are there once
    assert three["checks"]["the model: m"] == "no config.json"
    assert list(elsewhere.iterdir()) == [elsewhere / "m"]


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["--tiny"], "tiny"),
        (["--words", "a"], "words"),
        (["--seeds", "-1"], "seeds"),
        (["--share", "2"], "share"),
        (["--model", "x"], "model"),
        (["--model", f"{recipe.HUB_ID}=."], "model"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], field: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "smollm2_arithmetic", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {field}")
    assert not list(elsewhere.iterdir())
