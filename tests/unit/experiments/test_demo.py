"""The plan of the demo: which runs are compared, and that a longer demo continues a shorter one."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from understudy.cli.demo import demo_command
from understudy.errors import UserError
from understudy.experiments.config import DemoConfig
from understudy.experiments.demo import LARGER, RL, SEARCH, STYLED, plan_of
from understudy.experiments.plan import STUDIED, flags


def experts(**fields: object) -> list[str]:
    return list(plan_of(DemoConfig(**fields), []).experts)  # type: ignore[arg-type]


def test_what_each_size_shows() -> None:
    assert experts(quick=True) == [SEARCH]
    assert experts() == [RL, SEARCH]
    assert experts(full=True) == experts(seeds=3) == [RL, LARGER, SEARCH, STYLED]
    plan = plan_of(DemoConfig(), [])
    kinds = Counter("training" if j.is_training else j.name.split()[0] for j in plan.jobs())
    assert kinds == {"training": 8, "diagnosis": 2, "auto": 2}, "base, RL, 2 x 3 arms and auto, a diagnosis per expert"
    assert {(r.method, r.config.budget_axis) for r in plan.runs} == {
        ("sft", "flops"), ("opd_full", "flops"), ("sft+opd_full", "flops"), ("auto", "updates"),
    }  # fmt: skip
    assert not plan_of(DemoConfig(diagnose=False), []).diagnoses()


def test_a_longer_demo_goes_on_from_a_shorter_one() -> None:
    short, long = (plan_of(DemoConfig(seeds=n), []) for n in (1, 3))
    resolved = {j.out: j.args for j in long.trainings()}
    assert all(resolved[j.out] == j.args for j in short.trainings())
    quick = {j.out for j in plan_of(DemoConfig(quick=True), []).trainings()}
    assert not quick & set(resolved), "other budgets need another place"


@pytest.mark.parametrize("config", [DemoConfig(), DemoConfig(full=True), DemoConfig(quick=True)])
def test_arms_differ_in_what_is_studied_alone(config: DemoConfig) -> None:
    plan = plan_of(config, [])
    lines = flags(plan.runs)
    assert all("updates" in line for line in lines), lines  # the run that is five times longer is flagged
    for job in plan.jobs():
        if job.is_training:
            assert set(job.needs) <= {j.name for j in plan.before}
    equal = [
        dataclasses.replace(a.config, method="sft", out="", expert="")
        for a in plan.runs
        if a.budget == 1 and not a.auto
    ]
    assert len({repr(c) for c in equal}) == 1
    assert {"method", "expert", "out"} <= STUDIED


def test_mistakes_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="seeds"):
        plan_of(DemoConfig(seeds=0), [])
    with pytest.raises(SystemExit):
        demo_command(["--help"])
    assert "--quick" in capsys.readouterr().out
