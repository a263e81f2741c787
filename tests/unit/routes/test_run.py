"""A route directory: resumed bit for bit, its best model as the result, its ledger the sum, mistakes in one line."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import config

from understudy.errors import UserError
from understudy.evaluation.sampled import Sampled
from understudy.routes import run as routes
from understudy.routes import selection
from understudy.routes.route import RouteConfig, load_route
from understudy.routes.run import phase_training, train_route
from understudy.runs.lock import Lock
from understudy.runs.read import is_done, is_run, read_config, read_final, read_ledger
from understudy.types import LEDGER_AXES

TIMES = ("train_seconds", "eval_seconds")


def route(text: str, out: Path, **changes: Any) -> RouteConfig:
    fields = {"updates": 4, "budget_axis": "flops"} | changes
    return RouteConfig(text, 4, 8, config("opd", out, **fields), str(out))


def content(out: Path) -> dict[str, Any]:
    """Everything in a route directory that must not depend on where it was killed."""
    state = json.loads((out / "route.json").read_text())
    spent = {name: value for name, value in read_ledger(out).items() if name not in TIMES}
    weights = {p.relative_to(out): p.read_bytes() for p in out.rglob("final/*.safetensors")}
    return {"selection": state["selection"], "spent": spent, "weights": weights, "final": read_final(out)}


class Killed(Exception):
    pass


@pytest.mark.parametrize("text", ["sft+opd_full"])
def test_killed_at_every_boundary(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a plan that is made anew, a phase that starts from another model or place in the prompts, and a ledger
    that counts a phase twice."""
    want = content(train_route(route(text, tmp_path / "whole")))
    assert want["spent"]["flops"] > 0
    out = tmp_path / "killed"
    places = [(routes, "look"), (routes, "train"), (routes, "train"), (routes, "select"), (routes.RunDir, "finish")]
    for i, (owner, name) in enumerate(places):
        work: Callable[..., Any] = getattr(owner, name)
        left = [2 if i == 2 else 1]

        def killed(*args: Any, work: Callable[..., Any] = work, left: list[int] = left, **options: Any) -> Any:
            done = work(*args, **options)
            left[0] -= 1
            if not left[0]:
                raise Killed
            return done

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, killed)
            with pytest.raises(Killed):
                train_route(route(text, out))
        assert is_done(out) is (name == "finish")
    assert content(train_route(route(text, out))) == want


def test_the_ledger_is_the_sum(tmp_path: Path) -> None:
    """Catches a look or a phase that is paid for and not counted, and a budget that a route does not keep."""
    out = train_route(route("sft+opd_full", tmp_path / "r", updates=12))
    state = json.loads((out / "route.json").read_text())
    ledgers = [read_ledger(p) for p in sorted((out / "phases").iterdir())]
    parts = [*ledgers, state["measured"]["ledger"], state["selection_ledger"]]
    for name in LEDGER_AXES:
        assert read_ledger(out)[name] == pytest.approx(sum(part[name] for part in parts)), name
    assert state["measured"]["ledger"]["student_tokens_trained"] > 0
    spent = sum(ledger["flops"] for ledger in ledgers)
    assert state["total"] <= spent < 1.3 * state["total"]


def test_a_phase_goes_on_where_the_one_before_ended(tmp_path: Path) -> None:
    """From its model, and on prompts that nobody has trained on: on the others rewards are too high."""
    out = train_route(route("sft:2+gkd:3,lr=2e-4", tmp_path / "r", budget_axis="updates", updates=1))
    first, second = (read_config(p) for p in sorted((out / "phases").iterdir()))
    assert (first["updates"], second["updates"], second["lr"], first["lr"]) == (2, 3, 2e-4, 1e-3)
    assert second["student"] == str(out / "phases" / "0-sft")
    assert (first["first_prompt"], second["first_prompt"]) == (0, 2 * 4)


def test_what_a_guard_leaves_goes_to_the_next_phase(tmp_path: Path) -> None:
    """Catches a budget that is lost when a phase ends early, and updates that do not grow with the budget."""
    c = route("sft+opd_full", tmp_path / "r", updates=12)
    out = train_route(c)
    made = routes.Plan.from_dict(json.loads((out / "route.json").read_text()))
    first = out / "phases" / "0-sft"
    half = made.phases[0].budget / 2
    (first / "ledger.json").write_text(json.dumps(read_ledger(first) | {"flops": half}))
    second = phase_training(routes.checked(c), made, 1, [first])
    assert second.budget == pytest.approx(made.phases[1].budget + half)
    assert second.updates > made.phases[1].updates
    (first / "ledger.json").write_text(json.dumps(read_ledger(first) | {"flops": 3 * made.total}))
    assert 0 < phase_training(routes.checked(c), made, 1, [first]).budget < 1e-3 * made.total


def rigged(monkeypatch: pytest.MonkeyPatch, rewards: list[float]) -> None:
    """The candidates of the next selection have these mean rewards."""
    work, means = selection.sample_policy, iter(rewards)

    def sample(*args: Any, **options: Any) -> Sampled:
        done: Sampled = work(*args, **options)
        wins = round(next(means) * len(done.rollouts))
        rollouts = [dataclasses.replace(r, reward=float(i < wins)) for i, r in enumerate(done.rollouts)]
        return dataclasses.replace(done, rollouts=rollouts)

    monkeypatch.setattr(selection, "sample_policy", sample)


@pytest.mark.parametrize(
    ("rewards", "best"), [([0.5, 0.25, 0.0], "start"), ([0.25, 0.5, 0.25], "0-sft"), ([0.5, 0.5, 0.5], "1-opd_full")]
)
def test_the_best_of_all_is_the_result(
    rewards: list[float], best: str, tmp_path: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a route that ends with a model worse than one it has seen, a final.json of another model than final/, and
    a copy where a link would do."""
    rigged(monkeypatch, rewards)
    out = train_route(route("sft+opd_full", tmp_path / "r", student=str(models["llama"])))
    source = models["llama"] if best == "start" else out / "phases" / best / "final"
    assert (out / "final/model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    final = read_final(out)
    assert final is not None
    assert final["selection"] == {"best": best, "prompts": 8}
    assert set(final["splits"]) == {"test"}
    card = (out / "final/README.md").read_text()
    assert "## Route" in card
    assert f"0.{round(1000 * rewards[2]):03d}" in card
    if best != "start":
        assert final["splits"] == (read_final(out / "phases" / best) or {})["splits"]
        assert os.path.samefile(out / "final/model.safetensors", source / "model.safetensors")
        assert "## Route" not in (source / "README.md").read_text()


@pytest.mark.parametrize(
    ("text", "changes", "field", "words"),
    [
        ("sft+opf", {}, "method", "unknown"),
        ("sft+opd:gamma=2", {}, "gamma", "must lie"),
        ("sft+opd_full", {"expert": ""}, "expert", "missing"),
        ("sft+opd_full", {"student": ""}, "student", "missing"),
        ("sft+opd_full", {"budget": 1.0}, "budget", "one update"),
        ("sft:1000+opd_full", {"budget": 1e7}, "budget", "more than the budget"),
        ("sft+opd_full", {"budget_axis": "expert_tokens_scored", "budget": 1e6}, "route", "spends no"),
        ("sft", {"budget_axis": "eval_seconds"}, "budget", "no usual amount"),
    ],
)
def test_mistakes_write_nothing(
    text: str, changes: dict[str, Any], field: str, words: str, tmp_path: Path
) -> None:  # fmt: skip
    with pytest.raises(UserError, match=words) as error:
        train_route(route(text, tmp_path / "r", **changes))
    assert error.value.field == field
    assert "\n" not in str(error.value)
    assert not (tmp_path / "r").exists()


def test_what_expert_and_task_cannot_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An online phase with an expert that only has samples, and a reward where nothing verifies."""
    from tiny import CoinTask, WrappedExpert

    class Sampled(WrappedExpert):
        def __init__(self, expert: Any) -> None:
            super().__init__(expert)
            self.capabilities = frozenset({"sample"})

    load = routes.load_models.__globals__["load_expert"]
    with monkeypatch.context() as patch:
        patch.setattr("understudy.routes.look.load_expert", lambda *args: Sampled(load(*args)))
        with pytest.raises(UserError, match="cannot distribution, which method opd_full needs"):
            train_route(route("sft+opd_full", tmp_path / "r"))
    monkeypatch.setattr(CoinTask, "verified", False)
    with pytest.raises(UserError, match="has no verifier, whose reward method grpo learns from"):
        train_route(route("sft+grpo", tmp_path / "r"))
    assert not (tmp_path / "r").exists()
    out = train_route(route("sft+opd_full", tmp_path / "r"))
    assert json.loads((out / "route.json").read_text())["selection"]["best"] == "1-opd_full"


def test_without_a_choice_the_last_phase_is_the_result(tmp_path: Path) -> None:
    c = dataclasses.replace(route("sft+opd_full", tmp_path / "r"), select_prompts=0)
    out = train_route(c)
    state = json.loads((out / "route.json").read_text())
    assert state["selection"]["best"] == "1-opd_full"
    assert state["selection_ledger"]["flops"] == 0
    assert "the last phase's: no other was tried" in (out / "final/README.md").read_text()


def test_one_directory_one_route_one_process(tmp_path: Path) -> None:
    out = train_route(route("sft", tmp_path / "r"))
    assert is_run(out)
    assert load_route(out).route == "sft"
    assert load_route(out / "config.json").train.updates == 4
    with pytest.raises(UserError, match=r"belongs to another configuration: .*route"):
        train_route(route("gkd", out))
    (out / "status.json").write_text(json.dumps({"state": "running"}))
    lock = Lock(out / ".lock")
    lock.acquire()
    with pytest.raises(UserError, match="in use by process"):
        train_route(route("sft", out))
    lock.release()


def test_a_moved_route_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a phase that looks for its start where the route directory was."""
    want = content(train_route(route("sft+opd_full", tmp_path / "whole", save_every=1)))
    with monkeypatch.context() as patch:
        steps = iter(range(100))

        def stop(*args: Any, work: Any = routes.train, **options: Any) -> Path:
            if next(steps):
                patch.setattr("understudy.training.train.check_finite", lambda *args: (_ for _ in ()).throw(Killed))
            path: Path = work(*args, **options)
            return path

        patch.setattr(routes, "train", stop)
        with pytest.raises(Killed):
            train_route(route("sft+opd_full", tmp_path / "a", save_every=1))
    (tmp_path / "a").rename(tmp_path / "b")
    assert content(train_route(route("sft+opd_full", tmp_path / "b", save_every=1))) == want
