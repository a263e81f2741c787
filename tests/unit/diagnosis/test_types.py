"""Diagnoses survive JSON, including infinities and NaN; a file of another version is refused in one line."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.diagnosis.outcome import ANSWERS
from understudy.diagnosis.types import (
    MEASURES,
    VERSION,
    Check,
    Control,
    Cost,
    Diagnosis,
    Estimate,
    Evidence,
    Floor,
    PilotPoint,
    Verdict,
)
from understudy.errors import UserError

NUMBER = st.floats(allow_nan=False)  # infinities included
COUNT = st.integers(0, 2**40)
ESTIMATE = st.builds(Estimate, NUMBER, NUMBER, NUMBER, COUNT, st.text(), st.text())
COST = st.builds(Cost, COUNT, COUNT, COUNT, COUNT, NUMBER, NUMBER)
POINT = st.builds(
    PilotPoint, st.sampled_from(["sft", "opd"]), COUNT, COUNT, st.none() | ESTIMATE, st.none() | ESTIMATE,
    st.none() | ESTIMATE, st.text(), COST,
)  # fmt: skip
CONTROL = st.builds(
    Control, st.booleans(), st.text(), st.tuples(POINT), st.none() | ESTIMATE, st.none() | st.booleans()
)
EVIDENCE = st.builds(
    Evidence,
    st.dictionaries(st.sampled_from(MEASURES), ESTIMATE),
    st.lists(POINT, max_size=2).map(tuple),
    st.none() | st.builds(Floor, ESTIMATE, NUMBER, NUMBER, st.booleans()),
    st.dictionaries(st.text(), CONTROL, max_size=2),
    st.dictionaries(st.text(), NUMBER, max_size=2),
    st.booleans(),
    st.lists(st.text(), max_size=2).map(tuple),
)
VERDICT = st.builds(
    Verdict, st.sampled_from(ANSWERS), st.dictionaries(st.sampled_from(ANSWERS), NUMBER),
    st.dictionaries(st.text(), ESTIMATE, max_size=2), st.tuples(st.text()), st.tuples(st.text()), st.text(),
)  # fmt: skip
DIAGNOSIS = st.builds(
    Diagnosis, st.just(VERSION), st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=3),
    st.lists(st.builds(Check, st.text(), st.booleans(), st.text(), st.text()), max_size=2).map(tuple), EVIDENCE,
    VERDICT, st.dictionaries(st.text(), COST, max_size=2), st.just({"scatter": [[0, 1.5]]}), st.tuples(st.text()),
)  # fmt: skip


@given(DIAGNOSIS)
@settings(max_examples=60)
def test_a_diagnosis_survives_json(one: Diagnosis) -> None:
    text = json.dumps(one.to_dict(), allow_nan=False)
    assert Diagnosis.from_dict(json.loads(text)) == one


def test_nan_survives() -> None:
    got = Estimate.from_dict(json.loads(json.dumps(Estimate(math.nan, -math.inf, 1.0, 3, "", "").to_dict())))
    assert math.isnan(got.value)
    assert got.low == -math.inf


def test_costs_add() -> None:
    assert Cost(1, 2, 3, 4, 5.0, 6.0) + Cost(1, 1, 1, 1, 0.5, 0.5) == Cost(2, 3, 4, 5, 5.5, 6.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": "high"}, "estimate.value"),
        ({"n": 1.5}, "estimate.n"),
        ({"n": True}, "estimate.n"),
        ({"colour": 1}, "colour is unknown"),
        ({"unit": None}, "estimate.unit"),
    ],
)
def test_another_kind_of_file_is_refused(change: dict[str, object], message: str) -> None:
    good = Estimate(0.5, 0.4, 0.6, 10, "accuracy", "t over prompts").to_dict()
    with pytest.raises(UserError, match=message):
        Estimate.from_dict(good | change)


def test_a_missing_field_is_refused() -> None:
    with pytest.raises(UserError, match="low is missing"):
        Estimate.from_dict({"value": 1.0})
    with pytest.raises(UserError, match="must be one of offline suffices"):
        Verdict.from_dict(Verdict("neither", {}, {}, (), (), "").to_dict() | {"answer": "maybe"})


@settings(max_examples=30)
@given(DIAGNOSIS)
def test_tolerant_reading_never_fails_on_what_was_written(d: Diagnosis) -> None:
    read = Diagnosis.from_dict(d.to_dict(), tolerant=True)
    assert read.verdict.answer == d.verdict.answer
    assert read.setting == d.setting
    for e in read.evidence.measures.values():
        assert math.isfinite(e.value)
        assert e.low <= e.value <= e.high


def test_tolerant_reading_keeps_what_is_whole() -> None:
    good = Estimate(0.5, 0.4, 0.6, 10, "accuracy", "t over prompts").to_dict()
    measures = {"auc": good, "a measure of an earlier version": good, "gone": {"value": "nan"}, "gap_nats": "damaged"}
    read = Evidence.from_dict(
        {"measures": measures, "unknown": 1, "has_verifier": "x", "budget": {"a": "x", "b": 2}}, True
    )
    assert list(read.measures) == ["auc", "a measure of an earlier version"]
    assert read.measures["auc"].to_dict() == good
    assert read.has_verifier
    assert (read.pilots, read.floor, read.budget) == ((), None, {"b": 2.0})
    bare = Estimate.from_dict({"value": 0.5, "low": 0.7, "high": None}, tolerant=True)
    assert (bare.low, bare.value, bare.high, bare.n) == (0.5, 0.5, 0.5, 0)
    with pytest.raises(UserError, match="holds no value"):
        Estimate.from_dict({"low": 1.0}, tolerant=True)


def test_tolerant_reading_states_no_zero_for_a_damaged_number() -> None:
    cost = Cost(1, 2, 3, 4, 5.0, 6.0).to_dict()
    assert math.isnan(Cost.from_dict(cost | {"seconds": "long"}, tolerant=True).seconds)
    with pytest.raises(UserError, match="cost"):
        Cost.from_dict(cost | {"student_tokens_trained": "many"}, tolerant=True)
