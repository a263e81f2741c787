"""An expert behind an OpenAI-compatible completions API, token-exact: it samples, and it scores given tokens.

It cannot give distributions. It can give its own top k tokens (`coarse`), which is all that a divergence coarsened to
the expert's top k and one tail bucket needs: exact, no renormalised top k.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from understudy.errors import UserError
from understudy.policy import tokenizer_sha
from understudy.protocols import Arrived, Expert
from understudy.randomness import seed_from
from understudy.servers.completions import Completions, choose_model, list_models
from understudy.servers.config import ServerConfig
from understudy.servers.http import Client
from understudy.servers.responses import Scores, Sequence_
from understudy.types import Prompt, Rollout


class ServerExpert(Expert):
    """`temperature` and `top_p` transform its samples only; scores are always of the plain softmax."""

    capabilities = frozenset({"sample", "score", "top_k"})
    hint = (
        "a server's top-k is not its distribution: use a row that scores sampled tokens (opd), or coarsen the "
        "divergence to the expert's own top tokens (--top-k 16 --top-k-of expert)"
    )

    def __init__(
        self, config: ServerConfig, student: Any, temperature: float = 1.0, top_p: float = 1.0, field: str = "expert"
    ) -> None:
        """student: whose tokenizer, end tokens and vocabulary the tokens are in (checked by server_check.preflight)."""
        self.config, self.temperature, self.top_p, self.field = config, temperature, top_p, field
        self.tokenizer, self.vocabulary = student.tokenizer, int(student.vocabulary)
        self.end_ids = tuple(student.end_ids)
        self.noise = config.noise
        self.client = Client(
            config.url, field, config.timeout, config.tries, config.concurrency, config.key_env, config.wait
        )
        entry = choose_model(list_models(self.client), config.model, field, config.url)
        self.name = str(entry["id"])
        self.context = int(entry.get("max_model_len") or 0)
        self.api = Completions(self.client, self.name, self.end_ids, self.vocabulary)
        self.provenance = {
            "kind": "server",
            "url": config.url,
            "model": self.name,
            "root": str(entry.get("root") or ""),
            "revision": config.revision,
            "vocabulary": self.vocabulary,
            "end_ids": list(self.end_ids),
            "tokenizer_sha": tokenizer_sha(self.tokenizer),
        }

    # -- samples ------------------------------------------------------------------------------------------------

    def sample(self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int) -> list[Rollout]:
        """As Expert.sample: each is a function of (seed, prompt, sample) as far as the server keeps to its seed.

        Recorded log-probs are NaN (unknown) under a temperature or nucleus: servers report them before it.
        """
        drawn = self._draw(prompts, samples, seed, max_new_tokens, self.temperature, self.top_p)
        exact = self.temperature == 1 and self.top_p == 1
        return self._rollouts(prompts, drawn, exact)

    def has_greedy(self) -> bool:
        return True

    def greedy(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Rollout]:
        return self._rollouts(prompts, self._draw(prompts, 1, 0, max_new_tokens, 0.0, 1.0), True)

    def _draw(
        self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int, temperature: float, top_p: float
    ) -> list[Any]:
        longest = max((len(p.ids) for p in prompts), default=0)
        if self.context and longest + max_new_tokens > self.context:
            hint = f"a prompt has {longest} tokens and the server's context is {self.context}: shorten one of them"
            raise UserError("max_new_tokens", max_new_tokens, hint)
        # the server numbers the samples of a prompt upwards from its seed: leave room between prompts
        seeds = [seed_from("server", seed, p.key) % 2**40 * 1024 for p in prompts]
        return self.api.sample([p.ids for p in prompts], samples, seeds, max_new_tokens, temperature, top_p)

    def _rollouts(self, prompts: Sequence[Prompt], drawn: Sequence[Any], exact: bool) -> list[Rollout]:
        flat = [(p, s, d) for p, ds in zip(prompts, drawn) for s, d in enumerate(ds)]
        texts = self.tokenizer.batch_decode([list(d.ids) for _, _, d in flat], skip_special_tokens=True)
        unknown = float("nan")
        return [
            Rollout(p, s, d.ids, d.logp if exact else (unknown,) * len(d.ids), d.ended, text, "expert")
            for (p, s, d), text in zip(flat, texts)
        ]

    # -- scores -------------------------------------------------------------------------------------------------

    def score(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        return [x["logp"] for x in self.entries(rollouts, 0)]

    def coarse(self, rollouts: Sequence[Rollout], k: int) -> list[Tensor]:
        """Per rollout (T, V) log-probs: its top k tokens exactly, the rest of the mass spread evenly over the rest.

        Whoever buckets it by its own top k and a tail gets what the whole distribution would have given.
        """
        return [spread(x["top_ids"], x["top_logp"], self.vocabulary) for x in self.entries(rollouts, k)]

    def entries(self, rollouts: Sequence[Rollout], k: int, arrived: Arrived | None = None) -> list[dict[str, Tensor]]:
        """Per rollout {"logp": (T,)}, with k also {"top_ids": (T, k), "top_logp": (T, k)}: what a cache keeps."""
        tell = arrived or (lambda i, x: None)
        sent = [Sequence_(tuple(r.prompt.ids), tuple(r.ids)) for r in rollouts]
        found = self.api.score(sent, k, self.config.rows, lambda i, s: tell(i, _tensors(s)))
        return [_tensors(s) for s in found]


def _tensors(s: Scores) -> dict[str, Tensor]:
    out = {"logp": torch.tensor(s.logp, dtype=torch.float32)}
    if s.top_ids:
        out["top_ids"] = torch.tensor(s.top_ids, dtype=torch.int32)
        out["top_logp"] = torch.tensor(s.top_logp, dtype=torch.float32)
    return out


def spread(top_ids_TK: Tensor, top_logp_TK: Tensor, vocabulary: int) -> Tensor:
    """(T, V) float32 log-probs that equal top_logp on top_ids and share what is left evenly among all others."""
    k = top_ids_TK.shape[1]
    left_T = (1 - top_logp_TK.double().exp().sum(-1)).clamp_min(1e-30)
    # the k-th is the ceiling of every other token's probability: rounding must not lift the tail above it
    ceiling_T = top_logp_TK[:, -1].double()
    tail_T = torch.minimum((left_T / max(1, vocabulary - k)).log(), ceiling_T - 1e-5 * (1 + ceiling_T.abs()))
    table_TV = tail_T.float().unsqueeze(-1).repeat(1, vocabulary)
    return table_TV.scatter_(-1, top_ids_TK.long(), top_logp_TK)
