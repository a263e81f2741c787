"""An expert that is a program: a cursor walks a completion and gives the next token's distribution; the rest is here.

The next token's distribution is (1 - smoothing) structured + smoothing / vocabulary; `structured` is the cursor's. So
any prefix is scored exactly, a student's too, and samples are drawn from what is scored.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from math import inf, log
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from understudy.errors import UserError
from understudy.experts.programs.search_tree import Next
from understudy.methods.kernel import chunks
from understudy.policy.tokens import shown
from understudy.protocols import Expert, Stepper
from understudy.randomness import uniforms
from understudy.specs import Spec, build
from understudy.types import Prompt, Rollout, Signal

C = TypeVar("C")


def preset(spec: Spec, presets: Mapping[str, Mapping[str, Any]], config: type[C]) -> C:
    """The options of a named preset, changed by those of `spec`. UserError: unknown name or option."""
    if spec.name not in presets:
        raise UserError("expert", spec.text, f"unknown; one of {', '.join(presets)}, or a model directory")
    return build(config, {**presets[spec.name], **spec.args}, "expert")


class Cursor(Protocol):
    """A position in a completion."""

    def next(self) -> Next:
        """Structured distribution of the next token."""
        ...

    def push(self, token: int) -> None:
        """Advance by any token."""
        ...


class ProgramExpert(Expert):
    """Samples and scores by a cursor. One instance serves any number of prompts, on the CPU.

    smoothing: share of the uniform distribution in every token's; with 0 it can only be sampled.
    vocabulary: size of the score vectors; 0 = the tokenizer's.
    """

    def __init__(self, tokenizer: Any, name: str, smoothing: float, vocabulary: int = 0) -> None:
        self.tokenizer, self.name = tokenizer, name
        if tokenizer.eos_token_id is None:
            raise UserError("expert", name, "needs a tokenizer with an end token: set its eos_token")
        self.end = int(tokenizer.eos_token_id)
        self.end_ids = (self.end,)
        self.vocabulary = vocabulary or len(tokenizer)
        if self.vocabulary < len(tokenizer):
            hint = f"the tokenizer has {len(tokenizer)} tokens: give at least that"
            raise UserError("expert.vocabulary", vocabulary, hint)
        self.smoothing = smoothing
        self._keep, self._floor = 1 - smoothing, smoothing / self.vocabulary
        # without smoothing, what the process never writes scores -inf, which nothing can train on
        self.capabilities = frozenset({"sample", "score", "distribution"} if smoothing else {"sample"})

    @abstractmethod
    def walk(self, prompt: Prompt) -> Cursor:
        """A cursor at the beginning of a completion of `prompt`."""

    def start(self, prompts: Sequence[Prompt]) -> ProgramSteps:
        return ProgramSteps(self, [self.walk(p) for p in prompts])

    def sample(self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int) -> list[Rollout]:
        """Draws from exactly `distribution`, token by token by inverse CDF."""
        drawn, end = [], self.end
        for prompt in prompts:
            for s in range(samples):
                ids: list[int] = []
                logps: list[float] = []
                walk = self.walk(prompt)
                for u in uniforms(seed, prompt.key, s, max_new_tokens).tolist():
                    token, p = self._draw(*walk.next(), u)
                    ids.append(token)
                    logps.append(log(p))
                    if token == end:
                        break
                    walk.push(token)
                drawn.append((prompt, s, ids, logps))
        texts = shown(self.tokenizer, self.end_ids, [ids for _, _, ids, _ in drawn])
        return [
            Rollout(prompt, s, tuple(ids), tuple(logps), ids[-1] == end, text, "expert")
            for (prompt, s, ids, logps), text in zip(drawn, texts)
        ]

    def score(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        out = []
        for rollout in rollouts:
            walk, logps = self.walk(rollout.prompt), []
            for token in rollout.ids:
                tokens, probs = walk.next()
                p = self._floor + (self._keep * probs[tokens.index(token)] if token in tokens else 0.0)
                logps.append(log(p) if p > 0 else -inf)
                walk.push(token)
            out.append(torch.tensor(logps, dtype=torch.float32))
        return out

    def distribution(self, rollouts: Sequence[Rollout]) -> list[Tensor]:
        return list(self.dense(self._steps(rollouts)).split([len(r.ids) for r in rollouts]))

    def _steps(self, rollouts: Sequence[Rollout]) -> list[Next]:
        steps = []
        for rollout in rollouts:
            walk = self.walk(rollout.prompt)
            for token in rollout.ids:
                steps.append(walk.next())
                walk.push(token)
        return steps

    def signal(self, packs: Sequence[Sequence[Rollout]]) -> Signal:
        return ProgramSignal(self, self._steps([r for pack in packs for r in pack]))

    def keep_bytes(self, top_k: int = 0) -> int:
        return 8 * self.vocabulary

    def keep(self, rollouts: Sequence[Rollout], top_k: int = 0) -> list[dict[str, Tensor]]:
        """The structured tokens; all others have one probability."""
        steps = self._steps(rollouts)
        most = max(len(tokens) for tokens, _ in steps)
        best = [self.dense(steps[at]).topk(min(most, self.vocabulary), -1) for at in chunks(len(steps), 4096)]
        kept = {
            "top_ids": torch.cat([b.indices for b in best]).int(), "top_logp": torch.cat([b.values for b in best]),
            "rest_logp": torch.full((len(steps),), log(self._floor)),
        }  # fmt: skip
        lengths = [len(r.ids) for r in rollouts]
        return [dict(zip(kept, parts)) for parts in zip(*(tensor.split(lengths) for tensor in kept.values()))]

    def dense(self, steps: Sequence[Next]) -> Tensor:
        """(N, V) float32 log-probs of the smoothed distributions; `steps` are N structured ones."""
        counts = [len(tokens) for tokens, _ in steps]
        probs = np.array([p for _, ps in steps for p in ps])
        with np.errstate(divide="ignore"):
            logp_NV = np.full((len(steps), self.vocabulary), np.log(self._floor), dtype=np.float32)
            filled = np.log(self._keep * probs + self._floor)
        logp_NV[np.repeat(np.arange(len(steps)), counts), [t for ts, _ in steps for t in ts]] = filled
        return torch.from_numpy(logp_NV)

    def _draw(self, tokens: tuple[int, ...], probs: tuple[float, ...], u: float) -> tuple[int, float]:
        """The token at `u` of the smoothed distribution's cumulative sum, and its probability."""
        keep, floor, below = self._keep, self._floor, 0.0  # below: structured mass of smaller ids
        for token, p in zip(tokens, probs):
            if u < keep * below + floor * token:
                return min(token - 1, int((u - keep * below) / floor)), floor
            if u < keep * (below + p) + floor * (token + 1):
                return token, keep * p + floor
            below += p
        if floor == 0.0:  # u fell into the rounding of the last sum
            return tokens[-1], probs[-1]
        return min(self.vocabulary - 1, int((u - keep * below) / floor)), floor

    def single(self, text: str) -> int:
        """The id of a text that is one token. UserError: it is more."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise UserError("expert", self.name, f"needs a tokenizer in which {text!r} is one token, not {len(ids)}")
        return int(ids[0])


class ProgramSignal(Signal):
    """types.Signal: the structured distributions of N tokens, dense for a slice at a time."""

    def __init__(self, expert: ProgramExpert, steps: Sequence[Next]) -> None:
        self._expert, self._steps = expert, steps

    def taken(self, rows_M: Tensor) -> ProgramSignal:
        return ProgramSignal(self._expert, [self._steps[i] for i in rows_M.tolist()])

    def table(self, at: slice) -> Tensor:
        return self._expert.dense(self._steps[at])

    def at(self, ids_nK: Tensor, at: slice) -> Tensor:
        table_nV = self.table(at)
        return table_nV.gather(-1, ids_nK.to(table_nV.device))

    def top_k(self, k: int, at: slice) -> tuple[Tensor, Tensor]:
        best = self.table(at).topk(min(k, self._expert.vocabulary - 1), -1)
        return best.indices, best.values


class ProgramSteps(Stepper):
    """A program as a Stepper: one cursor per live row."""

    def __init__(self, expert: ProgramExpert, walks: list[Cursor]) -> None:
        self._expert, self._walks = expert, walks

    def next_logits(self) -> Tensor:
        return self._expert.dense([walk.next() for walk in self._walks])

    def advance(self, tokens_B: Tensor) -> None:
        for walk, token in zip(self._walks, tokens_B.tolist()):
            walk.push(token)

    def keep(self, rows: Tensor) -> None:
        self._walks = [self._walks[i] for i in rows.tolist()]


class PairExpert(ProgramExpert):
    """Two programs as one: `first` where is_first(prompt), else `second`. Smoothing and capabilities are `first`'s."""

    def __init__(self, first: Expert, second: Expert, is_first: Callable[[Prompt], bool]) -> None:
        if not isinstance(first, ProgramExpert) or not isinstance(second, ProgramExpert):
            raise UserError("expert", first.name, "a pair of tasks takes programmatic experts, or a model")
        super().__init__(first.tokenizer, first.name, first.smoothing, first.vocabulary)
        self.parts, self.is_first = (first, second), is_first
        self.provenance = {**first.provenance, "other": second.provenance}

    def walk(self, prompt: Prompt) -> Cursor:
        return self.parts[0 if self.is_first(prompt) else 1].walk(prompt)
