"""Decode one token after another: the fastest way whose steps equal full passes on this model.

fast.py knows plain decoders; transformers' caches know most others; what neither decodes exactly gets a full pass per
token. Which one it is, is tried once per kind of model, with prompts of different lengths and a row that leaves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from understudy import distributed
from understudy.policy.fast import Decoder, FastSteps, Unsupported
from understudy.protocols import Stepper
from understudy.runs.directory import to_stderr
from understudy.types import Prompt

Inference = Callable[[], AbstractContextManager[None]]
"""The context of every forward pass."""

KINDS = ("fast", "cached", "whole")
_CHOSEN: dict[str, str] = {}  # kind of model -> one of KINDS


def start(
    model: Any, prompts: Sequence[Prompt], pad_id: int, inference: Inference, mixed: bool = False, adapted: bool = False
) -> Stepper:
    """Steps of these prompts, of the kind that is exact on this model."""
    return _begin(kind(model, pad_id, inference, mixed, adapted), model, prompts, pad_id, inference, mixed)


def kind(model: Any, pad_id: int, inference: Inference, mixed: bool = False, adapted: bool = False) -> str:
    """One of KINDS: the first whose steps equal full passes. Tried once per configuration, precision and adapter."""
    parameter = next(model.parameters())
    known = (type(model).__name__, model.config.to_json_string(), str(parameter.dtype), parameter.device.type)
    name = json.dumps([*known, mixed, adapted])
    if name not in _CHOSEN:
        chosen = next(k for k in KINDS if k == "whole" or _is_exact(k, model, pad_id, inference, mixed))
        if chosen == "whole" and distributed.is_main():
            slow = "sampled with a full pass per token, which is slow: steps with its cache differ from full passes"
            to_stderr(f"{type(model).__name__} is {slow}")
        _CHOSEN[name] = chosen
    return _CHOSEN[name]


def _begin(
    kind: str, model: Any, prompts: Sequence[Prompt], pad_id: int, inference: Inference, mixed: bool
) -> Stepper:  # fmt: skip
    if kind == "fast":
        decoder = Decoder(model, torch.bfloat16 if mixed else None)
        return FastSteps(decoder, prompts, pad_id, next(model.parameters()).device, inference)
    return (CachedSteps if kind == "cached" else WholeSteps)(model, prompts, pad_id, inference)


@torch.no_grad()
def _is_exact(kind: str, model: Any, pad_id: int, inference: Inference, mixed: bool) -> bool:
    """Whether three steps equal full passes. Compared by the spread of the logits: those of a new model are small."""
    parameter = next(model.parameters())
    device, close = parameter.device, 2e-3 if parameter.dtype == torch.float32 and not mixed else 0.1
    vocabulary = int(model.get_output_embeddings().weight.shape[0])
    window = min(int(getattr(model.config, "sliding_window", 0) or 0), 64)
    ids = [(17 * i + 3) % vocabulary for i in range(window + 24)]
    prompts = [Prompt(str(i), "", ids=tuple(ids[i : i + n])) for i, n in enumerate((window + 17, 5, 3))]
    prompts = [prompts[0], *prompts]  # a group of two
    rows, written = list(range(4)), [list(p.ids) for p in prompts]
    try:
        steps = _begin(kind, model, prompts, pad_id, inference, mixed)
        for t in range(4):
            got = steps.next_logits().float()
            inputs = [torch.tensor([written[r]], device=device) for r in rows]
            with inference():
                want = torch.stack([model(input_ids=x, use_cache=False).logits[0, -1] for x in inputs]).float()
            # float64 on the CPU: the log of the vocabulary would swallow the digits of small logits
            gap = (got.cpu().double().log_softmax(-1) - want.cpu().double().log_softmax(-1)).abs().max()
            if not bool(gap <= close * want.std(-1).mean().cpu()):
                return False
            if t == 1:
                steps.keep(torch.tensor([0, 2], device=device))
                rows = [rows[0], rows[2]]
            tokens = [(5 * t + 7 * r + 1) % vocabulary for r in rows]
            for r, token in zip(rows, tokens):
                written[r].append(token)
            steps.advance(torch.tensor(tokens, device=device))
    except (Unsupported, RuntimeError, ValueError, TypeError, AttributeError, LookupError):
        return False
    return True


class CachedSteps(Stepper):
    """With transformers' cache. Rows that ended are dropped from it once a quarter of the batch has ended."""

    @torch.no_grad()
    def __init__(self, model: Any, prompts: Sequence[Prompt], pad_id: int, inference: Inference) -> None:
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

    def next_logits(self) -> Tensor:
        return self.logits[self.live]

    @torch.no_grad()
    def keep(self, rows: Tensor) -> None:
        self.live = self.live[rows]
        if len(self.live) <= 0.75 * len(self.mask):
            self.cache.batch_select_indices(self.live)
            self.mask, self.next_position, self.logits = (
                x[self.live] for x in (self.mask, self.next_position, self.logits)
            )  # fmt: skip
            self.live = torch.arange(len(self.live), device=self.live.device)

    @torch.no_grad()
    def advance(self, tokens_B: Tensor) -> None:
        ids = torch.zeros((len(self.mask), 1), dtype=torch.long, device=self.mask.device)
        ids[self.live, 0] = tokens_B
        self.mask = torch.cat([self.mask, self.mask.new_ones((len(self.mask), 1))], 1)
        self.logits = self._forward(ids, self.next_position)
        self.next_position = self.next_position + 1


class WholeSteps(Stepper):
    """Without a cache: a full pass per token over every row, padded on the right. Slow, and right for any model."""

    def __init__(self, model: Any, prompts: Sequence[Prompt], pad_id: int, inference: Inference) -> None:
        self.model, self.pad_id, self.inference = model, pad_id, inference
        self.device = next(model.parameters()).device
        self.rows = [list(p.ids) for p in prompts]

    @torch.no_grad()
    def next_logits(self) -> Tensor:
        width = max(map(len, self.rows))
        ids = torch.tensor([row + [self.pad_id] * (width - len(row)) for row in self.rows], device=self.device)
        last = torch.tensor([len(row) - 1 for row in self.rows], device=self.device)
        with self.inference():
            logits = self.model(input_ids=ids, use_cache=False).logits
        return logits[torch.arange(len(last), device=self.device), last].float()

    def keep(self, rows: Tensor) -> None:
        self.rows = [self.rows[i] for i in rows.tolist()]

    def advance(self, tokens_B: Tensor) -> None:
        for row, token in zip(self.rows, tokens_B.tolist()):
            row.append(token)


class Cut(Stepper):
    """Decoding without the tokens beyond `vocabulary`."""

    def __init__(self, steps: Stepper, vocabulary: int) -> None:
        self.steps, self.vocabulary = steps, vocabulary

    def next_logits(self) -> Tensor:
        return self.steps.next_logits()[:, : self.vocabulary]

    def advance(self, tokens_B: Tensor) -> None:
        self.steps.advance(tokens_B)

    def keep(self, rows: Tensor) -> None:
        self.steps.keep(rows)
