"""The expert beyond the expert: base (expert / base)^factor at every token."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from understudy.experts.extrapolated import Extrapolated
from understudy.experts.local import LocalExpert
from understudy.methods.divergences import extrapolated
from understudy.policy import load_policy
from understudy.policy.sampling import draw
from understudy.types import Prompt


def logs(*p: float) -> torch.Tensor:
    return torch.tensor([p], dtype=torch.float64).log()


def test_by_hand() -> None:
    """Base (1/2, 1/4, 1/4), expert (1/4, 1/4, 1/2), factor 2: (1/8, 1/4, 1) / (11/8)."""
    got = extrapolated(logs(0.25, 0.25, 0.5), logs(0.5, 0.25, 0.25), 2.0).exp()
    torch.testing.assert_close(got, torch.tensor([[1 / 11, 2 / 11, 8 / 11]], dtype=torch.float64))


def test_the_ends_and_what_is_impossible() -> None:
    expert, base = logs(0.5, 0.5, 0.0, 0.0), logs(0.5, 0.0, 0.5, 0.0)
    assert torch.equal(extrapolated(expert, base, 0.0), base)
    torch.testing.assert_close(extrapolated(expert, base, 1.0), expert)
    for factor in (0.5, 1.5, 50.0):
        got = extrapolated(expert, base, factor)
        assert got.exp().sum() == pytest.approx(1.0)
        assert got[0, 2:].tolist() == [-math.inf, -math.inf]


def test_scores_are_the_distribution_up_to_a_number_per_prefix(models: dict[str, Path]) -> None:
    """Catches scores and distributions of different targets, and chunks that overwrite each other."""
    base, policy = (load_policy(str(models[name]), name, device="cpu") for name in ("llama", "qwen2"))
    expert = LocalExpert(policy)
    both = Extrapolated(expert, LocalExpert(base), 1.5)
    prompts = base.encode([Prompt(f"p{i}", "3 5 7>15\n"[: 2 + i]) for i in range(4)])
    rollouts = draw(base.start, base.decode, base.end_ids, prompts, 2, 4, 10, "student")
    assert both.capabilities == {"score", "distribution"}
    signal = both.signal([[r] for r in rollouts])
    tables, at = both.distribution(rollouts), 0
    for r, table, score, e, b in zip(
        rollouts, tables, both.score(rollouts), expert.distribution(rollouts), base.distribution(rollouts)
    ):
        here = slice(at, at + len(r.ids))
        at += len(r.ids)
        torch.testing.assert_close(signal.table(here), table, atol=1e-4, rtol=0)
        raw = b + 1.5 * (e - b)
        acted = torch.tensor(r.ids)[:, None]
        torch.testing.assert_close(score, raw.gather(-1, acted)[:, 0], atol=1e-4, rtol=0)
        torch.testing.assert_close(table, raw - raw.logsumexp(-1, keepdim=True), atol=1e-4, rtol=0)
        torch.testing.assert_close(signal.at(acted, here), table.gather(-1, acted), atol=1e-4, rtol=0)
        torch.testing.assert_close(signal.top_k(3, here)[1], table.topk(3).values, atol=1e-4, rtol=0)
