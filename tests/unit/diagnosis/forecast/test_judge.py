"""The verdict rule: valid probabilities, moves in the right direction, and no failure on missing evidence."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.calibrate.fit import Case, fit
from understudy.diagnosis.forecast.features import Feature, features, pooled
from understudy.diagnosis.forecast.judge import draws, judge
from understudy.diagnosis.forecast.model import TERMS, VARIANTS, VerdictModel, find, load, names
from understudy.diagnosis.outcome import ANSWERS, MARGIN, truth
from understudy.diagnosis.types import Estimate, Evidence, PilotPoint, Verdict
from understudy.errors import UserError

MODELS = [load(name) for name in names()]
accuracies = st.floats(0, 1)


def est(value: float, half: float = 0.03, unit: str = "accuracy") -> Estimate:
    return Estimate(value, value - half, value + half, 200, unit, "test")


def evidence(
    student: float = 0.4, expert: float = 0.8, sft: tuple[float, ...] = (0.42, 0.45, 0.5), opd: float | None = 0.5,
    takeover: float | None = 0.2, reverse: float | None = 2.0, forward: tuple[float, ...] = (1.5, 1.3, 1.1),
    tilt: float | None = 0.6, start: float | None = 2.0, half: float = 0.03, auc: float = 0.7,
) -> Evidence:  # fmt: skip
    measures = {
        "student_accuracy": est(student, half), "expert_accuracy": est(expert, half),
        "headroom": est(expert - student, half), "auc": est(auc, 0.05, "probability"),
    }  # fmt: skip
    if takeover is not None:
        measures["takeover_gain"] = est(takeover, half)
    if tilt is not None:
        measures["tilt_ceiling"] = est(tilt, half)
    if start is not None:
        measures["kl_expert_student"] = est(start, 0.1, "nats per sequence")
    measures["kl_student_expert"] = est(10.0, 0.1, "nats per sequence")
    nats = None if reverse is None else est(reverse, 0.1, "nats per sequence")
    pilots = [
        PilotPoint("sft", 200 * 2**i, 25, est(a, half), est(f, 0.1), nats, "curve")
        for i, (a, f) in enumerate(zip(sft, forward))
    ]
    if opd is not None:
        pilots.append(PilotPoint("opd", 800, 100, est(opd, half), None, nats, "curve"))
    return Evidence(
        measures, tuple(pilots), None, {}, {"updates": 200.0, "sequences": 64.0, "share": 0.05}, True,
        ("distribution", "sample", "score"),
    )  # fmt: skip


def p(e: Evidence, model: VerdictModel) -> dict[str, float]:
    return judge(e, model).probabilities


def boundary_distance(student: float, sft: float, opd: float) -> float:
    """By how much accuracy the outcome misses the nearest boundary between two answers."""
    gain = max(sft, opd) - student - MARGIN
    return -gain if gain <= 0 else min(gain, abs(opd - sft - MARGIN))


@pytest.mark.parametrize(
    ("outcome", "answer", "distance"),
    [
        ((0.4, 0.44, 0.42), "neither", 0.01), ((0.4, 0.8, 0.84), "offline suffices", 0.01),
        ((0.4, 0.5, 0.7), "go online", 0.15), ((0.4, 0.3, 0.46), "go online", 0.01),
        ((0.4, 0.9, 0.2), "offline suffices", 0.45), ((0.4, 0.1, 0.2), "neither", 0.25),
    ],
)  # fmt: skip
def test_truth_and_its_distance_to_a_boundary(outcome, answer, distance):
    assert truth(*outcome) == answer
    assert boundary_distance(*outcome) == pytest.approx(distance)


@given(accuracies, accuracies, accuracies)
def test_truth_cannot_change_within_the_distance(student, sft, opd):
    near = boundary_distance(student, sft, opd) * 0.499
    for a, b in itertools.product((-near, near), repeat=2):
        assert truth(student, sft + a, opd + b) == truth(student, sft, opd)


@settings(max_examples=40)
@given(
    st.data(), accuracies, accuracies, st.lists(accuracies, max_size=3), st.none() | accuracies,
    st.none() | st.floats(-1, 1), st.none() | st.floats(-1, 50), st.sampled_from(MODELS),
)  # fmt: skip
def test_probabilities_sum_to_one_whatever_is_missing(data, student, expert, sft, opd, takeover, reverse, model):
    full = evidence(student, expert, tuple(sft), opd, takeover, reverse)
    kept = {k: v for k, v in full.measures.items() if data.draw(st.booleans(), label=k)}
    odd = data.draw(st.sampled_from([math.nan, math.inf, 0.3]), label="odd")
    kept["tilt_ceiling"] = Estimate(odd, 0.0, 1.0, 1, "accuracy", "one prompt: no interval")
    e = dataclasses.replace(full, measures=kept, has_verifier=data.draw(st.booleans(), label="verifier"))
    verdict = judge(e, model)
    assert set(verdict.probabilities) == set(ANSWERS)
    assert math.isclose(sum(verdict.probabilities.values()), 1, abs_tol=1e-9)
    assert all(0 <= x <= 1 for x in verdict.probabilities.values())
    assert verdict.reasons
    assert verdict.would_change
    assert Verdict.from_dict(verdict.to_dict()) == verdict
    if verdict.answer != "undecided":
        assert verdict.probabilities[verdict.answer] == max(verdict.probabilities.values())
        assert verdict.probabilities[verdict.answer] >= model.confidence
    for name in ("sft", "opd"):
        if name in verdict.expected:
            e = verdict.expected[name]
            assert 0 <= e.low <= e.value <= e.high <= 1


@pytest.mark.parametrize("model", MODELS, ids=names())
def test_moves_the_right_way(model):
    opd = [p(evidence(opd=x, reverse=6.0), model) for x in (0.3, 0.4, 0.5, 0.6, 0.7)]
    assert sorted(q["go online"] for q in opd) == [q["go online"] for q in opd]
    assert opd[-1]["go online"] > opd[0]["go online"] + 0.1
    sft = [p(evidence(sft=(0.4, 0.4, x)), model) for x in (0.3, 0.4, 0.5, 0.6, 0.7)]
    assert sorted((q["go online"] for q in sft), reverse=True) == [q["go online"] for q in sft]
    room = [
        p(evidence(expert=x, sft=(0.4,) * 3, opd=0.4, takeover=0.0, tilt=0.4), model) for x in (0.3, 0.45, 0.6, 0.8)
    ]
    assert sorted((q["neither"] for q in room), reverse=True) == [q["neither"] for q in room]
    takeover = [p(evidence(takeover=x), model)["go online"] for x in (0.0, 0.1, 0.3, 0.5)]
    assert takeover[-1] >= takeover[0] - 0.02


@pytest.mark.parametrize("model", MODELS, ids=names())
def test_obvious_cases(model):
    """The model in use decides them; the prior, which is wider, at least leans in the right direction."""

    def leaning(e):
        verdict = judge(e, model)
        q = verdict.probabilities
        assert model.name == "prior" or verdict.answer != "undecided"
        return max((a for a in ANSWERS if a != "undecided"), key=lambda a: q[a])

    reached = evidence(expert=0.8, sft=(0.6, 0.72, 0.8), opd=0.78, reverse=0.05, forward=(0.3, 0.1, 0.05))
    assert leaning(reached) == "offline suffices"
    stuck = evidence(
        expert=0.9, sft=(0.4, 0.41, 0.4), opd=0.8, reverse=9.0, forward=(1.4, 1.4, 1.4), tilt=0.8, takeover=0.4
    )
    assert leaning(stuck) == "go online"
    none = evidence(student=0.6, expert=0.55, sft=(0.6, 0.59, 0.58), opd=0.58, takeover=-0.02, tilt=0.58, reverse=0.4)
    assert leaning(none) == "neither"


@pytest.mark.parametrize("model", MODELS, ids=names())
def test_a_large_forward_kl_alone_changes_nothing(model):
    """It is no evidence against SFT: an unpredictable style costs nats and no accuracy."""
    small, large = (evidence(forward=(), sft=(), opd=None, reverse=None, start=x) for x in (0.5, 17.0))
    assert p(small, model) == p(large, model)
    # the same share of it removed by the pilots: the same verdict
    a = evidence(start=2.0, forward=(1.6, 1.3, 1.0))
    b = evidence(start=20.0, forward=(16.0, 13.0, 10.0))
    assert p(a, model) == pytest.approx(p(b, model))


@pytest.mark.parametrize("model", MODELS, ids=names())
def test_reverse_kl_that_sft_removes_separates_realizable_from_not(model):
    near, far = (evidence(reverse=x) for x in (0.2, 8.0))
    assert judge(near, model).expected["sft"].value > judge(far, model).expected["sft"].value
    assert p(near, model)["go online"] < p(far, model)["go online"]


@pytest.mark.parametrize("model", MODELS, ids=names())
def test_an_expert_that_harms_where_the_student_is_gets_no_confident_go_online(model):
    tempting = {"student": 0.4, "expert": 0.95, "sft": (0.4, 0.4, 0.4), "opd": 0.8, "reverse": 9.0, "tilt": 0.8}
    assert judge(evidence(takeover=0.3, **tempting), model).answer == "go online"
    harmed = judge(evidence(takeover=-0.2, **tempting), model)
    assert harmed.answer != "go online"
    assert harmed.probabilities["go online"] < model.confidence
    assert any("held back" in r for r in harmed.reasons)


@pytest.mark.parametrize("model", MODELS, ids=names())
def test_an_expert_that_prefers_wrong_completions_needs_a_pilot_that_gains(model):
    base = evidence(expert=0.95, opd=None, takeover=0.4, tilt=0.8, sft=(0.4, 0.4, 0.4), reverse=9.0)
    wrong = dataclasses.replace(base, measures=base.measures | {"gap_nats": est(-1.0, 0.3, "nats")})
    assert judge(wrong, model).answer != "go online"


def seen(e: Evidence):
    q = features(e)
    assert q is not None
    return q


def test_noisier_evidence_counts_less_and_widens():
    model = load()
    a, b = (model.forecast(seen(evidence(half=half))) for half in (0.01, 0.3))
    assert b.gain_scale > a.gain_scale
    assert b.lead_scale > a.lead_scale
    assert Feature(0.1, 0.2).damped < Feature(0.1, 0.1).damped == pytest.approx(0.05)
    assert Feature(-0.1, 1e-6).damped == pytest.approx(-0.1)


@pytest.mark.parametrize("model", MODELS, ids=names())
def test_an_expert_in_hand_is_forecast_sharply(model):
    """The part of the gap that pilots close depends on data; the rest is uncertain."""
    near, far = (model.forecast(seen(evidence(reverse=x))) for x in (0.1, 8.0))
    assert near.features.reach > 0.9 > 0.2 > far.features.reach
    assert near.lead_scale < far.lead_scale
    assert near.gain_scale < far.gain_scale


def test_the_draws_have_the_forecast_s_locations_and_correlation():
    ahead = load().forecast(seen(evidence()))
    ahead = dataclasses.replace(ahead, gain=0.02, gain_scale=0.01, lead=0.03, lead_scale=0.02, correlation=-0.5)
    sft, opd = draws(ahead, 0.5, 1e6)
    assert (np.median(sft), np.median(opd - sft)) == pytest.approx((0.52, 0.03), abs=1e-3)
    assert (np.std(sft), np.std(opd - sft)) == pytest.approx((0.01, 0.02), rel=0.02)
    assert np.corrcoef(sft, opd - sft)[0, 1] == pytest.approx(-0.5, abs=0.04)
    assert np.std(draws(ahead, 0.5, 4.0)[0]) > 1.2 * np.std(sft), "fatter tails"


def test_two_measurements_are_pooled_by_their_precision():
    both = pooled(Feature(0.4, 0.02), Feature(0.6, 0.04))
    assert both is not None
    assert both.value == pytest.approx(0.44)
    assert both.error == pytest.approx(0.02 * 0.8**0.5)
    assert pooled(None, Feature(0.6, 0.04)) == Feature(0.6, 0.04)


def test_the_pilots_own_samples_count():
    """Expert samples of the SFT pilot and student samples of the online pilot are verified, so they count."""
    base = evidence()
    extra = {"expert_at_work": est(0.7, 0.01), "online_accuracy": est(0.62, 0.01), "online_trend": est(0.05, 0.01)}
    more = seen(dataclasses.replace(base, measures=base.measures | extra))
    assert 0.7 < more.expert.value < 0.72
    assert more.opd.value > seen(base).opd.value + 0.05
    assert more.opd_trend.value == pytest.approx(0.05)


def test_where_nothing_was_ever_right_the_expert_counts_for_nothing():
    dead = seen(evidence(student=0.0, sft=(0.0, 0.0, 0.0), opd=0.0))
    assert dead.life == 0
    assert 0.9 < seen(evidence()).life < 1


def test_no_pilots_no_confidence():
    base = evidence(sft=(), opd=None)
    assert judge(base).answer in ("undecided", "neither")


def test_without_a_verifier_it_says_what_it_can():
    base = dataclasses.replace(evidence(reverse=0.1, forward=(0.4, 0.2, 0.1)), has_verifier=False)
    verdict = judge(base)
    assert verdict.answer == "undecided"
    assert verdict.probabilities["undecided"] == 1
    assert any("offline suffices" in r for r in verdict.reasons)


def test_a_black_box_expert_is_judged_with_a_wider_forecast():
    full = evidence()
    black = dataclasses.replace(evidence(reverse=None, tilt=None, start=None, opd=None), capabilities=("sample",))
    a, b = (judge(e).expected["opd"] for e in (full, black))
    assert b.high - b.low > a.high - a.low
    assert any("black box" in r for r in judge(black).reasons)


def test_control_pilots_are_not_part_of_the_curve():
    base = evidence()
    control = PilotPoint("sft", 6400, 800, est(0.9), est(0.1), est(0.1), "twice the steps")
    more = dataclasses.replace(base, pilots=(*base.pilots, control))
    assert judge(more).probabilities == judge(base).probabilities


def test_gains_are_paired_with_the_start_on_the_pilots_prompts():
    start = PilotPoint("sft", 0, 0, est(0.35), est(2.0), est(3.0), "start")
    base = evidence()
    assert seen(base).sft.value == pytest.approx(0.1)
    paired = dataclasses.replace(base, pilots=(start, *base.pilots))
    assert seen(paired).sft.value == pytest.approx(0.15)


# --- fit -------------------------------------------------------------------------------------------------


def _cases(slope: float, n: int = 200, noise: float = 0.02) -> list[Case]:
    rng = np.random.default_rng(0)
    cases = []
    for i in range(n):
        gain, other = rng.normal(0, 0.15, 2)
        base = evidence(
            0.5, 0.5 + rng.normal(0, 0.2), (0.5 + gain,) * 3, 0.5 + other, None, None, (1.0,) * 3, None, None, 0.01
        )
        sft = 0.5 + slope * gain + rng.normal(0, noise)
        cases.append(Case(f"s{i // 2}", base, 0.5, sft, sft + 0.8 * (other - gain) + rng.normal(0, noise)))
    return cases


def slope(model: VerdictModel, which: str, name: str, kind: str = "all") -> float:
    return model.lines[kind][which].slopes[list(TERMS[which]).index(name)]


def test_fit_finds_the_slopes_and_the_size_of_the_errors():
    cases = _cases(1.5)
    model = fit(cases, load("prior"), weight=0.1)
    assert slope(model, "sft", "gain") == pytest.approx(1.5, abs=0.1)
    assert slope(model, "sft", "far") == pytest.approx(0, abs=0.1)
    assert slope(model, "lead", "lead") == pytest.approx(0.8, abs=0.1)
    ahead = [model.forecast(seen(c.evidence)) for c in cases]
    z = [(c.sft - c.student - a.gain) / a.gain_scale for c, a in zip(cases, ahead)]
    spread = math.sqrt(model.freedom / (model.freedom - 2))  # of a t whose scale is 1
    assert np.std(z) == pytest.approx(spread, rel=0.25)
    assert abs(model.correlation["all"]) < 0.2


def test_fit_learns_what_less_evidence_is_worth():
    """Without the online pilot, the lead is forecast less sharply."""
    model = fit(_cases(1.0), load("prior"), weight=0.1)
    base = _cases(1.0, 1)[0].evidence
    blind = dataclasses.replace(base, pilots=tuple(x for x in base.pilots if x.kind != "opd"))
    assert model.forecast(seen(blind)).lead_scale > 2 * model.forecast(seen(base)).lead_scale


def test_fit_with_few_rows_stays_near_its_prior_and_needs_rows():
    prior = load("prior")
    few = fit(_cases(1.5, 4), prior, weight=1e6)
    for kind in VARIANTS:
        for which in TERMS:
            assert few.lines[kind][which].slopes == pytest.approx(prior.lines[kind][which].slopes, abs=1e-2)
    with pytest.raises(UserError):
        fit([], prior)


def test_a_model_survives_json_and_a_foreign_one_is_refused(tmp_path):
    model = fit(_cases(1.0, 20), load("prior"), name="mine")
    again = VerdictModel.from_dict(model.to_dict())
    assert again.to_dict() == model.to_dict()
    assert p(evidence(), again) == pytest.approx(p(evidence(), model), abs=2e-3)
    with pytest.raises(UserError):
        VerdictModel.from_dict(model.to_dict() | {"terms": {"sft": ["other"]}})
    with pytest.raises(UserError):
        find(str(tmp_path / "none.json"))


def test_the_prior_in_the_package_is_the_one_that_is_stated():
    from understudy.calibrate.prior import prior

    assert load("prior").to_dict() == prior().to_dict()


@pytest.mark.parametrize("model", MODELS, ids=names())
def test_without_headroom_the_answer_is_neither(model):
    level = evidence(student=0.4, expert=0.41, half=0.02, sft=(0.4, 0.41, 0.42), opd=0.42, tilt=0.41)
    verdict = judge(level, model)
    assert verdict.answer == "neither"
    assert verdict.probabilities["neither"] >= 0.95
    stopped = judge(evidence(student=0.4, expert=0.41, half=0.02, sft=(), opd=None, tilt=0.41), model)
    assert stopped.answer == "neither"
    assert not [r for r in stopped.reasons if "no answer" in r or "held back" in r], "it has an answer"
    ranks = evidence(student=0.4, expert=0.41, half=0.02, sft=(0.4, 0.41, 0.42), opd=0.42, tilt=0.7)
    assert "headroom gate" not in judge(ranks, model).rule, "its scores are worth more than its answers"
    assert "no training" in judge(ranks, model).reasons[0]
    assert "no training" not in judge(evidence(student=0.4, expert=0.44, half=0.02), model).reasons[0], "it may be .06"


@pytest.mark.parametrize("model", MODELS, ids=names())
def test_where_nothing_is_ever_right_no_route_is_promised(model):
    dead = evidence(student=0.0, expert=0.9, sft=(0.0, 0.0, 0.0), opd=0.0, takeover=0.5, half=0.01)
    verdict = judge(dead, model)
    assert verdict.answer in ("undecided", "neither")
    assert any("ever right" in reason for reason in verdict.reasons) or verdict.answer == "neither"


def test_no_online_forecast_where_online_is_impossible():
    black_box = dataclasses.replace(evidence(opd=None), capabilities=("sample",))
    assert "online 0" not in judge(black_box).reasons[0]
    assert "online 0" in judge(evidence()).reasons[0]
