"""From two models to a diagnosis on disk: stages, budget, resume to the same result, and missing information."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import understudy
from understudy import experts
from understudy.cli.main import main
from understudy.diagnosis.forecast.advice import cells, headline
from understudy.diagnosis.glossary import MEANINGS
from understudy.diagnosis.outcome import ANSWERS
from understudy.diagnosis.screen import SHORT, show
from understudy.diagnosis.types import CHECKS, FILE, MEASURES, Diagnosis
from understudy.errors import UserError
from understudy.runs.read import read_config

pytestmark = pytest.mark.xdist_group("pipeline")  # one worker makes `whole`

# a full training of 8 updates of 16 sequences; its cost pays for pilots of a few updates each
OPTIONS: dict[str, Any] = {
    "task": "coin", "updates": 8, "prompts_per_update": 16, "prompts": 16, "samples": 2, "expert_samples": 1,
    "budget": "100%", "set": ("max_new_tokens=12", "lr=0.01"), "device": "cpu",
}  # fmt: skip


def run(models: dict[str, Path], out: Path, expert: str = "", **changes: Any) -> Diagnosis:
    fields = OPTIONS | {"student": str(models["llama"]), "expert": expert or str(models["qwen2"]), "out": str(out)}
    return understudy.diagnose(**(fields | changes))


@pytest.fixture(scope="module")
def whole(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Diagnosis, Path]:
    from tiny import CoinTask

    from understudy import tasks

    tasks.TASKS["coin"] = CoinTask.from_spec  # the function-scoped fixture comes later than this one
    out = tmp_path_factory.mktemp("diagnosis") / "d"
    return run(models, out, controls="all"), out


def test_every_stage_leaves_its_evidence(whole: tuple[Diagnosis, Path]) -> None:
    result, out = whole
    assert result.verdict.answer in ANSWERS
    assert sum(result.verdict.probabilities.values()) == pytest.approx(1)
    assert result.recommendation is not None
    assert [r.route for r in result.recommendation.routes] == ["nothing", "sft", "opd_full", "gkd", "gkd_reward",
                                                               "sft+opd_full", "sft+gkd"]  # fmt: skip
    spent = [r.cost.flops for r in result.recommendation.routes if r.cost and r.route != "nothing"]
    assert max(spent) < 1.3 * min(spent)  # one budget, up to whole updates
    assert all(r.cost.seconds > 0 for r in result.recommendation.routes if r.cost and r.updates)
    assert all(c.passed for c in result.preflight)
    assert set(result.evidence.measures) == set(MEASURES)
    points = result.evidence.pilots
    assert [(p.kind, p.label) for p in points] == [("sft", "start"), ("opd", "start"), *[("sft", "curve")] * 3,
                                                   ("opd", "curve")]  # fmt: skip
    curve = [p for p in points if p.kind == "sft" and p.label == "curve"]
    assert [p.samples for p in curve] == sorted({p.samples for p in curve})
    for p in points:
        assert p.accuracy is not None
        assert p.kl_expert_student is not None
        assert p.kl_student_expert is not None
    assert curve[-1].kl_expert_student.value < points[0].kl_expert_student.value  # type: ignore[union-attr]
    assert result.evidence.floor is not None
    for name in CHECKS[:1] + CHECKS[2:]:
        assert result.evidence.checks[name].ran
        assert result.evidence.checks[name].difference is not None
    assert not result.evidence.checks["capacity_ladder"].ran  # all weights of a given model are trained
    assert "test" not in {r for p in (out / "pilots").iterdir() for r in read_config(p)["eval_splits"].split(",")}


def test_it_is_on_disk_as_it_was_returned(whole: tuple[Diagnosis, Path]) -> None:
    result, out = whole
    read = Diagnosis.from_dict(json.loads((out / FILE).read_text()))
    assert read.to_dict() == result.to_dict()
    assert set(result.costs) == {"diagnosis", "sft", "opd"}
    assert result.costs["sft"].student_tokens_trained > 0
    assert result.costs["opd"].seconds > 0  # at the pilots' pace


def test_the_account_is_that_of_what_was_done(whole: tuple[Diagnosis, Path]) -> None:
    """The total includes what the pilots trained, and equals the plan up to changes of length by training."""
    result, _ = whole
    trained = sum(p.cost.student_tokens_trained for p in result.evidence.pilots)
    assert result.costs["diagnosis"].student_tokens_trained > trained  # the controls' too
    sampled = sum(p.cost.expert_tokens_sampled for p in result.evidence.pilots)
    assert result.costs["diagnosis"].expert_tokens_sampled > sampled


def test_again_is_at_once_and_another_question_is_refused(
    whole: tuple[Diagnosis, Path], models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    result, out = whole

    def never(*_: Any) -> Any:
        raise AssertionError("asked again")

    monkeypatch.setattr("understudy.diagnosis.pipeline.load_policy", never)
    assert run(models, out, controls="all").to_dict() == result.to_dict()
    named = run(models, out, controls="all", device_flops=1e9)
    assert named.costs["sft"].seconds == pytest.approx(named.costs["sft"].flops / 1e9)
    assert run(models, out, controls="all").costs == result.costs
    with pytest.raises(UserError, match="another diagnosis: seed 0 -> 1"):
        run(models, out, controls="all", seed=1)


def test_interrupted_anywhere_it_ends_the_same(
    whole: tuple[Diagnosis, Path], models: dict[str, Path], tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def untimed(result: Diagnosis) -> dict[str, Any]:
        """The diagnosis as data, without times."""
        data = result.to_dict()
        for cost in [*data["costs"].values(), *(p["cost"] for p in data["evidence"]["pilots"])]:
            cost.pop("seconds")
        for route in data["recommendation"]["routes"]:
            route["cost"].pop("seconds")
        for control in data["evidence"]["checks"].values():
            for p in control["points"]:
                p["cost"].pop("seconds")
        for name in ("out", "paces"):
            data["setting"].pop(name)
        for part in [data["setting"]["plan"], *data["setting"]["plan"]["stages"]]:
            part.pop("seconds")
            part.pop("actual_seconds", None)
        return data

    for stop in (4, 12):
        calls = 0

        def progress(*_: Any, stop: int = stop) -> None:
            nonlocal calls
            calls += 1
            if calls == stop:
                raise Stop

        with pytest.raises(Stop):
            run(models, tmp_path / "part", controls="all", progress=progress)
    assert untimed(run(models, tmp_path / "part", controls="all")) == untimed(whole[0])


def test_the_budget_bounds_the_pilots(models: dict[str, Path], tmp_path: Path) -> None:
    partial = run(models, tmp_path / "a", updates=300, budget="5%")
    both = partial.costs["sft"].flops + partial.costs["opd"].flops
    assert any(p.label == "curve" for p in partial.evidence.pilots)
    assert partial.costs["diagnosis"].flops <= 1.3 * 0.05 * both
    none = run(models, tmp_path / "b", budget="1%")
    assert not none.evidence.pilots
    assert all(c.told.startswith("not run") for c in none.evidence.checks.values())


def test_what_was_planned_is_what_happened(whole: tuple[Diagnosis, Path]) -> None:
    """Every stage, in FLOPs, within 1.5 times; in time roughly, as the machine may be busy."""
    result, _ = whole
    plan = result.setting["plan"]
    assert [s["name"].split()[0] for s in plan["stages"]] == ["look", "measure", "online", "offline", "controls"]
    for stage in plan["stages"]:
        assert 1 / 1.5 < stage["actual_flops"] / stage["flops"] < 1.5, stage
    assert 1 / 1.5 < result.costs["diagnosis"].flops / plan["flops"] < 1.5
    assert 1 / 8 < sum(s["actual_seconds"] for s in plan["stages"]) / plan["seconds"] < 8
    assert any(line.startswith("planned: ") and "spent: " in line for line in shown(result))


def test_a_budget_without_pilots_is_refused_before_a_token_is_sampled(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a diagnosis that spends its budget, and more, and then says that no pilot fits."""
    words = ["diagnose", "--student", str(models["llama"]), "--expert", str(models["qwen2"]), "--out",
             str(tmp_path / "d")]  # fmt: skip
    for name, value in OPTIONS.items():
        words += [f"--{name.replace('_', '-')}", *(value if isinstance(value, tuple) else [str(value)])]
    with monkeypatch.context() as patch:
        for name in ("look", "preflight"):
            patch.setattr(f"understudy.diagnosis.pipeline.{name}", lambda *_: pytest.fail("it has sampled"))
        assert main([*words, "--budget", "5%"]) == 2
    output = capsys.readouterr()
    advised = re.search(r"error: budget: 5%: buys no pilots.* with --budget (\d+%) they fit", output.err)
    assert advised
    assert "mean tokens assumed" in output.out
    assert main([*words, "--budget", advised[1], "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "offline pilots on" in text
    assert "plan: " in text
    assert not (tmp_path / "d").exists()
    assert main([*words, "--budget", "5%", "--no-pilots", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fits"]


def test_money_beside_every_route(
    whole: tuple[Diagnosis, Path], models: dict[str, Path]
) -> None:  # fmt: skip
    """At a price per hour, in every table; and gone again without one."""
    out = whole[1]
    priced = run(models, out, controls="all", price_per_hour=3600.0)
    assert priced.recommendation is not None
    row = priced.recommendation.of("sft")
    assert row is not None
    assert row.cost is not None
    assert cells(priced, row)[-1] == f"{row.cost.seconds:,.2f}"
    assert "money" in "\n".join(shown(priced))
    assert "money" not in "\n".join(shown(run(models, out, controls="all")))


def test_no_headroom_no_training(models: dict[str, Path], tmp_path: Path) -> None:
    """Two random models on Countdown: neither solves anything, so there is nothing to gain."""
    result = run(models, tmp_path / "d", task="countdown")
    assert result.evidence.measures["headroom"].high <= 0.05
    assert result.setting["stopped"].startswith("no headroom")
    assert not result.evidence.pilots
    assert not (tmp_path / "d" / "pilots").exists()
    assert result.verdict.answer == "neither"


def test_without_a_verifier_it_says_what_it_cannot(models: dict[str, Path], tmp_path: Path) -> None:
    result = run(models, tmp_path / "d", verifier=False)
    assert not result.evidence.has_verifier
    assert {"student_accuracy", "headroom", "auc", "takeover_gain"}.isdisjoint(result.evidence.measures)
    assert {"kl_student_expert", "kl_expert_student"} <= set(result.evidence.measures)
    assert all(p.accuracy is None for p in result.evidence.pilots)
    assert result.evidence.floor is not None
    assert result.verdict.answer == "undecided"
    assert any("No reward is known" in a for a in result.assumptions)


def test_a_black_box_expert_leaves_only_the_offline_route(models: dict[str, Path], tmp_path: Path) -> None:
    result = run(models, tmp_path / "d", expert="good", set=(*OPTIONS["set"], "eval_expert=false"))
    assert result.evidence.capabilities == ("sample",)
    assert {"kl_student_expert", "kl_expert_student", "auc", "takeover_gain"}.isdisjoint(result.evidence.measures)
    assert "headroom" in result.evidence.measures
    assert {p.kind for p in result.evidence.pilots} <= {"sft"}
    assert "opd" not in result.costs
    assert result.setting["online"] is None
    assert result.verdict.answer != "go online"
    assert any("only gives samples" in a for a in result.assumptions)


def test_an_expert_that_cannot_be_sampled_is_refused(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experts.LocalExpert, "capabilities", frozenset({"score"}))
    with pytest.raises(UserError, match="cannot be sampled"):
        run(models, tmp_path / "d")
    assert not (tmp_path / "d").exists()


# -- what a person sees -------------------------------------------------------------------------------------------


def shown(result: Diagnosis) -> list[str]:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show(result, console)
    return console.export_text().splitlines()


def test_the_screen_has_what_to_do_and_the_verdict_first_and_fits(whole: tuple[Diagnosis, Path]) -> None:
    result, _ = whole
    lines = shown(result)
    assert result.recommendation is not None
    said, start = headline(result.recommendation), " ".join(" ".join(lines[:3]).split())
    assert start.startswith(said)
    after = start.removeprefix(said).strip().lower()
    assert after.removeprefix("verdict: ").startswith(result.verdict.answer.split()[0])
    assert len(lines) <= 50, "one screen"
    text = "\n".join(lines)
    for name in SHORT:
        assert MEANINGS[name][0] in text
    assert "offline (SFT)" in text
    assert "% of both" in text


def test_model_text_and_paths_are_not_markup(whole: tuple[Diagnosis, Path]) -> None:
    import dataclasses

    result, _ = whole
    odd = dataclasses.replace(
        result,
        setting=result.setting | {"student": "[red]x[/red]"},
        verdict=dataclasses.replace(result.verdict, reasons=("[bold]odd[/nothing]",)),
    )
    text = "\n".join(shown(odd))
    assert "[red]x[/red]" in text
    assert "[bold]odd[/nothing]" in text


def test_every_measure_has_plain_words() -> None:
    assert set(MEANINGS) == set(MEASURES)
    assert all(len(meaning) <= 90 for _, meaning in MEANINGS.values())


def test_the_command_prints_json(whole: tuple[Diagnosis, Path], models: dict[str, Path], capsys: Any) -> None:
    result, out = whole
    words = ["diagnose", "--student", str(models["llama"]), "--expert", str(models["qwen2"]), "--out", str(out),
             "--controls", "all"]  # fmt: skip
    for name, value in OPTIONS.items():
        words += [f"--{name.replace('_', '-')}", *(value if isinstance(value, tuple) else [str(value)])]
    assert main([*words, "--json"]) == 0
    assert Diagnosis.from_dict(json.loads(capsys.readouterr().out)).to_dict() == result.to_dict()
    assert main(words) == 0
    assert "this diagnosis" in capsys.readouterr().out
