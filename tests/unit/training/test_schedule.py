"""The learning rate: warm-up, then a schedule that ends where the training does."""

from __future__ import annotations

import pytest

from understudy.config import TrainConfig, resolve
from understudy.training.update import learning_rate

CONFIG = resolve(TrainConfig(method="grpo", student="scratch", updates=100, lr=1.0, schedule="linear", warmup=10))


def test_a_schedule_ends_with_the_updates_or_with_the_budget() -> None:
    """Catches a budget that stops a training at a rate that has hardly fallen."""
    assert learning_rate(CONFIG, 4) == pytest.approx(0.5)
    assert learning_rate(CONFIG, 55) == pytest.approx(0.5)
    assert learning_rate(CONFIG, 55, spent=0.2) == pytest.approx(0.5)  # the updates are ahead
    assert learning_rate(CONFIG, 20, spent=0.9) == pytest.approx(0.1)  # the budget is
    assert learning_rate(CONFIG, 20, spent=1.3) == 0
    assert learning_rate(CONFIG, 4, spent=0.9) == pytest.approx(0.5)  # warm-up is counted in updates
