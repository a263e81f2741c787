"""The table names the function that computes each cell."""

from __future__ import annotations

import importlib
from operator import attrgetter

import pytest

from understudy.methods.cells import CELLS, COMPUTED
from understudy.methods.table import TABLE

PLACES = sorted({place for values in COMPUTED.values() for place in values.values() if place})


@pytest.mark.parametrize("place", PLACES)
def test_the_function_exists(place: str) -> None:
    """Catches a function that was renamed or moved while the table still names it."""
    file, name = place.split(": ")
    module = importlib.import_module("understudy." + file.removesuffix(".py").replace("/", "."))
    assert callable(attrgetter(name)(module))


def test_every_value_names_its_function() -> None:
    for name, values in CELLS.items():
        assert set(values) <= set(COMPUTED[name])
    for row in TABLE.values():
        assert {"behavior", "target", "weight", "replay"} <= set(row.computed)
