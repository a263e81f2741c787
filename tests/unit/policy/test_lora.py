"""Adapters: base weights never change, a resume is bit-identical, and final/ is a plain model."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import STUDENT, Tables, config
from transformers import AutoModelForCausalLM

from tools.tiny_models import make
from understudy.errors import UserError
from understudy.methods.losses import scales
from understudy.policy import Policy, load_policy
from understudy.runs.checkpoint import load_tensors
from understudy.runs.read import checkpoints, read_metrics
from understudy.tasks import load_task
from understudy.training.labels import Labelled
from understudy.training.train import train
from understudy.types import Prompt, Rollout

peft = pytest.importorskip("peft")
ADAPTER = {"lora_rank": 2, "lr": 0.05}


def adapted(folder: Path, rank: int = 2, targets: str = "all-linear", random: bool = False) -> Policy:
    policy = load_policy(str(folder), "student", device="cpu")
    policy.adapt(rank, 2.0 * rank, 0.0, targets, seed=3)
    if random:  # as after some training: B is zero at first
        torch.manual_seed(0)
        with torch.no_grad():
            for name, p in policy.trained().items():
                p.copy_(0.3 * torch.randn_like(p)) if "lora_B" in name else None
    return policy


def rollouts(policy: Policy) -> list[Rollout]:
    prompts = policy.encode([Prompt(f"p{i}", text) for i, text in enumerate(["1 2>3\n", "7 11 2>4\n", "5>5\n"])])
    return [
        Rollout(p, 0, (4, 9, 30 + i, 7)[: 2 + i], (0.0,) * (2 + i), False, "", "student") for i, p in enumerate(prompts)
    ]


def test_a_new_adapter_changes_nothing_and_depends_on_its_seed(models: dict[str, Path]) -> None:
    plain = load_policy(str(models["qwen3"]), "student", device="cpu")
    one, two = adapted(models["qwen3"]), adapted(models["qwen3"])
    for a, b in zip(plain.score(rollouts(plain)), one.score(rollouts(one))):
        assert torch.equal(a, b)
    assert all(torch.equal(a, b) for a, b in zip(one.trained().values(), two.trained().values()))
    assert all("lora_" in name for name in one.trained())
    assert one.describe()["trained_parameters"] == sum(p.numel() for p in one.trained().values())


def test_the_reference_is_the_same_memory(models: dict[str, Path]) -> None:
    """Catches a second copy of the base, and a reference that includes the adapter."""
    plain = load_policy(str(models["llama"]), "student", device="cpu")
    policy = adapted(models["llama"], random=True)
    reference = policy.reference()
    rows = rollouts(policy)
    want = plain.score(rows)
    before = policy.score(rows)
    assert all(torch.equal(a, b) for a, b in zip(reference.score(rows), want))
    assert not torch.equal(before[0], want[0])
    assert all(torch.equal(a, b) for a, b in zip(policy.score(rows), before))
    assert all(p.requires_grad for p in policy.trained().values())
    assert reference.model is policy.model
    # interleaved decoding, as in a mixture: each keeps its own state
    steps, other = policy.start([r.prompt for r in rows]), reference.start([r.prompt for r in rows])
    tokens = torch.tensor([4, 4, 4])
    for s in (steps, other):
        s.advance(tokens)
    alone = plain.start([r.prompt for r in rows])
    alone.advance(tokens)
    assert torch.allclose(other.next_logits(), alone.next_logits(), atol=1e-6)
    assert not torch.allclose(steps.next_logits(), alone.next_logits(), atol=1e-4)


@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_final_is_a_plain_model_and_the_adapter(arch: str, models: dict[str, Path], tmp_path: Path) -> None:
    """Catches a merge that is wrong, one that is applied twice, and an adapter that peft cannot load."""
    policy = adapted(models[arch], random=True)
    before = {n: p.clone() for n, p in policy.model.named_parameters()}
    policy.save(tmp_path / "final")
    assert all(torch.equal(p, before[n]) for n, p in policy.model.named_parameters()), "saving changed the weights"
    rows = rollouts(policy)
    want = policy.score(rows)
    merged = load_policy(str(tmp_path / "final"), "student", device="cpu")
    for a, b in zip(merged.score(rows), want):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    assert not any("lora" in n for n, _ in merged.model.named_parameters())
    base = AutoModelForCausalLM.from_pretrained(models[arch])
    merged.model = peft.PeftModel.from_pretrained(base, tmp_path / "final" / "adapter").get_base_model().eval()
    for a, b in zip(merged.score(rows), want):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["gpt2", "mixtral", "qwen3_moe", "gpt_oss", "qwen3_5_moe_text"])
def test_the_merge_is_pefts(kind: str, tmp_path: Path) -> None:
    """Catches matrices that are kept transposed (GPT-2's square ones have the same shape), experts in one parameter,
    and an adapter folder that peft reads otherwise."""
    make(kind, load_task("countdown").tokenizer(), tmp_path / "model")
    policy = adapted(tmp_path / "model")
    torch.manual_seed(0)
    with torch.no_grad():
        for p in policy.trained().values():
            p.add_(0.1 * torch.randn_like(p))
    assert policy.adapter is not None
    got = policy.adapter.merged(policy.state())
    want = copy.deepcopy(policy.adapter.peft_model).merge_and_unload().state_dict()
    assert set(got) == set(want)
    for name, tensor in want.items():
        torch.testing.assert_close(got[name], tensor, atol=1e-6, rtol=1e-5)
    base = load_policy(str(tmp_path / "model"), "student", device="cpu")
    assert any(not torch.equal(want[n], t) for n, t in base.model.state_dict().items())
    policy.save(tmp_path / "final")
    rows = rollouts(policy)
    final = load_policy(str(tmp_path / "final"), "student", device="cpu")
    base.model = peft.PeftModel.from_pretrained(base.model, tmp_path / "final" / "adapter").get_base_model().eval()
    for a, b, c in zip(policy.score(rows), final.score(rows), base.score(rows)):
        torch.testing.assert_close(b, a, atol=1e-3, rtol=0)
        torch.testing.assert_close(c, a, atol=1e-3, rtol=0)


REFUSED: dict[str, tuple[str, str]] = {
    "mamba": ("all-linear", r"Module 'out_proj' is incompatible.*\); name some of dt_proj, in_proj, x_proj$"),
    "jamba": ("all-linear", "mamba.dt_proj cannot be adapted: the model does not use it as a plain layer"),
    "llama4_text": ("all-linear", "router cannot be adapted: the model does not use it as a plain layer"),
    "zamba2": ("all-linear", "have one weight: their adapters cannot be merged"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_merged_is_refused_before_training(kind: str, tmp_path: Path) -> None:
    """Catches layers that peft wraps and the model reads past, or cannot call, and weights that are two layers'."""
    make(kind, load_task("countdown").tokenizer(), tmp_path)
    targets, words = REFUSED[kind]
    with pytest.raises(UserError, match=words) as error:
        adapted(tmp_path, targets=targets)
    assert error.value.field == "lora_targets"


def test_dropout_and_fused_experts(tmp_path: Path) -> None:
    make("mixtral", load_task("countdown").tokenizer(), tmp_path)
    policy = load_policy(str(tmp_path), "student", device="cpu")
    with pytest.raises(UserError, match=r"lora_dropout: 0.1: not with .* adapted as whole parameters: use 0"):
        policy.adapt(2, 4.0, 0.1, "all-linear", 0)


@pytest.mark.parametrize("method", ["sft", "base_opd", "grpo"])
def test_killed_and_resumed(method: str, tmp_path: Path) -> None:
    """Adapter, optimizer, random numbers of dropout, and logs are equal bit for bit."""
    changes: dict[str, Any] = ADAPTER | {
        "updates": 4, "save_every": 2, "lora_dropout": 0.2, "prompt_pool": 4 if method == "base_opd" else None
    }  # fmt: skip

    class Killed(Exception):
        pass

    def killer(phase: str, done: int, total: int, note: str) -> None:
        if phase == "train" and done == 3:
            raise Killed

    whole = train(config(method, tmp_path / "whole", **changes))
    with pytest.raises(Killed):
        train(config(method, tmp_path / "cut", **changes), killer)
    assert [p.name for p in checkpoints(tmp_path / "cut")] == ["step-00000002"]
    cut = train(config(method, tmp_path / "cut", **changes))
    for name in ("final/model.safetensors", "final/adapter/adapter_model.safetensors",
                 "checkpoints/step-00000004/state.safetensors"):  # fmt: skip
        a, b = load_tensors(whole / name), load_tensors(cut / name)
        assert set(a) == set(b)
        assert all(torch.equal(a[n], b[n]) for n in a), name

    def records(run: Path) -> list[Any]:
        return [(m["loss"], m["grad_norm"], m["tokens"]) for m in read_metrics(run, "train")]

    assert records(whole) == records(cut)
    # the base did not move, the adapter did, and a checkpoint holds nothing else
    folder = whole / "checkpoints" / "step-00000004"
    assert not (folder / "model.safetensors").exists()
    adapter = load_tensors(folder / "adapter_model.safetensors")
    assert any(bool(t.abs().sum()) for n, t in adapter.items() if "lora_B" in n)
    start = load_policy(STUDENT, "student", load_task("coin").tokenizer(), 0, "cpu").model.state_dict()
    end = load_tensors(whole / "final" / "model.safetensors")
    same = {n for n in end if torch.equal(end[n], start[n])}
    assert same == {n for n in end if not re.search(r"_proj\.weight$", n)}, "only adapted layers may differ"


def gradients(policy: Policy, rows: list[Labelled], c: Any, **cut: int) -> dict[str, torch.Tensor]:
    from understudy.training.labels import batches, objective, split

    policy.model.train()
    policy.model.zero_grad()
    total = sum(len(x.rollout.ids) for x in rows)
    parts = split(rows, policy, cut.get("micro_batch", 0), cut.get("micro_tokens", 0))
    for batch in batches(parts, policy):
        scale_N = scales(batch.row_N, c.reduction, total, len(rows))
        policy.losses(batch, objective(c), scale_N, cut.get("logit_chunk", 0)).total.backward()
    policy.model.eval()
    return {n: p.grad.clone() for n, p in policy.trained().items() if p.grad is not None}


@pytest.mark.parametrize("method", ["sft", "opd_full", "grpo"])
def test_one_gradient_however_it_is_cut(method: str, models: dict[str, Path], tmp_path: Path) -> None:
    """Splitting by rows, padded tokens or logits and recomputing activations give the gradient of the unsplit batch."""
    from understudy.config import resolve

    c = resolve(config(method, tmp_path))
    policy = adapted(models["qwen3"], random=True)
    torch.manual_seed(1)
    rows, tables = [], []
    for i in range(7):
        ids = tuple(torch.randint(2, policy.vocabulary, (3 + 2 * i,)).tolist())
        prompt = Prompt(f"p{i}", "", ids=tuple(torch.randint(2, policy.vocabulary, (4 + i % 3,)).tolist()))
        r = Rollout(prompt, 0, ids, (0.0,) * len(ids), False, "", "student", 1.0)
        table = torch.randn(len(ids), policy.vocabulary).log_softmax(-1) if c.target == "distribution" else None
        (logp,) = policy.score([r])
        tables.append(table)
        says = Tables(tables) if table is not None else None
        rows.append(Labelled(r, torch.tensor(ids), torch.randn(len(ids)), logp + 0.01, says, i))
    want = gradients(policy, rows, c)
    assert max(float(g.abs().max()) for g in want.values()) > 1e-3
    cuts = [{"micro_batch": 2}, {"micro_tokens": 50}, {"micro_tokens": 1}, {"micro_tokens": 50, "logit_chunk": 5}]
    for cut in cuts:
        got = gradients(policy, rows, c, **cut)
        for name in want:
            torch.testing.assert_close(got[name], want[name], atol=2e-6, rtol=1e-4)
    policy.save_memory()
    got = gradients(policy, rows, c, micro_batch=3)
    for name in want:
        torch.testing.assert_close(got[name], want[name], atol=2e-6, rtol=1e-4)


def test_mistakes_are_reported(models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for targets, words in (("nothing", "no such layers.*q_proj"), ("embed_tokens", "cannot be adapted"),
                           ("lm_head", "output head cannot be adapted")):  # fmt: skip
        with pytest.raises(UserError, match=words) as error:
            adapted(models["llama"], targets=targets)
        assert error.value.field == "lora_targets"
    with pytest.raises(UserError, match="give --lora-rank too"):
        train(config("sft", tmp_path / "a", lora_alpha=3.0))
    run = train(config("sft", tmp_path / "b", updates=1, lora_rank=1))
    with pytest.raises(UserError, match="adapter without its model"):
        load_policy(str(checkpoints(run)[-1]), "student")
    assert json.loads((run / "final" / "adapter" / "adapter_config.json").read_text())["r"] == 1
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(UserError, match=r"lora_rank: 1: needs peft .*understudy\[lora\]"):
        train(config("sft", tmp_path / "c", lora_rank=1))
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("dtype", ["mixed", "bfloat16"])
def test_half_precision_on_a_cpu_works_and_says_that_it_is_slow(dtype: str, tmp_path: Path) -> None:
    notes: list[str] = []
    run = train(config("opd_full", tmp_path / "run", dtype=dtype, updates=1), note=notes.append)
    assert any("100 times slower" in n for n in notes)
    kept = load_tensors(checkpoints(run)[-1] / "model.safetensors")
    assert {t.dtype for t in kept.values()} == {torch.float32 if dtype == "mixed" else torch.bfloat16}
    assert read_metrics(run, "train")[0]["logp_drift"] < 0.05, "sampler and trainer disagree"
