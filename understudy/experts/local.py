"""A Hugging Face model as an expert: it can sample, score and give whole distributions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from understudy.errors import UserError
from understudy.methods.kernel import chunk_of, chunks
from understudy.policy import Policy
from understudy.policy.sampling import draw
from understudy.policy.signals import HiddenSignal
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
            self.vocabulary = self.policy.sampled = vocabulary
        return self

    def apart(self, device: Any) -> bool:
        return self.policy.device != device

    def start(self, prompts: Sequence[Prompt]) -> Stepper:
        return self.policy.start(prompts)

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
            self.temperature, self.top_p, greedy, p.vocabulary, p.device.type,
        )  # fmt: skip

    def score(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        return self.policy.score(rollouts)

    def distribution(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        tables = self.policy.distribution(rollouts)
        if self.vocabulary == self.policy.vocabulary:
            return tables
        return [table[:, : self.vocabulary].log_softmax(-1) for table in tables]

    def signal(self, packs: Sequence[Sequence[Rollout]]) -> HiddenSignal:
        p = self.policy
        if not p.packs:
            packs = [[r] for pack in packs for r in pack]
        return p.signal(packs).cut(self.vocabulary)

    def keep_bytes(self, top_k: int = 0) -> int:
        head: Any = self.policy.head
        return 8 * top_k or (head.weight.shape[1] * head.weight.itemsize if self.policy.body_is_enough else 0)

    def keep(self, rollouts: Sequence[Rollout], top_k: int = 0) -> list[dict[str, Tensor]]:
        """The hidden states, or its top k where these are all that is needed."""
        out: list[dict[str, Tensor]] = [{} for _ in rollouts]
        for rows, signal in self.policy.signals(rollouts):
            signal, lengths = signal.cut(self.vocabulary), [len(rollouts[row].ids) for row in rows]
            if top_k:
                size = chunk_of(self.vocabulary, self.policy.device)
                best = [signal.top_k(top_k, at) for at in chunks(sum(lengths), size)]
                parts = {"top_ids": torch.cat([b[0] for b in best]).int(), "top_logp": torch.cat([b[1] for b in best])}
            else:
                parts = {"hidden": signal.hidden_ND}
            for name, tensor in parts.items():
                for row, piece in zip(rows, tensor.cpu().split(lengths)):
                    out[row][name] = piece
        return out

    def keep_shared(self) -> dict[str, Tensor]:
        head: Any = self.policy.head
        kept = {"weight": head.weight} | ({} if head.bias is None else {"bias": head.bias})
        return {name: tensor.detach()[: self.vocabulary].cpu() for name, tensor in kept.items()}


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
