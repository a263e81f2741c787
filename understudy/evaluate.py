"""What a policy can do on held-out prompts: sampled and greedy accuracy, divergences from the expert, lengths, words.

Everything is kept per prompt, so that intervals (stats.py) can resample prompts and pair methods.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from understudy import distributed, maths
from understudy.experts.base import Expert
from understudy.policy import Policy
from understudy.randomness import seed_from
from understudy.sampler import draw
from understudy.tasks.base import Task
from understudy.types import Prompt, Rollout


class Actor(Protocol):
    """What can be evaluated: an expert, or a policy through `as_actor`."""

    def sample(
        self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int
    ) -> list[Rollout]: ...


@dataclasses.dataclass(frozen=True)
class Sampled:
    """Verified completions of some prompts, prompt-major, and the greedy ones (None where there is no greedy)."""

    prompts: list[Prompt]
    samples: int
    rollouts: list[Rollout]
    greedy: list[Rollout] | None

    def outcome(self) -> dict[str, Any]:
        """Per-prompt results as final.json holds them."""
        k = self.samples
        reward = np.array([r.reward for r in self.rollouts]).reshape(-1, k).astype(int)
        length = np.array([len(r.ids) for r in self.rollouts]).reshape(-1, k)
        return {
            "keys": [p.key for p in self.prompts],
            "sampled": reward.tolist(),
            "greedy": [int(r.reward or 0) for r in self.greedy] if self.greedy is not None else None,
            "lengths": length.tolist(),
        }

    def summary(self, keywords: Sequence[str]) -> dict[str, Any]:
        """Means, right samples a prompt, length histogram, keyword counts: what an eval line of metrics.jsonl holds."""
        lengths = np.array([len(r.ids) for r in self.rollouts])
        correct = np.array([r.reward for r in self.rollouts]).reshape(-1, self.samples).sum(1)
        return {
            "correct": correct.astype(int).tolist(),
            "sampled": float(np.mean([r.reward for r in self.rollouts])),
            "greedy": float(np.mean([r.reward for r in self.greedy])) if self.greedy is not None else None,
            "k": self.samples,
            "n": len(self.prompts),
            "length": float(lengths.mean()),
            "ended": float(np.mean([r.ended for r in self.rollouts])),
            "lengths": np.bincount(lengths).tolist(),
            "keywords": {w: float(np.mean([r.text.count(w) for r in self.rollouts])) for w in keywords},
        }


def held_out(task: Task, policy: Policy, split: str, n: int, seed: int, max_new_tokens: int) -> list[Prompt]:
    prompts = policy.encode(task.prompts(split, n, seed))
    policy.check_room(prompts, max_new_tokens)
    return prompts


def sample_policy(
    policy: Policy,
    task: Task,
    prompts: list[Prompt],
    samples: int,
    seed: int,
    max_new_tokens: int,
    greedy: bool = True,
) -> Sampled:
    """Sampled (T = 1, top-p = 1) and greedy completions of a policy, verified."""

    def run(k: int, is_greedy: bool) -> list[Rollout]:
        def work(part: Sequence[Prompt]) -> list[Rollout]:
            args = (policy.start, policy.decode, policy.end_ids, part, k, seed, max_new_tokens, "student")
            return verified(task, draw(*args, greedy=is_greedy))

        return distributed.spread_rollouts(work, prompts, k)

    return Sampled(prompts, samples, run(samples, False), run(1, True) if greedy else None)


def sample_expert(
    expert: Expert, task: Task, prompts: list[Prompt], samples: int, seed: int, max_new_tokens: int
) -> Sampled:
    """The expert on the same prompts; greedy only where it has a greedy decoder."""
    greedy = getattr(expert, "greedy", None)
    return Sampled(
        prompts,
        samples,
        distributed.spread_rollouts(
            lambda part: verified(task, expert.sample(part, samples, seed, max_new_tokens)), prompts, samples
        ),
        distributed.spread_rollouts(lambda part: verified(task, greedy(part, max_new_tokens)), prompts, 1)
        if greedy
        else None,
    )


def verified(task: Task, rollouts: Sequence[Rollout]) -> list[Rollout]:
    return [dataclasses.replace(r, reward=task.verify(r.prompt, r.text, r.ended)) for r in rollouts]


def eval_seed(config_seed: int, eval_seed_: int) -> int:
    """The same uniforms for every method of one seed: paired differences lose sampling noise."""
    return seed_from("eval", config_seed, eval_seed_)


def divergence_per_prompt(first: Any, second: Any, rollouts: Sequence[Rollout], samples: int) -> list[float]:
    """KL(first || second) in nats a sequence, per prompt, on rollouts that `first` sampled (prompt-major).

    Rao-Blackwellised: the sum over positions of the exact KL of the two next-token distributions, whose expectation
    over the rollouts is the sequence KL (chain rule). Needs `distribution` of both.
    """
    total = np.empty(len(rollouts))
    size = 128  # rollouts whose distributions exist at a time
    for at in range(0, len(rollouts), size):
        part = rollouts[at : at + size]
        for i, (p, q) in enumerate(zip(first.distribution(part), second.distribution(part))):
            total[at + i] = float(_kl(p, q))
    return [float(x) for x in total.reshape(-1, samples).mean(1)]


def _kl(p_TV: Tensor, q_TV: Tensor) -> Tensor:
    return maths.kl(p_TV.cpu().double(), q_TV.cpu().double()).sum()
