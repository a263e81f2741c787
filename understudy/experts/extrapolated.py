"""Reward extrapolation: an expert's step away from the base, taken `factor` times (arXiv 2602.12125, eq. 8 and 9).

The target is base (expert / base)^factor, normalised at every token: factor 0 is the base, 1 the expert; beyond 1 the
student is pulled past the expert. Where the expert is the base after RL with a KL penalty, log expert - log base is the
reward over the penalty's coefficient plus a constant, so a factor above 1 is the optimum of a smaller penalty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from understudy.methods.divergences import extrapolated
from understudy.protocols import Expert, TableSignal
from understudy.types import Prompt, Rollout, Signal


class Extrapolated(Expert):
    """What target and weight read in the place of `expert`. It is not sampled: who acts is the expert itself."""

    def __init__(self, expert: Expert, base: Expert, factor: float) -> None:
        """base: with the vocabulary of the student. factor: at least 0."""
        self.expert, self.base, self.factor = expert, base, factor
        self.name, self.tokenizer, self.end_ids, self.vocabulary = (
            expert.name, expert.tokenizer, expert.end_ids, expert.vocabulary
        )  # fmt: skip
        self.capabilities = expert.capabilities & {"score", "distribution"}
        self.provenance, self.hint = expert.provenance, expert.hint

    def prompt_tokens(self, prompts: Sequence[Prompt]) -> int:
        return self.expert.prompt_tokens(prompts)

    def score(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        """log base + factor (log expert - log base) of the acted tokens, not normalised.

        The normaliser depends on the prefix alone: it has no gradient in expectation at gamma 0, and with gamma above 0
        it is left out as in the paper, whose target is normalised once per completion.
        """
        pairs = zip(self.expert.score(rollouts), self.base.score(rollouts))
        return [b + self.factor * (e.to(b) - b) for e, b in pairs]

    def spans(self, rollouts: Sequence[Rollout]) -> list[Tensor] | None:
        return self.expert.spans(rollouts)

    def distribution(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        pairs = zip(self.expert.distribution(rollouts), self.base.distribution(rollouts))
        return [extrapolated(e.to(b.device), b, self.factor) for e, b in pairs]

    def signal(self, packs: Sequence[Sequence[Rollout]]) -> Signal:
        return ExtrapolatedSignal(self.expert.signal(packs), self.base.signal(packs), self.factor)

    def apart(self, device: Any) -> bool:
        """No: the base is a model on the student's device."""
        return False


class ExtrapolatedSignal(Signal):
    """types.Signal from those of expert and base."""

    def __init__(self, expert: Signal, base: Signal, factor: float) -> None:
        self.expert, self.base, self.factor = expert, base, factor

    def taken(self, rows_M: Tensor) -> ExtrapolatedSignal:
        return ExtrapolatedSignal(self.expert.taken(rows_M), self.base.taken(rows_M), self.factor)

    def table(self, at: slice) -> Tensor:
        base_nV = self.base.table(at)
        return extrapolated(self.expert.table(at).to(base_nV.device), base_nV, self.factor)

    def at(self, ids_nK: Tensor, at: slice) -> Tensor:
        return TableSignal(self.table(at)).at(ids_nK, slice(None))

    def top_k(self, k: int, at: slice) -> tuple[Tensor, Tensor]:
        return TableSignal(self.table(at)).top_k(k, slice(None))
