"""A finite imitation problem: contexts, actions, an expert, a class of students, a reward."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from understudy.theory.scalars import Array


@dataclass(frozen=True)
class Bandit:
    """Contexts X, actions Y, K students (docs/theory.md, section 0). A whole sequence may be one action."""

    mu: Array  # (X,) law of the contexts
    expert: Array  # (X, Y) e(y|x)
    students: Array  # (K, X, Y)
    reward: Array  # (X, Y) in [0, 1]
    base: Array | None = None  # (X, Y) the policy that samples for Theorem 4
    alternatives: tuple[tuple[Array, Array], ...] = ()  # (expert, reward) hypotheses for F1, the first one included
    name: str = "instance"
    student_names: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(K, X, Y)"""
        k, x, y = self.students.shape
        return k, x, y

    def value(self, policy: Array) -> Array:
        """V = E_x E_{y~policy} r; policy (..., X, Y) -> (...)."""
        return np.asarray((policy * self.reward).sum(-1) @ self.mu)

    def label(self, k: int) -> str:
        return self.student_names[k] if self.student_names else f"student {k}"

    def sampling_base(self) -> Array:
        """`base`, or the uniform law on the actions that at least one student plays."""
        if self.base is not None:
            return self.base
        played = (self.students > 0).any(0).astype(float)
        return played / played.sum(-1, keepdims=True)
