"""What a running phase shows of its student: the verified reward of fresh completions, how they end, entropies.

An update's fresh completions are verified before anything is learned from them, so their mean reward estimates the
accuracy of the student at that moment without bias, at no cost. Completions that the expert has written, or written
together with the student (mixture_token), say nothing about the student's accuracy and are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from understudy.types import Rollout

OWN = ("student", "mixture_batch")
"""Actors under which the student alone has written a completion."""
WINDOW = 5  # updates whose rewards are shown as one mean


@dataclass(frozen=True)
class Seen:
    """The student's fresh completions of one update."""

    n: int
    """Prompts. The values of one prompt are its mean: they share its difficulty."""
    reward: float | None
    """Sum over prompts of the mean reward; None: the task does not verify."""
    at_limit: float
    """Sum over prompts of the share of completions that were cut off by the limit."""

    @property
    def mean(self) -> float | None:
        return None if self.reward is None else self.reward / self.n


def seen(rollouts: Sequence[Rollout], verified: bool) -> Seen | None:
    """What these fresh completions show; None: they are not the student's own."""
    if not rollouts or rollouts[0].actor not in OWN:
        return None
    groups: dict[str, list[Rollout]] = {}
    for r in rollouts:
        groups.setdefault(r.prompt.key, []).append(r)
    reward = sum(math.fsum(float(r.reward or 0) for r in g) / len(g) for g in groups.values())
    cut = sum(sum(not r.ended for r in g) / len(g) for g in groups.values())
    return Seen(len(groups), reward if verified else None, cut)


class Monitor:
    """The last updates of a phase, in the numbers that its records and its progress show."""

    def __init__(self, state: Sequence[Mapping[str, Any]] = ()) -> None:
        """state: of `as_list`."""
        self.last = [Seen(**entry) for entry in state]

    def add(self, now: Seen | None) -> dict[str, float | None]:
        """Count an update; the fields that it adds to its "train" record."""
        if now is None:
            return {"at_limit": None, "ended": None}
        self.last = [*self.last, now][-WINDOW:]
        return {"at_limit": now.at_limit / now.n, "ended": 1 - now.at_limit / now.n}

    def as_list(self) -> list[dict[str, Any]]:
        return [asdict(entry) for entry in self.last]

    @property
    def band(self) -> tuple[float, float, float] | None:
        """(mean, low, high) of the reward over the last WINDOW updates: Wilson's 95% interval at this moment."""
        n = sum(entry.n for entry in self.last if entry.reward is not None)
        return wilson(sum(entry.reward or 0.0 for entry in self.last), n) if n else None

    @property
    def shown(self) -> str:
        """ "reward 0.55 [0.50, 0.60]", or "" where none is known."""
        if self.band is None:
            return ""
        mean, low, high = self.band
        return f"reward {mean:.2f} [{low:.2f}, {high:.2f}]"


def wilson(total: float, n: int, z: float = 1.96) -> tuple[float, float, float]:
    """(mean, low, high): Wilson's interval of a share, for one look (not for every time at once)."""
    p = total / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    return p, max(0.0, (centre - half) / (1 + z * z / n)), min(1.0, (centre + half) / (1 + z * z / n))
