"""Rollouts -> labels -> one update: weights computed by hand, and the same gradient however the batch is split."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import config

from understudy.config import TrainConfig, resolve
from understudy.experts.local import LocalExpert
from understudy.policy import Policy, load_policy
from understudy.policy.sampling import draw
from understudy.training.labels import Labelled, advantages, batches, expert_draws, label, objective, split, with_text
from understudy.training.train import update
from understudy.types import Ledger, Prompt, Rollout

OUT = Path("unused")


def rollout(key: str, sample: int, reward: float, ids: tuple[int, ...] = (5, 6)) -> Rollout:
    return Rollout(Prompt(key, key, ids=(3,)), sample, ids, (-1.0,) * len(ids), False, "", "student", reward)


@pytest.fixture
def student(models: dict[str, Path]) -> Policy:
    policy = load_policy(str(models["llama"]), "student", device="cpu")
    policy.end_ids = tuple(range(1, policy.vocabulary, 16))
    return policy


@pytest.fixture
def expert(models: dict[str, Path]) -> LocalExpert:
    return LocalExpert(load_policy(str(models["qwen3"]), "expert", device="cpu"))


def sampled(student: Policy, n: int = 6, samples: int = 2) -> list[Rollout]:
    prompts = student.encode([Prompt(f"p{i}@{i}", "3 5 7>15\n"[: 2 + i]) for i in range(n)])
    rollouts = draw(student.start, student.decode, student.end_ids, prompts, samples, 4, 14, "student")
    return [dataclasses.replace(r, reward=float((i * 7) % 3 == 0)) for i, r in enumerate(rollouts)]


def test_advantages_by_hand() -> None:
    """Catches groups of the wrong size or over the wrong axis: two prompts, three samples each."""
    rows = [rollout("a@0", s, r) for s, r in enumerate((1, 0, 0))] + [rollout("b@1", s, 1) for s in range(3)]
    assert torch.allclose(advantages(rows, "none"), torch.tensor([2 / 3, -1 / 3, -1 / 3, 0, 0, 0]))
    std = (2 / 9) ** 0.5 + 1e-4
    want = torch.tensor([2 / 3 / std, -1 / 3 / std, -1 / 3 / std, 0, 0, 0])
    assert torch.allclose(advantages(rows, "std"), want)


def in_float64(model: torch.nn.Module) -> None:
    """Its norms too, which transformers computes in float32."""
    model.double()
    for norm in (m for m in model.modules() if type(m).__name__.endswith("RMSNorm")):

        def forward(x: torch.Tensor, norm: Any = norm) -> torch.Tensor:
            scaled: torch.Tensor = norm.weight * x * (x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()
            return scaled

        norm.forward = forward


@pytest.fixture
def double() -> Iterator[None]:
    """Numbers that are made without a precision have 64 bits: the scales of a loss."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("method", ["opd", "opd_full", "opd_full_reward"])
@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean"])
def test_text_beside_an_update_adds_its_own_gradient(
    method: str, reduction: str, student: Policy, expert: LocalExpert, double: None
) -> None:
    """sft_alpha in float64, through the update that training makes: (1 - alpha) of the row's gradient plus alpha of
    sft's on the text alone, whatever the lengths."""
    for model in (student.model, expert.policy.model):
        in_float64(model)
    alpha, c = 0.3, resolve(config(method, OUT, expert="e", reduction=reduction, clip=None, drift_limit=1e9))
    sft = resolve(config("sft", OUT, expert="e", reduction=reduction))
    own = label(sampled(student), c, student, expert, Ledger())
    texts = [dataclasses.replace(r, actor="expert") for r in sampled(student, 3, 1)]

    def doubled(rows: list[Labelled]) -> list[Labelled]:
        reward = [None if x.reward_weight is None else x.reward_weight.double() for x in rows]
        return [
            dataclasses.replace(x, weight=x.weight.double(), behavior_logp=x.behavior_logp.double(), reward_weight=r)
            for x, r in zip(rows, reward)
        ]

    def gradient(rows: list[Labelled], how: Any) -> list[torch.Tensor]:
        still = torch.optim.SGD(student.trained().values(), lr=0.0)
        update(student, still, rows, dataclasses.replace(how, grad_clip=0.0))
        return [p.grad.clone() for p in student.trained().values() if p.grad is not None]

    mixed = with_text(doubled(own), texts, alpha, reduction)
    mixed = [dataclasses.replace(x, weight=x.weight.double()) for x in mixed]
    whole = gradient(mixed, dataclasses.replace(c, sft_alpha=alpha))
    alone = gradient(doubled(own), c)
    text = gradient(doubled(label(texts, sft, student, expert, Ledger())), sft)
    assert max(float(t.abs().max()) for t in text) > 1e-3
    for got, a, b in zip(whole, alone, text, strict=True):
        torch.testing.assert_close(got, (1 - alpha) * a + alpha * b, atol=1e-8, rtol=0)


def test_a_problem_that_comes_twice_is_two_groups() -> None:
    """Catches groups keyed by the problem: the same one at two places of the stream must not share a baseline."""
    rows = [rollout("same@0", 0, 1), rollout("same@0", 1, 0), rollout("same@7", 0, 1), rollout("same@7", 1, 1)]
    assert advantages(rows, "none").tolist() == [0.5, -0.5, 0, 0]


def test_expert_draws_follow_the_expert(student: Policy, expert: LocalExpert) -> None:
    """Catches labels drawn at a shifted prefix or from a sharpened expert. 3000 labelled positions; the tokens' mean
    log-prob under the expert must be its mean negative entropy within 5 standard errors (seeded; odds else 6e-7)."""
    rollouts = sampled(student, 12, 20)
    drawn = torch.cat(expert_draws(rollouts, expert, seed=1))
    table = torch.cat(expert.distribution(rollouts))
    assert len(drawn) > 1500
    got = table.gather(-1, drawn[:, None])[:, 0].double()
    p = table.double().exp()
    mean = (p * table).sum(-1)
    variance = (p * table.double() ** 2).sum(-1) - mean**2
    assert abs(float((got - mean).sum())) < 5 * float(variance.sum().sqrt())
    again = expert_draws(rollouts[5:6], expert, seed=1)[0]
    assert torch.equal(again, expert_draws(rollouts, expert, seed=1)[5]), "a label depends on its rollout alone"
    other = torch.cat(expert_draws(rollouts, expert, seed=2))
    assert (other == drawn).double().mean() < 0.9


def test_base_weights_by_hand(student: Policy, models: dict[str, Path]) -> None:
    """Catches a ratio that includes its own token, runs over row borders, or is inverted; and the cap."""
    base = load_policy(str(models["qwen2"]), "base", device="cpu")
    base.end_ids = student.end_ids
    prompts = student.encode([Prompt(f"p{i}", "3 5 7>15\n"[: 2 + i]) for i in range(4)])
    rollouts = draw(base.start, base.decode, base.end_ids, prompts, 2, 4, 10, "base")
    c = resolve(config("base_opd", OUT, importance_cap=3.0))
    expert = LocalExpert(load_policy(str(models["llama"]), "expert", device="cpu"))
    got = label(rollouts, c, student, expert, Ledger())
    for x, r, now in zip(got, rollouts, student.score(rollouts)):
        gap = (now - torch.tensor(r.behavior_logp)).tolist()
        want = [min(3.0, float(np.exp(sum(gap[:t])))) for t in range(len(gap))]
        torch.testing.assert_close(x.weight, torch.tensor(want), atol=1e-4, rtol=1e-4)
    token = resolve(config("opd", OUT, behavior="base", importance_cap=3.0))
    scored = label(rollouts, token, student, expert, Ledger())
    for x, y, now, e in zip(scored, got, student.score(rollouts), expert.score(rollouts)):
        torch.testing.assert_close(x.weight, (e - now) * y.weight, atol=1e-4, rtol=1e-4)


def test_batches_keep_rows_together(student: Policy) -> None:
    """Catches weights or targets left behind when rows are sorted by length."""
    rows = sampled(student)
    labelled = [
        Labelled(r, torch.tensor(r.ids) + 1, torch.full((len(r.ids),), float(i)), torch.tensor(r.behavior_logp))
        for i, r in enumerate(rows)
    ]
    seen = []
    for batch in batches(split(labelled, student, 5), student):
        assert len(set(batch.row_N.tolist())) <= 5
        for row in range(len(set(batch.row_N.tolist()))):
            in_row = batch.row_N == row
            (i,) = {int(w) for w in batch.weight_N[in_row]}
            seen.append(i)
            assert (batch.target_ids_N[in_row] - 1).tolist() == list(rows[i].ids)
            before = batch.input_ids_BS.flatten()[batch.place_N[in_row]].tolist()
            assert before == [rows[i].prompt.ids[-1], *rows[i].ids[:-1]]
            assert batch.behavior_logp_N is not None
            assert batch.behavior_logp_N[in_row].tolist() == torch.tensor(rows[i].behavior_logp).tolist()
    assert sorted(seen) == list(range(len(rows)))


# ---------------------------------------------------------------- one update

METHODS: dict[str, dict[str, Any]] = {
    "sft": {},
    "opd": {"gamma": 0.5},
    "opd_full": {},
    "opd_full top-k": {"top_k": 8, "divergence": "jsd"},
    "word_kd": {},
    "dagger": {},
    "grpo": {},
    "grpo mean": {"reduction": "sequence_mean"},
    "opd_reward": {"gamma": 0.5, "expert_coef": 0.3, "advantage_coef": 2.0},
    "opd_full_reward": {"expert_coef": 0.3, "advantage_coef": 2.0},
    "opd_full_reward sum": {"expert_coef": 0.0, "reduction": "sequence_sum"},
    "opd_full sum": {"reduction": "sequence_sum"},
    "gkd_reward": {"advantage_coef": 2.0, "clip": math.inf},
}


def labelled_for(c: TrainConfig, student: Policy, expert: LocalExpert) -> list[Labelled]:
    return label(sampled(student), c, student, expert, Ledger())


def step(labelled: list[Labelled], c: TrainConfig, folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """One plain gradient step of size 1 on fresh weights: its metrics, and minus the gradient by parameter."""
    student = load_policy(str(folder), "student", device="cpu")
    before = {n: p.detach().clone() for n, p in student.model.named_parameters()}
    optimizer = torch.optim.SGD(student.model.parameters(), lr=1.0)
    metrics = update(student, optimizer, labelled, c)
    return metrics, {n: p.detach() - before[n] for n, p in student.model.named_parameters()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    scale = max(float(t.abs().max()) for t in b.values())
    assert scale > 1e-3, "nothing was learned: the test shows nothing"
    for name in b:
        assert float((a[name] - b[name]).abs().max()) <= 1e-6 * max(1.0, scale), name


@pytest.mark.parametrize("name", METHODS)
def test_the_same_step_however_the_batch_is_cut(
    name: str, student: Policy, expert: LocalExpert, models: dict[str, Path]
) -> None:
    """Catches a micro-batch that divides by its own size, a chunk that drops its last tokens, or gradients that
    are kept from the previous step. One SGD step of size 1, so weights differ by gradients: equal to 1e-6."""
    c = resolve(config(name.split()[0], OUT, grad_clip=0.0, **METHODS[name]))
    labelled = labelled_for(c, student, expert)
    metrics, whole = step(labelled, c, models["llama"])
    for rows, tokens in ((1, 0), (5, 0), (0, 7), (5, 1000)):
        cut = dataclasses.replace(c, micro_batch=rows, logit_chunk=tokens)
        other, got = step(labelled, cut, models["llama"])
        same(got, whole)
        assert other["tokens"] == metrics["tokens"]
        for key in ("loss", "grad_norm", "logp_drift", "ratio_clipped"):
            if metrics[key] is None:
                assert other[key] is None
            else:
                assert other[key] == pytest.approx(metrics[key], rel=1e-4, abs=1e-5), key


@pytest.mark.parametrize("name", METHODS)
def test_the_step_is_that_of_the_plain_formula(
    name: str, student: Policy, expert: LocalExpert, models: dict[str, Path]
) -> None:
    """Catches anything between labels and weights: padding, sorting, dropped rows whose advantage is zero, reductions.
    The reference computes each loss again, row by row, unpadded, dropping nothing, with autograd."""
    c = resolve(config(name.split()[0], OUT, grad_clip=0.0, **METHODS[name]))
    labelled = labelled_for(c, student, expert)
    if c.weight == "advantage":
        flat = [x for x in labelled if not x.weight.any()]
        assert flat, "no group of equal rewards: the test shows nothing"
        assert len(flat) < len(labelled)
    metrics, got = step(labelled, c, models["llama"])
    model = load_policy(str(models["llama"]), "student", device="cpu").model
    total = sum(len(x.rollout.ids) for x in labelled)
    loss = torch.zeros(())
    for x in labelled:
        r = x.rollout
        logits = model(input_ids=torch.tensor([r.prompt.ids + r.ids]), use_cache=False).logits[0]
        logp_TV = logits[len(r.prompt.ids) - 1 : -1].log_softmax(-1)
        now_T = logp_TV.gather(-1, x.target_ids[:, None])[:, 0]
        if c.target == "distribution":
            assert x.supervision is not None
            q_TV = x.supervision.signal([[x.place]]).table(slice(0, len(r.ids)))
            if c.top_k:
                ids = logp_TV.detach().topk(c.top_k).indices
                logp_TV, q_TV = (
                    torch.cat([t.gather(-1, ids), (1 - t.gather(-1, ids).exp().sum(-1, keepdim=True)).log()], -1)
                    for t in (logp_TV, q_TV)
                )
            p, q = logp_TV.exp(), q_TV.exp()
            m = (c.beta or 0.5) * q + (1 - (c.beta or 0.5)) * p
            each_T = {
                "kl_expert_student": (q * (q_TV - logp_TV)).sum(-1),
                "kl_student_expert": (p * (logp_TV - q_TV)).sum(-1),
                "jsd": 0.5 * (q * (q_TV - m.log())).sum(-1) + 0.5 * (p * (logp_TV - m.log())).sum(-1),
            }[str(c.divergence)]
            if x.reward_weight is not None:
                each_T = x.weight * each_T - x.reward_weight * (now_T - torch.tensor(r.behavior_logp)).exp()
        elif c.importance == "token":
            each_T = -x.weight * (now_T - torch.tensor(r.behavior_logp)).exp()
        else:
            each_T = -now_T
        loss = (
            loss
            + {
                "token_mean": each_T.sum() / total,
                "sequence_mean": each_T.mean() / len(labelled),
                "sequence_sum": each_T.sum() / len(labelled),
            }[c.reduction]
        )
    loss.backward()
    want = {n: -p.grad for n, p in model.named_parameters()}
    same(got, want)
    assert metrics["loss"] == pytest.approx(float(loss.detach()), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("both", "one"),
    [
        (("opd_reward", {"advantage_coef": 0.0, "gamma": 0.5}), ("opd", {"gamma": 0.5})),
        (("opd_reward", {"expert_coef": 0.0}), ("grpo", {})),
        (("opd_full_reward", {"advantage_coef": 0.0}), ("opd_full", {})),
        (("opd_full_reward", {"expert_coef": 0.0}), ("grpo", {})),
        (("gkd_reward", {"advantage_coef": 0.0}), ("gkd", {})),
        (("gkd_reward", {"expert_coef": 0.0, "advantage_coef": 1.0}), ("grpo", {})),
    ],
)
def test_without_one_part_it_is_the_row_of_the_other(
    both: tuple[str, dict[str, Any]], one: tuple[str, dict[str, Any]], student: Policy, expert: LocalExpert,
    models: dict[str, Path],
) -> None:  # fmt: skip
    """Catches a coefficient that scales the wrong part, and a part that does not vanish: through labels, kernel and
    step."""
    steps = []
    for method, options in (both, one):
        c = resolve(config(method, OUT, grad_clip=0.0, **options))
        steps.append(step(labelled_for(c, student, expert), c, models["llama"])[1])
    same(*steps)


def test_rewards_of_the_expert_teach_nothing(student: Policy, expert: LocalExpert, models: dict[str, Path]) -> None:
    """Catches a mixture that reinforces what the expert has written: on its batches gkd_reward is gkd."""
    steps = []
    for method in ("gkd_reward", "gkd"):
        c = resolve(config(method, OUT, grad_clip=0.0))
        written = [dataclasses.replace(r, actor="expert") for r in sampled(student)]
        assert len({r.reward for r in written}) > 1
        steps.append(step(label(written, c, student, expert, Ledger()), c, models["llama"])[1])
    same(*steps)


def test_no_rollouts_no_step(models: dict[str, Path]) -> None:
    """Catches an optimizer that moves by its momentum on an update without data (nothing passed)."""
    c = resolve(config("rft", OUT))
    policy = load_policy(str(models["llama"]), "student", device="cpu")
    before = policy.model.get_input_embeddings().weight.detach().clone()
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=0.1)
    metrics = update(policy, optimizer, [], c)
    assert metrics["loss"] is None
    assert metrics["tokens"] == 0
    assert torch.equal(before, policy.model.get_input_embeddings().weight)


def test_objective_reads_every_field() -> None:
    """Catches a field of the configuration that has no effect on the loss."""
    c = resolve(config("gkd", OUT, beta=0.3, top_k=5, top_k_of="expert"))
    o = objective(c)
    assert (o.target, o.divergence, o.beta, o.top_k, o.top_k_of) == ("distribution", "jsd", 0.3, 5, "expert")
    o = objective(resolve(config("grpo", OUT, clip=0.1)))
    assert (o.target, o.importance, o.clip) == ("token", True, 0.1)
