"""A comparison whose arms are routes: equal budgets, one directory per arm, every arm in the report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from understudy import report
from understudy.cli import main
from understudy.config import resolve, to_dict
from understudy.errors import UserError
from understudy.experiments.compare import compare, plan_of
from understudy.experiments.config import CompareConfig
from understudy.experiments.plan import flags
from understudy.report.comparison.flags import limits
from understudy.report.comparison.summary import summarise
from understudy.runs.read import is_route, read_config, read_ledger

SMALL = (
    "updates=6", "prompts_per_update=4", "max_new_tokens=16", "eval_every=0", "final_prompts=8", "final_samples=1",
    "eval_splits=test", "save_every=0", "device=cpu", "look_prompts=8", "select_prompts=8",
)  # fmt: skip


def small(student: Path, out: Path, **changes: Any) -> CompareConfig:
    fields: dict[str, Any] = {
        "student": str(student), "experts": ("search=solver",), "seeds": (0,), "task": "coin", "out": str(out),
        "set": SMALL, "diagnose": False, "workers": 1,
    }  # fmt: skip
    return CompareConfig(**(fields | changes))


def test_routes_at_equal_flops(models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an arm with another budget, an arm that the report leaves out, and finished arms that run again."""
    config = small(models["llama"], tmp_path / "c")
    page = compare(config, quiet=True).read_text()
    names = ("sft", "opd_full", "sft+opd_full", "sft+gkd")
    assert json.loads((tmp_path / "c" / "compare.json").read_text())["methods"] == list(names)
    arms = [Path(r.config.out) for r in plan_of(config, []).runs]
    assert all(map(is_route, arms))
    totals = {json.loads((arm / "route.json").read_text())["total"] for arm in arms}
    assert len(totals) == 1
    comparison = report.load([tmp_path / "c"])
    s = summarise(comparison)
    assert [row.method for row in report.table(comparison)] == ["SFT", "OPD full", "SFT + OPD full", "SFT + GKD"]
    assert s.online in names[1:]
    assert (s.offline, s.online_row) == ("sft", "opd_full")
    best = max(s.accuracy(arm).value for arm in s.arms if arm.method != "sft")  # type: ignore[union-attr]
    assert s.accuracy(s.arm("search", s.online)).value == best  # type: ignore[union-attr, arg-type]
    for word in ("SFT + OPD full", "SFT + GKD", "Sampled accuracy", "against FLOPs", "All routes"):
        assert word in page, word
    assert any("best of 3 routes with an online phase" in line for line in limits(s))
    monkeypatch.setattr("understudy.routes.run.train", lambda *args: pytest.fail("it trained again"))
    compare(config, quiet=True)
    with pytest.raises(UserError, match=r"holds another run \(.*budget"):
        compare(dataclasses.replace(config, budget=1e9), quiet=True)


def test_one_method_at_equal_updates_is_a_plain_run() -> None:
    """As before there were routes, so that finished runs of earlier versions are used again."""
    config = small(Path("x"), Path("c"), axis="updates", methods=("sft", "opd_full:gamma=0", "sft:updates=30"))
    assert config.routes == ("sft", "opd_full:gamma=0", "sft:updates=30")
    runs = plan_of(dataclasses.replace(config, set=SMALL[:-2]), []).runs
    assert [(r.route, r.method, r.budget, r.config.updates) for r in runs] == [
        (None, "sft", 1, 6), (None, "opd_full:gamma=0", 1, 6), (None, "sft", 5, 30),
    ]  # fmt: skip
    assert to_dict(resolve(runs[0].config))["budget_axis"] == "updates"


def test_what_the_arms_are() -> None:
    config = small(Path("x"), Path("c"), routes=("sft", "sft:updates=30", "sft:40%+gkd:lr=2e-4"))
    sft, long, mixed = plan_of(config, []).runs
    assert all(r.route is not None for r in (sft, long, mixed))
    assert (long.method, long.budget, long.route.train.updates) == ("sft", 5, 30)  # type: ignore[union-attr]
    assert (mixed.method, mixed.budget, mixed.config.method) == ("sft:40%+gkd:lr=2e-4", 1, "sft")
    assert mixed.route.select_prompts == 8  # type: ignore[union-attr]
    assert Path(mixed.config.out).name == "search-sft-40--gkd-lr-2e-4-0"
    lines = flags([sft, mixed])
    assert len(lines) == 1
    assert (
        "differ in lr (sft on search, seed 0: 0.001; sft:40%+gkd:lr=2e-4 on search, seed 0: 0.001 then 0.0002)"
        in lines[0]
    )


def test_diagnoses_stand_beside_the_arms() -> None:
    plan = plan_of(small(Path("x"), Path("c"), diagnose=True), [])
    ((first, place),) = plan.diagnoses()
    assert (first.method, first.route is not None, place.name) == ("sft", True, "diagnosis-search-0")


@pytest.mark.parametrize(
    ("routes", "field", "words"),
    [
        (("sft", "sft+opf"), "method", "unknown"),
        (("sft:updates=3+gkd",), "route", "write METHOD:150"),
        (("sft+grpo:samples_per_prompt=1",), "samples_per_prompt", "at least 2"),
    ],
)
def test_mistakes(routes: tuple[str, ...], field: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        plan_of(small(Path("x"), Path("c"), routes=routes), [])
    assert error.value.field == field


def test_both_names_of_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("--routes", "--methods"):
        assert main.main(["compare", "--student", "x", "--experts", "s=solver", name, "sft+"]) == 2
        assert "in route sft+" in capsys.readouterr().err


def test_equal_updates_with_a_route(models: dict[str, Path], tmp_path: Path) -> None:
    config = small(models["llama"], tmp_path / "c", axis="updates", routes=("sft", "sft+opd_full"))
    compare(config, quiet=True)
    sft, both = (Path(r.config.out) for r in plan_of(config, []).runs)
    assert read_ledger(sft)["updates"] == read_ledger(both)["updates"] == 6
    assert [read_config(p)["updates"] for p in sorted((both / "phases").iterdir())] == [3, 3]


IDLE = [
    ("sft:beta=0.3", "beta has no effect there .*divergence=jsd"),
    ("opd_full:advantage_norm=none", "advantage_norm has no effect there"),
    ("gkd:expert_share=0.2", "expert_share has no effect there"),
    ("opd:student_share=0.2", "student_share has no effect there"),
    ("opd:round_updates=5", "round_updates has no effect there"),
    ("sft:guard_margin=0.2", "guard_margin has no effect there"),
    ("sft:guard=false", "only on-policy training has a guard"),
    ("opd_full:guard=false,guard_trial=0.2", "guard_trial has no effect there"),
    ("opd:base=elsewhere", "only behavior=base and signal=extrapolated use it"),
    ("opd_full:importance_cap=9", "importance_cap has no effect there"),
    ("opd_full:top_k_of=expert", "top_k is 0"),
    ("sft:drift_limit=2", "drift_limit has no effect there"),
    ("opd_full:eval_samples=3", "give --eval-every"),
]
SHARED_FIELDS = (
    "expert=solver",
    "seed=3",
    "out=x",
    "student=x",
    "method=gkd",
    "task=x",
    "budget=3",
    "budget_axis=flops",
)


@pytest.mark.parametrize("axis", ["flops", "updates"])
@pytest.mark.parametrize(("route", "words"), IDLE)
def test_an_arm_is_what_its_label_says(route: str, words: str, axis: str) -> None:
    """Catches an override that is shown in the report and changes nothing."""
    common = SMALL if axis == "flops" else SMALL[:-2]
    with pytest.raises(UserError, match=words):
        plan_of(small(Path("x"), Path("c"), routes=(route,), axis=axis, set=(*common, "eval_start=false")), [])


@pytest.mark.parametrize("item", SHARED_FIELDS)
def test_an_arm_cannot_change_what_all_arms_share(item: str) -> None:
    with pytest.raises(UserError, match=item.partition("=")[0]):
        plan_of(small(Path("x"), Path("c"), routes=(f"sft:{item}",)), [])


@pytest.mark.parametrize(
    "route",
    [
        "gkd:beta=0.3", "grpo:advantage_norm=none", "dagger:expert_share=0.2", "gkd:student_share=0.2",
        "rft:round_updates=5", "opd:guard_margin=0.2", "opd:guard=false", "base_opd:importance_cap=9",
        "opd_full:top_k=8,top_k_of=expert", "opd:drift_limit=2", "sft:lr=3e-4", "sft:eval_every=3,eval_samples=3",
        "opd:guard_reserve=0.1", "sft:beta=0.5",
    ],
)  # fmt: skip
def test_an_override_that_takes_effect_or_says_what_is_so_anyway(route: str) -> None:
    assert plan_of(small(Path("x"), Path("c"), routes=(route,)), [])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"routes": ("sft", "opd", "sft")}, "is there twice"),
        ({"routes": ("sft:lr=1e-3", "sft: lr=1e-3")}, "is there twice"),
        ({"routes": ()}, "missing"),
        ({"set": (*SMALL, "task=addition")}, "--task addition"),
        ({"set": (*SMALL, "budget_axis=updates")}, "--axis updates"),
        ({"set": (*SMALL, "budget=3")}, "--budget 3"),
        ({"set": (*SMALL, "updates=9")}, "updates is there twice"),
        ({"set": (*SMALL, "expert_share=0.3")}, "no effect in any of these runs"),
    ],
)
def test_a_comparison_that_would_not_be_the_one_asked_for(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        plan_of(small(Path("x"), Path("c"), **changes), [])


def test_several_experts_beside_one(models: dict[str, Path], tmp_path: Path) -> None:
    """The field is that of the several alone; where no expert is several, it is refused."""
    several = {"experts": ("both=a=solver b=always_ok", "one=solver"), "set": (*SMALL, "expert_of=kind")}
    plan = plan_of(
        small(models["llama"], tmp_path / "c", task="kinds", routes=("sft",), diagnose=True, **several), ["x"]
    )
    assert {(r.config.expert, r.config.expert_of) for r in plan.runs} == {
        ("a=solver b=always_ok", "kind"), ("solver", ""),
    }  # fmt: skip
    assert plan.experts["both"]["realizable"] is None
    assert flags(plan.runs) == []
    for experts, fields in ((("one=solver",), several["set"]), (("both=a=solver b=always_ok",), SMALL)):
        with pytest.raises(UserError, match="expert"):
            plan_of(small(models["llama"], tmp_path / "c", task="kinds", experts=experts, set=fields), ["x"])
