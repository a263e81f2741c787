"""Teacher-forcing inputs: prompts and completions of several rollouts in one padded block.

Layout: prompts on the left side of the seam (padded on the left), completions on the right of it (padded on the
right). Position ids count real tokens only, so padding never shifts a position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from understudy.types import Rollout


@dataclass(frozen=True)
class Padded:
    """Teacher-forcing inputs of some rollouts, and where their completion tokens are."""

    input_ids_BS: Tensor
    attention_mask_BS: Tensor
    position_ids_BS: Tensor
    completion_mask_BT: Tensor
    action_ids_N: Tensor
    row_N: Tensor


def pad(rollouts: Sequence[Rollout], pad_id: int, device: torch.device | str = "cpu") -> Padded:
    """Left-padded prompts and right-padded completions; masks from lengths alone."""
    b = len(rollouts)
    before = max(len(r.prompt.ids) for r in rollouts)
    after = max(len(r.ids) for r in rollouts)
    ids = torch.full((b, before + after), pad_id, dtype=torch.long)
    mask = torch.zeros((b, before + after), dtype=torch.bool)
    for i, r in enumerate(rollouts):
        start = before - len(r.prompt.ids)
        stop = before + len(r.ids)
        ids[i, start:stop] = torch.tensor(r.prompt.ids + r.ids)
        mask[i, start:stop] = True
    completion = mask[:, before:]
    rows, columns = completion.nonzero(as_tuple=True)
    return Padded(
        ids.to(device),
        mask.long().to(device),
        (mask.long().cumsum(1) - 1).clamp_min(0).to(device),
        completion.to(device),
        ids[rows, before + columns].to(device),
        rows.to(device),
    )
