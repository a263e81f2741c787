"""A route directory is read like a run and stands for its best model: on the command line, in reports, as a student."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny import STUDENT, config

from understudy import report
from understudy.cli import main
from understudy.config import VOLATILE
from understudy.evaluation.config import EvalConfig
from understudy.evaluation.model import evaluate_model
from understudy.report.comparison.page import build
from understudy.report.comparison.summary import summarise
from understudy.report.text import goes_online, method_name, phases
from understudy.routes.route import DEFAULTS, RouteConfig, checked, load_route, recorded
from understudy.routes.run import train_route
from understudy.runs.files import read_json, write_json
from understudy.runs.read import differences, is_route, phases_of, read_ledger, read_metrics, read_samples, read_status
from understudy.training.train import train

WORDS = [
    "--route", "sft:2+opd_full:3", "--student", STUDENT, "--expert", "solver", "--task", "coin", "--device", "cpu",
    "--max-new-tokens", "16", "--prompts-per-update", "4", "--eval-every", "1", "--eval-prompts", "4",
    "--final-prompts", "4", "--final-samples", "1", "--eval-splits", "test", "--no-eval-expert", "--look-prompts", "4",
    "--select-prompts", "8",
]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny import CoinTask

    from understudy import tasks

    out = tmp_path_factory.mktemp("route") / "r"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tasks.TASKS, "coin", CoinTask.from_spec)
        assert main.main(["train", *WORDS, "--out", str(out)]) == 0
    return out


def test_from_the_command_line(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it will do comes first, and again before a resume; a finished route is only summed up."""
    assert main.main(["train", *WORDS, "--out", str(made)]) == 0
    text = capsys.readouterr().out
    assert "best model: " in text
    assert f"understudy report {made}" in " ".join(text.split())
    assert main.main(["train", *WORDS[2:], "--route", "sft:2", "--method", "gkd"]) == 2
    assert "error: method: gkd: a route names its methods" in capsys.readouterr().err
    assert main.main(["train", "--config", str(made), "--out", str(made)]) == 0


def test_what_it_will_do_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["train", *WORDS, "--out", str(tmp_path / "r")]) == 0
    text = capsys.readouterr().out
    assert text.index("route sft:2+opd_full:3: 2 phases, 5 updates together") < text.index("phase 1 of 2, sft: train")
    assert "  2  opd_full:3: 3 updates, " in text
    assert "phase 2 of 2, opd_full: train 3/3" in text


def test_steps_and_costs_go_on_from_phase_to_phase(made: Path) -> None:
    assert is_route(made)
    assert [p.name for p in phases_of(made)] == ["0-sft", "1-opd_full"]
    lines = read_metrics(made, "train")
    assert [(x["step"], x["phase"], x["phase_step"]) for x in lines] == [
        (1, 0, 1), (2, 0, 2), (3, 1, 1), (4, 1, 2), (5, 1, 3),
    ]  # fmt: skip
    spent = [x["ledger"]["flops"] for x in lines]
    assert spent == sorted(spent)
    assert lines[-1]["ledger"]["student_tokens_trained"] < read_ledger(made)["student_tokens_trained"] + 1
    assert lines[-1]["ledger"]["updates"] == read_ledger(made)["updates"] == 5
    assert {x["step"] for x in read_samples(made)} == {0, 1, 2, 3, 4, 5}  # of every evaluation
    assert read_status(made)["state"] == "done"


def test_the_page_of_a_route(made: Path, tmp_path: Path) -> None:
    page = build([made], tmp_path / "page.html").read_text()
    assert "The route sft:2+opd_full:3" in page
    assert "trace-reward" in page
    assert "first look at the models" in page
    comparison = report.load([made])
    s = summarise(comparison)
    curve = s.curve(s.arms[0])
    assert curve is not None
    assert curve.steps.tolist() == [0, 1, 2, 3, 4, 5]
    assert len(report.table(comparison)) == 1
    assert build([made, made / "phases" / "0-sft"], tmp_path / "two.html").exists()


def test_it_stands_for_its_best_model(made: Path, tmp_path: Path) -> None:
    """As a student, as an expert, and for `eval`."""
    result = evaluate_model(EvalConfig(str(made), "coin", prompts=4, samples=1, max_new_tokens=16, device="cpu"))
    assert result["prompts"] == 4
    out = train(config("opd_full", tmp_path / "next", student=str(made), expert=str(made), updates=1))
    assert (out / "final").is_dir()
    again = RouteConfig("sft:1+gkd:1", 4, 8, config("opd", tmp_path / "r", student=str(made)), str(tmp_path / "r"))
    assert is_route(train_route(again))


def test_names_of_routes() -> None:
    assert phases("sft:40%+opd_full:lr=1e+3") == ("sft", "opd_full")
    assert phases("sft") == phases("sft+nonsense") == ()
    assert method_name("sft+opd_full") == "SFT + OPD full"
    assert method_name("sft:40%+gkd") == "SFT 40% + GKD"
    assert method_name("sft+gkd", 2) == "(SFT + GKD) ×2"
    assert [goes_online(m) for m in ("sft", "opd_full", "sft+gkd", "sft+word_kd", "grpo")] == [
        False, True, True, False, False,
    ]  # fmt: skip


def test_a_finished_route_of_an_earlier_version_is_used_again(made: Path, tmp_path: Path) -> None:
    """Catches a new field whose value in older versions is not known: comparisons would refuse what they trained."""
    older = {k: v for k, v in read_json(made / "config.json").items() if k not in ("eval_start", "guard_reserve")}
    write_json(tmp_path / "config.json", older)
    config = load_route(made)
    config = replace(config, out=str(tmp_path), train=replace(config.train, out=str(tmp_path), eval_start=None))
    assert differences(older, recorded(checked(config)), VOLATILE, DEFAULTS) == []
    other = replace(config, train=replace(config.train, lr=3.0))
    assert differences(older, recorded(checked(other)), VOLATILE, DEFAULTS)
