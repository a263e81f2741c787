"""understudy auto on a task of a fraction of a second: its files, a kill at every boundary, mistakes, no verifier."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import STUDENT

from understudy.errors import UserError
from understudy.routes import auto as module
from understudy.routes.auto import auto
from understudy.routes.auto_config import AutoConfig
from understudy.runs.read import is_done, is_run, read_final, read_ledger
from understudy.types import LEDGER_AXES

TIMES = ("train_seconds", "eval_seconds")
SET = ("prompts_per_update=4", "max_new_tokens=16", "warmup=2")


def config(out: Path, **changes: Any) -> AutoConfig:
    # 22 updates are too few for a trial: without rewards every auto begins offline
    fields = {"student": STUDENT, "expert": "solver", "task": "coin", "budget": "updates=22", "set": SET,
              "look_prompts": 16, "final_prompts": 4, "final_samples": 1, "out": str(out), "device": "cpu",
              "imitate_only": True}  # fmt: skip
    return AutoConfig(**(fields | changes))


def content(out: Path) -> dict[str, Any]:
    """Everything that must not depend on where it was killed."""
    lines = [json.loads(line) for line in (out / "decisions.jsonl").read_text().splitlines()]
    spent = {name: x for name, x in read_ledger(out).items() if name not in TIMES}
    weights = {p.relative_to(out): p.read_bytes() for p in out.rglob("final/*.safetensors")}
    decisions = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
    return {"decisions": decisions, "spent": spent, "weights": weights, "final": read_final(out)}


class Killed(Exception):
    pass


@pytest.mark.parametrize("reward", [False, True])
def test_killed_at_every_boundary(reward: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a decision that is made again on other evidence, a phase that is trained twice, a lost look."""
    want = content(auto(config(tmp_path / "whole", imitate_only=not reward)))
    assert want["decisions"][0]["chosen"] == ("gkd_reward from start" if reward else "sft from start")
    assert len(want["decisions"]) >= (2 if reward else 3)
    assert want["decisions"][-1]["training"] is None
    out = tmp_path / "killed"
    places = [(module, "first_look"), (module, "train"), (module, "rewards_of"), (module, "add_decision"),
              *[(module, "train")] * (not reward), (module.RunDir, "finish")]  # fmt: skip
    for owner, name in places:
        work: Callable[..., Any] = getattr(owner, name)

        def killed(*args: Any, work: Callable[..., Any] = work, **options: Any) -> Any:
            work(*args, **options)
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, killed)
            with pytest.raises(Killed):
                auto(config(out, imitate_only=not reward))
    assert content(auto(config(out, imitate_only=not reward))) == want


def test_what_it_leaves(tmp_path: Path) -> None:
    """Catches a ledger that forgets a part, and a summary that says something else than the files."""
    out = auto(config(tmp_path / "a"))
    assert is_done(out)
    summary = json.loads((out / "auto.json").read_text())
    assert summary["state"] == "done"
    parts = [c["flops"] for c in summary["costs"]]
    assert read_ledger(out)["flops"] == pytest.approx(sum(parts))
    assert set(read_ledger(out)) == set(LEDGER_AXES)
    looks = {n["name"]: n["look"]["mean"] for n in summary["nodes"]}
    assert looks[summary["best"]] == max(looks.values())
    assert summary["spent"] <= 1.1 * 24
    assert (out / "final" / "README.md").read_text().count("## Decisions") == 1
    before = (out / "auto.json").stat().st_mtime_ns
    assert auto(config(tmp_path / "a")) == out  # a finished one is returned
    assert (out / "auto.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("updates", [24, 60])
def test_looks_and_confirmation_are_inside_the_budget(updates: int, tmp_path: Path) -> None:
    """Catches a last look, a confirmation or a last update that comes on top, and a reserve that is never used."""
    out = auto(config(
        tmp_path / "a", task="classify:rule=majority,bits=8,relevant=3,classes=2", expert="labeller:p_right=0.97",
        student="scratch:width=16,layers=1,heads=2", budget=f"opd_full:{updates}", set=("prompts_per_update=64",),
    ))  # fmt: skip
    summary = json.loads((out / "auto.json").read_text())
    total, online = summary["setting"]["amount"], [n for n in summary["nodes"] if n.get("method", "sft") != "sft"]
    assert online[0]["guard"]["confirmation"]["prompts"] > 0
    assert 0.85 * total <= read_ledger(out)["flops"] <= 1.01 * total


def test_what_ended_with_its_start_is_not_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard gave everything up: the look at its start holds for it, and costs nothing."""
    monkeypatch.setattr(module, "ended_with_start", lambda final: "guard" in final)
    out = auto(config(tmp_path / "a"))
    looks = {n["name"]: n for n in json.loads((out / "auto.json").read_text())["nodes"]}
    online = [n for n in looks.values() if n.get("method", "sft") != "sft"]
    assert online
    for node in online:
        assert node["look"] == looks[node["parent"]]["look"]
        entry = json.loads((out / "looks" / f"{node['name']}.json").read_text())
        assert not any(entry["ledger"].values())


@pytest.mark.parametrize(
    ("changes", "field", "hint"),
    [
        ({"budget": "updates=3"}, "budget", "10 updates of sft already take"),
        ({"budget": "opd_full:11", "look_prompts": 256}, "budget", "fewer --look-prompts"),
        ({"budget": "expert_tokens_scored=1e6"}, "budget", "sft spends no expert tokens scored"),
        ({"budget": "eval_seconds=60"}, "budget", "sft spends no eval seconds"),
        ({"budget": "2 fortnights"}, "budget", "unknown unit"),
        ({"expert": ""}, "expert", "missing"),
        ({"student": ""}, "student", "missing"),
        ({"set": ("updates=3",)}, "set", "field=value"),
        ({"set": ("lr=fast",)}, "set.lr", "finite number"),
        ({"look_prompts": 2}, "look_prompts", "at least 16"),
    ],
)
def test_mistakes_leave_nothing(changes: dict[str, Any], field: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=hint) as error:
        auto(config(tmp_path / "a", **changes))
    assert error.value.field == field
    assert not (tmp_path / "a").exists()


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    lines: list[str] = []
    auto(config(tmp_path / "a", dry_run=True), announce=lines.extend)
    assert not is_run(tmp_path / "a")
    assert any("first: sft" in line for line in lines)


def test_a_look_costs_less_than_the_training(tmp_path: Path) -> None:
    """Catches paces measured on many more completions than an update has: a short training was refused for its look."""
    out = auto(config(tmp_path / "a", look_prompts=64, set=("prompts_per_update=4", "max_new_tokens=16", "warmup=2")))
    seen = json.loads((out / "look.json").read_text())
    methods, rows, longest = len(seen["methods"]), 4, 16
    assert (
        0 < seen["measured"]["ledger"]["student_tokens_trained"] <= (methods + 2) * rows * longest
    )  # the two mixtures: both halves


def test_an_expert_that_is_often_wrong_is_passed_on_trial(tmp_path: Path) -> None:
    out = auto(config(
        tmp_path / "a", task="classify:rule=majority,bits=8,relevant=3,classes=2", expert="labeller:p_right=0.7",
        student="scratch:width=16,layers=1,heads=2", budget="opd_full:80", set=("prompts_per_update=8", "warmup=2"),
    ))  # fmt: skip
    first, second, *_ = [json.loads(line) for line in (out / "decisions.jsonl").read_text().splitlines()]
    assert first["trial"]
    assert first["chosen"] == "opd_full from start"
    known = {k["what"]: k["value"] for k in first["known"]}
    assert first["training"]["guard_reach"] == known["accuracy of the expert"]
    assert 0.12 <= first["training"]["guard_trial"] <= 0.5
    failed = (read_final(out / "phases" / "0-opd_full") or {})["guard"]["stopped"]
    assert second["chosen"].startswith("gkd") or not failed
