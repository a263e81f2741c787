"""Experts whose scores come as entries: the log-probs of the tokens, and of the expert's own top k tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from understudy.protocols import Expert
from understudy.types import Rollout


class EntryExpert(Expert):
    """Scores and coarse distributions from `entries`, which a subclass gives."""

    def score(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        return [x["logp"] for x in self.entries(rollouts, 0)]

    def coarse(self, rollouts: Sequence[Rollout], k: int) -> list[Tensor]:
        """Per rollout (T, V) log-probs: its top k tokens exactly, the rest of the mass shared evenly by the others.

        A divergence coarsened to its top k and one tail bucket has the same value on this as on the whole distribution.
        """
        return [expand_top_k(x["top_ids"], x["top_logp"], self.vocabulary) for x in self.entries(rollouts, k)]


def expand_top_k(top_ids_TK: Tensor, top_logp_TK: Tensor, vocabulary: int) -> Tensor:
    """(T, V) float32 log-probs that equal top_logp on top_ids and share what is left evenly among all others."""
    k = top_ids_TK.shape[1]
    left_T = (1 - top_logp_TK.double().exp().sum(-1)).clamp_min(1e-30)
    # the k-th is the ceiling of every other token's probability: rounding must not lift the tail above it
    ceiling_T = top_logp_TK[:, -1].double()
    tail_T = torch.minimum((left_T / max(1, vocabulary - k)).log(), ceiling_T - 1e-5 * (1 + ceiling_T.abs()))
    table_TV = tail_T.float().unsqueeze(-1).repeat(1, vocabulary)
    return table_TV.scatter_(-1, top_ids_TK.long(), top_logp_TK)
