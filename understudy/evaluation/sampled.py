"""What a policy can do on held-out prompts: sampled and greedy accuracy, divergences from the expert, lengths, words.

Everything is kept per prompt, so that intervals (stats.py) can resample prompts and pair methods.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from understudy import distributed
from understudy.errors import UserError
from understudy.methods import divergences
from understudy.policy import Policy
from understudy.policy.sampling import draw
from understudy.protocols import Expert, Task
from understudy.randomness import seed_from, uniforms
from understudy.types import Prompt, Rollout


class Actor(Protocol):
    """What can be evaluated: an expert, or a policy through `as_actor`."""

    def sample(self, prompts: Sequence[Prompt], samples: int, seed: int, max_new_tokens: int) -> list[Rollout]: ...


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


def splits_of(names: str, task: Task) -> list[str]:
    """The splits that a comma list names; `ood` is left out where the task has none. UserError: unknown."""
    found = [s for s in names.split(",") if s and (s in task.splits or s != "ood")]
    for split in found:
        if split not in task.splits:
            raise UserError("eval_splits", split, f"unknown; one of {', '.join(task.splits)}")
    return found


def held_out(task: Task, policy: Policy, split: str, n: int, seed: int, max_new_tokens: int) -> list[Prompt]:
    """`n` encoded prompts of a split, or all of a smaller one: a prompt that came twice would narrow the intervals."""
    size = task.size(split)
    prompts = policy.encode(task.prompts(split, n if size is None else min(n, size), seed))
    policy.check_room(prompts, 1 if is_choice(prompts) else max_new_tokens)
    return prompts


def is_choice(prompts: Sequence[Prompt]) -> bool:
    """Whether these prompts are answered by choosing (MMLU), not by writing."""
    return bool(prompts) and all("choices" in p.data for p in prompts)


def choose(policy: Any, scorer: Any, prompts: Sequence[Prompt]) -> list[np.ndarray]:
    """For each prompt (C,) log-probs (nats) of its choices as what comes next, not normalised.

    `policy` encodes (its tokenizer is the prompts'), `scorer` scores: the policy itself or an expert. Where every
    choice is one token, one forward pass a prompt gives them all; else each choice's tokens are scored.
    """
    ids = [policy.continuations([p] * len(p.data["choices"]), p.data["choices"]) for p in prompts]
    if "distribution" in scorer.capabilities and all(len(i) == 1 for choice in ids for i in choice):
        asked = [_as_rollout(p, choice[0]) for p, choice in zip(prompts, ids)]
        out = []
        for at in range(0, len(asked), 64):
            tables = scorer.distribution(asked[at : at + 64])
            for table, choice in zip(tables, ids[at : at + 64]):
                out.append(table[0, [i[0] for i in choice]].double().cpu().numpy())
        return out
    flat = [_as_rollout(p, i) for p, choice in zip(prompts, ids) for i in choice]
    scores = iter([float(x.double().sum()) for x in scorer.score(flat)])
    return [np.array([next(scores) for _ in choice]) for choice in ids]


def _as_rollout(prompt: Prompt, ids: tuple[int, ...]) -> Rollout:
    return Rollout(prompt, 0, ids, (float("nan"),) * len(ids), False, "", "choice")


def chosen(
    policy: Policy, scorer: Any, task: Task, prompts: list[Prompt], samples: int, seed: int, actor: str
) -> Sampled:
    """The likeliest choice of every prompt as its greedy completion, and draws from the choices' probabilities."""
    greedy: list[Rollout] = []
    sampled: list[Rollout] = []
    for p, logp in zip(prompts, choose(policy, scorer, prompts)):
        cdf = np.exp(logp - logp.max()).cumsum()
        u = [float(uniforms(seed, p.key, s, 1)[0]) for s in range(samples)]
        for s, c in enumerate([int(logp.argmax()), *(int(np.searchsorted(cdf, x * cdf[-1], "right")) for x in u)]):
            text = p.data["choices"][min(c, len(logp) - 1)]
            ids = policy.continuations([p], [text])[0]
            row = Rollout(p, max(0, s - 1), ids, (float("nan"),) * len(ids), True, text, actor)
            (sampled if s else greedy).append(row)
    return Sampled(prompts, samples, task.verify_all(sampled), task.verify_all(greedy))


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
        return chosen(policy, policy, task, prompts, samples, seed, actor)

    def run(k: int, is_greedy: bool) -> list[Rollout]:
        def work(part: Sequence[Prompt]) -> list[Rollout]:
            args = (policy.start, policy.decode, policy.end_ids, part, k, seed, max_new_tokens, actor)
            return task.verify_all(draw(*args, temperature, top_p, is_greedy))

        return distributed.spread_rollouts(work, prompts, k)

    return Sampled(prompts, samples, run(samples, False), run(1, True) if greedy else None)


def sample_expert(
    expert: Expert, task: Task, prompts: list[Prompt], samples: int, seed: int, max_new_tokens: int
) -> Sampled:
    """The expert on the same prompts; greedy only where it has a greedy decoder."""
    if is_choice(prompts) and expert.policy is not None:
        return chosen(expert.policy, expert.policy, task, prompts, samples, seed, "expert")
    return Sampled(
        prompts,
        samples,
        distributed.spread_rollouts(
            lambda part: task.verify_all(expert.sample(part, samples, seed, max_new_tokens)), prompts, samples
        ),
        distributed.spread_rollouts(lambda part: task.verify_all(expert.greedy(part, max_new_tokens)), prompts, 1)
        if expert.has_greedy()
        else None,
    )


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
    return divergences.kl(p_TV.cpu().double(), q_TV.cpu().double()).sum()
