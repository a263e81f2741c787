"""The scenarios are legal and varied; a micro calibration runs from nothing to results, and resumes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from understudy.calibrate import run as runner
from understudy.calibrate.models import COUNTDOWN, MODELS, SPLIT_SEED, vary
from understudy.calibrate.records import Record
from understudy.calibrate.run import FULL, QUICK, CalibrateConfig, Clock, Effort, Unit, estimate, units_of, write
from understudy.calibrate.scenario import Scenario
from understudy.calibrate.scenarios import CALIBRATED, SCENARIOS
from understudy.cli import main
from understudy.config import resolve
from understudy.diagnosis.config import DiagnoseConfig, checked, full_training
from understudy.diagnosis.types import Estimate, Evidence, Verdict
from understudy.errors import UserError
from understudy.experiments import demo, diagnosis_job
from understudy.experts import is_programmatic
from understudy.runs.read import is_done, read_lines
from understudy.specs import build, parse_spec
from understudy.tasks import load_task

KINDS = (
    "RL", "self-distilled", "capacity", "more data", "with recovery", "without recovery", "style", "no better",
    "likely text is wrong", "longer chains", "second task", "H = 1",
)  # fmt: skip
SAME = (
    "method", "student", "expert", "task", "seed", "updates", "prompts_per_update", "lr", "schedule", "warmup",
    "samples_per_prompt", "divergence", "prompt_pool", "reduction", "grad_clip",
)  # fmt: skip
each_scenario = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)


loaded = cache(load_task)


def unit(scenario: Scenario, root: Path = Path("runs/x"), size: Effort = FULL) -> Unit:
    return Unit(scenario, 7, root, size, "5%")


def test_every_kind_is_there_and_both_sets_mix_them() -> None:
    assert len(SCENARIOS) >= 14
    kinds = [s.kind for s in SCENARIOS.values()]
    assert len(set(kinds)) == len(kinds), "scenarios differ in kind"
    assert not [k for k in KINDS if not any(k in kind for kind in kinds)]
    for name in ("set", "score"):
        members = [s for s in SCENARIOS.values() if s.set == name]
        assert len(members) >= 7
        tasks = {"countdown", "addition", "classify"}
        assert {parse_spec(s.task, "task").name for s in members if s.name in CALIBRATED} == tasks
        later = {parse_spec(s.task, "task").name for s in members if s.name not in CALIBRATED}
        assert later >= {"sort", "path", "chain", "pair"}
        assert {s.expert.startswith("@") for s in members} == {True, False}


def test_the_problems_are_not_the_demos() -> None:
    assert f"split_seed={SPLIT_SEED}" in COUNTDOWN
    assert f"split_seed={SPLIT_SEED}" not in demo.countdown()


@each_scenario
@pytest.mark.parametrize("size", [FULL, QUICK], ids=["full", "quick"])
def test_everything_that_will_run_is_legal(scenario: Scenario, size: Effort) -> None:
    u = unit(scenario, size=size)
    jobs = list(u.jobs())
    assert len({j.name for j in jobs}) == len(jobs)
    names = [j.name for j in jobs]
    for i, job in enumerate(jobs):
        assert set(job.needs) <= set(names[:i]), "what a job needs comes before it"
        assert u.seconds(job.name) > 0
        if job.is_training:
            resolve(job.config)
    task = loaded(scenario.task)
    if is_programmatic(u.expert):
        expert = task.expert(parse_spec(u.expert, "expert"), task.tokenizer())
        assert "distribution" in expert.capabilities
    for name in scenario.models():  # a student is made with the task of its scenario
        assert parse_spec(MODELS[name].config("x", 0, str).task, "task").name == task.name


@each_scenario
def test_the_diagnosis_is_of_the_training_that_follows(scenario: Scenario) -> None:
    u = unit(scenario)
    config = checked(build(DiagnoseConfig, u.diagnosis(), ""))
    sft, opd = u.training("sft"), u.training("opd")
    for method, real in (("sft", sft), ("opd_full", opd)):
        planned = full_training(config, method)
        real = resolve(real)
        for field in SAME:
            assert getattr(planned, field) == getattr(real, field), field
    assert (sft.updates, sft.prompts_per_update) == (opd.updates, opd.prompts_per_update), "equal budgets"


def test_models_of_one_name_are_one_run() -> None:
    jobs: dict[str, Any] = {}
    for u in units_of(CalibrateConfig()):
        for job in u.jobs():
            same = jobs.setdefault(job.name, job)
            assert same == job
    assert len({j.out for j in jobs.values()}) == len(jobs)
    assert set(MODELS) == {m for s in SCENARIOS.values() for m in s.models()}, "every model is used"


def test_the_whole_of_it_is_guessed_to_fit_in_three_hours_on_two_cores() -> None:
    assert estimate(units_of(CalibrateConfig(out="runs/none"))) / 2 / 60 <= 180


def test_the_later_scenarios_are_left_to_the_bank() -> None:
    assert {u.scenario.name for u in units_of(CalibrateConfig(seeds=1))} == set(CALIBRATED)
    assert [u.scenario.name for u in units_of(CalibrateConfig(seeds=1, only=("path-search",)))] == ["path-search"]
    groups = {s.first_seed: s.set for s in SCENARIOS.values()}
    assert groups == {400: "set", 500: "set", 600: "score", 700: "set", 800: "score"}


def test_mistakes_are_reported_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="only: nothing"):
        units_of(CalibrateConfig(only=("nothing",)))
    with pytest.raises(UserError, match="seeds: 0"):
        units_of(CalibrateConfig(seeds=0))
    assert main.main(["calibrate", "fly"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main.main(["calibrate", "list"]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in SCENARIOS)


def test_vary_changes_some_options_and_drops_others() -> None:
    assert vary("countdown:a=1,b=2", b=3, c=4) == "countdown:a=1,b=3,c=4"
    assert vary("countdown:a=1", a=None) == "countdown"


def test_a_line_is_replaced_and_lines_stand_in_the_order_of_the_table(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    names = list(SCENARIOS)
    write(path, [{"scenario": names[2], "seed": 1, "x": 0}, {"scenario": names[0], "seed": 2, "x": 0}])
    write(path, [{"scenario": names[2], "seed": 1, "x": 1}, {"scenario": names[0], "seed": 1, "x": 1}])
    assert [(line["scenario"], line["seed"], line["x"]) for line in read_lines(path)] == [
        (names[0], 1, 1), (names[0], 2, 0), (names[2], 1, 1),
    ]  # fmt: skip


def test_the_clock_counts_what_is_left() -> None:
    clock = Clock({"a": 60.0, "b": 180.0}, 2, lambda *_: None)
    assert "0 of 2 jobs, about 2 min" in clock.time_left()
    clock.show("a", "done", 1, 1, "")
    assert "1 of 2 jobs" in clock.time_left()
    clock.show("b", "finished before", 1, 1, "")
    assert "2 of 2 jobs, about 0 min" in clock.time_left()


MICRO = Effort(share=0.02, prompts=16, samples=2, diagnosis=(("prompts", 16),))


def test_a_micro_calibration_from_nothing_to_results_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = CalibrateConfig(only=("label-coin", "label-secret"), seeds=1, out=str(tmp_path), workers=1)
    # killed once the first unit is complete
    real = runner.run_all

    def killed(jobs: Any, workers: int, show: Any, **options: Any) -> list[str]:
        def stop(job: str, phase: str, *rest: Any) -> None:
            show(job, phase, *rest)
            if (job, phase) == ("opd label-coin, seed 400", "done"):
                raise KeyboardInterrupt

        return real(jobs, workers, stop, **options)

    monkeypatch.setattr(runner, "run_all", killed)
    with pytest.raises(KeyboardInterrupt):
        runner.run(config, MICRO, quiet=True)
    assert [line["scenario"] for line in read_lines(tmp_path / "results.jsonl")] == ["label-coin"]
    first = (tmp_path / "results.jsonl").read_bytes()
    models = (tmp_path / "seed-400/models/lookup/status.json").stat().st_mtime_ns
    monkeypatch.setattr(runner, "run_all", real)
    path = runner.run(config, MICRO, quiet=True)
    lines = read_lines(path)
    assert [(line["scenario"], line["set"], line["seed"]) for line in lines] == [
        ("label-coin", "set", 400), ("label-secret", "set", 400),
    ]  # fmt: skip
    assert path.read_bytes().startswith(first)
    assert (tmp_path / "seed-400/models/lookup/status.json").stat().st_mtime_ns == models, "re-used"
    for line in lines:
        assert set(line["outcome"]) == {"student", "expert", "sft", "opd", "opd_minus_sft", "sft_gain", "opd_gain"}
        ends = {k: Estimate.from_dict(v) for k, v in line["outcome"].items()}
        assert ends["opd_minus_sft"].value == pytest.approx(ends["opd"].value - ends["sft"].value)
        Verdict.from_dict(line["verdict"])
        assert Evidence.from_dict(line["evidence"]).has_verifier
        trained = line["updates"] * line["prompts_per_update"]  # one token per completion
        assert (
            line["costs"]["sft"]["student_tokens_trained"] == trained == line["costs"]["sft"]["expert_tokens_sampled"]
        )
        assert line["costs"]["opd"]["expert_tokens_scored"] == trained == line["costs"]["opd"]["student_tokens_sampled"]
        both = line["costs"]["sft"]["flops"] + line["costs"]["opd"]["flops"]
        row = Record.from_dict(line)
        assert row.cost_share == pytest.approx(line["costs"]["diagnosis"]["flops"] / both)
        assert row.values == tuple(ends[k].value for k in ("student", "sft", "opd"))
        parameters = json.loads((tmp_path / f"seed-400/{line['scenario']}/sft/provenance.json").read_text())
        read = line["costs"]["sft"]["student_prompt_tokens_trained"]
        assert read > 0
        assert line["costs"]["sft"]["flops"] == 6 * (trained + read) * parameters["student"]["parameters"]
    # nothing is left to do
    again = runner.run(config, MICRO, quiet=True)
    assert read_lines(again) == lines


def test_one_failure_leaves_the_others_going(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fields: dict[str, Any], may_refuse: bool, progress: Any, note: Any) -> None:
        if "label-coin" in fields["out"]:
            raise UserError("student", "x", "broken on purpose")
        Path(fields["out"]).mkdir(parents=True)
        (Path(fields["out"]) / "diagnosis.json").write_text(
            json.dumps({"evidence": {}, "verdict": {}, "costs": {"diagnosis": {"flops": 1}}})
        )

    monkeypatch.setattr(diagnosis_job, "run_diagnosis", broken)
    config = CalibrateConfig(only=("label-coin", "label-secret"), seeds=1, out=str(tmp_path), workers=1)
    with pytest.raises(UserError, match="on purpose"):
        runner.run(config, MICRO, quiet=True)
    assert [line["scenario"] for line in read_lines(tmp_path / "results.jsonl")] == ["label-secret"]
    assert is_done(tmp_path / "seed-400/label-coin/opd")
