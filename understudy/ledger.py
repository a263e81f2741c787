"""One account of what a run has spent, so that every plot can pick its axis from it (DESIGN.md, trap 9)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Ledger:
    """Cumulative, training only: what evaluation spends is its own seconds and nothing else."""

    expert_calls: int = 0
    """Completions that the expert sampled or scored."""
    expert_tokens_scored: int = 0
    """Tokens whose expert log-prob or distribution was asked for."""
    expert_tokens_sampled: int = 0
    """Tokens that the expert sampled, counted when an update first uses them."""
    student_tokens_sampled: int = 0
    """Tokens that the student (or its base) sampled for training."""
    student_tokens_trained: int = 0
    """Completion tokens that went through an update."""
    updates: int = 0
    train_seconds: float = 0.0
    """Wall seconds of rolling out, labelling and updating."""
    eval_seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


COLUMNS = tuple(Ledger.__dataclass_fields__)
