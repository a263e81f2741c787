"""Every row of the table with several experts: two names of one are that one, and two are each on its own prompts."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign import byte_level
from stub_server import Stub
from tiny import config

from understudy.config import TrainConfig, resolve
from understudy.methods.table import TABLE, needs_expert
from understudy.policy import load_policy, make_scratch
from understudy.routes.route import RouteConfig
from understudy.routes.run import train_route
from understudy.runs.checkpoint import load_tensors
from understudy.runs.read import read_ledger, read_metrics, read_provenance
from understudy.specs import parse_spec
from understudy.training.train import train

ROWS = [m for m in TABLE if needs_expert(resolve(config(m, Path("x"))))]
USUAL: dict[str, Any] = {"task": "kinds", "prompts_per_update": 6, "samples_per_prompt": 1}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_tensors(run / "final" / "model.safetensors")


def same(a: Path, b: Path) -> bool:
    one, other = weights(a), weights(b)
    return all(torch.equal(one[name], other[name]) for name in one)


def of(method: str, out: Path, **changes: Any) -> TrainConfig:
    if method == "base_opd":
        changes = {"prompt_pool": 8, "updates": 4} | changes
    if method.endswith("_reward"):
        changes = {"samples_per_prompt": 2} | changes
    return config(method, out, **(USUAL | changes))


@pytest.mark.parametrize("method", ROWS)
def test_two_names_of_one_expert_train_bit_for_bit_as_it_does(
    method: str, models: dict[str, Path], tmp_path: Path
) -> None:
    """Catches random numbers, an order or packs that depend on how many experts there are, and a ledger that does."""
    expert = str(models["llama"])
    one = train(of(method, tmp_path / "one", expert=expert))
    two = train(of(method, tmp_path / "two", expert=f"a={expert} b={expert}", expert_of="kind"))
    assert same(one, two)
    ledgers = [read_ledger(run) for run in (one, two)]
    for ledger in ledgers:
        ledger.update(train_seconds=0, eval_seconds=0)
    assert ledgers[0] == ledgers[1]


@pytest.mark.parametrize("method", ROWS)
def test_a_program_and_a_model(method: str, models: dict[str, Path], tmp_path: Path) -> None:
    run = train(of(method, tmp_path / "run", expert=f"a={models['llama']} b=solver", expert_of="kind"))
    for record in read_metrics(run, "train"):
        assert math.isfinite(record["loss"])
        assert record["grad_norm"] > 0
    facts = read_provenance(run)["expert"]["provenance"]
    assert facts["experts"]["b"]["name"] == "solver"
    share = facts["shares"]["a"]
    assert 0.3 < share < 0.7
    size = facts["experts"]["a"]["provenance"]["parameters"]
    assert facts["parameters"] == round(share * size), "a program has no weights"


def test_a_resumed_run_is_the_run_itself(models: dict[str, Path], tmp_path: Path) -> None:
    fields: dict[str, Any] = {"expert": f"a={models['llama']} b=solver", "expert_of": "kind", "save_every": 1}
    whole = of("opd_full", tmp_path / "whole", updates=4, **fields)
    train(whole)
    stopped = replace(whole, out=str(tmp_path / "stopped"))

    class Killed(Exception):
        pass

    def kill(stage: str, done: int, total: int, text: str) -> None:
        if stage == "train" and done == 3:
            raise Killed

    with pytest.raises(Killed):
        train(stopped, kill)
    train(stopped)
    assert same(tmp_path / "whole", tmp_path / "stopped")


def test_a_route_with_several(tmp_path: Path) -> None:
    """Its look, both phases and the choice of the best model have the experts of the prompts."""
    c = of("opd", tmp_path / "route", expert="a=solver b=always_ok", expert_of="kind", updates=4)
    path = train_route(RouteConfig("sft+opd_full", 8, 8, c, str(tmp_path / "route")))
    for phase in sorted((path / "phases").iterdir()):
        assert read_provenance(phase)["expert"]["provenance"]["kind"] == "several"


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of another family."""
    folder = tmp_path_factory.mktemp("foreign")
    spec = parse_spec("scratch:width=16,layers=1,heads=2,context=128,init=0.5", "student")
    make_scratch(spec, byte_level([("1", "2"), ("Ġ", "o")]), seed=20).save(folder)
    return str(folder)


MIXED: list[tuple[str, dict[str, Any]]] = [
    ("sft", {}), ("gkd", {}), ("opd", {}), ("opd", {"gamma": 1.0}), ("opd_full", {}),
    ("opd_full", {"top_k": 4, "top_k_of": "expert"}), ("opd_full", {"divergence": "uld"}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "changes"), MIXED, ids=lambda x: x if isinstance(x, str) else "-".join(x) or "row")
def test_a_model_of_another_family_beside_the_student_itself(
    method: str, changes: dict[str, Any], other: str, tmp_path: Path
) -> None:
    student = "scratch:width=16,layers=1,heads=2,context=256"
    lines: list[str] = []
    fields: dict[str, Any] = {"expert": f"a={other} b=self:context=gold", "expert_of": "kind", "student": student}
    run = train(of(method, tmp_path / "run", **fields, **changes), note=lines.append)
    assert all(math.isfinite(r["loss"]) and r["grad_norm"] > 0 for r in read_metrics(run, "train"))
    assert any("experts of the train prompts, by kind: a" in line and "another tokenizer" in line for line in lines)


@pytest.mark.parametrize(("method", "changes"), [("opd", {}), ("opd_full", {"top_k": 5, "top_k_of": "expert"})])
def test_a_server_beside_a_model_with_kept_scores(
    method: str, changes: dict[str, Any], models: dict[str, Path], tmp_path: Path
) -> None:
    """Like two models; and from the cache again, where entries of the two experts must not be mixed up."""
    first = str(models["llama"])
    second = str(next(path for name, path in models.items() if name != "llama"))
    plain = of(method, tmp_path / "plain", expert=f"a={first} b={second}", expert_of="kind", **changes)
    train(plain)
    with Stub(load_policy(second, "expert", device="cpu")).running() as stub:
        cached = replace(plain, expert=f"a={first} b={stub.url}", score_cache=str(tmp_path / "scores"))
        train(replace(cached, out=str(tmp_path / "filled")))
        train(replace(cached, out=str(tmp_path / "again")))
    want = weights(tmp_path / "plain")
    for name in ("filled", "again"):
        got = weights(tmp_path / name)
        for key in want:
            torch.testing.assert_close(got[key], want[key], atol=1e-5, rtol=0)
    assert same(tmp_path / "filled", tmp_path / "again")


def test_evaluations_show_each_expert(models: dict[str, Path], tmp_path: Path) -> None:
    """The means over one expert's prompts, with their numbers, make those over all."""
    fields: dict[str, Any] = {"eval_expert": True, "final_prompts": 12, "eval_divergences": True}
    spec = {"expert": f"a={models['llama']} b=solver", "expert_of": "kind"}
    run = train(of("opd_full", tmp_path / "run", **spec, **fields))
    record = read_metrics(run, "eval")[-1]
    parts = record["by_expert"]
    assert set(parts) == {"a", "b"}
    assert sum(p["n"] for p in parts.values()) == record["n"]
    for name in ("sampled", "kl_student_expert", "kl_expert_student"):
        assert sum(p["n"] * p[name] for p in parts.values()) / record["n"] == pytest.approx(record[name])
    assert sum(p["n"] * p["expert"] for p in parts.values()) / record["n"] == pytest.approx(record["expert"]["sampled"])
