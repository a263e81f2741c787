"""Experts that draw and score token ids, exactly: behind a completions API, or by an engine in this process.

It cannot give distributions. It can give its own top k tokens, which is all that a divergence coarsened to the expert's
top k and one tail bucket needs: exact, no renormalised top k.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from understudy.errors import UserError
from understudy.experts.entries import EntryExpert
from understudy.policy import tokenizer_sha
from understudy.policy.tokens import shown
from understudy.protocols import Arrived, Expert
from understudy.randomness import seed_from
from understudy.servers.completions import Completions, choose_model, list_models
from understudy.servers.config import ServerConfig
from understudy.servers.http import Client
from understudy.servers.responses import Drawn, Scores, Tokens
from understudy.types import Prompt, Rollout


class RemoteExpert(Expert):
    """A model on a server, in the tokens of `student`. `temperature` and `top_p` transform its samples only."""

    kind: str

    def __init__(
        self, config: ServerConfig, student: Any, temperature: float = 1.0, top_p: float = 1.0, field: str = "expert"
    ) -> None:
        """student: its tokenizer, end tokens and vocabulary are used (checked by `check.preflight`)."""
        self.config, self.temperature, self.top_p, self.field = config, temperature, top_p, field
        self.tokenizer, self.vocabulary, self.end_ids = student.tokenizer, int(student.vocabulary), (*student.end_ids,)
        self.client = Client(
            config.url, field, config.timeout, config.tries, config.concurrency, config.key_env, config.wait
        )
        facts = self.open()
        self.provenance = {
            "kind": self.kind, "url": config.url, "model": self.name, "revision": config.revision,
            "tokenizer_sha": tokenizer_sha(self.tokenizer),
        } | facts  # fmt: skip

    def open(self) -> dict[str, Any]:
        """Choose the model and set `name`; returns more facts for the provenance."""
        raise NotImplementedError


def as_rollout(prompt: Prompt, sample: int, drawn: Drawn, text: str, exact: bool) -> Rollout:
    """With `exact` the engine's log-probs, else NaN (unknown)."""
    logp = drawn.logp if exact else (math.nan,) * len(drawn.ids)
    return Rollout(prompt, sample, drawn.ids, logp, drawn.ended, text, "expert")


class TokenApi(Protocol):
    """What draws and scores token ids: servers.completions.Completions, servers.colocated.Colocated."""

    def score(
        self, sequences: Sequence[Tokens], top_k: int, rows: int, done: Callable[[int, Scores], None]
    ) -> list[Scores]: ...

    def sample(
        self, prompts: Sequence[Sequence[int]], samples: int, seeds: Sequence[int], max_new_tokens: int,
        temperature: float = 1.0, top_p: float = 1.0,
    ) -> list[list[Drawn]]: ...  # fmt: skip

    def text_to_ids(self, text: str) -> list[int]: ...

    def ids_to_pieces(self, ids: Sequence[int]) -> list[str | None]: ...


class TokenExpert(EntryExpert):
    """Samples and scores through `api`. Scores are always of the plain softmax."""

    api: TokenApi
    kind: str
    where: str
    """The address, or the name of the engine, for messages."""
    allow: str
    """How a user allows more noise, for messages."""
    local: str = ""
    """Name of a local copy of the same model, for messages."""
    context: int
    """Largest number of tokens of a prompt with its completion. 0 = not known."""
    rows: int
    """Completions per scoring request."""
    noise: float
    temperature: float = 1.0
    top_p: float = 1.0
    capabilities = frozenset({"sample", "score", "top_k"})
    hint = (
        "a server's top-k is not its distribution: use a row that scores sampled tokens (opd), or coarsen the "
        "divergence to the expert's own top tokens (--top-k 16 --top-k-of expert)"
    )

    def sample(self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int) -> list[Rollout]:
        """As Expert.sample, if the server honours its seed.

        Recorded log-probs are NaN (unknown) under a temperature or nucleus: servers report them before it.
        """
        exact = self.temperature == 1 and self.top_p == 1
        return self._draw(prompts, samples, seed, max_new_tokens, self.temperature, self.top_p, exact)

    def has_greedy(self) -> bool:
        return True

    def greedy(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Rollout]:
        return self._draw(prompts, 1, 0, max_new_tokens, 0.0, 1.0, True)

    def _draw(
        self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int, temperature: float, top_p: float,
        exact: bool,
    ) -> list[Rollout]:  # fmt: skip
        longest = max((len(p.ids) for p in prompts), default=0)
        if self.context and longest + max_new_tokens > self.context:
            hint = f"a prompt has {longest} tokens and the {self.kind}'s context is {self.context}: shorten one of them"
            raise UserError("max_new_tokens", max_new_tokens, hint)
        # the server numbers the samples of a prompt upwards from its seed: leave room between prompts
        seeds = [seed_from("server", seed, p.key) % 2**40 * 1024 for p in prompts]
        drawn = self.api.sample([p.ids for p in prompts], samples, seeds, max_new_tokens, temperature, top_p)
        flat = [(p, s, d) for p, ds in zip(prompts, drawn) for s, d in enumerate(ds)]
        texts = shown(self.tokenizer, self.end_ids, [d.ids for _, _, d in flat])
        return [as_rollout(p, s, d, text, exact) for (p, s, d), text in zip(flat, texts)]

    def entries(self, rollouts: Sequence[Rollout], k: int, arrived: Arrived | None = None) -> list[dict[str, Tensor]]:
        """Each `arrived` as its answer comes, so that a later failure loses nothing that was paid for."""
        report = arrived or (lambda i, entry: None)
        sent = [Tokens(tuple(r.prompt.ids), tuple(r.ids)) for r in rollouts]
        scores = self.api.score(sent, k, self.rows, lambda i, s: report(i, _tensors(s)))
        return [_tensors(s) for s in scores]


class ServerExpert(RemoteExpert, TokenExpert):
    """A completions API."""

    kind, streams = "server", True

    def open(self) -> dict[str, Any]:
        c = self.config
        entry = choose_model(list_models(self.client), c.model, self.field, c.url)
        self.name, self.noise, self.rows = str(entry["id"]), c.noise, c.rows
        self.where, self.allow, self.local = c.url, "server:url=...,noise=X", c.local
        self.context = int(entry.get("max_model_len") or 0)
        self.api = Completions(self.client, self.name, self.end_ids, self.vocabulary)
        return {
            "root": str(entry.get("root") or ""), "vocabulary": self.vocabulary, "end_ids": list(self.end_ids)
        }  # fmt: skip


def _tensors(s: Scores) -> dict[str, Tensor]:
    out = {"logp": torch.tensor(s.logp, dtype=torch.float32)}
    if s.top_ids:
        out["top_ids"] = torch.tensor(s.top_ids, dtype=torch.int32)
        out["top_logp"] = torch.tensor(s.top_logp, dtype=torch.float32)
    return out
