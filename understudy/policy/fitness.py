"""Whether a model that transformers can load can be a policy: tried with a few tokens, before anything is trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from understudy.errors import UserError

CLOSE, CLOSE_HALF = 2e-3, 0.5
"""Largest difference of two passes over the same tokens, in units of the logits' spread: rounding, or experts that
change with it in half precision."""


@torch.no_grad()
def check_policy(model: Any, tokenizer: Any, field: str, name: str) -> None:
    """UserError for a model that cannot be sampled and scored from token ids alone: it has no head, it needs other
    inputs, or what it says of a token changes with the tokens behind it."""
    try:
        rows = int(model.get_output_embeddings().weight.shape[0])
    except (AttributeError, NotImplementedError, TypeError):
        hint = f"{type(model).__name__} has no output layer with a row per token: it cannot be sampled here"
        raise UserError(field, name, hint) from None
    short, long = ([(7 * i + 3) % rows for i in range(n)] for n in (4, 7))
    try:
        apart = [_logits(model, [ids])[0] for ids in (short, long)]
        together = _logits(model, [short + [5 % rows] * 3, long])
    except Exception as error:  # a model's code can raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        hint = f"{type(model).__name__} cannot compute a pass over token ids alone ({reason})"
        raise UserError(field, name, hint) from None
    if apart[0].shape != (len(short), rows):
        hint = f"{type(model).__name__} gives no distribution over {rows} tokens per position: it is no language model"
        raise UserError(field, name, hint)
    close = CLOSE if apart[0].dtype == torch.float32 else CLOSE_HALF
    for want, got in zip(apart, together):
        gap = (got[: len(want)].float() - want.float()).abs().max()
        if not bool(gap <= close * want.float().std(-1).mean()):
            hint = f"{type(model).__name__} is not causal as it is configured: what it says of a token changes with "
            hint += "the tokens behind it"
            if getattr(model.config, "is_decoder", True) is False:
                hint += " (config.json: is_decoder is false)"
            raise UserError(field, name, hint)


def _logits(model: Any, rows: list[list[int]]) -> Tensor:
    device = next(model.parameters()).device
    logits: Tensor = model(input_ids=torch.tensor(rows, device=device), use_cache=False).logits
    return logits
