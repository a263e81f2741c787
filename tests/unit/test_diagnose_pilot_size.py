"""What the pilots' money buys: never more than there is, and controls once the pilots have enough."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from understudy.diagnose.controls import prices
from understudy.diagnose.cost import Sizes
from understudy.diagnose.pilot import CURVE, ENOUGH, Pilots

SIZES = Sizes(1e5, 4e5)


def pilots() -> Any:
    offline = SimpleNamespace(prompts_per_update=64, student="scratch:width=64", lora_rank=0)
    table = SimpleNamespace(length=np.full((8, 1), 40.0))
    made = SimpleNamespace(
        setting=SimpleNamespace(sizes=SIZES), table=table, offline=offline, online=object()
    )
    made._look_cost = Pilots._look_cost
    return cast(Any, made)


@given(st.floats(1e8, 1e13), st.booleans())
def test_controls_are_paid_once_the_pilots_have_enough(flops: float, wanted: bool) -> None:
    some = pilots()

    def reserve(n: int, prompts: int) -> float:
        return sum(prices(some, n, prompts).values()) if wanted else 0.0

    size = Pilots.size(some, flops, 40.0, 100_000, 128, reserve)
    greedy = Pilots.size(some, flops, 40.0, 100_000, 128)
    assert size.left >= 0 or not size.sequences
    assert size.sequences <= greedy.sequences
    assert size.sequences == greedy.sequences or size.sequences >= ENOUGH, (
        "controls never take what pilots need"
    )
    if wanted and greedy.sequences >= 3 * ENOUGH:
        assert size.left >= reserve(round(size.sequences * CURVE[1]), size.prompts), "put aside and not there"
