"""A training log in this tool's words: one row of numbers per logged update, whatever program wrote it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

SIGNALS = {
    "loss": "training loss",
    "grad_norm": "gradient norm before clipping",
    "lr": "learning rate",
    "reward": "mean reward of the student's completions",
    "same_reward": "share of prompts whose completions all have the same reward",
    "length": "mean length of completions, tokens",
    "at_limit": "share of completions that the length limit cut off",
    "entropy": "entropy of the student, nats per token",
    "expert_entropy": "entropy of the expert at the same tokens, nats per token",
    "loss_expert": "the expert's part of the loss, where rewards are in it too",
    "loss_reward": "the reward's part of such a loss",
    "loss_text": "the part of the loss that is the likelihood of the expert's text",
    "weight_expert": "mean size of the expert's weights per token in such a loss",
    "weight_reward": "mean size of the reward's weights per token in such a loss",
    "kl_expert": "divergence of the student from the expert, nats per token",
    "student_mass": "probability that the student gives to the kept top tokens",
    "drift": "mean of abs(recomputed minus recorded log-prob) of sampled tokens, nats",
    "probability_gap": "mean of abs(recomputed minus recorded probability) of sampled tokens",
    "kl_sampler": "KL of the sampler from the trainer, nats per token",
    "ratio": "mean importance ratio of trainer to sampler",
    "clipped": "share of tokens whose ratio was clipped",
    "eval_loss": "loss on held-out data",
    "accuracy": "accuracy on held-out prompts",
}
"""Name -> what it is."""


@dataclass(frozen=True)
class Row:
    """What was logged for one update. Values may be NaN or infinite: that is a finding of its own."""

    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Log:
    """The rows of one training, in the order of their steps."""

    tool: str
    """A key of names.TOOLS."""
    name: str
    """Its path, as the user gave it, and the phase of a route."""
    rows: tuple[Row, ...]
    updates: int = 0
    """Updates that the training is planned to make; 0 = not known."""
    prompts: int = 0
    """Prompts per update, whose rewards are independent; 0 = not known."""
    limit: int = 0
    """Most tokens per completion; 0 = not known."""
    samples: bool = True
    """Whether the student writes the completions."""
    done: bool = False
    """Whether the program that wrote it has said that the training is over."""
    notes: tuple[str, ...] = ()
    facts: Mapping[str, float] = field(default_factory=dict)
    """accuracy_prompts: prompts per evaluation."""

    def of(self, signal: str) -> Series:
        """The rows in which `signal` is a finite number."""
        found = [(row.step, row.values[signal]) for row in self.rows if math.isfinite(row.values.get(signal, math.nan))]
        return Series([step for step, _ in found], [value for _, value in found])

    def has(self, signal: str) -> bool:
        return any(signal in row.values for row in self.rows)


@dataclass(frozen=True)
class Series:
    """One signal over the updates."""

    steps: Sequence[int]
    values: Sequence[float]

    def __len__(self) -> int:
        return len(self.values)

    def first(self, n: int) -> float:
        """The mean of the first n values."""
        return mean(self.values[:n])

    def last(self, n: int) -> float:
        return mean(self.values[-n:])

    def windows(self, n: int) -> Iterator[tuple[int, float]]:
        """(index of the last value, mean) of every n values in a row."""
        for end in range(n, len(self.values) + 1):
            yield end - 1, mean(self.values[end - n : end])

    def noise(self, end: int | None = None) -> float:
        """Standard deviation from one value to the next, without the trend, of the first `end` values; 0 for one value.

        The root mean square of the differences of independent values is sqrt(2) times their deviation.
        """
        values = self.values[:end]
        return mean([(b - a) ** 2 / 2 for a, b in pairwise(values)]) ** 0.5 if len(values) > 1 else 0.0


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
