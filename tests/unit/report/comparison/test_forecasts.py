"""Verdicts and outcomes: the diagnoses before a comparison, and how its page compares them with the results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_runs import comparison, write

from understudy import report
from understudy.experiments.compare import plan_of
from understudy.experiments.config import CompareConfig
from understudy.experiments.diagnosis_job import fields_of, run_diagnosis
from understudy.report.comparison import forecasts
from understudy.report.comparison.summary import summarise


def diagnosis(answer: str, sft: float = 0.5, opd: float = 0.6) -> dict[str, object]:
    known = {r: {"value": v, "low": v - 0.1, "high": v + 0.1} for r, v in (("sft", sft), ("opd", opd))}
    flops = {"diagnosis": {"flops": 5.0}, "sft": {"flops": 40.0}, "opd": {"flops": 60.0}}
    return {"verdict": {"answer": answer, "probabilities": {answer: 0.83}, "expected": known}, "costs": flops}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds: solver (sft .66, opd .885), R (both .67), larger (.71, .75), style (.65, .64), from .44."""
    root = comparison(tmp_path_factory.mktemp("forecasts") / "c", seeds=2)
    answers = {
        ("solver", 0): diagnosis("go online"), ("solver", 1): diagnosis("offline suffices"),
        ("R", 0): diagnosis("offline suffices"), ("R", 1): diagnosis("undecided"),
        ("larger", 0): diagnosis("go online"), ("style", 0): {"error": "verifier: <b>none</b>"}, ("style", 1): {},
    }  # fmt: skip
    listed = []
    for (expert, seed), answer in answers.items():
        path = f"diagnosis-{expert}-{seed}"
        name = "refused.json" if "error" in answer else "diagnosis.json"
        if answer:
            write(root / path / name, answer)
        listed.append({"expert": expert, "seed": seed, "path": path})
    known = json.loads((root / "compare.json").read_text())
    write(root / "compare.json", known | {"diagnoses": listed})
    return root


def test_each_verdict_is_judged_by_what_happened(place: Path) -> None:
    s = summarise(report.load([place]))
    rows = {(r.expert, r.seed): r for r in forecasts.rows(s)}
    judged = {who: row.judged for who, row in rows.items()}
    assert judged == {
        ("solver", 0): "right", ("solver", 1): "wrong", ("R", 0): "right", ("R", 1): "undecided",
        ("larger", 0): "close call", ("style", 0): "",
    }, {who: (row.happened, row.routes) for who, row in rows.items()}  # fmt: skip
    assert rows["solver", 0].happened == "go online"
    expected, then = rows["solver", 0].routes["opd"]
    assert expected is not None
    assert (expected.value, expected.low, expected.high) == (0.6, 0.5, 0.7)
    assert 0.75 < then < 0.95
    assert "right 2 of 4 times" in forecasts.finding(s), forecasts.finding(s)
    assert "5.0% of what both trainings were foreseen to cost" in forecasts.finding(s)


def test_the_page_and_the_terminal_show_it(place: Path) -> None:
    page = report.build([place]).read_text()
    assert "What was said beforehand" in page
    assert "go online (83%)" in page
    assert "&lt;b&gt;none" in page
    assert "<b>none" not in page
    assert report.terminal_beforehand(report.load([place])).row_count == 6


def test_a_comparison_without_diagnoses_says_nothing_of_them(tmp_path: Path) -> None:
    root = comparison(tmp_path / "c", seeds=1)
    assert "said beforehand" not in report.build([root]).read_text().lower()
    assert report.terminal_beforehand(report.load([root])) is None


def config(**changes: object) -> CompareConfig:
    fields = {"student": "scratch:width=64,layers=2", "experts": ("search=solver",), "seeds": (0, 1),
              "set": ("lr=0.002", "warmup=7", "final_prompts=8", "updates=30")}  # fmt: skip
    return CompareConfig(**(fields | changes))  # type: ignore[arg-type]


def test_diagnoses_come_before_the_runs_and_ask_about_them() -> None:
    plan = plan_of(config(methods=("sft", "opd_full", "sft:updates=150")), [])
    jobs = plan.jobs()
    assert [j.is_training for j in jobs] == [False] * 2 + [True] * 6
    (arm, _), _ = plan.diagnoses()
    fields = fields_of(arm.config, "5%", "x")
    assert (fields["updates"], fields["seed"], fields["expert"]) == (30, 0, "solver")
    assert set(fields["set"]) == {"lr=0.002", "warmup=7"}, "evaluation is not part of the recipe"


@pytest.mark.parametrize(
    "changes", [{"diagnose": False}, {"methods": ("sft", "grpo")}, {"axis": "train_seconds", "budget": 60.0}]
)
def test_no_diagnosis_where_it_would_be_of_another_training(changes: dict[str, object]) -> None:
    assert plan_of(config(**changes), []).diagnoses() == []


def test_a_refusal_is_kept_and_does_not_stop_the_comparison(tmp_path: Path) -> None:
    fields = {
        "student": "scratch:width=16,layers=1,heads=2",
        "expert": str(tmp_path / "gone"),
        "out": str(tmp_path / "d"),
    }
    messages: list[str] = []
    run_diagnosis(fields, True, lambda *_: None, messages.append)
    error = json.loads((tmp_path / "d" / "refused.json").read_text())["error"]
    assert "gone" in error
    assert "no verdict beforehand" in messages[0]
