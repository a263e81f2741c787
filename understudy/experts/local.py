"""A Hugging Face model as an expert: it can sample, score and give whole distributions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from understudy.errors import UserError
from understudy.policy import Policy
from understudy.policy.sampling import draw
from understudy.protocols import Expert, Stepper
from understudy.runs.read import is_run, read_config, read_ledger
from understudy.types import Prompt, Rollout


class LocalExpert(Expert):
    """`temperature` and `top_p` transform its samples only; scores are always of the plain softmax."""

    capabilities = frozenset({"sample", "score", "distribution"})

    def __init__(self, policy: Policy, temperature: float = 1.0, top_p: float = 1.0) -> None:
        self.policy, self.name, self.tokenizer = policy, policy.name, policy.tokenizer
        self.temperature, self.top_p = temperature, top_p
        self.vocabulary, self.end_ids = policy.vocabulary, policy.end_ids
        self.provenance = policy.describe() | provenance_of(policy.name)

    def fit(self, vocabulary: int) -> LocalExpert:
        """Use a student's smaller padded vocabulary, if every token of the tokenizer is in it.

        Sizes of one family are padded differently (Qwen2.5: 151,936 and 152,064 rows). What is cut off is
        padding that no text uses; distributions are renormalised, `score` is left alone (the mass there is rounding).
        """
        if len(self.tokenizer) <= vocabulary < self.policy.vocabulary:
            self.vocabulary = vocabulary
        return self

    def start(self, prompts: Sequence[Prompt]) -> Stepper:
        steps = self.policy.start(prompts)
        return steps if self.vocabulary == self.policy.vocabulary else _Cut(steps, self.vocabulary)

    def sample(self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int) -> list[Rollout]:
        return self._draw(prompts, samples, seed, max_new_tokens, greedy=False)

    def has_greedy(self) -> bool:
        return True

    def greedy(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Rollout]:
        return self._draw(prompts, 1, 0, max_new_tokens, greedy=True)

    def _draw(
        self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int, greedy: bool
    ) -> list[Rollout]:
        self.policy.check_room(prompts, max_new_tokens)
        p = self.policy
        return draw(
            self.start, p.decode, p.end_ids, prompts, samples, seed, max_new_tokens, "expert",
            self.temperature, self.top_p, greedy,
        )  # fmt: skip

    def score(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        return self.policy.score(rollouts)

    def distribution(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        tables = self.policy.distribution(rollouts)
        if self.vocabulary == self.policy.vocabulary:
            return tables
        return [table[:, : self.vocabulary].log_softmax(-1) for table in tables]


class _Cut(Stepper):
    """Decoding without the rows beyond `vocabulary`."""

    def __init__(self, steps: Stepper, vocabulary: int) -> None:
        self.steps, self.vocabulary = steps, vocabulary

    def next_logp(self) -> Tensor:
        return self.steps.next_logp()[:, : self.vocabulary].log_softmax(-1)

    def advance(self, tokens_B: Tensor, keep_B: Tensor) -> None:
        self.steps.advance(tokens_B, keep_B)


def provenance_of(path: str) -> dict[str, Any]:
    """Of a model that a run trained: its method, student and ledger. {} for any other model."""
    folder = Path(path)
    for run in (folder, folder.parent):
        if folder.is_dir() and is_run(run):
            try:
                config, ledger = read_config(run), read_ledger(run)
            except UserError:
                return {}
            keys = ("method", "student", "expert", "task", "seed", "updates")
            return {"made_by": {k: config[k] for k in keys if k in config}, "ledger": ledger}
    return {}
