"""Experts whose scores come as entries, and supervision from what is kept of an expert: its top k, or hidden states."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from understudy import running
from understudy.policy.signals import HiddenSignal
from understudy.protocols import Expert, Supervision
from understudy.types import Rollout, Signal

Entries = Sequence[Mapping[str, Tensor]]


class EntryExpert(Expert):
    """Scores and top k from `entries`, which a subclass gives."""

    streams: bool = False
    """Whether another machine or process computes the entries, so that they may arrive while the student works."""

    def score(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        return [x["logp"] for x in self.entries(rollouts, 0)]

    def supervise(self, rollouts: Sequence[Rollout], top_k: int = 0) -> Supervision:
        """With top_k all entries are requested now, so that a server can work on all of them at the same time."""
        if not top_k:
            return Supervision(self, rollouts)
        if self.streams:
            return Streamed(self, rollouts, top_k)
        return Kept(self.entries(rollouts, top_k), {}, self.vocabulary)

    def keep_bytes(self, top_k: int = 0) -> int:
        return 8 * top_k

    def keep(self, rollouts: Sequence[Rollout], top_k: int = 0) -> list[dict[str, Tensor]]:
        return [{n: e[n] for n in ("top_ids", "top_logp")} for e in self.entries(rollouts, top_k)]


class Kept(Supervision):
    """Supervision without the expert: from entries per rollout, and what they share."""

    def __init__(self, entries: Entries, shared: Mapping[str, Tensor], vocabulary: int) -> None:
        """entries: top_ids and top_logp (T, k), with rest_logp (T,) where all other tokens have one log-prob; or hidden
        (T, D) with the head's weight (V, D) and bias in `shared`."""
        self.entries, self.shared, self.vocabulary = entries, shared, vocabulary

    def signal(self, packs: Sequence[Sequence[int]]) -> Signal:
        return self._of([self.entries[i] for pack in packs for i in pack])

    @cached_property
    def _head(self) -> nn.Linear:
        head, bias = nn.Linear(0, 0, device="meta"), self.shared.get("bias")
        head.weight = nn.Parameter(self.shared["weight"], requires_grad=False)
        head.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)  # type: ignore[assignment]
        return head

    def _of(self, rows: Entries) -> Signal:
        joined = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        if "hidden" in joined:
            return HiddenSignal(joined["hidden"], self._head)
        return TopSignal(joined["top_ids"], joined["top_logp"], self.vocabulary, joined.get("rest_logp"))


class Streamed(Kept):
    """The top k of an expert elsewhere, requested by a thread at once: a signal waits for its own rollouts only.

    The thread never works for longer than one update: `finish` and `stop` end it.
    """

    def __init__(self, expert: Expert, rollouts: Sequence[Rollout], top_k: int) -> None:
        super().__init__([], {}, expert.vocabulary)
        self._there: dict[int, Mapping[str, Tensor]] = {}
        self._error: BaseException | None = None
        self._stopped, self._news = False, threading.Condition()

        def fetch() -> None:
            try:
                expert.entries(rollouts, top_k, self._arrived)
            except BaseException as error:  # raised where it is waited for
                with self._news:
                    self._error = error
                    self._news.notify_all()

        self._thread = threading.Thread(target=fetch, name="expert", daemon=True)
        self._thread.start()

    def _arrived(self, i: int, entry: Mapping[str, Tensor]) -> None:
        with self._news:
            if self._stopped:
                raise InterruptedError
            self._there[i] = entry
            self._news.notify_all()

    def signal(self, packs: Sequence[Sequence[int]]) -> Signal:
        rows = [i for pack in packs for i in pack]
        with self._news:
            while not self._news.wait_for(lambda: self._error is not None or all(i in self._there for i in rows), 1.0):
                running.check()
            if self._error is not None and not all(i in self._there for i in rows):
                raise self._error
        return self._of([self._there[i] for i in rows])

    def finish(self) -> None:
        self._thread.join()
        if self._error is not None and not self._stopped:
            raise self._error

    def stop(self) -> None:
        self._stopped = True


class TopSignal(Signal):
    """types.Signal from the k most likely tokens of each position: (N, k) ids and log-probs.

    rest_N: log-prob of each other token, where they all have the same; None = unknown: then it has no table.
    """

    def __init__(self, ids_NK: Tensor, logp_NK: Tensor, vocabulary: int, rest_N: Tensor | None = None) -> None:
        self.ids_NK, self.logp_NK, self.vocabulary, self.rest_N = ids_NK.long(), logp_NK, vocabulary, rest_N

    def taken(self, rows_M: Tensor) -> TopSignal:
        rest_N = None if self.rest_N is None else self.rest_N[rows_M]
        return TopSignal(self.ids_NK[rows_M], self.logp_NK[rows_M], self.vocabulary, rest_N)

    def table(self, at: slice) -> Tensor:
        if self.rest_N is None:
            raise ValueError("the top k tokens are not a distribution")
        table_nV = self.rest_N[at].unsqueeze(-1).repeat(1, self.vocabulary)
        return table_nV.scatter_(-1, self.ids_NK[at], self.logp_NK[at])

    def at(self, ids_nK: Tensor, at: slice) -> Tensor:
        table_nV = self.table(at)
        return table_nV.gather(-1, ids_nK.to(table_nV.device))

    def top_k(self, k: int, at: slice) -> tuple[Tensor, Tensor]:
        if k > self.ids_NK.shape[1]:
            best = self.table(at).topk(min(k, self.vocabulary - 1), -1)
            return best.indices, best.values
        return self.ids_NK[at, :k], self.logp_NK[at, :k]
