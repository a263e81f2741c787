"""What a model in this process says about completions: hidden states now, log-probs of a slice when they are needed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from understudy.methods.losses import log_of

Head = Callable[[Tensor], Tensor]
"""(n, D) hidden states -> (n, V) logits."""


class HiddenSignal:
    """types.Signal from (N, D) hidden states and the head that makes logits of them.

    vocabulary: use the first so many logits only, renormalised; 0 = all.
    """

    def __init__(
        self, hidden_ND: Tensor, head: Head, inside: Callable[[], AbstractContextManager[None]] = nullcontext,
        vocabulary: int = 0,
    ) -> None:  # fmt: skip
        self.hidden_ND, self.head, self.inside, self.vocabulary = hidden_ND, head, inside, vocabulary

    def cut(self, vocabulary: int) -> HiddenSignal:
        """The same with the first `vocabulary` logits only."""
        return HiddenSignal(self.hidden_ND, self.head, self.inside, vocabulary)

    @torch.no_grad()
    def logits(self, at: slice) -> Tensor:
        """(n, V) of tokens `at`."""
        with self.inside():
            logits_nV = self.head(self.hidden_ND[at])
        return logits_nV[:, : self.vocabulary] if self.vocabulary else logits_nV

    def table(self, at: slice) -> Tensor:
        return log_of(self.logits(at))

    @torch.no_grad()
    def at(self, ids_nK: Tensor, at: slice) -> Tensor:
        logits_nV = self.logits(at)
        if logits_nV.dtype != torch.float64:
            logits_nV = logits_nV.float()
        return logits_nV.gather(-1, ids_nK.to(logits_nV.device)) - logits_nV.logsumexp(-1, keepdim=True)

    def top_k(self, k: int, at: slice) -> tuple[Tensor, Tensor]:
        table_nV = self.table(at)
        best = table_nV.topk(min(k, table_nV.shape[-1] - 1), -1)
        return best.indices, best.values
