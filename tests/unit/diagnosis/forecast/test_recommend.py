"""Routes from known cases by hand, and a recommendation whatever the verdict and the evidence are."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnosis_by_hand import black_box, diagnosis, nearly_nothing, stopped, undecided, without_verifier, write
from rich.console import Console

from understudy.diagnosis.cost import of_routes
from understudy.diagnosis.forecast import analogs as known
from understudy.diagnosis.forecast.advice import advice, auto, headline
from understudy.diagnosis.forecast.analogs import FIRST, ROUTES, Analogs, Case
from understudy.diagnosis.forecast.judge import judge
from understudy.diagnosis.forecast.recommend import recommend, recommended
from understudy.diagnosis.screen import show
from understudy.diagnosis.types import Cost, Diagnosis, Estimate, Recommendation, RouteForecast
from understudy.errors import UserError
from understudy.report.diagnosis import page

MIXED = Case("a", 0, 0.3, 0.9, 0.5, 0.6, {FIRST: 0.45, "sft": 0.55, "gkd": 0.65, "sft+opd": 0.4, "sft+gkd": 0.7,
                                          "gkd_reward": 0.68})  # fmt: skip
FAR = Case("b", 0, 0.3, 0.9, 0.7, 0.1, {FIRST: 0.6, "sft": 0.75, "gkd": 0.5, "sft+opd": 0.0, "sft+gkd": 0.8,
                                        "gkd_reward": 0.9})  # fmt: skip
EXACT: dict[str, Any] = {"even": 0.0, "noise": 0.0, "width": 0.01}


def drawn(analogs: Analogs, sft: float, opd: float, points: int = 400) -> dict[str, Any]:
    return analogs.draw(0.3, 0.9, np.full(points, sft), np.full(points, opd))


def test_the_only_case_gives_its_shifts() -> None:
    """S = .4, O = .7 here: offline shifts apply to .4, the others to .7."""
    seen = drawn(Analogs((MIXED,), noise=0.0), 0.4, 0.7)
    want = {"nothing": 0.3, "opd": 0.7, FIRST: 0.35, "sft": 0.45, "gkd": 0.75, "sft+opd": 0.5, "sft+gkd": 0.8,
            "gkd_reward": 0.78}  # fmt: skip
    assert set(seen) == {*ROUTES, FIRST}
    for name, value in want.items():
        assert seen[name] == pytest.approx(value)


def test_the_nearer_case_counts_and_the_even_part_is_shared_by_scenarios() -> None:
    both = Analogs((MIXED, FAR, dataclasses.replace(FAR, seed=1)), **EXACT)
    assert drawn(both, 0.5, 0.6)["sft+opd"] == pytest.approx(0.4)
    assert drawn(both, 0.7, 0.1)["sft+opd"] == pytest.approx(0.0)
    even = dataclasses.replace(both, even=1.0)
    assert (drawn(even, 0.5, 0.6)["sft+opd"] == pytest.approx(0.4)) is False
    share = float((drawn(even, 0.5, 0.6)["sft+opd"] > 0.3).mean())
    assert share == pytest.approx(0.5, abs=0.02)  # scenario a, although b has two seeds
    assert drawn(both.without("b"), 0.7, 0.1)["sft+gkd"] == pytest.approx(0.8)


def test_routes_of_a_case_stay_together_and_errors_do_not() -> None:
    """The same case is drawn for all routes of a point: where one collapses, the other is that case's too."""
    seen = drawn(Analogs((MIXED, FAR), even=1.0, noise=0.0), 0.5, 0.6)
    collapsed = seen["sft+opd"] < 0.1
    assert 0.4 < collapsed.mean() < 0.6
    assert seen["sft+gkd"][collapsed] == pytest.approx(0.7)  # .6 + (.8 - .7)
    noisy = drawn(Analogs((MIXED,), noise=0.05), 0.5, 0.6, 4096)
    assert noisy["gkd"].std() == pytest.approx(0.05, rel=0.05)
    assert abs(np.corrcoef(noisy["gkd"], noisy["sft+gkd"])[0, 1]) < 0.05


def test_a_route_that_was_not_trained_stands_at_the_mean_of_the_others() -> None:
    missing = dataclasses.replace(MIXED, scenario="c", ends={"sft": 0.55})
    rows = Analogs((MIXED, FAR, missing)).filled()
    assert rows[2] == pytest.approx([-0.075, 0.05, -0.075, -0.45, 0.1, 0.14])
    old = [dataclasses.replace(c, ends={k: x for k, x in c.ends.items() if k != "gkd_reward"}) for c in (MIXED, FAR)]
    assert Analogs(tuple(old)).filled()[:, known.SHIFTED.index("gkd_reward")] == pytest.approx([0.0, 0.0])


def test_cases_survive_their_file_and_others_are_refused(tmp_path: Path) -> None:
    a = Analogs((MIXED, dataclasses.replace(FAR, ends={"sft": 0.75})), source="by hand")
    again = Analogs.from_dict(json.loads(known.packed(a)))
    assert again.cases[0] == MIXED
    assert again.cases[1].ends["sft"] == 0.75
    assert math.isnan(again.cases[1].ends["gkd"])
    for broken in ({}, {"ends": list(known.SHIFTED)}, a.to_dict() | {"cases": []}, a.to_dict() | {"cases": [[1]]}):
        with pytest.raises(UserError):
            Analogs.from_dict(broken)
    assert len(known.load().cases) >= 15


# --- the recommendation ----------------------------------------------------------------------------------


def judged(data: dict[str, Any]) -> Diagnosis:
    """By the rule in use, without a recommendation."""
    d = Diagnosis.from_dict(data)
    return dataclasses.replace(d, verdict=judge(d.evidence))


def priced(d: Diagnosis) -> Diagnosis:
    facts = {
        "lengths": {"prompt": 10.0, "student": 20.0, "expert": 15.0}, "parameters": {"student": 3e6, "expert": 5e6},
        "paces": {"sft": Cost(0, 0, 0, 1000, 1.0, 2.0).to_dict(), "opd": Cost(0, 0, 0, 1000, 1.0, 6.0).to_dict()},
        "device_flops": 0.0,
    }  # fmt: skip
    return dataclasses.replace(d, setting=d.setting | facts)


@pytest.mark.parametrize("make", [diagnosis, undecided, without_verifier, black_box, stopped])
def test_there_is_always_a_recommendation(make: Any) -> None:
    d = recommended(priced(Diagnosis.from_dict(make())))
    r = d.recommendation
    assert r is not None
    assert r.route in [x.route for x in r.routes]
    assert advice(d) is not None
    assert Diagnosis.from_dict(json.loads(json.dumps(d.to_dict()))).to_dict() == d.to_dict()
    text = headline(r)
    assert text.startswith(("SFT", "OPD", "GKD", "Do not train"))
    rows = {x.route: x for x in r.routes}
    assert ("gkd_reward" in rows) is ("gkd" in rows and d.evidence.has_verifier)
    assert "updates will show" in text or r.route == "nothing"


def test_the_best_mean_is_advised_and_regret_is_against_the_best_of_each_point() -> None:
    d = judged(undecided())
    worse = dataclasses.replace(MIXED, ends={**MIXED.ends, "gkd_reward": 0.5})
    r = recommend(d.evidence, d.verdict, "opd_full", analogs=Analogs((worse,), noise=0.0))
    assert r.route == "sft+gkd"  # .1 above the better one, always
    assert r.online == "gkd"
    top = r.of("sft+gkd")
    other = r.of("sft+opd_full")
    assert top is not None
    assert other is not None
    assert top.regret == pytest.approx(0.0, abs=0.01)  # only points where accuracies are cut off at 1 or 0
    assert 0.25 < other.regret < 0.31  # .3 below, less where both are cut off
    assert r.adds > 0.99
    assert r.visible == 20  # 1280 rollouts of 64


def test_a_mixture_with_rewards_is_one_phase_from_the_student() -> None:
    """.02 below SFT and then GKD in every point: preferred all the same."""
    d = judged(undecided())
    r = recommend(d.evidence, d.verdict, "opd_full", analogs=Analogs((MIXED,), noise=0.0))
    top = r.of(r.route)
    assert (r.route, r.online, r.first) == ("gkd_reward", "gkd_reward", None)
    assert top is not None
    assert top.expected is not None
    assert 0.015 < top.regret < 0.021
    assert r.adds > 0.9  # to the student, not to SFT
    value, now = (f"{100 * x:.0f}%" for x in (top.expected.value, r.now))
    assert headline(r).startswith(f"GKD + reward from the student as it is ({value} expected, {now} now): ")
    assert "likely to add more than 5 points" in headline(r)


def test_an_expert_that_allows_less_is_offered_less() -> None:
    d = judged(diagnosis())
    names = [x.route for x in recommend(d.evidence, d.verdict, "opd_full").routes]
    assert names == ["nothing", "sft", "opd_full", "gkd", "gkd_reward", "sft+opd_full", "sft+gkd"]
    names = [x.route for x in recommend(d.evidence, d.verdict, "opd").routes]
    assert names == ["nothing", "sft", "opd", "sft+opd"]  # no distribution: no gkd
    d = recommended(priced(judged(black_box())))
    assert d.recommendation is not None
    assert [x.route for x in d.recommendation.routes] == ["nothing", "sft"]
    sft = d.recommendation.of("sft")
    assert sft is not None
    assert sft.expected is not None
    assert sft.expected.value == pytest.approx(d.verdict.expected["sft"].value)  # the budget is that of SFT
    assert sft.updates == (200,)


def test_without_headroom_or_gain_no_training_is_advised() -> None:
    d = recommended(Diagnosis.from_dict(stopped()))
    assert d.recommendation is not None
    assert d.recommendation.route == "nothing"
    assert headline(d.recommendation).startswith("Do not train toward this expert: no route is expected to gain")
    assert all(x.expected.value <= 0.41 + 0.05 + 1e-9 for x in d.recommendation.routes if x.expected)
    harmful = dataclasses.replace(MIXED, ends=dict.fromkeys(known.SHIFTED, 0.0))
    d = judged(diagnosis())
    assert recommend(d.evidence, d.verdict, "opd_full", analogs=Analogs((harmful,))).route == "opd_full"


def test_without_a_reward_the_known_cases_decide() -> None:
    d = judged(without_verifier())
    r = recommend(d.evidence, d.verdict, "opd_full", analogs=Analogs((MIXED, FAR)))
    assert r.route == "sft+gkd"
    assert "gkd_reward" not in [x.route for x in r.routes]
    assert [round(x.regret, 6) for x in r.routes] == [0.45, 0.1, 0.4, 0.175, 0.55, 0.0]
    assert all(x.expected is None for x in r.routes)
    assert r.adds == 1.0
    assert math.isnan(r.now)


def test_the_first_line_by_hand() -> None:
    def estimate(value: float) -> Estimate:
        return Estimate(value, value, value, 0, "accuracy", "by hand")

    rows = tuple(RouteForecast(name, estimate(v), 0.0, 0.0, u) for name, v, u in
                 (("nothing", 0.3, ()), ("sft", 0.44, (200,)), ("opd_full", 0.63, (150,))))  # fmt: skip
    two = Recommendation("sft+opd_full", rows, estimate(0.44), "opd_full", 0.78, 20, 0.3)
    assert headline(two) == (
        "SFT first (44% expected), then try OPD: 78% likely to add more than 5 points; 20 updates will show it"
    )
    assert headline(dataclasses.replace(two, route="opd_full", first=None, adds=0.9)) == (
        "OPD from the student as it is (63% expected, 30% now): 90% likely to add more than 5 points; "
        "20 updates will show it"
    )
    assert headline(dataclasses.replace(two, route="sft", first=None, online="gkd", adds=0.12)) == (
        "SFT for the whole budget (44% expected, 30% now); GKD for its second half is 12% likely to add more than "
        "5 points, and 20 updates will show it"
    )
    assert headline(dataclasses.replace(two, route="sft", first=None, online="", adds=math.nan)) == (
        "SFT for the whole budget (44% expected, 30% now); 50 updates will show whether it gains"
    )


def test_costs_by_hand() -> None:
    """Prompts 10, completions 20 and 15 tokens, 3 and 5 weights, 4 sequences an update, 100 updates of opd_full."""
    out = of_routes(
        ["nothing", "sft", "opd_full", "sft+opd_full"], "opd_full", 100, 4, {"prompt": 10, "student": 20, "expert": 15},
        {"student": 3, "expert": 5}, {"sft": Cost(0, 0, 0, 10, 0.0, 1.0)},
    )  # fmt: skip
    online = 4 * 30 * (2 * 3 + 2 * 5 + 6 * 3)
    offline = 4 * 25 * (2 * 5 + 6 * 3)
    assert out["nothing"] == ((), Cost())
    updates, cost = out["opd_full"]
    assert updates == (100,)
    assert cost.flops == 100 * online
    assert cost.student_tokens_trained == 100 * 4 * 20
    n = round(100 * online / offline)
    assert out["sft"][0] == (n,)
    assert out["sft"][1].seconds == pytest.approx(n * 4 * 15 / 10)
    after = 4 * 25 * (2 * 3 + 2 * 5 + 6 * 3)  # completions as long as the expert's
    assert out["sft+opd_full"][0] == (round(50 * online / offline), round(50 * online / after))
    assert math.isnan(out["sft+opd_full"][1].seconds)  # no online pilot, no pace


def test_costs_of_a_mixture_with_rewards_by_hand() -> None:
    """As above, with 8 sequences an update: 2 prompts of 4 completions, half of them by the expert (15 tokens) and half
    by the student (20); the expert scores, and the student learns, all of them."""
    routes, both = ["gkd", "gkd_reward"], {"sft": Cost(0, 0, 0, 10, 0.0, 1.0), "opd": Cost(0, 0, 0, 10, 0.0, 3.0)}
    lengths, weights = {"prompt": 10, "student": 20, "expert": 15}, {"student": 3, "expert": 5}
    out = of_routes(routes, "opd_full", 100, 8, lengths, weights, both)
    total = 100 * 8 * 30 * (2 * 3 + 2 * 5 + 6 * 3)
    text = 8 * 17.5
    mixed = (2 * 5 * (10 + 4 * 15) + 2 * 3 * (10 + 4 * 20)) + (2 * 5 + 6 * 3) * (2 * 10 + text)
    (updates,), cost = out["gkd_reward"]
    assert updates == round(total / mixed)
    assert cost.flops == pytest.approx(updates * mixed)
    assert cost.student_tokens_trained == round(updates * text)
    assert cost.seconds == pytest.approx(updates * text * 0.2)  # half at the pace of each pilot
    assert out["gkd"][0][0] < updates  # it reads every prompt for one completion
    only = of_routes(routes, "opd_full", 100, 8, lengths, weights, {"opd": both["opd"]})
    assert math.isnan(only["gkd_reward"][1].seconds)
    assert of_routes(["gkd_reward"], "opd_full", 9, 2, lengths, weights, both)["gkd_reward"][0][0] > 0  # one prompt


# --- where it is shown -----------------------------------------------------------------------------------


def test_screen_and_page_begin_with_the_same_line(tmp_path: Path) -> None:
    d = recommended(priced(Diagnosis.from_dict(undecided())))
    assert d.recommendation is not None
    said = headline(d.recommendation)
    console = Console(width=80, file=io.StringIO(), record=True)
    show(d, console)
    screen = [line.rstrip() for line in console.export_text().splitlines()]
    assert max(map(len, screen)) <= 80
    assert not [line for line in screen if "…" in line]
    text = " ".join(" ".join(screen).split())
    assert text.startswith(f"{said} Undecided between SFT and OPD")
    assert "`understudy auto` would" in text
    for route in ("no training", "SFT, then OPD", "SFT, then GKD", "> GKD + reward"):
        assert [line for line in screen if line.strip().startswith(route)], route
    html = page.build(write(tmp_path, d.to_dict())).read_text()
    assert f"<h1>{said}</h1>" in html
    assert "GKD + reward <span" in html
    assert "`understudy auto` would" in html


def test_what_auto_would_do_follows_its_first_rule() -> None:
    """An expert that is often wrong is passed by rewards, else online if it soon shows; samples of a good one come
    first."""
    d = recommended(priced(Diagnosis.from_dict(undecided())))
    assert d.recommendation is not None
    for right, rewards, words in (
        (0.6, True, "would train GKD + reward from the student, with SFT where a guard stops that, and keep the best."),
        (
            0.95,
            True,
            "would begin with SFT and go on with it where it soon gains 10 points, else with GKD + reward, and",
        ),
        (0.6, False, "would try OPD, keep it if it soon has the expert's 60%, else go on with GKD"),
        (0.95, False, "would begin with SFT and go on with GKD (with OPD from the student where SFT lowers"),
    ):
        expert = Estimate(right, right - 0.05, right + 0.05, 99, "accuracy", "by hand")
        assert words in auto(d.recommendation, expert, rewards), right
    scored = dataclasses.replace(d.recommendation, online="opd")
    assert "SFT and go on with OPD (with OPD from" in auto(scored, expert)


def test_rewards_are_spoken_of_where_there_are_some() -> None:
    d = recommended(priced(Diagnosis.from_dict(undecided())))
    without = dataclasses.replace(d, evidence=dataclasses.replace(d.evidence, has_verifier=False))
    scores = dataclasses.replace(d, setting=d.setting | {"online": "opd"})
    for made, said in ((d, True), (without, False), (scores, False)):
        words = advice(made)
        assert words is not None
        assert ("GKD + reward" in words.auto) is said


def test_a_diagnosis_of_an_earlier_version_is_read_and_gets_one_when_it_is_made_again() -> None:
    old = Diagnosis.from_dict(diagnosis())
    assert old.recommendation is None
    assert advice(old) is None
    assert Diagnosis.from_dict(nearly_nothing(), tolerant=True).recommendation is None
    new = recommended(old)
    assert new.recommendation is not None
    assert all(r.cost is None for r in new.recommendation.routes)  # it holds no lengths
    assert recommended(new) == new
