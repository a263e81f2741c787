"""The order of several experts: forecasts first, accuracy between forecasts that are near, never the order given."""

from __future__ import annotations

import itertools

from understudy.diagnosis.candidates import ranked
from understudy.diagnosis.types import Candidate, Estimate


def _e(value: float | None) -> Estimate | None:
    return None if value is None else Estimate(value, value - 0.1, value + 0.1, 64, "accuracy", "test")


def _candidate(name: str, accuracy: float | None, expected: float | None, gradient: float | None = None) -> Candidate:
    return Candidate(name, name, accuracy=_e(accuracy), expected=_e(expected), gradient=_e(gradient))


def order(*candidates: Candidate) -> str:
    """Names in order; the same whatever the order they are given in."""
    found = {
        "".join(given[i].name for i in ranked(given)) for given in itertools.permutations(candidates)
    }  # fmt: skip
    assert len(found) == 1
    return found.pop()


def test_a_clearly_higher_forecast_comes_first_even_where_the_expert_is_less_right():
    assert order(_candidate("a", 0.99, 0.40), _candidate("b", 0.70, 0.60), _candidate("c", 0.5, 0.3)) == "bac"


def test_of_forecasts_that_are_near_the_more_accurate_expert_comes_first():
    assert order(_candidate("a", 0.99, 0.57), _candidate("b", 0.70, 0.60), _candidate("c", 1.0, 0.50)) == "abc"
    assert order(_candidate("a", 0.70, 0.57), _candidate("b", 0.70, 0.60)) == "ba"


def test_without_a_reward_the_gradient_score_decides():
    assert order(_candidate("a", None, None, 30.0), _candidate("b", None, None, 2.0)) == "ba"
    assert order(_candidate("a", None, None), _candidate("b", None, None, 2.0)) == "ba"


def test_what_is_not_known_comes_last():
    assert order(_candidate("a", None, None, 1.0), _candidate("b", 0.1, 0.1, 9.0)) == "ba"
    assert order(_candidate("a", 0.9, float("nan")), _candidate("b", 0.1, 0.1)) == "ba"


def test_it_survives_its_file():
    c = _candidate("a", 0.5, 0.6, 7.0)
    assert Candidate.from_dict(c.to_dict()) == c
