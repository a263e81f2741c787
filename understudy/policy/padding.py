"""Teacher-forcing inputs: prompts and completions of several rollouts in one padded block.

A row of the block is a prompt and one completion, padded on the right: a causal model then needs no mask. Or it is a
prompt and several of its completions one after the other (a pack): each sees the prompt and itself, at the positions
that it has on its own, so the prompt is computed once. Both give the same states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from understudy.types import Rollout

T = TypeVar("T")

PACK_COLUMNS = 2048  # longest pack: its mask has columns squared entries
PACK_SAVES = 0.2  # smallest share of the tokens that a pack must save: masked attention costs more than causal


@dataclass(frozen=True)
class Padded:
    """Teacher-forcing inputs of some rollouts, and where their N completion tokens are (rollout by rollout)."""

    input_ids_BS: Tensor
    attention_mask: Tensor | None
    """None: causal. Or (B, 1, S, S), True where a column (third) sees a column (fourth)."""
    position_ids_BS: Tensor
    place_N: Tensor
    """Index into (B * S,) of the state that predicts each completion token."""
    action_ids_N: Tensor
    row_N: Tensor
    """Which rollout each completion token belongs to."""


def pad(packs: Sequence[Sequence[Rollout]], pad_id: int, device: torch.device | str = "cpu") -> Padded:
    """One row per pack: rollouts of one prompt. Lengths alone say what is padding, never a comparison of ids."""
    width = max(_width(pack) for pack in packs)
    ids = torch.full((len(packs), width), pad_id, dtype=torch.long)
    positions = torch.arange(width).repeat(len(packs), 1)
    places: list[Tensor] = []
    for i, pack in enumerate(packs):
        prompt, at = pack[0].prompt.ids, len(pack[0].prompt.ids)
        ids[i, : len(prompt)] = torch.tensor(prompt)
        for r in pack:
            end = at + len(r.ids)
            ids[i, at:end] = torch.tensor(r.ids)
            positions[i, at:end] = torch.arange(len(prompt), len(prompt) + len(r.ids))
            place = torch.arange(at - 1, end - 1)
            place[0] = len(prompt) - 1
            places.append(place + i * width)
            at = end
    rollouts = [r for pack in packs for r in pack]
    lengths = torch.tensor([len(r.ids) for r in rollouts])
    return Padded(
        ids.to(device),
        _mask(packs, width).to(device) if any(len(pack) > 1 for pack in packs) else None,
        positions.to(device),
        torch.cat(places).to(device),
        torch.tensor([i for r in rollouts for i in r.ids]).to(device),
        torch.arange(len(rollouts)).repeat_interleave(lengths).to(device),
    )


def _mask(packs: Sequence[Sequence[Rollout]], width: int) -> Tensor:
    """(B, 1, S, S) bool. A padding column sees itself: a softmax over nothing is no number."""
    part = torch.full((len(packs), width), -1)  # 0 = prompt, i = its i-th completion, -1 = padding
    for i, pack in enumerate(packs):
        at = len(pack[0].prompt.ids)
        part[i, :at] = 0
        for j, r in enumerate(pack, 1):
            part[i, at : at + len(r.ids)] = j
            at += len(r.ids)
    from_, to = part.unsqueeze(2), part.unsqueeze(1)
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    return (((from_ == to) | ((to == 0) & (from_ > 0))) & causal).unsqueeze(1)


def split(
    items: Sequence[T], rollout: Callable[[T], Rollout], rows: int = 0, tokens: int = 0, pack: bool = False
) -> list[list[list[T]]]:
    """Batches of packs: rows of similar length together, at most `rows` rollouts and `tokens` padded tokens in each.

    0 = no limit; a row longer than `tokens` is a batch of its own. Without `pack` every pack is one rollout.
    """
    batches: list[list[list[T]]] = []
    widest = held = 0
    for group in sorted(_packs(items, rollout, rows, tokens, pack), key=lambda g: _width([rollout(x) for x in g])):
        width = _width([rollout(x) for x in group])
        wide = max(widest, width)
        many, large = held + len(group) > rows > 0, batches and (len(batches[-1]) + 1) * wide > tokens > 0
        if not batches or many or large:
            batches.append([])
            wide, held = width, 0
        batches[-1].append(group)
        widest, held = wide, held + len(group)
    return batches


def _packs(
    items: Sequence[T], rollout: Callable[[T], Rollout], rows: int, tokens: int, pack: bool
) -> list[list[T]]:  # fmt: skip
    """Neighbours of one prompt, where that saves enough."""
    limit = min(tokens or PACK_COLUMNS, PACK_COLUMNS)
    groups: list[list[T]] = []
    width = 0
    for x in items:
        r = rollout(x)
        fits = (
            pack
            and groups
            and rollout(groups[-1][-1]).prompt.ids == r.prompt.ids
            and width + len(r.ids) <= limit
            and not len(groups[-1]) >= rows > 0
            and len(r.prompt.ids) >= PACK_SAVES * (len(r.prompt.ids) + len(r.ids))
        )
        if fits:
            groups[-1].append(x)
            width += len(r.ids)
        else:
            groups.append([x])
            width = len(r.prompt.ids) + len(r.ids)
    return groups


def _width(pack: Sequence[Rollout]) -> int:
    return len(pack[0].prompt.ids) + sum(len(r.ids) for r in pack)
