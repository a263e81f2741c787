"""Costs of recipes equal hand-computed numbers; shapes of public models give their published parameter counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from understudy.config import TrainConfig, resolve
from understudy.recipes import cost, memory
from understudy.recipes.cost import Device, Machine
from understudy.recipes.models import MODELS, Shape
from understudy.recipes.recipe import Lengths

# attention 4 x 2 x (2 x 2 + 2 x 1) = 48, MLP 3 x 4 x 8 = 96, two layers 288, head 4 x 10 = 40: M = 328
SMALL = Shape(layers=2, width=4, heads=2, kv_heads=1, head=2, mlp=8, vocabulary=10, tied=True)
LENGTHS = Lengths(4, 6)
MACHINE = Machine(Device("toy", 1e6, 1e4, 1e6), 1, 0.5)
COMMON = {
    "student": "s", "updates": 3, "prompts_per_update": 4, "eval_every": 0, "eval_splits": "test", "final_prompts": 5,
    "final_samples": 2, "max_new_tokens": 6, "micro_batch": 2, "eval_expert": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("Qwen/Qwen2.5-1.5B-Instruct", 1_543_714_304),
        ("Qwen/Qwen2.5-3B-Instruct", 3_085_938_688),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 1_777_088_000),
        ("meta-llama/Llama-3.2-3B", 3_212_749_824),
        ("meta-llama/Llama-3.1-8B", 8_030_261_248),
        ("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", 8_190_735_360),
    ],
)
def test_parameters_of_public_models(name: str, total: int):
    """Catches a wrong width, a missing bias, and an embedding that is counted twice."""
    assert MODELS[name].parameters == total


def test_shape_by_hand():
    assert SMALL.matrices == 328
    assert SMALL.parameters == 328 + 2 * 8 + 4  # two norms per layer, one at the end
    assert SMALL.cache == 2 * 2 * 1 * 2
    assert cost.forward(SMALL, 5) == 2 * 328 + 4 * 2 * 4 * 5 == 816
    assert cost.sequence(SMALL, LENGTHS) == 8160


def test_sft_on_a_program_by_hand():
    """Sampling a program costs no FLOPs; 12 sequences are trained on, 15 completions evaluated."""
    c = resolve(TrainConfig(method="sft", expert="solver", **COMMON))
    result = cost.train_cost(c, SMALL, None, LENGTHS, MACHINE, False)
    assert (result.expert_sampled, result.trained, result.evaluated) == (72, 72, 90)
    assert result.flops == 3 * 12 * 8160 + 15 * 8160
    assert cost.train_cost(c, SMALL, None, LENGTHS, MACHINE, True).expert_sampled == 0


def test_opd_on_a_model_by_hand():
    """Sampling is bound by memory: three times 6 steps, each reading 656 bytes of weights and the 4 caches of an update
    (112 bytes each), at 10 kB per second."""
    c = resolve(TrainConfig(method="opd", expert="a/b", **COMMON))
    result = cost.train_cost(c, SMALL, SMALL, LENGTHS, MACHINE, False)
    assert (result.student_sampled, result.expert_scored, result.trained) == (72, 72, 72)
    assert result.flops == 12 * 8160 + 12 * 8160 + 3 * 12 * 8160 + 15 * 8160
    sampling = 3 * 6 * (656 + 4 * 2 * 8 * 7) / 1e4
    evaluation = max(15 * 8160 / 5e5, 6 * (656 + 15 * 2 * 8 * 7) / 1e4)
    assert result.seconds == pytest.approx(sampling + (12 + 36) * 8160 / 5e5 + evaluation)


def test_memory_by_hand():
    c = resolve(TrainConfig(method="sft", expert="solver", **COMMON))
    parts = memory.memory(c, SMALL, None, LENGTHS, MACHINE)
    assert parts["weights"] == 348 * 4
    assert parts["gradients and optimizer"] == 3 * 348 * 4
    # a layer keeps 6 x 4 (norms), 3 x 4 + 2 x 2 (attention), 4 x 8 (MLP) numbers per token; three more norms at the end
    assert parts["training: activations"] == 2 * 10 * (2 * 72 + 3 * 4) * 4
    assert parts["training: hidden states"] == 2 * 12 * 4 * 4
    assert parts["training: head"] == 40 * 4 + 20 * (3 * 8 + 2 * 4) * 4  # a layer's gradients exceed 12 x 10 logits
    assert parts["sampling: copies of weights"] == 2 * 4 * (2 * 4 + 2 * 8) * 4
    assert parts["sampling: caches"] == 512 * (4 + 64) * 8 * 4
    assert parts["sampling: logits"] == 512 * 10 * 8
    assert memory.peak(parts) == 16 * 348 + 768 + 512 * (68 * 32 + 80)  # decoding holds more than training


@pytest.mark.parametrize(("divergence", "top_k", "per"), [("kl_student_expert", 0, 17), ("kl_student_expert", 16, 16)])
def test_memory_does_not_grow_with_the_update(divergence: str, top_k: int, per: int):
    """Catches a term of tokens x vocabulary: of the loss only one chunk's logits are there, 20 tokens on a CPU."""
    wide = replace(SMALL, vocabulary=151_936)
    cpu = replace(MACHINE, device=replace(MACHINE.device, kind="cpu"))
    found = []
    for prompts in (16, 64):
        c = resolve(TrainConfig(**COMMON | {
            "method": "opd_full", "expert": "a/b", "prompts_per_update": prompts, "top_k": top_k, "micro_batch": 4,
            "max_new_tokens": 64,
        }))  # fmt: skip
        parts = memory.memory(c, wide, wide, LENGTHS, cpu)
        assert parts["training: head"] == 4 * 151_936 * 4 + 20 * 151_936 * per
        found.append({k: v for k, v in parts.items() if not k.startswith("sampling")})
    assert found[0] == found[1]


def test_a_cache_grows_by_half():
    assert [memory.growth(64, n) for n in (64, 65, 129, 193)] == [64, 128, 192, 288]


def test_adapter_by_hand():
    """q 4+4, o 4+4, k 4+2, v 4+2, three of the MLP 4+8: 64 per layer and rank."""
    assert memory.adapter(SMALL, 3) == 2 * 3 * 64


def test_more_gpus_share_what_is_spread():
    c = resolve(TrainConfig(method="opd", expert="a/b", **COMMON))
    one, four = (memory.memory(c, SMALL, SMALL, LENGTHS, Machine(MACHINE.device, n)) for n in (1, 4))
    assert four["weights"] == one["weights"] / 4
    assert four["expert"] == one["expert"]
