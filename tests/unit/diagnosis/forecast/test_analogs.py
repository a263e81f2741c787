"""Known cases: which route they speak for."""

from __future__ import annotations

from understudy.diagnosis.forecast import analogs


def test_the_route_that_is_best_on_average_needs_a_clear_lead() -> None:
    """Catches a forecast whose noise decides, and a preference that no forecast can overrule."""
    assert analogs.favourite({"nothing": 0.3, "sft+gkd": 0.5, "opd": 0.55}) == "sft+gkd"
    assert analogs.favourite({"nothing": 0.3, "sft+gkd": 0.5, "opd": 0.57}) == "opd"
    assert analogs.favourite({"nothing": 0.3, "sft": 0.2}) == "nothing"
