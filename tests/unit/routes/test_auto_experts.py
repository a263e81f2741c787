"""auto with several experts: the one that is right most often is imitated, its choice is a decision, and it resumes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import STUDENT

from understudy.errors import UserError
from understudy.report import auto as page
from understudy.routes import auto as module
from understudy.routes import auto_experts
from understudy.routes.auto import auto
from understudy.routes.auto_config import AutoConfig
from understudy.routes.policy import Value
from understudy.runs.read import is_done, read_config, read_ledger

pytestmark = pytest.mark.xdist_group("auto_experts")  # one worker makes `whole`


def config(out: Path, **changes: Any) -> AutoConfig:
    fields = {"student": STUDENT, "expert": "low=half:p_right=0.1 gone=solvr high=solver", "task": "coin",
              "budget": "1.5e9", "set": ("prompts_per_update=4", "max_new_tokens=24", "warmup=2"), "look_prompts": 16,
              "final_prompts": 4, "final_samples": 1, "out": str(out), "device": "cpu"}  # fmt: skip
    return AutoConfig(**(fields | changes))


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "decisions.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    from tiny import CoinTask

    from understudy import tasks

    tasks.TASKS["coin"] = CoinTask.from_spec  # the function-scoped fixture comes later than this one
    said: list[str] = []
    return auto(config(tmp_path_factory.mktemp("auto") / "a"), announce=said.extend), said


def test_the_expert_that_is_right_most_often_is_imitated(whole: tuple[Path, list[str]]) -> None:
    out, said = whole
    first, *rest = lines(out)
    measured = [k for k in first["known"] if k["value"] is not None]
    accuracy = {k["what"].removeprefix("accuracy of expert "): k["value"] for k in measured}
    assert set(accuracy) == {"low", "high"}
    assert first["chosen"] == f"imitate {first['expert']}"
    assert accuracy[first["expert"]] == max(accuracy.values())
    assert [o["action"] for o in first["options"]] == sorted(
        (f"imitate {n}" for n in accuracy), key=lambda a: -accuracy[a.removeprefix("imitate ")]
    )
    assert any("gone is left out" in k["what"] for k in first["known"])
    assert first["training"] is None
    assert first["cost"] == 0  # a program has no weights
    assert rest[-1]["training"] is None
    assert any(line.startswith(f"expert {first['expert']} (chosen): ") for line in said)
    assert any(line.startswith("expert gone: left out") for line in said)
    for line in rest:
        if line["training"]:
            phase = read_config(out / "phases" / f"{line['number']}-{line['training']['method']}")
            assert phase["expert"] == json.loads((out / "look.json").read_text())["experts"][first["expert"]]["expert"]
    assert read_config(out)["expert"] == config(out).expert
    assert is_done(out)


def test_the_page_begins_with_the_choice(whole: tuple[Path, list[str]]) -> None:
    out, _ = whole
    text = page.build(out).read_text()
    assert f"Imitate {lines(out)[0]['expert']}" in text
    assert "it is right most often" in text
    assert page.finding(out)
    assert (out / "final" / "README.md").read_text().count("imitate ") >= 1


def test_killed_at_every_boundary(
    whole: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    out = tmp_path / "killed"
    for name in ("look_at_all", "add_decision", "train"):
        work: Callable[..., Any] = getattr(module, name)

        def killed(*args: Any, work: Callable[..., Any] = work, **options: Any) -> Any:
            work(*args, **options)
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(module, name, killed)
            with pytest.raises(Killed):
                auto(config(out))
    auto(config(out))
    untimed = [[{k: v for k, v in line.items() if k != "seconds"} for line in lines(path)] for path in (whole[0], out)]
    assert untimed[0] == untimed[1]
    assert read_ledger(out)["flops"] == read_ledger(whole[0])["flops"]


def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="none of the experts can be used"):
        auto(config(tmp_path / "a", expert="a=solvr b=hlf"))
    with pytest.raises(UserError, match="expert low: must be at least 0"):
        auto(config(tmp_path / "b", set=("lr=-1",)))
    monkeypatch.setattr(auto_experts, "MOST", 0.0)
    with pytest.raises(UserError, match=r"the looks at 3 experts take about .*give more, fewer experts"):
        auto(config(tmp_path / "c", budget="1h"))
    assert not (tmp_path / "c").exists()


def test_without_a_verifier_it_cannot_choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiny import CoinTask

    monkeypatch.setattr(CoinTask, "verified", False)
    with pytest.raises(UserError, match="nothing verifies task coin, so auto cannot tell them apart"):
        auto(config(tmp_path / "a"))
    assert not (tmp_path / "a").exists()


def test_all_looks_are_paid_for() -> None:
    """The looks at the experts that were not chosen are a part of what was spent."""
    look = {"rewards": [1.0], "ledger": {"flops": 5.0, "eval_seconds": 2.0}}
    seen = {"chosen": "a", "experts": {"a": {"expert": "x", "look": look}, "b": {"expert": "y", "look": look},
                                       "c": {"expert": "z", "left_out": "gone"}}}  # fmt: skip
    assert list(auto_experts.others(seen)) == ["b"]
    assert auto_experts.others({"looks": {}}) == {}
    assert auto_experts.lines_of(seen)[2] == "expert c: left out: gone"
    assert isinstance(auto_experts.value_of(look), Value)
