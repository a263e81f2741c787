"""What a model in this process says about completions: hidden states now, log-probs of a slice when they are needed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from understudy.methods.kernel import Table
from understudy.methods.losses import log_of
from understudy.types import Signal

Head = Callable[[Tensor], Tensor]
"""(n, D) hidden states -> (n, V) logits."""


class HiddenSignal(Signal):
    """types.Signal from (N, D) hidden states and the head that makes logits of them.

    vocabulary: use the first so many logits only, renormalised; 0 = all.
    """

    def __init__(
        self, hidden_ND: Tensor, head: Head, inside: Callable[[], AbstractContextManager[None]] = nullcontext,
        vocabulary: int = 0,
    ) -> None:  # fmt: skip
        self.hidden_ND, self.head, self.inside, self.vocabulary = hidden_ND, head, inside, vocabulary
        self._table: Table | None = None

    def cut(self, vocabulary: int) -> HiddenSignal:
        """The same with the first `vocabulary` logits only."""
        return HiddenSignal(self.hidden_ND, self.head, self.inside, vocabulary)

    def taken(self, rows_M: Tensor) -> HiddenSignal:
        hidden_MD = self.hidden_ND[rows_M.to(self.hidden_ND.device)]
        return HiddenSignal(hidden_MD, self.head, self.inside, self.vocabulary)

    @torch.no_grad()
    def table(self, at: slice) -> Tensor:
        """The next call overwrites it."""
        h, head = self.hidden_ND[at], self.head
        with self.inside():
            kind = h.device.type
            if type(head) is not nn.Linear or h.dtype != head.weight.dtype or torch.is_autocast_enabled(kind):
                logits_nV = head(h)
                return log_of(logits_nV[:, : self.vocabulary] if self.vocabulary else logits_nV)
        if self._table is None or len(h) > len(self._table.first):
            v = self.vocabulary or len(head.weight)
            self._table = Table(head.weight[:v], None if head.bias is None else head.bias[:v], len(h))
        return log_of(*self._table.logits(h))

    def at(self, ids_nK: Tensor, at: slice) -> Tensor:
        table_nV = self.table(at)
        return table_nV.gather(-1, ids_nK.to(table_nV.device))

    def top_k(self, k: int, at: slice) -> tuple[Tensor, Tensor]:
        table_nV = self.table(at)
        best = table_nV.topk(min(k, table_nV.shape[-1] - 1), -1)
        return best.indices, best.values
