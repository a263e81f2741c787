"""Draw completions step by step from any Stepper.

One uniform number per token, by inverse CDF, named by (seed, prompt key, sample index): a completion does not depend on
the batch it was drawn in (up to rounding of the logits themselves). Nothing waits for a GPU but a look every few tokens
at which rows have ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from understudy import running
from understudy.protocols import Stepper
from understudy.randomness import uniforms
from understudy.types import Prompt, Rollout

ROWS = 512  # at most so many rows are decoded together
TOKENS = 2**18  # at most so many tokens, prompts and room for completions: bounds the cache of long ones
CPU_LOGITS, DEVICE_LOGITS = 2**24, 2**28  # at most so many logits of one step
LOOK = 16  # tokens between two looks at which rows have ended, where a look waits for the device
BLOCK = 512  # tokens of one block of the two-level inverse CDF

Start = Callable[[Sequence[Prompt]], Stepper]
"""Begins to decode: one row per prompt."""


def transform(logits_BV: Tensor, temperature: float, top_p: float) -> Tensor:
    """What is sampled from: with temperature, cut to the nucleus, renormalised; unchanged where there is neither."""
    if temperature != 1:
        logits_BV = (logits_BV / temperature).log_softmax(-1)
    if top_p < 1:
        ordered, index = logits_BV.log_softmax(-1).sort(-1, descending=True)
        # mass strictly before a token: the first always stays
        before = ordered.exp().cumsum(-1) - ordered.exp()
        ordered = ordered.masked_fill(before >= top_p, -torch.inf)
        logits_BV = torch.empty_like(ordered).scatter_(-1, index, ordered).log_softmax(-1)
    return logits_BV


def pick(logits_BV: Tensor, u_B: Tensor | None) -> tuple[Tensor, Tensor]:
    """(tokens, their log-probs), (B,) each: by inverse CDF at u (float64, in [0, 1)); None = the most likely tokens.

    The token is the first whose cumulative probability exceeds u, never one of probability zero. Exact up to the
    rounding of float32 exponentials: first a block by the sums of blocks, then the token inside it.
    """
    if logits_BV.device.type == "mps":  # it has no float64
        tokens_B, logp_B = pick(logits_BV.cpu(), None if u_B is None else u_B.cpu())
        return tokens_B.to(logits_BV.device), logp_B.to(logits_BV.device)
    rows, vocabulary = logits_BV.shape
    if u_B is None:
        tokens_B = logits_BV.argmax(-1)
        taken = logits_BV.gather(-1, tokens_B.unsqueeze(-1)).squeeze(-1)
        return tokens_B, taken - logits_BV.logsumexp(-1)
    top_B1 = logits_BV.amax(-1, keepdim=True)
    if vocabulary <= 2 * BLOCK:
        weight_BV = (logits_BV - top_B1).exp_()
        cdf = weight_BV.double().cumsum(-1)
        tokens_B = _first_above(cdf, u_B * cdf[:, -1])
        total = cdf[:, -1]
    else:
        blocks = -(-vocabulary // BLOCK)
        weight_BV = logits_BV.new_empty(rows, blocks * BLOCK)
        weight_BV[:, vocabulary:] = 0
        torch.sub(logits_BV, top_B1, out=weight_BV[:, :vocabulary]).exp_()
        weight = weight_BV.view(rows, blocks, BLOCK)
        sums = weight.sum(-1).double()
        cdf = sums.cumsum(-1)
        total = cdf[:, -1]
        target_B = u_B * total
        block_B = _first_above(cdf, target_B)
        at = block_B.unsqueeze(-1)
        below, inside = cdf.gather(-1, at) - sums.gather(-1, at), sums.gather(-1, at)
        cdf = weight[torch.arange(rows, device=at.device), block_B].double().cumsum(-1)
        share = ((target_B.unsqueeze(-1) - below) / inside).clamp_(0, 1)  # of the block's mass that lies below u
        tokens_B = block_B * BLOCK + _first_above(cdf, (share * cdf[:, -1:]).squeeze(-1))
    taken = (logits_BV.gather(-1, tokens_B.unsqueeze(-1)) - top_B1).squeeze(-1)
    return tokens_B, taken - total.log().to(taken.dtype)


def _first_above(cdf: Tensor, target_B: Tensor) -> Tensor:
    """First column whose value exceeds the target; at most the first that reaches the last value."""
    found = torch.searchsorted(cdf, target_B.unsqueeze(-1), right=True)
    return torch.minimum(found, torch.searchsorted(cdf, cdf[:, -1:].contiguous())).squeeze(-1)


def inverse_cdf(logits_BV: Tensor, u_B: np.ndarray) -> Tensor:
    """The tokens of `pick`."""
    return pick(logits_BV, torch.as_tensor(u_B, dtype=torch.float64).to(logits_BV.device))[0]


class Mixture(Stepper):
    """Per token, the first policy with probability `share`, else the second; next_logits is the mixture's."""

    def __init__(self, first: Stepper, second: Stepper, share: float) -> None:
        self.parts, self.share = (first, second), share

    def next_logits(self) -> Tensor:
        a, b = (part.next_logits() for part in self.parts)
        if self.share <= 0:
            return b
        if self.share >= 1:
            return a
        a, b = a.to(b.device).log_softmax(-1), b.log_softmax(-1)
        return torch.logaddexp(a + float(np.log(self.share)), b + float(np.log1p(-self.share)))

    def advance(self, tokens_B: Tensor) -> None:
        for part in self.parts:
            part.advance(tokens_B)

    def keep(self, rows: Tensor) -> None:
        for part in self.parts:
            part.keep(rows)


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
    vocabulary: int = 0,
    device: str = "cpu",
) -> list[Rollout]:
    """`samples` completions of every prompt, prompt-major. `greedy` takes the most likely token instead.

    vocabulary: its size, to bound the memory of a step's logits; 0 = small. device: the kind that computes them.
    """
    names = [(p, s) for p in prompts for s in range(samples)]
    # neighbours of similar prompt length share a batch, so little is padded
    order = sorted(range(len(names)), key=lambda i: len(names[i][0].ids))
    done: dict[int, tuple[list[int], list[float], bool]] = {}
    size = rows_together(max((len(p.ids) for p in prompts), default=0) + max_new_tokens, vocabulary, device)
    for at in range(0, len(order), size):
        rows = order[at : at + size]
        u = None
        if not greedy:
            u = np.stack([uniforms(seed, names[i][0].key, names[i][1], max_new_tokens) for i in rows])
        steps = start([names[i][0] for i in rows])
        report = _reporter(at, len(rows), len(order), size, max_new_tokens)
        drawn = _draw_rows(steps, u, len(rows), end_ids, max_new_tokens, temperature, top_p, report)
        done.update(zip(rows, drawn))
    texts = decode([done[i][0] for i in range(len(names))])
    return [
        Rollout(p, s, tuple(done[i][0]), tuple(done[i][1]), done[i][2], texts[i], actor)
        for i, (p, s) in enumerate(names)
    ]


def _reporter(before: int, rows: int, total: int, size: int, room: int) -> Callable[[int, int], None]:
    """What _draw_rows calls before each token with (its number, rows that go on): see running.report.

    The rows that are left take at most the room of their completions, at the pace so far.
    """
    began, batches = time.perf_counter(), -(-(total - before - rows) // size)

    def report(t: int, going: int) -> None:
        if not t:
            return running.check()
        pace = (time.perf_counter() - began) / t
        running.report(before + rows - going, total, pace * (room - t + batches * room))

    return report


def rows_together(longest: int, vocabulary: int = 0, device: str = "cpu") -> int:
    """How many rows of this many tokens are decoded together on this kind of device."""
    logits = CPU_LOGITS if device == "cpu" else DEVICE_LOGITS
    return max(1, min(ROWS, TOKENS // max(1, longest), logits // max(1, vocabulary)))


def _draw_rows(
    steps: Stepper, u: np.ndarray | None, rows: int, end_ids: Sequence[int], max_new_tokens: int, temperature: float,
    top_p: float, report: Callable[[int, int], None] = lambda t, going: None,
) -> list[tuple[list[int], list[float], bool]]:  # fmt: skip
    """Per row (tokens, log-probs, whether it ended). Between two looks, rows that have ended go on; that is cut off."""
    live = np.arange(rows)
    parts: list[tuple[np.ndarray, list[Tensor], list[Tensor]]] = []  # (live rows, tokens, log-probs) between two looks
    u_BT = ends = has_ended = None
    look = 1
    for t in range(max_new_tokens):
        report(t, len(live))
        logits_BV = transform(steps.next_logits(), temperature, top_p)
        if has_ended is None or ends is None:
            device = logits_BV.device
            look = 1 if device.type == "cpu" else LOOK
            ends = torch.tensor(sorted(set(end_ids)), device=device)
            has_ended = torch.zeros(rows, dtype=torch.bool, device=device)
            u_BT = None if u is None else torch.from_numpy(u).to("cpu" if device.type == "mps" else device)
        if not parts or len(parts[-1][1]) == look:
            parts.append((live, [], []))
        tokens_B, logp_B = pick(logits_BV, None if u_BT is None else u_BT[:, t])
        parts[-1][1].append(tokens_B)
        parts[-1][2].append(logp_B)
        has_ended = has_ended | torch.isin(tokens_B, ends)
        if t + 1 == max_new_tokens:
            break
        if len(parts[-1][1]) == look:
            going = (~has_ended).cpu().numpy()
            if not going.any():
                break
            if not going.all():
                kept = torch.from_numpy(going.nonzero()[0]).to(logits_BV.device)
                steps.keep(kept)
                live, tokens_B, has_ended = live[going], tokens_B[kept], has_ended[kept]
                u_BT = None if u_BT is None else u_BT[kept.to(u_BT.device)]
        steps.advance(tokens_B)
    return _rows_of(parts, rows, set(end_ids))


def _rows_of(
    parts: Sequence[tuple[np.ndarray, list[Tensor], list[Tensor]]], rows: int, ends: set[int]
) -> list[tuple[list[int], list[float], bool]]:
    ids: list[list[int]] = [[] for _ in range(rows)]
    logps: list[list[float]] = [[] for _ in range(rows)]
    for live, tokens, values in parts:
        for row, i, x in zip(live.tolist(), torch.stack(tokens, 1).tolist(), torch.stack(values, 1).float().tolist()):
            ids[row] += i
            logps[row] += x
    out = []
    for i, x in zip(ids, logps):
        end = next((at for at, token in enumerate(i, 1) if token in ends), 0)
        out.append((i[:end] if end else i, x[:end] if end else x, bool(end)))
    return out
