"""What a policy can do on held-out prompts: sampled and greedy accuracy, divergences from the expert, lengths, words.

Results are kept per prompt, so that `intervals` can resample prompts and pair methods.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from understudy import distributed, running
from understudy.errors import UserError
from understudy.evaluation.choices import choose_all, is_choice
from understudy.methods import divergences
from understudy.methods.kernel import chunk_of, chunks
from understudy.policy import Policy, padding
from understudy.policy.sampling import draw
from understudy.protocols import Expert, Task
from understudy.randomness import seed_from
from understudy.types import Prompt, Rollout

ROWS, TOKENS = 128, 2**14  # rollouts and padded tokens whose states exist at a time


@dataclasses.dataclass(frozen=True)
class Sampled:
    """Completions of some prompts, prompt-major, and the greedy ones (None where there is no greedy).

    They are verified, unless the task does not grade these prompts: then no reward is known, and no accuracy.
    """

    prompts: list[Prompt]
    samples: int
    rollouts: list[Rollout]
    greedy: list[Rollout] | None

    @property
    def graded(self) -> bool:
        """Whether rewards are known."""
        return all(r.reward is not None for r in self.rollouts)

    def outcome(self) -> dict[str, Any]:
        """Per-prompt results as final.json holds them; None for accuracies that are not known."""
        k = self.samples
        length = np.array([len(r.ids) for r in self.rollouts]).reshape(-1, k)
        greedy = self.greedy if self.graded else None
        return {
            "keys": [p.key for p in self.prompts],
            "sampled": [[_plain(x) for x in row] for row in self._rewards()] if self.graded else None,
            "greedy": [_plain(r.reward) for r in greedy] if greedy is not None else None,
            "lengths": length.tolist(),
        }

    def _rewards(self) -> np.ndarray:
        """(prompts, samples)"""
        return np.array([float(r.reward or 0) for r in self.rollouts]).reshape(-1, self.samples)

    def accuracy(self, which: Sequence[int]) -> float | None:
        """The mean reward of the samples of these prompts; None: it is not known."""
        return float(self._rewards()[list(which)].mean()) if self.graded else None

    def summary(self, keywords: Sequence[str]) -> dict[str, Any]:
        """Means, the sum of rewards per prompt, length histogram, keyword counts: an eval line of metrics.jsonl."""
        lengths = np.array([len(r.ids) for r in self.rollouts])
        greedy = self.greedy if self.graded else None
        return {
            "correct": [_plain(x) for x in self._rewards().sum(1)] if self.graded else None,
            "sampled": float(self._rewards().mean()) if self.graded else None,
            "greedy": float(np.mean([r.reward for r in greedy])) if greedy is not None else None,
            "k": self.samples,
            "n": len(self.prompts),
            "length": float(lengths.mean()),
            "ended": float(np.mean([r.ended for r in self.rollouts])),
            "lengths": np.bincount(lengths).tolist(),
            "keywords": {w: float(np.mean([r.text.count(w) for r in self.rollouts])) for w in keywords},
        }


def _plain(reward: float | None) -> float:
    """A whole number where it is one, as rewards of right and wrong are."""
    value = float(reward or 0.0)
    return int(value) if value.is_integer() else round(value, 6)


def splits_of(names: str, task: Task) -> list[str]:
    """The splits that a comma list names; `ood` is left out where the task has none. UserError: unknown."""
    splits = [s for s in names.split(",") if s and (s in task.splits or s != "ood")]
    for split in splits:
        if split not in task.splits:
            raise UserError("eval_splits", split, f"unknown; one of {', '.join(task.splits)}")
    return splits


def held_out(task: Task, policy: Policy, split: str, n: int, seed: int, max_new_tokens: int) -> list[Prompt]:
    """`n` encoded prompts of a split, or all of a smaller one: a repeated prompt would narrow the intervals."""
    size = task.size(split)
    prompts = policy.encode(task.prompts(split, n if size is None else min(n, size), seed))
    policy.check_room(prompts, 1 if is_choice(prompts) else max_new_tokens)
    return prompts


def sample_policy(
    policy: Policy,
    task: Task,
    prompts: list[Prompt],
    samples: int,
    seed: int,
    max_new_tokens: int,
    greedy: bool = True,
    temperature: float = 1.0,
    top_p: float = 1.0,
    actor: str = "student",
) -> Sampled:
    """Sampled (by `temperature` and `top_p`) and greedy completions of a policy, verified; choices where the
    prompts have them."""
    if is_choice(prompts):
        return Sampled(prompts, samples, *choose_all(policy, task, prompts, samples, seed, actor))

    def run(k: int, is_greedy: bool) -> list[Rollout]:
        def work(part: Sequence[Prompt]) -> list[Rollout]:
            args = (policy.start, policy.decode, policy.end_ids, part, k, seed, max_new_tokens, actor)
            return task.verify_all(draw(*args, temperature, top_p, is_greedy, policy.vocabulary, policy.device.type))

        return distributed.spread_rollouts(work, prompts, k)

    return Sampled(prompts, samples, run(samples, False), run(1, True) if greedy else None)


def sample_expert(
    expert: Expert, task: Task, prompts: list[Prompt], samples: int, seed: int, max_new_tokens: int
) -> Sampled:
    """The expert on the same prompts; greedy only where it has a greedy decoder."""
    if expert.several:
        parts = [
            (sample_expert(one, task, [prompts[i] for i in which], samples, seed, max_new_tokens), which)
            for _, one, which in expert.assigned(prompts)
        ]
        return joined(parts, prompts)
    if is_choice(prompts) and expert.policy is not None and not expert.own_prompts:
        return Sampled(prompts, samples, *choose_all(expert.policy, task, prompts, samples, seed, "expert"))

    def sampled(part: Sequence[Prompt]) -> list[Rollout]:
        return task.verify_all(expert.sample(part, samples, seed, max_new_tokens))

    def greedy(part: Sequence[Prompt]) -> list[Rollout]:
        return task.verify_all(expert.greedy(part, max_new_tokens))

    rollouts = distributed.spread_rollouts(sampled, prompts, samples)
    best = distributed.spread_rollouts(greedy, prompts, 1) if expert.has_greedy() else None
    return Sampled(prompts, samples, rollouts, best)


def joined(parts: Sequence[tuple[Sampled, Sequence[int]]], prompts: list[Prompt]) -> Sampled:
    """Of completions of some of the prompts each, by the numbers of these: those of all, in order."""
    if len(parts) == 1:
        return parts[0][0]
    k = parts[0][0].samples
    rollouts: list[list[Rollout]] = [[] for _ in prompts]
    greedy: list[list[Rollout]] = [[] for _ in prompts]
    for part, which in parts:
        for at, i in enumerate(which):
            rollouts[i] = part.rollouts[at * k : (at + 1) * k]
            greedy[i] = part.greedy[at : at + 1] if part.greedy is not None else []
    best = [r for row in greedy for r in row]
    return Sampled(prompts, k, [r for row in rollouts for r in row], best if all(greedy) else None)


def sampling_seed(seed: int, eval_seed: int) -> int:
    """The same uniforms for every method of one seed: paired differences lose sampling noise."""
    return seed_from("eval", seed, eval_seed)


def sequence_kl(first: Any, second: Any, rollouts: Sequence[Rollout]) -> list[float]:
    """KL(first || second) in nats per sequence, on each of the rollouts that `first` sampled.

    Rao-Blackwellised: the sum over positions of the exact KL of the two next-token distributions, whose expectation
    over the rollouts is the sequence KL (chain rule). Needs `distribution` of both.
    """
    return compared(first, second, rollouts, lambda p_nV, q_nV, ids_n: divergences.kl(p_nV, q_nV))


def compared(
    first: Any, second: Any, rollouts: Sequence[Rollout], function: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> list[Any]:
    """The sum over each rollout's tokens of function(log-probs of `first`, those of `second`, the tokens).

    The function gets float64 (n, V), (n, V) and (n,) of some tokens, and returns (n, ...). Memory is that of a chunk.
    """
    out: list[Any] = [None] * len(rollouts)
    size = chunk_of(first.vocabulary, torch.device("cpu"))
    for packs in padding.split(range(len(rollouts)), rollouts.__getitem__, ROWS, TOKENS):
        rows = [i for pack in packs for i in pack]
        running.check()
        part = [[rollouts[i]] for i in rows]
        ids_N = torch.tensor([i for (r,) in part for i in r.ids])
        p, q = first.signal(part), second.signal(part)
        pieces = [
            function(p.table(at).cpu().double(), q.table(at).cpu().double(), ids_N[at])
            for at in chunks(len(ids_N), size)
        ]
        for i, value_T in zip(rows, torch.cat(pieces).split([len(rollouts[i].ids) for i in rows])):
            out[i] = value_T.sum(0).tolist()
    return out
