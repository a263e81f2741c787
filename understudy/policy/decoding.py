"""Decode one token after another with a key-value cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from understudy.protocols import Stepper
from understudy.types import Prompt


class CachedSteps(Stepper):
    """One decoding pass of `model`, each forward pass inside `inference()`.

    Rows that ended are dropped from the cache once a quarter of the batch has ended.
    """

    @torch.no_grad()
    def __init__(
        self, model: Any, prompts: Sequence[Prompt], pad_id: int, inference: Callable[[], AbstractContextManager[None]]
    ) -> None:
        from transformers import DynamicCache  # slow to import

        self.model, self.inference = model, inference
        device = next(model.parameters()).device
        longest = max(len(p.ids) for p in prompts)
        ids = torch.full((len(prompts), longest), pad_id, dtype=torch.long)
        self.mask = torch.zeros((len(prompts), longest), dtype=torch.long)
        for i, p in enumerate(prompts):
            ids[i, longest - len(p.ids) :] = torch.tensor(p.ids)
            self.mask[i, longest - len(p.ids) :] = 1
        self.mask = self.mask.to(device)
        positions = (self.mask.cumsum(1) - 1).clamp_min(0)
        self.next_position = positions[:, -1:] + 1
        self.live = torch.arange(len(prompts), device=device)  # live row -> row of the cache
        self.cache = DynamicCache(config=model.config)
        self.logits = self._forward(ids.to(device), positions)

    def _forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        with self.inference():
            out = self.model(
                input_ids=ids, attention_mask=self.mask, position_ids=positions, past_key_values=self.cache,
                use_cache=True, logits_to_keep=1,
            )  # fmt: skip
        return out.logits[:, -1].float()

    @torch.no_grad()
    def next_logp(self) -> Tensor:
        return self.logits[self.live].log_softmax(-1)

    @torch.no_grad()
    def advance(self, tokens_B: Tensor, keep_B: Tensor) -> None:
        rows = self.mask.shape[0]
        ids = torch.zeros((rows, 1), dtype=torch.long, device=self.mask.device)
        ids[self.live, 0] = tokens_B
        self.live = self.live[keep_B]
        if len(self.live) == 0:
            return
        if len(self.live) <= 0.75 * rows:
            self.cache.batch_select_indices(self.live)
            self.mask, self.next_position, ids = (x[self.live] for x in (self.mask, self.next_position, ids))
            self.live = torch.arange(len(self.live), device=self.live.device)
        self.mask = torch.cat([self.mask, self.mask.new_ones((len(self.mask), 1))], 1)
        self.logits = self._forward(ids, self.next_position)
        self.next_position = self.next_position + 1
