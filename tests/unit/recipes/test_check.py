"""Recipes: each builds and passes its dry run, the tiny runs go through every phase, mistakes are one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from understudy.cli import main
from understudy.config import resolve
from understudy.evaluation.intervals import Interval
from understudy.policy import sampling
from understudy.recipes import NAMES
from understudy.recipes.check import dry_run
from understudy.recipes.cost import DEVICES, Machine
from understudy.recipes.loading import load_recipe
from understudy.recipes.recipe import SOURCES, Scale, word
from understudy.tasks import TASKS, load_task

MACHINE = Machine(DEVICES["h100"], 8)
TRAINED = [n for n in NAMES if n != "fig2_discrepancy"]


def readable(name: str) -> None:
    """Skips a recipe whose data sets no task reads."""
    plan = load_recipe(name).plan
    assert plan is not None
    for job in plan(Scale(Path("x"))).trainings():
        if job.config.task.partition(":")[0] not in TASKS:
            pytest.skip(f"no task {job.config.task}")


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_a_source(name: str):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.settings
    for setting in recipe.settings:
        assert setting.source.startswith(tuple(SOURCES)), setting


@pytest.mark.parametrize("name", TRAINED)
def test_the_real_plan_passes_its_dry_run(name: str, tmp_path: Path):
    """Catches an illegal cell, a removed option, a job that needs a missing one, and a plan that is too large."""
    readable(name)
    recipe = load_recipe(name)
    plan = recipe.plan(Scale(tmp_path))
    result = dry_run(recipe, plan, MACHINE)
    assert result.passed, [f for f in result.findings if not f.passed]
    assert result.total.flops > 0
    names = {j.name for j in plan.trainings()}
    assert all(set(j.needs) <= names for j in plan.trainings())
    assert len({j.config.out for j in plan.trainings()}) == len(plan.trainings())
    assert len({a.seed for a in plan.runs}) == 3


def test_fig6_is_the_public_recipe(tmp_path: Path):
    """The student's top 16 tokens, a local expert, 64 x 4 completions of 7,168 tokens: on 8 x 80 GB."""
    plan = load_recipe("fig6_two_experts").plan(Scale(tmp_path))
    for job in plan.trainings():
        c = resolve(job.config)
        assert (c.method, c.divergence, c.top_k, c.top_k_of) == ("opd_full", "kl_student_expert", 16, "student")
        assert (c.prompts_per_update, c.samples_per_prompt, c.max_new_tokens, c.lr) == (64, 4, 7168, 1e-6)


@pytest.mark.parametrize("name", TRAINED)
def test_the_tiny_plan_resolves(name: str, tmp_path: Path):
    readable(name)
    plan = load_recipe(name).tiny(Scale(tmp_path / name, 2, 300))
    for job in plan.trainings():
        resolve(job.config)
    assert {a.seed for a in plan.runs} == {300, 301}
    for task in {j.config.task for j in plan.trainings()}:
        load_task(task)  # the rows were written, and their gold answers pass


def test_dry_run_is_printed_with_its_formula(capsys: pytest.CaptureFixture):
    readable("fig1_countdown")
    assert main.main(["run", "fig1_countdown", "--dry-run", "--device-flops", "1e15"]) == 0
    out = capsys.readouterr().out
    for text in ("GPU-hours", "1000 TFLOPS", "forward   2 M + 4 L A c", "(our choice", "utilisation 0.4"):
        assert text in out


def test_a_plan_that_does_not_fit_fails(capsys: pytest.CaptureFixture):
    """One GPU cannot hold 16 bytes of each of 7.6 billion weights."""
    readable("fig1_countdown")
    assert main.main(["run", "fig1_countdown", "--dry-run", "--gpus", "1"]) == 1
    assert "FAILED  fits in 80 GB" in capsys.readouterr().out


def test_tiny_runs_every_phase_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture):
    """Base, two online arms, figure: a hundredth of the updates, so numbers mean nothing."""
    args = ["run", "fig6_two_experts", "--tiny", "--seeds", "1", "--share", "0.002", "--workers", "1"]
    out = tmp_path / "fig6"
    assert main.main([*args, "--out", str(out)]) == 0
    page = (out / "figure.html").read_text(encoding="utf-8")
    assert "Stand-ins" in page
    assert "<svg" in page
    assert (out / "figure-1.svg").read_text(encoding="utf-8").startswith("<svg xmlns=")
    claims = json.loads((out / "claims.json").read_text())["claims"]
    assert len(claims) == 3
    assert all(c["word"] in ("shown", "open", "contradicted") for c in claims)
    before = capsys.readouterr()
    assert main.main([*args, "--out", str(out)]) == 0  # finished runs are used again
    assert "re-used" in capsys.readouterr().out
    assert before.err == ""


def test_script_holds_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert main.main(["run", "fig1_countdown", "--script", "go.sh", "--gpus", "4"]) == 0
    text = Path("go.sh").read_text()
    jobs = load_recipe("fig1_countdown").plan(Scale(Path("runs/fig1_countdown"))).trainings()
    assert text.count("torchrun --nproc-per-node 4 -m understudy train --config") == len(jobs)
    configs = sorted(Path("go-jobs").glob("*.json"))
    assert [json.loads(p.read_text())["out"] for p in configs] == [j.config.out for j in jobs]


def test_local_models_and_data_replace_the_hub(tmp_path: Path):
    readable("fig5_forgetting")
    scale = Scale(tmp_path, data={"gsm8k": "G", "mmlu": "M"}, models={"meta-llama/Llama-3.2-3B": "L"})
    plan = load_recipe("fig5_forgetting").plan(scale)
    tasks = {j.config.task for j in plan.trainings()}
    assert "gsm8k:max_new_tokens=2048,forget=mmlu,path=G,forget_path=M" in tasks
    assert plan.trainings()[0].config.student == "L"


MISTAKES = [
    (["run"], "recipe"),
    (["run", "fig9"], "recipe: fig9: unknown; one of fig1_countdown"),
    (["run", "nowhere.py"], "recipe: nowhere.py: no such file"),
    (["run", "fig6_two_experts", "--tiny", "--dry-run"], "choose one of"),
    (["run", "fig6_two_experts", "--dry-run", "--data", "dapo=/nowhere"], "data: /nowhere: no such file"),
    (["run", "fig6_two_experts", "--dry-run", "--data", "dapo"], "write a new NAME=PATH"),
    (["run", "fig6_two_experts", "--dry-run", "--device", "tpu"], "device: tpu: unknown"),
    (["run", "fig6_two_experts", "--dry-run", "--utilisation", "2"], "utilisation"),
    (["run", "fig6_two_experts", "--a", "x"], "takes no files"),
    (["run", "fig6_two_experts", "--tiny", "--share", "0"], "share"),
    (["run", "fig2_discrepancy"], "a: missing"),
]


@pytest.mark.parametrize(("args", "message"), MISTAKES, ids=lambda x: str(x)[:40])
def test_mistakes(args: list[str], message: str, capsys: pytest.CaptureFixture):
    assert main.main(args) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_real_run_says_what_is_missing(capsys: pytest.CaptureFixture):
    assert main.main(["run", "fig1_countdown"]) == 2
    err = capsys.readouterr().err
    assert "there is no GPU here" in err
    assert "--script" in err


def test_own_recipe(tmp_path: Path, capsys: pytest.CaptureFixture):
    file = tmp_path / "mine.py"
    file.write_text("from understudy.recipes.paper.fig1_countdown import RECIPE\n")
    assert load_recipe(str(file)).name == "fig1_countdown"
    file.write_text("1 / 0\n")
    assert main.main(["run", str(file), "--dry-run"]) == 2
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_words_of_claims():
    def interval(low: float, high: float) -> Interval:
        return Interval((low + high) / 2, low, high, 10, 1)

    assert word(interval(0.1, 0.2), 1) == "shown"
    assert word(interval(0.1, 0.2), -1) == "contradicted"
    assert word(interval(-0.1, 0.2), 1) == "open"
    assert word(interval(-0.01, 0.02), 0, 0.05) == "shown"
    assert word(interval(0.06, 0.2), 0, 0.05) == "contradicted"
    assert word(None, 1) == "open"


def test_rows_decoded_together_are_bounded():
    assert sampling.rows_together(60) == sampling.ROWS
    assert sampling.rows_together(8192) * 8192 <= sampling.TOKENS
    assert sampling.rows_together(10**9) == 1
    for kind, logits in (("cpu", sampling.CPU_LOGITS), ("cuda", sampling.DEVICE_LOGITS)):
        assert logits // 2 < sampling.rows_together(60, 2**20, kind) * 2**20 <= logits
