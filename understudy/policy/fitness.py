"""Whether a model that transformers can load can be a policy: tried with a few tokens, before anything is trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from understudy.errors import UserError
from understudy.policy.padding import PACK_COLUMNS, pad
from understudy.types import Prompt, Rollout

CLOSE, CLOSE_HALF = 2e-3, 0.5
"""Largest difference of two passes over the same tokens, in units of the logits' spread: rounding, or experts that
change with it in half precision."""

LIMITS = ("window", "chunk", "local", "topk", "budget")
"""Parts of the names that configurations give to the number of tokens a layer attends to."""


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
    if any("hash" in part for part in model.config.to_dict()):  # random buckets: seen from two chunks on
        ids = [[(7 * i + 3) % rows for i in range(2 * window(model.config) + 2)]]
        if not torch.equal(_logits(model, ids), _logits(model, ids)):
            hint = f"{type(model).__name__} gives the same tokens other scores at every pass (random hashes)"
            raise UserError(field, name, hint)


@torch.no_grad()
def packs(policy: Any) -> bool:
    """Whether completions of one prompt may share a row (padding.py): what the model says of each is what it says of a
    row of its own, also where the prompt is longer than its windows. A mask of ours replaces that of a window."""
    n = min(window(policy.model.config) + 4, policy.context - 8 if policy.context else PACK_COLUMNS)
    ids = [(7 * i + 5) % policy.vocabulary for i in range(max(n, 4) + 8)]
    prompt = Prompt("", "", ids=tuple(ids[:-8]))
    rows = [Rollout(prompt, i, tuple(ids[-i:]), (0.0,) * i, False, "", "") for i in (7, 5)]
    try:
        with policy.inference():
            together, apart = (
                policy.hidden(pad(p, policy.pad_id, policy.device)) for p in ([rows], [[r] for r in rows])
            )
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError):
        return False
    close = 1e-4 if together.dtype in (torch.float32, torch.float64) and not policy.mixed else 3e-2
    return bool((together - apart).abs().max() <= close * apart.abs().max())


def window(config: Any) -> int:
    """The largest number in a configuration that may be how many tokens a layer looks back or chooses, of those that a
    pack can be longer than; 0: none."""
    fields = config.get_text_config().to_dict().items()
    sizes = (v for n, v in fields if isinstance(v, int) and any(word in n for word in LIMITS))
    return max((size for size in sizes if 0 < size < PACK_COLUMNS), default=0)


def _logits(model: Any, rows: list[list[int]]) -> Tensor:
    device = next(model.parameters()).device
    logits: Tensor = model(input_ids=torch.tensor(rows, device=device), use_cache=False).logits
    return logits
