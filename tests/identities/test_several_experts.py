"""Several experts are exactly each one on its own rows: losses, gradients and weights in float64, by enumeration."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from foreign import Tabular, letters, student_of

from understudy.experts.assignment import Assignment
from understudy.experts.foreign.expert import ForeignExpert
from understudy.experts.several import SeveralExperts
from understudy.methods.cells import Method
from understudy.methods.kernel import Entropies, evaluate
from understudy.methods.losses import Objective
from understudy.protocols import Expert, Task
from understudy.training.labels import weights
from understudy.types import Batch, Ledger, Prompt, Rollout, Signal

PLAIN = letters("ab")
MERGED = letters("ab", [("a", "b")])
STUDENT = Tabular(PLAIN, 1)


class Rows(Task):
    name = "rows"

    def prompts(self, split: str, n: int, seed: int, start: int = 0) -> list[Prompt]:
        return [Prompt(f"{i}", "", {"row": {"kind": "ab"[i % 2]}}, ids=(0,)) for i in range(start, start + n)]

    def verify(self, prompt: Prompt, text: str, ended: bool) -> float:
        return 0.0


def several(**members: Expert) -> SeveralExperts:
    shares = dict.fromkeys(members, 1 / len(members))
    return SeveralExperts(members, Assignment(tuple(members), "kind", Rows()), shares, student_of(PLAIN))


def foreign() -> ForeignExpert:
    expert = Tabular(MERGED, 4)
    return ForeignExpert(expert, expert, student_of(PLAIN))


def rollouts_of() -> list[Rollout]:
    """Everything that the student can write, at two prompts in turn."""
    a, b = Rows().prompts("train", 2, 0)
    return [dataclasses.replace(r, prompt=p) for r in STUDENT.completions() for p in (a, b)]


def evaluated(
    rollouts: list[Rollout], signal: Signal, goal: Objective, entropies: Entropies | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(losses, gradients by the logits) of the tokens, by the production kernel in three slices."""
    lengths = torch.tensor([len(r.ids) for r in rollouts])
    row_N = torch.arange(len(rollouts)).repeat_interleave(lengths)
    n = len(row_N)
    ids_N, none = torch.tensor([i for r in rollouts for i in r.ids]), torch.zeros(n, dtype=torch.long)
    ones = torch.ones(n, dtype=torch.float64)
    batch = Batch(none[:, None], None, none[:, None], none, ids_N, row_N, ones, None, signal)
    logits_NV = torch.cat([STUDENT.rows(r.ids) for r in rollouts]).detach()
    losses, slopes = [], []
    for at in (slice(0, 1), slice(1, n // 3), slice(n // 3, n)):
        part = evaluate(logits_NV[at].clone(), None, batch, goal, at, entropies)
        losses.append(part.loss_n)
        slopes.append(part.d_nV * part.factor_n[:, None] if isinstance(part.factor_n, torch.Tensor) else part.d_nV)
    return torch.cat(losses), torch.cat(slopes)


GOALS = [
    *(Objective("distribution", kind, beta=0.3) for kind in ("kl_student_expert", "kl_expert_student", "jsd", "uld")),
    *(Objective("distribution", "kl_student_expert", top_k=2, top_k_of=of) for of in ("student", "expert")),
    Objective("distribution", "jsd", beta=0.3, top_k=1, top_k_of="student"),
]


@pytest.mark.parametrize("second", ["plain", "foreign"])
@pytest.mark.parametrize("goal", GOALS, ids=lambda g: f"{g.divergence}-{g.top_k}-{g.top_k_of}")
def test_losses_and_gradients_are_those_of_each_half(goal: Objective, second: str) -> None:
    """Catches rows that are given another expert, answers out of order, and a coarsening that is not the same beside
    an expert of another family. Packs hold completions of both experts."""
    members: dict[str, Any] = {"a": Tabular(PLAIN, 2), "b": Tabular(PLAIN, 3) if second == "plain" else foreign()}
    rollouts, both = rollouts_of(), several(**members)
    packs = [range(len(rollouts))[i : i + 5] for i in range(0, len(rollouts), 5)]
    entropies, halves = Entropies(), Entropies()
    signal = both.signal([[rollouts[i] for i in pack] for pack in packs])
    loss_N, slope_NV = evaluated(rollouts, signal, goal, entropies)
    supervised = both.supervise(rollouts).signal(packs)
    assert torch.equal(evaluated(rollouts, supervised, goal)[0], loss_N)
    kind_N = torch.tensor([r.prompt.data["row"]["kind"] == "b" for r in rollouts for _ in r.ids])
    for is_b, name in enumerate(members):
        own = [r for r in rollouts if r.prompt.data["row"]["kind"] == name]
        want_n, slope_nV = evaluated(own, members[name].signal([[r] for r in own]), goal, halves)
        assert torch.allclose(loss_N[kind_N == is_b], want_n, rtol=0, atol=1e-8)
        assert torch.allclose(slope_NV[kind_N == is_b], slope_nV, rtol=0, atol=1e-8)
    assert loss_N[~kind_N].sum() > 1e-2
    assert entropies.sums == pytest.approx(halves.sums, abs=1e-8)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_log_ratios_are_those_of_each_half(gamma: float) -> None:
    members: dict[str, Any] = {"a": Tabular(PLAIN, 2), "b": Tabular(PLAIN, 3)}
    method = Method(behavior="student", target="token", weight="log_ratio", gamma=gamma)

    def weighed(rollouts: list[Rollout], expert: Expert) -> list[torch.Tensor]:
        behavior = [torch.tensor(r.behavior_logp, dtype=torch.float64) for r in rollouts]
        return weights(rollouts, behavior, method, STUDENT, expert, Ledger())  # type: ignore[arg-type]

    rollouts = rollouts_of()
    together = weighed(rollouts, several(**members))
    for name, expert in members.items():
        which = [i for i, r in enumerate(rollouts) if r.prompt.data["row"]["kind"] == name]
        for i, want in zip(which, weighed([rollouts[i] for i in which], expert), strict=True):
            assert torch.equal(together[i], want)


def test_beside_an_expert_of_another_family_a_token_by_itself_is_a_span() -> None:
    members: dict[str, Any] = {"a": Tabular(PLAIN, 2), "b": foreign()}
    rollouts, both = rollouts_of(), several(**members)
    spans = both.spans(rollouts)
    assert spans is not None
    for i, r in enumerate(rollouts):
        name = r.prompt.data["row"]["kind"]
        want = torch.arange(len(r.ids)) if name == "a" else members["b"].spans([r])[0]
        assert torch.equal(spans[i], want)
        assert torch.equal(both.score([r])[0], members[name].score([r])[0])
    assert several(a=members["a"], b=members["a"]).spans(rollouts) is None
    assert both.capabilities == {"sample", "score", "matched"} | (members["b"].capabilities & {"top_k"})


def test_two_names_of_one_expert_are_that_expert() -> None:
    """Bit for bit: it computes all rows together, in the same packs."""
    expert = Tabular(PLAIN, 2)
    seen: list[Any] = []
    ask = expert.signal
    expert.signal = lambda packs: (seen.append(packs), ask(packs))[1]  # type: ignore[method-assign]
    rollouts = rollouts_of()
    packs = [rollouts[:3], rollouts[3:7]]
    several(a=expert, b=expert).signal(packs)
    assert [[*map(id, p)] for p in seen[0]] == [[*map(id, p)] for p in packs]
    assert len(seen) == 1


def test_tokens_taken_in_any_order() -> None:
    rollouts = rollouts_of()
    signal = several(a=Tabular(PLAIN, 2), b=Tabular(PLAIN, 3)).signal([[r] for r in rollouts])
    n = sum(len(r.ids) for r in rollouts)
    rows_M = torch.randperm(n, generator=torch.Generator().manual_seed(0))[: n // 2]
    assert torch.equal(signal.taken(rows_M).table(slice(0, len(rows_M))), signal.table(slice(0, n))[rows_M])
    ids, logp = signal.top_k(2, slice(3, n))
    assert torch.equal(signal.at(ids, slice(3, n)), logp)
