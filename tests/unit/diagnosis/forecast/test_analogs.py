"""Known cases: which route they speak for."""

from __future__ import annotations

from understudy.diagnosis.forecast import analogs


def test_the_route_that_is_best_on_average_needs_a_clear_lead() -> None:
    """Catches a forecast whose noise decides, and a preference that no forecast can overrule."""
    assert analogs.favourite({"nothing": 0.3, "sft+gkd": 0.5, "opd": 0.55}) == "sft+gkd"
    assert analogs.favourite({"nothing": 0.3, "sft+gkd": 0.5, "opd": 0.57}) == "opd"
    assert analogs.favourite({"nothing": 0.3, "sft": 0.2}) == "nothing"


def test_of_the_preferred_routes_the_first_that_is_possible_counts() -> None:
    """Catches a second preference that overrules the first, and one that is lost where the first is not possible."""
    assert analogs.favourite({"nothing": 0.3, "sft+gkd": 0.55, "gkd_reward": 0.5}) == "gkd_reward"
    assert analogs.favourite({"nothing": 0.3, "sft+gkd": 0.55, "gkd_reward": 0.45, "opd": 0.58}) == "opd"
    assert analogs.favourite({"nothing": 0.3, "sft+gkd": 0.58, "gkd_reward": 0.5}) == "sft+gkd"
    assert analogs.preferred(["nothing", "sft", "gkd"]) == ""
