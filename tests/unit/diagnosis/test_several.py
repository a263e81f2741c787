"""Several experts: one plan, one student sample, one order; who cannot be imitated is left out; resume; all ways in."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import understudy
from understudy.cli.main import main
from understudy.diagnosis import several
from understudy.diagnosis.config import DiagnoseConfig, checked, one_by_one
from understudy.diagnosis.forecast import choice
from understudy.diagnosis.measures import collect
from understudy.diagnosis.screen import show
from understudy.diagnosis.types import FILE, Candidate, Diagnosis, Estimate
from understudy.errors import UserError

pytestmark = pytest.mark.xdist_group("several")  # one worker makes `whole`

OPTIONS: dict[str, Any] = {
    "task": "coin", "updates": 8, "prompts_per_update": 16, "prompts": 16, "samples": 2, "expert_samples": 2,
    "budget": "100%", "set": ("max_new_tokens=12", "lr=0.01"), "device": "cpu", "controls": "none",
}  # fmt: skip


def run(models: dict[str, Path], out: Path, **changes: Any) -> Diagnosis:
    experts = {"near": str(models["qwen2"]), "gone": str(models["qwen2"] / "missing"), "knows": "solver"}
    return understudy.diagnose(
        **(OPTIONS | {"student": str(models["llama"]), "expert": experts, "out": str(out)} | changes)
    )


@pytest.fixture(scope="module")
def whole(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Diagnosis, Path, list[int]]:
    from tiny import CoinTask

    from understudy import tasks

    tasks.TASKS["coin"] = CoinTask.from_spec  # the function-scoped fixture comes later than this one
    out, drawn = tmp_path_factory.mktemp("several") / "d", []
    with pytest.MonkeyPatch.context() as patch:
        real = collect.sample_student
        patch.setattr(collect, "sample_student", lambda *args: drawn.append(len(args[2])) or real(*args))
        result = run(models, out)
    return result, out, drawn


def test_the_best_expert_is_recommended_with_all_candidates(whole: tuple[Diagnosis, Path, list[int]]) -> None:
    result, out, _ = whole
    ranked, left = result.candidates[:2], result.candidates[2]
    assert {c.name for c in ranked} == {"near", "knows"}
    assert left.name == "gone"
    assert "missing" in left.left_out
    best = ranked[0]
    assert result.setting["expert"] == best.expert
    assert result.recommendation is not None
    assert (best.route, best.expected) == (result.recommendation.route, result.recommendation.of(best.route).expected)  # type: ignore[union-attr]
    for c in ranked:
        assert c.accuracy is not None
        assert c.gradient is not None
        assert c.gradient.value > 0
        one = Diagnosis.load(out / "experts" / f"{['near', 'gone', 'knows'].index(c.name)}-{c.name}")
        assert one.evidence.measures["gradient_score"] == c.gradient
        assert one.evidence.measures["expert_accuracy"] == c.accuracy
    assert result.costs["diagnosis"].flops > sum(c.spent.flops for c in ranked if c.spent)  # and what they share
    assert Diagnosis.load(out).to_dict() == result.to_dict()


def test_the_student_is_sampled_once_for_all(whole: tuple[Diagnosis, Path, list[int]]) -> None:
    """The prompts of the measures once; both diagnoses have the same accuracy of the student."""
    result, out, drawn = whole
    assert drawn.count(result.setting["prompts_measured"]) == 1
    both = [Diagnosis.load(path) for path in several.pages(out)]
    assert len(both) == 2
    assert both[0].evidence.measures["student_accuracy"] == both[1].evidence.measures["student_accuracy"]
    assert len({d.setting["prompts_measured"] for d in both}) == 1


def test_screen_and_page_begin_with_the_expert(whole: tuple[Diagnosis, Path, list[int]]) -> None:
    result, out, _ = whole
    console = Console(width=100, file=io.StringIO(), record=True)
    show(result, console)
    lines = console.export_text().splitlines()
    assert lines[0].startswith((f"Imitate {result.candidates[0].name}: ", "Do not train toward any of these experts"))
    assert any("gone is left out" in line for line in lines)
    page = (out / "diagnosis.html").read_text()
    assert "Which expert" in page
    assert "gone is left out" in page
    assert "--expert near=" in page
    assert "Which expert" not in (several.pages(out)[0] / "diagnosis.html").read_text()


def test_again_is_at_once_and_another_question_is_refused(
    whole: tuple[Diagnosis, Path, list[int]], models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    result, out, _ = whole
    monkeypatch.setattr("understudy.diagnosis.pipeline.load_policy", lambda *_, **__: pytest.fail("asked again"))
    assert run(models, out).to_dict() == result.to_dict()
    with pytest.raises(UserError, match="another diagnosis: expert"):
        run(models, out, expert={"near": str(models["qwen2"]), "knows": "solver"})


def test_interrupted_after_one_expert_it_ends_the_same(
    whole: tuple[Diagnosis, Path, list[int]], models: dict[str, Path], tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def progress(phase: str, *_: Any) -> None:
        if phase.startswith("knows"):
            raise Stop

    with pytest.raises(Stop):
        run(models, tmp_path / "d", progress=progress)
    assert not (tmp_path / "d" / FILE).exists()
    again = run(models, tmp_path / "d")

    def known(d: Diagnosis) -> list[Any]:
        return [(c.name, c.accuracy, c.gradient, c.expected) for c in d.candidates]

    assert known(again) == known(whole[0])


def test_the_plan_names_the_cost_of_all_before_anything_is_written(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["diagnose", "--student", str(models["llama"]), "--out", str(tmp_path / "d"), "--expert",
             f"near={models['qwen2']}", "knows=solver"]  # fmt: skip
    for name, value in OPTIONS.items():
        words += [f"--{name.replace('_', '-')}", *(value if isinstance(value, tuple) else [str(value)])]
    assert main([*words, "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert "2 experts, " in plan
    assert "  near: " in plan
    assert "  knows: " in plan
    assert main([*words, "--dry-run", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["experts"]) == {"near", "knows"}
    assert main([*words, "--budget", "5%"]) == 2
    assert "for expert " in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_without_any_usable_expert_the_reason_of_the_first(models: dict[str, Path], tmp_path: Path) -> None:
    gone = {"a": str(tmp_path / "x"), "b": str(tmp_path / "y")}
    with pytest.raises(UserError, match=r"expert a: .*none of the experts can be used"):
        run(models, tmp_path / "d", expert=gone)


def test_each_expert_has_a_directory_of_its_own_whatever_its_name() -> None:
    config = checked(DiagnoseConfig(student="scratch:width=16,layers=1", expert="..=solver a.b=half", updates=8))
    assert config.out == "runs/diagnose-..-a.b-0"
    assert [c.out for c in one_by_one(config).values()] == [f"{config.out}/experts/0-..", f"{config.out}/experts/1-a.b"]
    assert [c.expert for c in one_by_one(config).values()] == ["solver", "half"]
    assert one_by_one(DiagnoseConfig(expert="solver")) == {}


def _candidate(name: str, accuracy: float, expected: float) -> Candidate:
    a, e = (Estimate(x, x - 0.1, x + 0.1, 64, "accuracy", "test") for x in (accuracy, expected))
    return Candidate(name, name, accuracy=a, route="sft", expected=e)


def test_why_in_words() -> None:
    assert choice.why([_candidate("a", 0.5, 0.8), _candidate("b", 0.9, 0.6)]) == (
        "a is expected to end 20.0 points above b, the next one."
    )
    near = choice.why([_candidate("a", 0.9, 0.60), _candidate("b", 0.5, 0.62)])
    assert "2.0 points apart" in near
    assert "a is right more often itself (90% against 50%)" in near
    assert "only expert" in choice.why([_candidate("a", 0.9, 0.6), Candidate("b", "b", "it is gone")])
