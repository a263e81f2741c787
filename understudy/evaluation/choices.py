"""Prompts that are answered by a choice (MMLU): the log-prob of each choice, and completions drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from understudy.policy import Policy
from understudy.protocols import Task
from understudy.randomness import uniforms
from understudy.types import Prompt, Rollout

AT_ONCE = 64  # prompts whose states exist at a time


def is_choice(prompts: Sequence[Prompt]) -> bool:
    """Whether these prompts are answered by a choice, not by writing."""
    return bool(prompts) and all("choices" in p.data for p in prompts)


def choose(policy: Any, scorer: Any, prompts: Sequence[Prompt]) -> list[np.ndarray]:
    """For each prompt (C,) log-probs (nats) of its choices as what comes next, not normalised.

    `policy` encodes (its tokenizer is the prompts'), `scorer` scores: the policy itself or an expert. Where every
    choice is one token, one forward pass per prompt gives them all; else each choice's tokens are scored.
    """
    ids = [policy.continuations([p] * len(p.data["choices"]), p.data["choices"]) for p in prompts]
    if "distribution" in scorer.capabilities and all(len(i) == 1 for choice in ids for i in choice):
        first = [_as_rollout(p, choice[0]) for p, choice in zip(prompts, ids)]
        out = []
        for at in range(0, len(first), AT_ONCE):
            signal = scorer.signal([[r] for r in first[at : at + AT_ONCE]])
            for i, choice in enumerate(ids[at : at + AT_ONCE]):
                logp = signal.at(torch.tensor([[ids[0] for ids in choice]]), slice(i, i + 1))
                out.append(logp[0].double().cpu().numpy())
        return out
    flat = [_as_rollout(p, i) for p, choice in zip(prompts, ids) for i in choice]
    scores = iter([float(x.double().sum()) for x in scorer.score(flat)])
    return [np.array([next(scores) for _ in choice]) for choice in ids]


def _as_rollout(prompt: Prompt, ids: tuple[int, ...]) -> Rollout:
    return Rollout(prompt, 0, ids, (float("nan"),) * len(ids), False, "", "choice")


def choose_all(
    policy: Policy, task: Task, prompts: Sequence[Prompt], samples: int, seed: int, actor: str
) -> tuple[list[Rollout], list[Rollout]]:
    """(`samples` draws from the choices' probabilities, the likeliest choice) of every prompt, verified."""
    greedy: list[Rollout] = []
    sampled: list[Rollout] = []
    for p, logp in zip(prompts, choose(policy, policy, prompts)):
        cdf = np.exp(logp - logp.max()).cumsum()
        u = [float(uniforms(seed, p.key, s, 1)[0]) for s in range(samples)]
        for s, c in enumerate([int(logp.argmax()), *(int(np.searchsorted(cdf, x * cdf[-1], "right")) for x in u)]):
            text = p.data["choices"][min(c, len(logp) - 1)]
            ids = policy.continuations([p], [text])[0]
            row = Rollout(p, max(0, s - 1), ids, (float("nan"),) * len(ids), True, text, actor)
            (sampled if s else greedy).append(row)
    return task.verify_all(sampled), task.verify_all(greedy)
