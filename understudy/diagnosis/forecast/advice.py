"""A recommendation in words, the same for the terminal and for the page. Needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from understudy.diagnosis.codec import finite
from understudy.diagnosis.forecast.explain import chance, chances, likeliest
from understudy.diagnosis.outcome import ACCURATE, MARGIN, NEITHER, OFFLINE, OFTEN_WRONG, ONLINE, SOON, UNDECIDED
from understudy.diagnosis.types import Cost, Diagnosis, Estimate, Recommendation, RouteForecast
from understudy.evaluation.numbers import count, duration, large, percent

METHODS = {"sft": "SFT", "opd": "OPD", "opd_full": "OPD", "gkd": "GKD", "gkd_reward": "GKD + reward"}
NOTHING = "no training"
MEANINGS = {
    OFFLINE: "with equal updates OPD does not end clearly above SFT",
    ONLINE: "with equal updates OPD ends clearly above SFT",
    NEITHER: "neither SFT nor OPD gains clearly",
}
LITTLE = 0.01
FIRST_LOOK = 4
"""SFT alone is looked at after this part of its updates."""


@dataclass(frozen=True)
class Advice:
    headline: str
    """What to do now, what to expect, and how soon the next decision is visible."""
    certainty: str
    """How far the verdict carries it, and what following it is expected to lose."""
    auto: str
    """What `understudy auto` would do."""
    rests: str
    """What the numbers rest on."""


def advice(d: Diagnosis) -> Advice | None:
    """None: the diagnosis of an earlier version holds no recommendation."""
    r = d.recommendation
    if r is None:
        return None
    rewards = d.evidence.has_verifier and d.setting.get("online", "opd_full") == "opd_full"
    does = auto(r, d.evidence.measures.get("expert_accuracy"), rewards)
    return Advice(headline(r), _certainty(d, r), does, f"It rests on {r.rests}.")


def name(route: str) -> str:
    """ "SFT, then OPD" """
    return NOTHING if route == "nothing" else ", then ".join(METHODS.get(m, m) for m in route.split("+"))


def headline(r: Recommendation) -> str:
    """One line."""
    row, points = r.of(r.route), f"{100 * MARGIN:g} points"
    if r.route == "nothing":
        return f"Do not train toward this expert{_nothing(r)}"
    phases = r.route.split("+")
    method, online = METHODS.get(phases[0], phases[0]), METHODS.get(r.online, r.online)
    seen = f"{r.visible} updates will show it"
    if len(phases) > 1:
        likely = f": {chance(r.adds)} likely to add more than {points}" if math.isfinite(r.adds) else ""
        return f"{method} first{_expected(r.first)}, then try {online}{likely}; {seen}"
    whole = _expected(row.expected if row else None, r.now)
    likely = f"{chance(r.adds)} likely to add more than {points}" if math.isfinite(r.adds) else ""
    if phases[0] != "sft":
        return f"{method} from the student as it is{whole}{': ' + likely if likely else ''}; {seen}"
    if likely:
        return f"{method} for the whole budget{whole}; {online} for its second half is {likely}, and {seen}"
    updates = f"{math.ceil(row.updates[0] / FIRST_LOOK)} updates" if row and row.updates else "a quarter of it"
    return f"{method} for the whole budget{whole}; {updates} will show whether it gains"


def _expected(e: object, now: float = math.nan) -> str:
    value = getattr(e, "value", math.nan)
    if not math.isfinite(value):
        return ""
    return f" ({percent(value, 0)} expected{f', {percent(now, 0)} now' if math.isfinite(now) else ''})"


def _nothing(r: Recommendation) -> str:
    known = [x for x in r.routes if x.route != "nothing" and x.expected is not None]
    if not known or not math.isfinite(r.now):
        return ""
    best = max(known, key=lambda x: x.expected.value if x.expected else 0.0)
    assert best.expected is not None
    gain = best.expected.value - r.now
    about = f"{name(best.route)}, {percent(best.expected.value, 0)}, from {percent(r.now, 0)} now"
    much = f"more than {100 * MARGIN:g} points" if gain > LITTLE else "anything"
    return f": no route is expected to gain {much} (best: {about})"


def _certainty(d: Diagnosis, r: Recommendation) -> str:
    row = r.of(r.route)
    lost = ""
    if row is not None and math.isfinite(row.regret):
        others = [x for x in r.routes if x.route != r.route]
        lost = f"Following the advice is expected to end {100 * row.regret:.1f} points below the best of the routes"
        if others:
            other = min(others, key=lambda x: x.regret)
            lost += f"; {name(other.route)} instead, {100 * other.regret:.1f}"
        lost += "."
    p, answer = chances(d.verdict), d.verdict.answer
    if not d.evidence.has_verifier:
        return f"Undecided: no reward is known, so nothing is forecast for this student. {lost}".strip()
    if answer != UNDECIDED:
        sure = f" ({chance(p[answer])})" if answer in p else ""
        return f"Verdict: {answer}{sure}: {MEANINGS[answer]}. {lost}".strip()
    best = likeliest(p)
    likely = f", {best}, has {chance(p[best])}" if best and p[best] > 0 else " is not known"
    settles = [line.strip() for line in d.verdict.would_change if line.strip()]
    settle = f" What could settle it: {settles[0]}." if settles else ""
    return f"Undecided between SFT and OPD: the likeliest answer{likely}. {lost}{settle}".strip()


def auto(r: Recommendation, right: Estimate | None = None, rewards: bool = False) -> str:
    """One line, by the rules of routes/policy.py. right: accuracy of the expert; rewards: whether gkd_reward can be
    trained."""
    if r.route == "nothing":
        return "`understudy auto` would measure both again and stop, unless the expert proves better than the student."
    if r.online not in METHODS:
        return "`understudy auto` would train SFT, look at held-out accuracy, and keep the best model."
    mixture = "OPD" if r.online == "opd" else "GKD"  # of an expert that only scores there is no mixture
    wrong = right is not None and right.value < OFTEN_WRONG
    rewarded = METHODS["gkd_reward"]
    if rewards and right is not None and right.value >= ACCURATE:
        do = f"begin with SFT and go on with it where it soon gains {100 * SOON:g} points, else with {rewarded}"
    elif rewards:
        do = f"train {rewarded} from the student, with SFT where a guard stops that"
    elif right is not None and wrong and r.online != "opd":
        do = f"try OPD, keep it if it soon has the expert's {100 * right.value:.0f}%, else go on with {mixture}"
    else:
        do = f"begin with SFT and go on with {mixture} (with OPD from the student where SFT lowers its accuracy)"
    return f"`understudy auto` would {do}, and keep the best."


HEADINGS = ("route, at equal FLOPs", "accuracy expected", "regret", "harm", "updates", "FLOPs", "time")
"""Of the cells of a route."""


def headings(d: Diagnosis) -> tuple[str, ...]:
    """HEADINGS, with one for the money where a price was given."""
    return (*HEADINGS, "money") if any(_price(d)) else HEADINGS


def _price(d: Diagnosis) -> tuple[float, float]:
    """Money per hour, and per million tokens of a server."""
    per_hour, per_million = (finite(d.setting.get(name)) or 0.0 for name in ("price_per_hour", "price_per_million"))
    return per_hour, per_million


def spent(d: Diagnosis, cost: Cost | None) -> tuple[str, ...]:
    """The money of a cost, as a cell; () where no price was given."""
    price = _price(d)
    if not any(price):
        return ()
    amount = cost.money(*price) if cost is not None else math.nan
    return (f"{amount:,.2f}" if math.isfinite(amount) else "",)


def cells(d: Diagnosis, row: RouteForecast) -> tuple[str, ...]:
    """Name, accuracy with interval, expected regret in points, chance of harm, updates of the phases, FLOPs, time, and
    money where a price was given."""
    e, cost = row.expected, row.cost
    shown = "" if e is None else f"{percent(e.value, 0)} [{100 * e.low:.0f}, {100 * e.high:.0f}]"
    updates = " + ".join(count(n) for n in row.updates)
    regret = f"{100 * row.regret:.1f}" if math.isfinite(row.regret) else ""
    harm = "" if row.route == "nothing" or not math.isfinite(row.harm) else chance(row.harm)
    work = ("", "") if cost is None or not cost.flops else (large(cost.flops), duration(cost.seconds, 0))
    return name(row.route), shown, regret, harm, updates, *work, *spent(d, cost)
