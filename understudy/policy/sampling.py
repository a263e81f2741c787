"""Draw completions step by step from any Stepper.

One uniform number per token, by inverse CDF, named by (seed, prompt key, sample index): a completion does not depend on
the batch it was drawn in (up to rounding of the logits themselves).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from understudy.protocols import Stepper
from understudy.randomness import uniforms
from understudy.types import Prompt, Rollout

ROWS = 512  # at most so many rows are decoded together
TOKENS = 2**18  # at most so many tokens, prompts and room for completions: bounds the cache of long ones

Start = Callable[[Sequence[Prompt]], Stepper]
"""Begins to decode: one row per prompt."""


def transform(logp_BV: Tensor, temperature: float, top_p: float) -> Tensor:
    """The log-probs that are sampled from: with temperature, cut to the nucleus, renormalised."""
    if temperature != 1:
        logp_BV = (logp_BV / temperature).log_softmax(-1)
    if top_p < 1:
        ordered, index = logp_BV.sort(-1, descending=True)
        # mass strictly before a token: the first always stays
        before = ordered.exp().cumsum(-1) - ordered.exp()
        ordered = ordered.masked_fill(before >= top_p, -torch.inf)
        logp_BV = torch.empty_like(logp_BV).scatter_(-1, index, ordered).log_softmax(-1)
    return logp_BV


def inverse_cdf(logp_BV: Tensor, u_B: np.ndarray) -> Tensor:
    """Token whose cumulative probability first exceeds u; never one of probability zero."""
    if logp_BV.device.type == "mps":  # it has no float64
        return inverse_cdf(logp_BV.cpu(), u_B).to(logp_BV.device)
    cdf = logp_BV.double().exp().cumsum(-1)
    u = torch.as_tensor(u_B, dtype=torch.float64, device=logp_BV.device).unsqueeze(-1) * cdf[:, -1:]
    return torch.searchsorted(cdf, u, right=True).squeeze(-1).clamp_max(logp_BV.shape[-1] - 1)


class Mixture(Stepper):
    """Per token, the first policy with probability `share`, else the second; next_logp is the mixture's."""

    def __init__(self, first: Stepper, second: Stepper, share: float) -> None:
        self.parts, self.share = (first, second), share

    def next_logp(self) -> Tensor:
        a, b = (part.next_logp() for part in self.parts)
        if self.share <= 0:
            return b
        if self.share >= 1:
            return a
        return torch.logaddexp(a + float(np.log(self.share)), b + float(np.log1p(-self.share)))

    def advance(self, tokens_B: Tensor, keep_B: Tensor) -> None:
        for part in self.parts:
            part.advance(tokens_B, keep_B)


def draw(
    start: Start,
    decode: Callable[[Sequence[Sequence[int]]], list[str]],
    end_ids: Sequence[int],
    prompts: Sequence[Prompt],
    samples: int,
    seed: int,
    max_new_tokens: int,
    actor: str,
    temperature: float = 1.0,
    top_p: float = 1.0,
    greedy: bool = False,
) -> list[Rollout]:
    """`samples` completions of every prompt, prompt-major. `greedy` takes the most likely token instead."""
    names = [(p, s) for p in prompts for s in range(samples)]
    # neighbours of similar prompt length share a batch, so little is padded
    order = sorted(range(len(names)), key=lambda i: len(names[i][0].ids))
    done: dict[int, tuple[list[int], list[float], bool]] = {}
    size = rows_together(max((len(p.ids) for p in prompts), default=0) + max_new_tokens)
    for at in range(0, len(order), size):
        rows = order[at : at + size]
        _draw_rows(
            start([names[i][0] for i in rows]),
            rows,
            None if greedy else np.stack([uniforms(seed, names[i][0].key, names[i][1], max_new_tokens) for i in rows]),
            set(end_ids),
            max_new_tokens,
            temperature,
            top_p,
            done,
        )
    texts = decode([done[i][0] for i in range(len(names))])
    return [
        Rollout(p, s, tuple(done[i][0]), tuple(done[i][1]), done[i][2], texts[i], actor)
        for i, (p, s) in enumerate(names)
    ]


def rows_together(longest: int) -> int:
    """How many rows of this many tokens are decoded together."""
    return max(1, min(ROWS, TOKENS // max(1, longest)))


def _draw_rows(
    steps: Stepper,
    rows: list[int],
    u: np.ndarray | None,
    ends: set[int],
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    done: dict[int, tuple[list[int], list[float], bool]],
) -> None:
    live = np.arange(len(rows))
    ids: list[np.ndarray] = []
    logps: list[np.ndarray] = []
    alive: list[np.ndarray] = []
    ended = np.zeros(len(rows), dtype=bool)
    end_array = np.array(sorted(ends))
    for t in range(max_new_tokens):
        logp_BV = transform(steps.next_logp(), temperature, top_p)
        tokens_B = logp_BV.argmax(-1) if u is None else inverse_cdf(logp_BV, u[live, t])
        taken = logp_BV.gather(-1, tokens_B.unsqueeze(-1)).squeeze(-1)
        chosen = tokens_B.cpu().numpy()
        ids.append(chosen)
        logps.append(taken.float().cpu().numpy())
        alive.append(live)
        stop = np.isin(chosen, end_array)
        ended[live[stop]] = True
        keep = ~stop
        if t + 1 == max_new_tokens or not keep.any():
            break
        steps.advance(tokens_B, torch.as_tensor(keep, device=tokens_B.device))
        live = live[keep]
    out_ids: list[list[int]] = [[] for _ in rows]
    out_logp: list[list[float]] = [[] for _ in rows]
    for tokens, values, where in zip(ids, logps, alive):
        for row, token, value in zip(where.tolist(), tokens.tolist(), values.tolist()):
            out_ids[row].append(token)
            out_logp[row].append(value)
    for j, row in enumerate(rows):
        done[row] = (out_ids[j], out_logp[j], bool(ended[j]))
