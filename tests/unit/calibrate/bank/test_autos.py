"""What `auto` did on a scenario: read from its directory, kept as a line, judged as a rule."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import auto_by_hand
import pytest
from bank_by_hand import row

from understudy.calibrate.bank import autos, policies
from understudy.calibrate.bank.autos import Ran
from understudy.calibrate.bank.run import BankConfig, jobs_of, units_of
from understudy.calibrate.scenarios import SCENARIOS
from understudy.config import TrainConfig
from understudy.errors import UserError
from understudy.routes.auto_config import checked


def test_a_directory_becomes_a_line(tmp_path: Path) -> None:
    folder = auto_by_hand.write(tmp_path / "auto", auto_by_hand.collapsed())
    outcome = {"test": {"sampled": [[1.0, 0.0], [1.0, 1.0]]}}
    for name in ("config.json", "provenance.json"):
        (folder / name).write_text("{}")
    (folder / "final.json").write_text(json.dumps({"splits": outcome}))
    ran = autos.from_run("search", 400, folder)
    assert ran == Ran("search", 400, "sft+opd_full!+gkd", pytest.approx(3.55 / 4, rel=1e-3), "12", 2)
    assert ran.accuracy == 0.75
    autos.write(tmp_path / "a.jsonl", [replace(ran, scenario="styled"), ran], list(SCENARIOS))
    autos.write(tmp_path / "a.jsonl", [replace(ran, test="22")], list(SCENARIOS))
    assert list(autos.read(tmp_path / "a.jsonl").values()) == [replace(ran, test="22"), replace(ran, scenario="styled")]
    assert autos.read(tmp_path / "none") == {}


def test_a_damaged_line_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"scenario": "search"}\n')
    with pytest.raises(UserError, match="another version"):
        autos.read(tmp_path / "a.jsonl")


def test_the_rule_is_judged_on_the_rows_that_ran() -> None:
    two = [row("a", sft=0.8), row("b", sft=0.8)]
    rules = policies.rules(two, autos={("b", 0): Ran("b", 0, "sft", 0.9, "1" * 7 + "0" * 3, 1)})
    score = policies.score("auto", rules["auto, as it ran (1 rows)"], two, two)
    assert (score.rows, score.cost) == (1, 0.9)
    assert score.regret[0] == pytest.approx(0.1, abs=0.01)


def test_leads_are_differences_on_the_rows_that_ran() -> None:
    two = [row("a", sft=0.8), row("b", sft=0.6)]
    leads = policies.leads(two, {("b", 0): Ran("b", 0, "sft", 0.9, "1" * 7 + "0" * 3, 1)})
    assert leads["sft"] == pytest.approx((0.1, 0.1, 0.1), abs=0.01)
    assert leads["nothing"][0] == pytest.approx(0.4, abs=0.01)
    assert "auto minus always sft" in "".join(policies.lines_of_leads(leads))
    assert policies.leads(two, {}) == {}


def test_auto_has_the_budget_and_the_recipe_of_every_branch(tmp_path: Path) -> None:
    (unit,) = units_of(BankConfig(only=("search",), seeds=1, out=str(tmp_path), autos="only"))
    names = {job.name.partition(" ")[0] for job in jobs_of(unit, BankConfig(autos="only"))}
    assert names == {"model", "start", "auto"}
    _, budget, shared = checked(unit.auto_config({"budget": 3.5e11}))
    assert budget.amount == 3.5e11
    for name in ("lr", "eval_seed"):
        assert getattr(shared, name) == unit.common()[name] != getattr(TrainConfig(method="sft"), name)
