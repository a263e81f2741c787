"""From two models to an answer on disk: in stages, within its budget, resumed to the same end, honest where blind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import understudy
from understudy import experts
from understudy.cli.main import main
from understudy.diagnosis.glossary import MEANINGS
from understudy.diagnosis.outcome import ANSWERS
from understudy.diagnosis.screen import SHORT, show
from understudy.diagnosis.types import CHECKS, FILE, MEASURES, Diagnosis
from understudy.errors import UserError
from understudy.runs.read import read_config

# a full training of 8 updates of 16 sequences; its cost pays for pilots of a few updates each
OPTIONS: dict[str, Any] = {
    "task": "coin", "updates": 8, "prompts_per_update": 16, "prompts": 16, "samples": 2, "expert_samples": 1,
    "budget": "100%", "set": ("max_new_tokens=12", "lr=0.01"), "device": "cpu",
}  # fmt: skip


def made(models: dict[str, Path], out: Path, expert: str = "", **changes: Any) -> Diagnosis:
    fields = OPTIONS | {"student": str(models["llama"]), "expert": expert or str(models["qwen2"]), "out": str(out)}
    return understudy.diagnose(**(fields | changes))


@pytest.fixture(scope="module")
def whole(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Diagnosis, Path]:
    from tiny import CoinTask

    from understudy import tasks

    tasks.TASKS["coin"] = CoinTask.from_spec  # the function-scoped fixture comes later than this one
    out = tmp_path_factory.mktemp("diagnosis") / "d"
    return made(models, out, controls="all"), out


def test_every_stage_leaves_its_evidence(whole: tuple[Diagnosis, Path]) -> None:
    found, out = whole
    assert found.verdict.answer in ANSWERS
    assert sum(found.verdict.probabilities.values()) == pytest.approx(1)
    assert all(c.passed for c in found.preflight)
    assert set(found.evidence.measures) == set(MEASURES)
    points = found.evidence.pilots
    assert [(p.kind, p.label) for p in points] == [("sft", "start"), ("opd", "start"), *[("sft", "curve")] * 3,
                                                   ("opd", "curve")]  # fmt: skip
    curve = [p for p in points if p.kind == "sft" and p.label == "curve"]
    assert [p.samples for p in curve] == sorted({p.samples for p in curve})
    for p in points:
        assert p.accuracy is not None
        assert p.kl_expert_student is not None
        assert p.kl_student_expert is not None
    assert curve[-1].kl_expert_student.value < points[0].kl_expert_student.value  # type: ignore[union-attr]
    assert found.evidence.floor is not None
    for name in CHECKS[:1] + CHECKS[2:]:
        assert found.evidence.checks[name].ran
        assert found.evidence.checks[name].difference is not None
    assert not found.evidence.checks["capacity_ladder"].ran  # all weights of a given model are trained
    assert "test" not in {r for p in (out / "pilots").iterdir() for r in read_config(p)["eval_splits"].split(",")}


def test_it_is_on_disk_as_it_was_returned(whole: tuple[Diagnosis, Path]) -> None:
    found, out = whole
    read = Diagnosis.from_dict(json.loads((out / FILE).read_text()))
    assert read.to_dict() == found.to_dict()
    assert set(found.costs) == {"diagnosis", "sft", "opd"}
    assert found.costs["sft"].student_tokens_trained > 0
    assert found.costs["opd"].seconds > 0  # at the pilots' pace


def test_the_account_is_that_of_what_was_done(whole: tuple[Diagnosis, Path]) -> None:
    """What pilots trained is in the total, and the plan kept its promise up to lengths that changed by training."""
    found, _ = whole
    trained = sum(p.cost.student_tokens_trained for p in found.evidence.pilots)
    assert found.costs["diagnosis"].student_tokens_trained > trained  # the controls' too
    sampled = sum(p.cost.expert_tokens_sampled for p in found.evidence.pilots)
    assert found.costs["diagnosis"].expert_tokens_sampled > sampled


def test_again_is_at_once_and_another_question_is_refused(
    whole: tuple[Diagnosis, Path], models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, out = whole

    def never(*_: Any) -> Any:
        raise AssertionError("asked again")

    monkeypatch.setattr("understudy.diagnosis.pipeline.load_policy", never)
    assert made(models, out, controls="all").to_dict() == found.to_dict()
    named = made(models, out, controls="all", device_flops=1e9)
    assert named.costs["sft"].seconds == pytest.approx(named.costs["sft"].flops / 1e9)
    assert made(models, out, controls="all").costs == found.costs
    with pytest.raises(UserError, match="another diagnosis: seed 0 -> 1"):
        made(models, out, controls="all", seed=1)


def test_interrupted_anywhere_it_ends_the_same(
    whole: tuple[Diagnosis, Path], models: dict[str, Path], tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def ends(found: Diagnosis) -> dict[str, Any]:
        """Without the times."""
        told = found.to_dict()
        for cost in [*told["costs"].values(), *(p["cost"] for p in told["evidence"]["pilots"])]:
            cost.pop("seconds")
        for control in told["evidence"]["checks"].values():
            for p in control["points"]:
                p["cost"].pop("seconds")
        for name in ("out", "paces"):
            told["setting"].pop(name)
        return told

    for stop in (4, 12):
        calls = 0

        def progress(*_: Any, stop: int = stop) -> None:
            nonlocal calls
            calls += 1
            if calls == stop:
                raise Stop

        with pytest.raises(Stop):
            made(models, tmp_path / "part", controls="all", progress=progress)
    assert ends(made(models, tmp_path / "part", controls="all")) == ends(whole[0])


def test_the_budget_bounds_the_pilots(models: dict[str, Path], tmp_path: Path) -> None:
    some = made(models, tmp_path / "a", updates=300, budget="5%")
    both = some.costs["sft"].flops + some.costs["opd"].flops
    assert any(p.label == "curve" for p in some.evidence.pilots)
    assert some.costs["diagnosis"].flops <= 1.3 * 0.05 * both
    none = made(models, tmp_path / "b", budget="1%")
    assert not none.evidence.pilots
    assert all(c.told.startswith("not run") for c in none.evidence.checks.values())


def test_no_headroom_no_training(models: dict[str, Path], tmp_path: Path) -> None:
    """Two random models on real Countdown: both solve nothing, so there is nothing to gain."""
    found = made(models, tmp_path / "d", task="countdown")
    assert found.evidence.measures["headroom"].high <= 0.05
    assert found.setting["stopped"].startswith("no headroom")
    assert not found.evidence.pilots
    assert not (tmp_path / "d" / "pilots").exists()
    assert found.verdict.answer == "neither"


def test_without_a_verifier_it_says_what_it_cannot(models: dict[str, Path], tmp_path: Path) -> None:
    found = made(models, tmp_path / "d", verifier=False)
    assert not found.evidence.has_verifier
    assert {"student_accuracy", "headroom", "auc", "takeover_gain"}.isdisjoint(found.evidence.measures)
    assert {"kl_student_expert", "kl_expert_student"} <= set(found.evidence.measures)
    assert all(p.accuracy is None for p in found.evidence.pilots)
    assert found.evidence.floor is not None
    assert found.verdict.answer == "undecided"
    assert any("No reward is known" in a for a in found.assumptions)


def test_a_black_box_expert_leaves_only_the_offline_route(models: dict[str, Path], tmp_path: Path) -> None:
    found = made(models, tmp_path / "d", expert="good", set=(*OPTIONS["set"], "eval_expert=false"))
    assert found.evidence.capabilities == ("sample",)
    assert {"kl_student_expert", "kl_expert_student", "auc", "takeover_gain"}.isdisjoint(found.evidence.measures)
    assert "headroom" in found.evidence.measures
    assert {p.kind for p in found.evidence.pilots} <= {"sft"}
    assert "opd" not in found.costs
    assert found.setting["online"] is None
    assert found.verdict.answer != "go online"
    assert any("only gives samples" in a for a in found.assumptions)


def test_an_expert_that_cannot_be_sampled_is_refused(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experts.LocalExpert, "capabilities", frozenset({"score"}))
    with pytest.raises(UserError, match="cannot be sampled"):
        made(models, tmp_path / "d")
    assert not (tmp_path / "d").exists()


# -- what a person sees -------------------------------------------------------------------------------------------


def shown(found: Diagnosis) -> list[str]:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show(found, console)
    return console.export_text().splitlines()


def test_the_screen_has_the_verdict_first_and_fits(whole: tuple[Diagnosis, Path]) -> None:
    found, _ = whole
    lines = shown(found)
    assert lines[0].lower().startswith(found.verdict.answer.split()[0])
    assert len(lines) <= 48, "one screen"
    text = "\n".join(lines)
    for name in SHORT:
        assert MEANINGS[name][0] in text
    assert "offline (SFT)" in text
    assert "% of both" in text


def test_model_text_and_paths_are_not_markup(whole: tuple[Diagnosis, Path]) -> None:
    import dataclasses

    found, _ = whole
    odd = dataclasses.replace(
        found,
        setting=found.setting | {"student": "[red]x[/red]"},
        verdict=dataclasses.replace(found.verdict, reasons=("[bold]odd[/nothing]",)),
    )
    text = "\n".join(shown(odd))
    assert "[red]x[/red]" in text
    assert "[bold]odd[/nothing]" in text


def test_every_measure_has_plain_words() -> None:
    assert set(MEANINGS) == set(MEASURES)
    assert all(len(meaning) <= 90 for _, meaning in MEANINGS.values())


def test_the_command_prints_json(whole: tuple[Diagnosis, Path], models: dict[str, Path], capsys: Any) -> None:
    found, out = whole
    words = ["diagnose", "--student", str(models["llama"]), "--expert", str(models["qwen2"]), "--out", str(out),
             "--controls", "all"]  # fmt: skip
    for name, value in OPTIONS.items():
        words += [f"--{name.replace('_', '-')}", *(value if isinstance(value, tuple) else [str(value)])]
    assert main([*words, "--json"]) == 0
    assert Diagnosis.from_dict(json.loads(capsys.readouterr().out)).to_dict() == found.to_dict()
    assert main(words) == 0
    assert "this diagnosis" in capsys.readouterr().out
