"""Rows of the bank made by hand: every phase reaches a stated accuracy."""

from __future__ import annotations

from understudy.calibrate.bank.branches import BRANCHES
from understudy.calibrate.bank.rows import Look, Row, Trained

PROMPTS, SAMPLES, UPDATES = 200, 2, 200


def digits(accuracy: float, samples: int) -> str:
    return "".join(str(int((i + 1) * accuracy * samples) - int(i * accuracy * samples)) for i in range(PROMPTS))


def look(accuracy: float) -> Look:
    return Look(digits(accuracy, SAMPLES), digits(accuracy, SAMPLES), SAMPLES)


def phase(first: float, last: float) -> Trained:
    """Rewards that go from one accuracy to the other in a fifth of the phase, and stay."""
    reward = [first + (last - first) * min(1.0, i / (UPDATES / 5)) for i in range(UPDATES)]
    looks = [(i, digits(reward[i], 1)) for i in range(0, UPDATES, 5)]
    return Trained(look(last), 1.0, 1.0, UPDATES, list(reward), [5.0] * UPDATES, looks)


def row(scenario: str = "a", seed: int = 0, **ends: float) -> Row:
    """A row in which every branch ends at .5, but those named. right: accuracy of the expert."""
    right = ends.pop("right", 0.95)
    end = {name: ends.get(name.replace(".", "_").replace("+", "_"), 0.5) for name in BRANCHES}
    start = {name: end[b.parent] if b.parent else 0.3 for name, b in BRANCHES.items()}
    made = {name: phase(start[name], end[name]) for name in BRANCHES}
    return Row(scenario, "", "set", seed, 1e12, 64, (1e5, 0.0), (5, 5, 5), 20, look(0.3), look(right), made)
