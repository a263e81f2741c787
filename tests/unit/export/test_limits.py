"""What a target cannot express is refused, with what is nearest there, and nothing is lost on the way."""

from __future__ import annotations

from typing import Any

import pytest

from understudy.config import Resolved, TrainConfig, resolve
from understudy.export.limits import LIMITS, TARGETS, limits_of, trainer_of, written
from understudy.methods.table import TABLE


def config(method: str, **changes: object) -> Resolved:
    fields: dict[str, Any] = {"student": "s/s", "expert": "e/e"}
    return resolve(TrainConfig(method=method, **(fields | changes)))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", ["dagger", "base_opd", "rft"])
def test_rows_that_no_target_has_are_refused_everywhere(method: str, target: str) -> None:
    first = limits_of(target, config(method))[0]
    assert not first.difference


@pytest.mark.parametrize("target", TARGETS)
def test_what_remains_has_a_trainer_and_one_meaning(target: str) -> None:
    """Catches a row that passes every limit but falls into a trainer of another objective."""
    trainers = {m: trainer_of(target, c) for m in TABLE if not limits_of(target, c := config(m, lora_rank=8))}
    assert {"sft", "opd"} <= set(trainers)
    assert trainers["sft"] == trainers["seq_kd"] != trainers["opd"]
    if target == "trl":
        assert trainers["opd_full"] == "DistillationTrainer"
        assert trainers["gkd"] == trainers["word_kd"] == "experimental.gkd.GKDTrainer"


@pytest.mark.parametrize(
    ("target", "changes", "field"),
    [
        ("trl", {"method": "opd", "gamma": 0.5}, "gamma"),
        ("verl", {"method": "opd", "gamma": 1.0}, "gamma"),
        ("trl", {"method": "opd_full", "top_k": 8, "top_k_of": "expert"}, "top_k"),
        ("trl", {"method": "gkd", "top_k": 8}, "top_k"),
        ("ms-swift", {"method": "opd_full", "top_k": 8}, "top_k_of"),
        ("verl", {"method": "gkd"}, "behavior"),
        ("verl", {"method": "sft", "schedule": "linear"}, "schedule"),
        ("trl", {"method": "sft", "reduction": "sequence_mean"}, "reduction"),
        ("verl", {"method": "sft", "reduction": "sequence_mean"}, "reduction"),
        ("tinker", {"method": "gkd", "lora_rank": 8}, "target"),
        ("tinker", {"method": "opd", "lora_rank": 8, "updates_per_rollout": 2}, "updates_per_rollout"),
        ("ms-swift", {"method": "gkd", "prompt_pool": 8}, "replay"),
        *((target, {"method": "opd_reward"}, "weight") for target in TARGETS),
        *((target, {"method": "exopd"}, "signal") for target in TARGETS),
        *((target, {"method": "opd", "expert": "self:context=gold"}, "expert") for target in TARGETS),
    ],
)
def test_a_cell_that_the_target_lacks_is_refused(target: str, changes: dict[str, object], field: str) -> None:
    found = limits_of(target, config(**changes))  # type: ignore[arg-type]
    assert found
    assert found[0].field == field
    assert not found[0].difference


def test_cells_that_only_one_target_has_pass_there() -> None:
    assert not limits_of("tinker", config("opd", gamma=0.5, lora_rank=8))
    assert not limits_of("trl", config("opd_full", top_k=8))
    assert not limits_of("verl", config("opd", reduction="sequence_sum"))
    assert not limits_of("tinker", config("sft", reduction="sequence_mean", lora_rank=8))


@pytest.mark.parametrize("target", ["verl", "tinker"])
def test_the_sampled_token_stands_for_the_reverse_kl_only_where_it_is_the_same_gradient(target: str) -> None:
    (limit,) = limits_of(target, config("opd_full", lora_rank=8))
    assert limit.difference
    c = written(target, config("opd_full", lora_rank=8))
    assert c == config("opd", lora_rank=8, out=c.out)
    assert not limits_of(target, c)
    assert not limits_of(target, config("opd_full", lora_rank=8, divergence="jsd"))[0].difference


def test_every_limit_applies_to_something() -> None:
    """Catches a limit that no configuration meets: a condition that was written wrong."""
    base = [config(m) for m in TABLE]
    changed: list[Resolved] = []
    for method in TABLE:
        for change in (
            {"gamma": 0.5}, {"top_k": 8}, {"top_k": 8, "top_k_of": "expert"}, {"updates_per_rollout": 2},
            {"divergence": "kl_expert_student"}, {"divergence": "jsd"}, {"schedule": "linear"}, {"warmup": 2},
            {"lora_rank": 8, "lora_dropout": 0.1}, {"weight_decay": 0.1}, {"adam_beta2": 0.9}, {"replay": "fresh"},
            {"reduction": "sequence_mean"}, {"reduction": "sequence_sum"}, {"prompt_pool": 8},
            {"prompt_pool": 8, "replay": "fresh"}, {"expert": "self:context=gold"},
            {"sft_alpha": 0.25}, {"expert": "a=solver b=styled", "expert_of": "kind"},
            {"divergence": "kl_expert_student", "top_k": 8, "top_k_of": "expert"},
            {"behavior": "mixture_batch", "target": "expert_token"}, {"top_k": 8, "divergence": "kl_student_expert"},
        ):  # fmt: skip
            try:
                changed.append(config(method, **change))
            except Exception:
                continue
    for limit in LIMITS:
        assert any(limit.applies(c) for c in base + changed), limit.reason
