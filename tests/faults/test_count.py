"""The suite of faults and wrong inputs is as large as it should be."""

from __future__ import annotations

from count import counted


def test_enough_of_both() -> None:
    """Catches tables that are no longer collected."""
    counts = counted()
    assert sum(n for (marker, _), n in counts.items() if marker == "fault") >= 60
    assert sum(n for (marker, _), n in counts.items() if marker == "wrong_input") >= 250
