"""Costs by closed form, and compared with the ledger of a training run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tiny import config

from understudy.diagnosis.config import DiagnoseConfig, checked, full_training, share
from understudy.diagnosis.cost import Sizes, timed
from understudy.diagnosis.types import Cost
from understudy.errors import UserError
from understudy.runs.read import read_ledger
from understudy.training.train import train
from understudy.types import flops_of

SIZES = Sizes(10.0, 1000.0)


def test_a_token_costs_what_the_docstring_says() -> None:
    assert SIZES.cost(1).flops == SIZES.cost(0, 1).flops == 2000
    assert SIZES.cost(0, 0, 1).flops == 20
    assert SIZES.cost(0, 0, 0, 1).flops == 60
    assert Sizes(10.0, 0.0).cost(5, 5).flops == 0  # a program


def test_full_trainings() -> None:
    assert SIZES.sft(100, 7).flops == 100 * 7 * (2000 + 60)
    assert SIZES.opd(100, 7).flops == 100 * 7 * (2000 + 20 + 60)
    pooled = SIZES.sft(100, 7, pool=25)
    assert (pooled.expert_tokens_sampled, pooled.student_tokens_trained) == (175, 700)


@pytest.mark.parametrize("method", ["sft", "opd_full"])
def test_the_prediction_is_what_a_run_then_spends(method: str, tmp_path: Path) -> None:
    ledger = read_ledger(train(config(method, tmp_path / "run", samples_per_prompt=1, eval_expert=False)))
    length = ledger["student_tokens_trained"] / 8  # 2 updates of 4
    sizes = Sizes(SIZES.student, SIZES.expert, ledger["student_prompt_tokens_trained"] / 8)
    spent = sizes.of_ledger(ledger)
    predicted = sizes.sft(8, length) if method == "sft" else sizes.opd(8, length)
    assert spent.flops == pytest.approx(predicted.flops)
    assert spent.flops == pytest.approx(flops_of(ledger, SIZES.student, SIZES.expert)), "prompts count too"
    assert spent.seconds == ledger["train_seconds"] > 0


def test_money() -> None:
    """Two hours at 3, and 4 million tokens of a server at 5, prompts among them."""
    cost = Cost(1_000_000, 2_000_000, seconds=7200.0, expert_prompt_tokens=1_000_000)
    assert cost.money(3.0, 5.0) == pytest.approx(26)
    assert Cost(seconds=math.nan).money(0.0, 5.0) == 0
    assert math.isnan(Cost(seconds=math.nan).money(1.0, 0.0))


def test_time_is_the_pace_of_the_same_work_or_that_of_a_named_device() -> None:
    full, pilot = SIZES.opd(100, 10), Cost(0, 0, 50, 50, 1.0, 4.0)
    assert timed(full, pilot, 0).seconds == pytest.approx(80)
    assert timed(full, pilot, 1e3).seconds == pytest.approx(full.flops / 1e3)
    assert math.isnan(timed(full, None, 0).seconds)


@pytest.mark.parametrize(("text", "value"), [("5%", 0.05), (" 12.5% ", 0.125), ("0.05", 0.05), ("2", 2.0)])
def test_shares(text: str, value: float) -> None:
    assert share(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "five", "0", "-1%", "nan", "inf", "2000%"])
def test_bad_shares_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="budget"):
        share(text)


def test_the_full_training_is_the_one_given() -> None:
    c = DiagnoseConfig(student="scratch", expert="solver", updates=30, set=("lr=0.5", "schedule=cosine"), seed=4)
    full = full_training(c, "opd_full")
    assert (full.updates, full.lr, full.schedule, full.seed, full.method) == (30, 0.5, "cosine", 4, "opd_full")
    assert checked(c).out == "runs/diagnose-solver-4"
