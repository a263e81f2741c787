"""Takeover: the student begins a completion, the expert or the student goes on. Does the expert help from there?

The student's own completions are cut at 25, 50 and 75% of their tokens, and the expert continues each to its end,
within the same number of tokens. The student continues the same prefixes with the same random numbers: the two are
paired, and what a prefix itself contributes (one of a completion that was going to be long, say) is in both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from understudy.policy.sampling import draw
from understudy.protocols import Stepper
from understudy.types import Prompt, Rollout

DEPTHS = (25, 50, 75)
"""Percent of the student's tokens that are kept."""


class Forced(Stepper):
    """A Stepper whose rows first repeat given prefixes, and only then draw from the policy inside."""

    def __init__(self, inside: Stepper, prefixes: Sequence[Sequence[int]]) -> None:
        self.inside, self.rows, self.at = inside, [tuple(p) for p in prefixes], 0

    def next_logits(self) -> Tensor:
        logp_BV = self.inside.next_logits()
        forced = [(i, p[self.at]) for i, p in enumerate(self.rows) if self.at < len(p)]
        if forced:
            logp_BV = logp_BV.clone()
            rows, tokens = (list(x) for x in zip(*forced))
            logp_BV[rows] = -torch.inf
            logp_BV[rows, tokens] = 0.0
        return logp_BV

    def advance(self, tokens_B: Tensor) -> None:
        self.inside.advance(tokens_B)
        self.at += 1

    def keep(self, rows: Tensor) -> None:
        self.inside.keep(rows)
        self.rows = [self.rows[i] for i in rows.tolist()]


def cut(rollout: Rollout, depth: int) -> tuple[int, ...]:
    """The first `depth` percent of a completion's tokens, without its end token."""
    tokens = rollout.ids[:-1] if rollout.ended else rollout.ids
    return tokens[: len(rollout.ids) * depth // 100]


def continued(
    start: Callable[[Sequence[Prompt]], Stepper],
    decode: Callable[[Sequence[Sequence[int]]], list[str]],
    end_ids: Sequence[int],
    rollouts: Sequence[Rollout],
    depth: int,
    seed: int,
    max_new_tokens: int,
    actor: str,
) -> list[Rollout]:
    """One completion per rollout: its first `depth` percent, then draws from the policy that `start` begins.

    The random numbers are named by (seed, prompt, sample, depth), the same for every actor.
    """
    prompts = [dataclasses.replace(r.prompt, key=f"{r.prompt.key}/{r.sample}/cut-{depth}") for r in rollouts]
    prefixes = {p.key: cut(r, depth) for p, r in zip(prompts, rollouts)}

    def begin(batch: Sequence[Prompt]) -> Forced:
        return Forced(start(batch), [prefixes[p.key] for p in batch])

    return draw(begin, decode, end_ids, prompts, 1, seed, max_new_tokens, actor)
