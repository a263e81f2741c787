"""A Hugging Face model as a policy: padding, caches, end tokens and heads must not change a log-prob."""

from __future__ import annotations

import dataclasses
import pickle  # noqa: TID251 - to write a harmful file
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import STUDENT
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from understudy.errors import UserError
from understudy.experts.local import LocalExpert
from understudy.methods.kernel import token_losses
from understudy.methods.losses import Objective, scales
from understudy.policy import (
    Policy,
    check_same_language,
    decoding,
    fast,
    load_policy,
    make_scratch,
    pad,
    resolve_device,
    sampling,
    tokenizer_sha,
)
from understudy.policy.padding import split
from understudy.policy.sampling import draw
from understudy.runs.checkpoint import load_tensors, save_tensors
from understudy.specs import parse_spec
from understudy.tasks import load_task
from understudy.training.labels import Labelled, batches
from understudy.types import Prompt, Rollout

TEXTS = ["1", "3 5 7>15\n", "12 3 5>4\n", "a rather longer prompt than the others: 1 2 3>6\n", "9 9>18\n"]
CLOSE = 1e-5


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_task("countdown").tokenizer()


def policy_of(folder: Path) -> Policy:
    """A policy with many end tokens, so that a random model ends after about twelve tokens."""
    policy = load_policy(str(folder), "student", device="cpu")
    policy.end_ids = tuple(range(1, policy.vocabulary, 12))
    return policy


def prompts_of(policy: Policy, n: int = 10) -> list[Prompt]:
    return policy.encode([Prompt(f"p{i}", TEXTS[i % len(TEXTS)]) for i in range(n)])


def sampled(policy: Policy, samples: int = 2, room: int = 24, **options: Any) -> list[Rollout]:
    prompts = options.pop("prompts", None) or prompts_of(policy)
    return draw(policy.start, policy.decode, policy.end_ids, prompts, samples, 5, room, "student", **options)


def one_by_one(policy: Policy, rollouts: Sequence[Rollout]) -> list[torch.Tensor]:
    """(T, V) log-probs by the plain model on each unpadded row: no masks, no positions, no cache."""
    out = []
    with torch.no_grad():
        for r in rollouts:
            ids = torch.tensor([r.prompt.ids + r.ids])
            logits = policy.model(input_ids=ids, use_cache=False).logits[0]
            out.append(logits[len(r.prompt.ids) - 1 : -1].float().log_softmax(-1))
    return out


def taken(logp_TV: torch.Tensor, r: Rollout) -> torch.Tensor:
    return logp_TV.gather(-1, torch.tensor(r.ids)[:, None])[:, 0]


@pytest.mark.parametrize("kind", ["fast", "cached", "whole"])
@pytest.mark.parametrize("arch", ["llama", "qwen2", "qwen3"])
def test_sampler_padded_and_unpadded_agree(
    arch: str, kind: str, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches wrong position ids or masks under left padding, a cache whose rows and masks differ after finished
    rows are removed, and completions that lose or gain a token at the end."""
    compactions: list[int] = []
    holder, name = {"fast": (fast._Shared, "keep"), "cached": (DynamicCache, "batch_select_indices"),
                    "whole": (decoding.WholeSteps, "keep")}[kind]  # fmt: skip
    select = getattr(holder, name)

    def watched(self: Any, indices: torch.Tensor) -> Any:
        compactions.append(len(indices))
        return select(self, indices)

    monkeypatch.setattr(holder, name, watched)
    monkeypatch.setattr(decoding, "kind", lambda *args: kind)
    policy = policy_of(models[arch])
    rollouts = sampled(policy, samples=4)
    assert len(compactions) >= 2, "no compaction happened: the test shows nothing"
    assert {r.ended for r in rollouts} == {True, False}, "both ended and truncated completions are needed"
    assert len({len(r.prompt.ids) for r in rollouts}) > 2
    tables = one_by_one(policy, rollouts)
    for r, padded, whole, alone in zip(rollouts, policy.score(rollouts), policy.distribution(rollouts), tables):
        recorded = torch.tensor(r.behavior_logp)
        assert (padded - recorded).abs().max() < CLOSE
        assert (taken(alone, r) - recorded).abs().max() < CLOSE
        assert (whole - alone).abs().max() < CLOSE
        assert whole.shape == (len(r.ids), policy.vocabulary)
        assert whole.dtype == padded.dtype == torch.float32
        assert r.ended == (r.ids[-1] in policy.end_ids)
        assert not set(r.ids[:-1]) & set(policy.end_ids), "went on after an end token"
        assert r.ended or len(r.ids) == 24


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_samples_do_not_depend_on_the_batch(
    rows: int, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches random numbers drawn in the order of the batch. Different batches round logits differently (1e-7), which
    can move a token only if its uniform falls within that of a border: odds below 1e-4 for this whole test."""
    policy = policy_of(models["llama"])
    prompts = prompts_of(policy)
    whole = sampled(policy, prompts=prompts)
    monkeypatch.setattr(sampling, "ROWS", rows)
    reordered = sampled(policy, prompts=prompts[::-1])
    by_name = {(r.prompt.key, r.sample): r for r in reordered}
    assert [by_name[r.prompt.key, r.sample].ids for r in whole] == [r.ids for r in whole]
    assert [(r.prompt.key, r.sample) for r in whole] == [(p.key, s) for p in prompts for s in range(2)]
    more = sampled(policy, prompts=prompts[:3], samples=5)
    assert [r.ids for r in more if r.sample < 2] == [r.ids for r in whole[:6]], "asking for more changed the first ones"


def test_a_longer_limit_only_continues(models: dict[str, Path]) -> None:
    """Catches uniforms that depend on the limit: a truncated completion is the beginning of the longer one."""
    policy = policy_of(models["llama"])
    for short, long in zip(sampled(policy, room=6), sampled(policy, room=24)):
        assert long.ids[:6] == short.ids
        assert short.ended == (short.ids[-1] in policy.end_ids)


def test_masks_come_from_lengths(models: dict[str, Path]) -> None:
    """Catches masks made by comparing ids with pad: pad inside a completion, and pad == end."""
    policy = policy_of(models["llama"])
    policy.pad_id = policy.end_ids[0]
    p = policy.pad_id
    short, long = prompts_of(policy)[:2]
    rows = [
        Rollout(short, 0, (30, p, 31, p), (0.0,) * 4, True, "", "student"),
        Rollout(long, 0, (p, p, 40, 41, 42, p, 43), (0.0,) * 7, False, "", "student"),
    ]
    padded = pad([[r] for r in rows], p)
    assert padded.attention_mask is None
    width = padded.input_ids_BS.shape[1]
    assert padded.place_N.tolist() == [
        *(len(short.ids) - 1 + t for t in range(4)), *(width + len(long.ids) - 1 + t for t in range(7))
    ]  # fmt: skip
    assert padded.action_ids_N.tolist() == [*rows[0].ids, *rows[1].ids]
    assert padded.row_N.tolist() == [0] * 4 + [1] * 7
    assert padded.position_ids_BS[1].tolist() == list(range(len(long.ids) + 7))
    ids = padded.input_ids_BS[0].tolist()
    assert ids == [*short.ids, *rows[0].ids, *[p] * (width - len(short.ids) - 4)]
    for r, got, want in zip(rows, policy.score(rows), one_by_one(policy, rows)):
        assert (got - taken(want, r)).abs().max() < CLOSE


def test_pad_by_hand() -> None:
    """Catches states of the wrong column: each token is predicted by the one before it, a completion's first token by
    the prompt's last."""
    a = Rollout(Prompt("a", "", ids=(1, 2, 3)), 0, (7,), (0.0,), False, "", "student")
    b = Rollout(Prompt("b", "", ids=(4,)), 0, (8, 9), (0.0, 0.0), False, "", "student")
    got = pad([[a], [b]], 0)
    assert got.input_ids_BS.tolist() == [[1, 2, 3, 7], [4, 8, 9, 0]]
    assert got.attention_mask is None
    assert got.position_ids_BS.tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert got.place_N.tolist() == [2, 4, 5]
    assert got.row_N.tolist() == [0, 1, 1]
    assert got.action_ids_N.tolist() == [7, 8, 9]


def test_pack_by_hand() -> None:
    """Catches completions of a pack that see each other, lose the prompt, or have the positions of their columns."""
    prompt = Prompt("a", "", ids=(1, 2))
    a, b = (Rollout(prompt, i, ids, (0.0,) * len(ids), False, "", "student") for i, ids in enumerate([(7, 8), (9,)]))
    c = Rollout(Prompt("c", "", ids=(3,)), 0, (4,), (0.0,), False, "", "student")
    got = pad([[a, b], [c]], 0)
    assert got.input_ids_BS.tolist() == [[1, 2, 7, 8, 9], [3, 4, 0, 0, 0]]
    assert got.position_ids_BS[0].tolist() == [0, 1, 2, 3, 2]
    assert got.place_N.tolist() == [1, 2, 1, 5]
    assert got.row_N.tolist() == [0, 0, 1, 2]
    assert got.action_ids_N.tolist() == [7, 8, 9, 4]
    assert got.attention_mask is not None
    seen = got.attention_mask[:, 0].int().tolist()
    assert seen[0] == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 0, 0, 1]]
    assert seen[1][:2] == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0]]
    assert all(row[i] == 1 for i, row in enumerate(seen[1])), "a column that sees nothing has no softmax"


@pytest.mark.parametrize("arch", ["llama", "qwen2", "qwen3"])
def test_packs_score_as_single_rows(arch: str, models: dict[str, Path]) -> None:
    """Catches a pack whose completions influence each other: the scores are those of each row alone."""
    policy = policy_of(models[arch])
    assert policy.packs
    prompts = prompts_of(policy)[:3]
    rollouts = sampled(policy, prompts=prompts, samples=4, room=6)
    packs = split(rollouts, lambda r: r, pack=True)[0]
    assert any(len(pack) > 1 for pack in packs), "nothing was packed: the test shows nothing"
    signal = policy.signal(packs)
    flat = [r for pack in packs for r in pack]
    table_NV = signal.table(slice(0, sum(len(r.ids) for r in flat)))
    for got, want in zip(table_NV.split([len(r.ids) for r in flat]), one_by_one(policy, flat)):
        assert (got - want).abs().max() < CLOSE
    for r, got in zip(rollouts, policy.score(rollouts)):
        assert (got - torch.tensor(r.behavior_logp)).abs().max() < CLOSE


def test_the_sampled_end_token_is_trained_and_none_is_added(models: dict[str, Path]) -> None:
    """Catches a student that never learns to stop (the end token masked out) or that learns to stop where it was cut
    off (an end token appended)."""
    policy = policy_of(models["llama"])
    rollouts = sampled(policy)
    ended = next(r for r in rollouts if r.ended and len(r.ids) > 1)
    cut = next(r for r in rollouts if not r.ended)
    for r in (ended, cut):
        n = len(r.ids)
        x = Labelled(r, torch.tensor(r.ids), torch.ones(n), torch.zeros(n))
        (batch,) = batches([[[x]]], policy)
        assert batch.target_ids_N.tolist() == list(r.ids)
        only_last = torch.zeros(n).index_fill_(0, torch.tensor(n - 1), 1.0)
        total, loss_N, logp_N = token_losses(policy.hidden(batch), policy.head, batch, Objective("token"), only_last)
        assert len(loss_N) == n
        assert total == loss_N[-1]
        assert total.requires_grad
        want = taken(one_by_one(policy, [r])[0], r)
        assert (logp_N - want).abs().max() < CLOSE
    optimizer = torch.optim.SGD(policy.model.parameters(), lr=0.05)
    n = len(ended.ids)
    (batch,) = batches([[[Labelled(ended, torch.tensor(ended.ids), torch.ones(n), torch.zeros(n))]]], policy)
    before = float(policy.score([ended])[0][-1])
    scale_N = scales(batch.row_N, "token_mean")
    token_losses(policy.hidden(batch), policy.head, batch, Objective("token"), scale_N).total.backward()
    optimizer.step()
    assert float(policy.score([ended])[0][-1]) > before, "one step of sft must make the end more likely there"


# ---------------------------------------------------------------- models whose logits are more than head(state)

ODD: dict[str, dict[str, Any]] = {
    "gemma2": {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8, "final_logit_softcapping": 2.0},
    "granite": {"logits_scaling": 4.0},
    "cohere": {"logit_scale": 0.25},
}


def odd_policy(name: str, tokenizer: Any, scale: float) -> Policy:
    config = AutoConfig.for_model(
        name, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        vocab_size=len(tokenizer), max_position_embeddings=128, eos_token_id=1, pad_token_id=0, bos_token_id=None,
        initializer_range=scale, **ODD[name],
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = AutoModelForCausalLM.from_config(config)
    policy = Policy(model, tokenizer, name)
    policy.end_ids = tuple(range(1, policy.vocabulary, 12))
    return policy


@pytest.mark.parametrize("scale", [1e-3, 0.5])
@pytest.mark.parametrize("name", ODD)
def test_scaled_and_capped_logits(name: str, scale: float, tokenizer: Any) -> None:
    """Catches training a capped or scaled model through its bare head. With small weights (scale 1e-3) the cap is
    nearly the identity, so a probe that compares with a tolerance misses it, and the error grows during training. Also
    catches a sliding window (gemma2: 8 tokens, shorter than the longest input) that counts padding."""
    policy = odd_policy(name, tokenizer, scale)
    assert policy.body_is_enough is False
    rollouts = sampled(policy, room=12)
    for r, padded, whole, alone in zip(
        rollouts, policy.score(rollouts), policy.distribution(rollouts), one_by_one(policy, rollouts)
    ):
        assert (padded - torch.tensor(r.behavior_logp)).abs().max() < CLOSE
        assert (whole - alone).abs().max() < CLOSE
        assert (padded - taken(alone, r)).abs().max() < CLOSE
    labelled = [
        Labelled(r, torch.tensor(r.ids), torch.ones(len(r.ids)), torch.tensor(r.behavior_logp)) for r in rollouts
    ]
    (batch,) = batches([[[x] for x in labelled]], policy)
    ones = torch.ones(len(batch.row_N))
    token_losses(policy.hidden(batch), policy.head, batch, Objective("token"), ones, chunk=5).total.backward()
    got = policy.model.get_input_embeddings().weight.grad.clone()
    policy.model.zero_grad()
    for r in rollouts:
        logits = policy.model(input_ids=torch.tensor([r.prompt.ids + r.ids]), use_cache=False).logits[0]
        (-taken(logits[len(r.prompt.ids) - 1 : -1].log_softmax(-1), r)).sum().backward()
    want = policy.model.get_input_embeddings().weight.grad
    assert (got - want).abs().max() < 1e-4 * max(1.0, float(want.abs().max()))


def test_a_plain_head_is_used_as_one(models: dict[str, Path]) -> None:
    """Catches a probe so strict that every model computes all its logits (slow, and no chunks)."""
    for folder in models.values():
        assert policy_of(folder).body_is_enough


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("arch", ["llama", "qwen2", "qwen3"])
def test_save_and_load_weights(arch: str, models: dict[str, Path], tmp_path: Path, tokenizer: Any) -> None:
    """Catches weights that saving and loading lose (tied heads), and a policy object that is replaced, so
    that the optimizer goes on with the old one."""
    saved, other = (make_scratch(parse_spec(f"{STUDENT},arch={arch}", "student"), tokenizer, s) for s in (1, 2))
    saved.save(tmp_path / "m")
    assert not list((tmp_path / "m").glob("*.bin")), "safetensors only"
    parameters = list(other.model.parameters())
    other.load_weights(tmp_path / "m")
    assert [id(p) for p in other.model.parameters()] == [id(p) for p in parameters]
    for (name, a), (_, b) in zip(saved.model.named_parameters(), other.model.named_parameters()):
        assert torch.equal(a, b), name
    loaded = load_policy(str(tmp_path / "m"), "student", device="cpu")
    rollouts = sampled(saved, room=5)
    for a, b, c in zip(saved.score(rollouts), other.score(rollouts), loaded.score(rollouts)):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    assert loaded.end_ids == saved.end_ids
    assert tokenizer_sha(loaded.tokenizer) == tokenizer_sha(tokenizer)


def test_weights_of_another_model_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    """Catches a checkpoint that is loaded partly."""
    policy = load_policy(str(models["llama"]), "student", device="cpu")
    weights = {k: v.clone() for k, v in policy.model.state_dict().items() if "lm_head" not in k}
    name = next(iter(weights))
    for bad in (
        {k: v for k, v in weights.items() if k != name},
        weights | {"extra": torch.zeros(1)},
        weights | {name: weights[name][:-1]},
    ):
        save_tensors(tmp_path / "model.safetensors", bad)
        with pytest.raises(UserError, match="does not fit the student"):
            policy.load_weights(tmp_path)


def test_a_model_that_lacks_weights_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    """Catches what transformers does with a missing tensor: it fills in random numbers and logs a warning. Also pickled
    weights, which are never opened, and a truncated file."""
    weights = load_tensors(models["llama"] / "model.safetensors")
    name = next(n for n in weights if "down_proj" in n)
    folder = tmp_path / "m"
    shutil.copytree(models["llama"], folder)
    save_tensors(folder / "model.safetensors", {k: v for k, v in weights.items() if k != name}, {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 of its weights \(.*down_proj"):
        load_policy(str(folder), "student", device="cpu")
    whole = (models["llama"] / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(UserError, match="cannot be loaded"):
        load_policy(str(folder), "student", device="cpu")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match="safetensors"):
        load_policy(str(folder), "student", device="cpu")


class Bomb:
    """Raises when it is unpickled."""

    def __reduce__(self) -> Any:
        return (pytest.exit, ("a pickle was opened",))


def test_scratch_is_a_function_of_its_seed(tokenizer: Any) -> None:
    """Catches a scratch model that reads or changes the global random state."""
    spec = parse_spec(STUDENT, "student")
    torch.manual_seed(1)
    first = make_scratch(spec, tokenizer, 7)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)
    again, other = make_scratch(spec, tokenizer, 7), make_scratch(spec, tokenizer, 8)
    a, b, c = (p.model.get_input_embeddings().weight for p in (first, again, other))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize(
    "spec",
    [
        "heads=0",
        "width=0",
        "width=-16",
        "layers=-1",
        "heads=3",
        "width=15",
        "arch=gpt9",
        "context=0",
        "init=-1",
        "wide=3",
    ],
)
def test_a_bad_scratch_spec_is_refused(spec: str, tokenizer: Any) -> None:
    """Catches a traceback (division by zero heads, a negative size deep inside torch) for a misspelled spec."""
    with pytest.raises(UserError) as caught:
        make_scratch(parse_spec(f"scratch:{spec}", "student"), tokenizer, 0)
    assert caught.value.field.startswith("student.")


def test_scratch_keeps_the_dtype_it_was_asked_for(tokenizer: Any) -> None:
    """Catches --dtype being ignored for models made from scratch."""
    policy = load_policy(STUDENT, "student", tokenizer, device="cpu", dtype="bfloat16")
    assert {p.dtype for p in policy.model.parameters()} == {torch.bfloat16}


def test_end_token_zero(models: dict[str, Path], tokenizer: Any) -> None:
    """Catches `generation_config.eos_token_id or tokenizer.eos_token_id`: 0 is a token like any other."""
    policy = load_policy(str(models["llama"]), "student", device="cpu")
    policy.model.generation_config.eos_token_id = 0
    assert Policy(policy.model, policy.tokenizer, "m").end_ids == (0,)
    policy.model.generation_config.eos_token_id = [5, 3, 5]
    assert Policy(policy.model, policy.tokenizer, "m").end_ids == (3, 5)
    policy.model.generation_config.eos_token_id = None
    assert Policy(policy.model, policy.tokenizer, "m").end_ids == (tokenizer.eos_token_id,)


# ---------------------------------------------------------------- which expert fits which student


class Other:
    """An expert of another shape."""

    def __init__(self, student: Policy, **changes: Any) -> None:
        self.tokenizer, self.vocabulary, self.end_ids = student.tokenizer, student.vocabulary, student.end_ids
        vars(self).update(changes)


def test_another_tokenizer_is_refused(models: dict[str, Path], tokenizer: Any) -> None:
    """Catches scores of tokens that mean something else to the expert, also when the expert
    borrows the student's tokenizer (a programmatic one next to a padded vocabulary)."""
    student = load_policy(str(models["llama"]), "student", device="cpu")
    check_same_language(student, Other(student), "e")
    swapped = load_policy(str(models["llama"]), "student", device="cpu").tokenizer
    swapped.add_tokens(["<new>"])
    cases = [
        (Other(student, tokenizer=swapped), "tokenizer"),
        (Other(student, vocabulary=264), "vocabulary"),
        (Other(student, end_ids=(1, 7)), "end tokens"),
        (Other(student, tokenizer=tokenizer, vocabulary=264), "vocabulary"),
        (Other(student, tokenizer=tokenizer, end_ids=(7,)), "end tokens"),
    ]
    for other, word in cases:
        with pytest.raises(UserError, match=word) as caught:
            check_same_language(student, other, "e")
        assert caught.value.field == "expert"
    check_same_language(student, LocalExpert(load_policy(str(models["llama"]), "expert", device="cpu")), "e")


def test_room(models: dict[str, Path]) -> None:
    """Catches an off-by-one at the end of the context."""
    policy = load_policy(str(models["llama"]), "student", device="cpu")
    prompt = dataclasses.replace(prompts_of(policy)[0], ids=(30,) * 100)
    policy.check_room([prompt], 28)
    with pytest.raises(UserError, match="100 tokens and the context"):
        policy.check_room([prompt], 29)


@pytest.mark.parametrize("name", ["cuda:99", "nonsense", "cpu:x", "meta"])
def test_a_device_that_is_not_there(name: str) -> None:
    """Catches a traceback from deep inside torch, or a device that takes tensors and computes nothing."""
    with pytest.raises(UserError) as caught:
        resolve_device(name)
    assert caught.value.field == "device"
