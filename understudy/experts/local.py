"""A Hugging Face model as an expert: it can sample, score and give whole distributions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from understudy.errors import UserError
from understudy.policy import CachedSteps, Policy
from understudy.run_files import is_run, read_config, read_ledger
from understudy.sampler import draw
from understudy.types import Prompt, Rollout


class LocalExpert:
    """`temperature` and `top_p` transform its samples only; scores are always of the plain softmax."""

    capabilities = frozenset({"sample", "score", "distribution"})

    def __init__(self, policy: Policy, temperature: float = 1.0, top_p: float = 1.0) -> None:
        self.policy, self.name, self.tokenizer = policy, policy.name, policy.tokenizer
        self.temperature, self.top_p = temperature, top_p
        self.vocabulary, self.end_ids = policy.vocabulary, policy.end_ids
        self.provenance: dict[str, Any] = policy.describe() | made_by(policy.name)

    def start(self, prompts: Sequence[Prompt]) -> CachedSteps:
        return self.policy.start(prompts)

    def sample(
        self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int
    ) -> list[Rollout]:
        return self._draw(prompts, samples, seed, max_new_tokens, greedy=False)

    def greedy(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Rollout]:
        return self._draw(prompts, 1, 0, max_new_tokens, greedy=True)

    def _draw(
        self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int, greedy: bool
    ) -> list[Rollout]:
        self.policy.check_room(prompts, max_new_tokens)
        p = self.policy
        return draw(
            p.start, p.decode, p.end_ids, prompts, samples, seed, max_new_tokens, "expert",
            self.temperature, self.top_p, greedy,
        )  # fmt: skip

    def score(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        return self.policy.score(rollouts)

    def distribution(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        return self.policy.distribution(rollouts)


def made_by(path: str) -> dict[str, Any]:
    """How a checkpoint of ours was made: method, student, budgets. Empty for a foreign model."""
    folder = Path(path)
    for run in (folder, folder.parent):
        if folder.is_dir() and is_run(run):
            try:
                config, ledger = read_config(run), read_ledger(run)
            except UserError:
                return {}
            told = {
                k: config[k]
                for k in ("method", "student", "expert", "task", "seed", "updates")
                if k in config
            }
            return {"made_by": told, "ledger": ledger}
    return {}
