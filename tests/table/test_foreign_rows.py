"""Rows trained with an expert of another family: each runs, is finite, and says how the expert is used."""

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

from understudy.errors import UserError
from understudy.policy import load_policy, make_scratch
from understudy.runs.checkpoint import load_tensors
from understudy.runs.read import read_metrics, read_provenance
from understudy.specs import parse_spec
from understudy.training.train import train

PAIRS = [(a, b) for a in "12345" for b in "12345"]


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model whose tokens are pairs of digits, with another end."""
    folder = tmp_path_factory.mktemp("foreign")
    spec = parse_spec("scratch:width=16,layers=1,heads=2,context=128,init=0.5", "student")
    make_scratch(spec, byte_level([*PAIRS, ("Ġ", "o")]), seed=20).save(folder)
    return str(folder)


TOP = {"top_k": 5, "top_k_of": "expert"}
ROWS: list[tuple[str, dict[str, Any]]] = [
    ("sft", {"eval_expert": True}),
    ("word_kd", {}),
    ("gkd", {"student_share": 0.5, "updates": 4}),
    ("opd", {}),
    ("opd", {"gamma": 1.0}),
    ("opd", {"score_cache": "scores"}),
    ("exopd", {"gamma": 0.5}),
    ("opd_reward", {}),
    ("opd_full_reward", {}),
    ("opd", {"sft_alpha": 0.3}),
    ("opd_full", {}),
    ("opd_full", {"token_match": "shared", "top_k": 5}),
    ("opd_full", TOP),
    ("opd_full", {"divergence": "uld"}),
    ("base_opd", {"prompt_pool": 4}),
]


@pytest.mark.parametrize(("method", "changes"), ROWS, ids=lambda x: x if isinstance(x, str) else "-".join(x))
def test_rows_train(method: str, changes: dict[str, Any], other: str, tmp_path: Path) -> None:
    """Catches an update without a gradient, a loss that is not finite, and a use of the expert without a line."""
    if "score_cache" in changes:
        changes = changes | {"score_cache": str(tmp_path / "scores")}
    lines: list[str] = []
    run = train(config(method, tmp_path / "run", expert=other, **changes), note=lines.append)
    for record in read_metrics(run, "train"):
        assert math.isfinite(record["loss"])
        assert record["grad_norm"] > 0
        whole = method in ("word_kd", "gkd", "opd_full", "opd_full_reward", "base_opd") and "top_k" not in changes
        assert (record["expert_entropy"] is not None) == whole
    assert any("has another tokenizer" in line for line in lines)
    advised = {
        "opd_full": "opd", "opd_full_reward": "opd_reward", "gkd": "sft", "word_kd": "sft", "base_opd": "sft",
    }.get(method)  # fmt: skip
    found = [line for line in lines if "prefer --method" in line]
    assert all(f"prefer --method {advised}," in line for line in found)
    assert len(found) == (advised is not None)
    facts = read_provenance(run)["expert"]["provenance"]["tokenizer"]
    assert facts["shared"] == 257  # the bytes, and the beginning of ` ok`


@pytest.mark.parametrize(("method", "changes"), [("opd", {"gamma": 0.5}), ("opd_full", TOP), ("gkd", TOP)])
def test_a_server_of_another_family_trains_like_the_model_itself(
    method: str, changes: dict[str, Any], other: str, tmp_path: Path
) -> None:
    """Catches scores of other tokens than were aligned, and a top k in the wrong vocabulary."""
    changes = changes | {"student_share": 1.0} if method == "gkd" else changes
    base = config(method, tmp_path / "local", expert=other, **changes)
    with Stub(load_policy(other, "expert", device="cpu")).running() as stub:
        there = train(replace(base, expert=f"server:url={stub.url},tokenizer={other}", out=str(tmp_path / "server")))
        with pytest.raises(UserError, match=r"tokenizer=FOLDER"):
            train(replace(base, expert=stub.url, out=str(tmp_path / "unnamed")))
    want, got = (load_tensors(x / "final" / "model.safetensors") for x in (train(base), there))
    for name in want:
        torch.testing.assert_close(got[name], want[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "dagger"},
        {"method": "opd", "behavior": "mixture_token"},
        {"method": "opd_full", "signal": "extrapolated"},
    ],
)
def test_what_needs_the_student_s_tokens_is_refused(changes: dict[str, Any], other: str, tmp_path: Path) -> None:
    cells = {"target": "expert_token", "weight": "one"} if "behavior" in changes else {}
    c = config(
        changes["method"],
        tmp_path / "run",
        expert=other,
        **{k: v for k, v in (changes | cells).items() if k != "method"},
    )
    with pytest.raises(UserError, match=r"cannot distribution.* another tokenizer") as caught:
        train(c)
    assert caught.value.field == "expert"
    assert not (tmp_path / "run").exists()
