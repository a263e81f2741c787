"""The budget of the pilots is never exceeded, and controls are paid once the pilots have enough."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.diagnosis.cost import Sizes
from understudy.diagnosis.pilots.budget import CURVE, ENOUGH, Prices
from understudy.diagnosis.pilots.controls import prices

SIZES = Sizes(1e5, 4e5)
PRICES = Prices(SIZES, 40.0, 40.0, 8, online=True)


def pilots() -> Any:
    """The parts of the full training that the prices of the controls read."""
    return cast(Any, SimpleNamespace(prompts_per_update=64, student="scratch:width=64", lora_rank=0))


def price(size: Any, flops: float) -> float:
    """The part of `flops` that pilots of this size use."""
    return flops - size.left


@given(st.floats(1e8, 1e13), st.booleans())
def test_controls_are_paid_once_the_pilots_have_enough(flops: float, wanted: bool) -> None:
    setup = pilots()

    def reserve(n: int, prompts: int) -> float:
        return sum(prices(SIZES, setup, 40.0, n, prompts).values()) if wanted else 0.0

    size = PRICES.fit(flops, 100_000, 128, reserve)
    greedy = PRICES.fit(flops, 100_000, 128)
    assert size.left >= 0 or not size.sequences
    assert size.sequences <= greedy.sequences
    assert size.sequences == greedy.sequences or size.sequences >= ENOUGH, "controls never take what pilots need"
    if wanted and greedy.sequences >= 3 * ENOUGH:
        assert size.left >= reserve(round(size.sequences * CURVE[1]), size.prompts), "reserved and not available"


@given(st.floats(2e11, 1e13), st.floats(0.3, 3.0))
def test_after_the_online_pilot_the_offline_ones_take_what_is_left(flops: float, change: float) -> None:
    """The trainings turned out to cost `change` times as much, and the budget scales with them."""
    planned = PRICES.fit(flops, 100_000, 128)
    online = planned.online * SIZES.opd(1, 40.0).flops + planned.prompts * PRICES.look()
    again = PRICES.fit(change * flops - online, 100_000, 128, planned=planned)
    assert (again.online, again.prompts) == (planned.online, planned.prompts), "it is paid"
    assert again.sequences >= planned.sequences // 2 // 32 * 32, "never less than half"
    if change == 1:
        assert again.sequences == pytest.approx(planned.sequences, abs=32)
    if again.sequences > planned.sequences:
        rounded = SIZES.opd(PRICES.batch, 40.0).flops  # the online pilot is in whole updates
        assert (change - 1) * flops + planned.left > -rounded  # left: less than a step of sequences was not spent
        assert again.left >= 0


def test_the_curve_is_in_whole_updates() -> None:
    size = PRICES.fit(5e11, 100_000, 128)
    assert all(n % size.batch == 0 and n > 0 for n in (*size.curve, size.online))
    assert list(size.curve) == sorted(size.curve)
    assert size.curve[-1] == size.sequences
