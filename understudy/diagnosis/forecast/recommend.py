"""What to do now: a route with its expected accuracy, whatever the verdict says. Needs numpy only.

The forecast gives points of (S, O), the accuracies of SFT and of online training; known cases turn each point into
accuracies of all routes at the same FLOPs (analogs.py). The advised route has the highest mean, and so the least
expected regret, the mean over the points of the best route's accuracy minus its own; the route that is best on average
is advised unless another one leads it clearly. No training is advised at the
headroom gate, and where the best route is expected to gain less than is worth a training.

Without a reward nothing is forecast here: the advice is the route that gained most in the known cases.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from understudy.diagnosis import cost as costs
from understudy.diagnosis.codec import finite
from understudy.diagnosis.forecast import analogs as cases_
from understudy.diagnosis.forecast.analogs import FIRST, HARM, ROUTES, Analogs, Floats, load, mean_best
from understudy.diagnosis.forecast.features import features
from understudy.diagnosis.forecast.judge import draws, interval, no_headroom
from understudy.diagnosis.forecast.model import VerdictModel
from understudy.diagnosis.forecast.model import load as load_model
from understudy.diagnosis.outcome import MARGIN, NEITHER
from understudy.diagnosis.types import Cost, Diagnosis, Evidence, Recommendation, RouteForecast, Verdict

LEAST = 0.01
"""Expected gain below which no training is advised; where the verdict is "neither", MARGIN."""
TIE = 0.005
"""Routes this near to the highest mean are equal: the first of them, the simplest, is advised."""
METHOD = "forecast, and what known cases did"
SOURCES = {
    "all": "pilots of both kinds",
    "no online pilot": "SFT pilots, no online one",
    "black box": "SFT pilots, no scores",
    "no pilots": "measures of the untrained student and the expert, no pilot",
}
"""Kind of evidence -> what the forecast rests on."""


def recommended(d: Diagnosis) -> Diagnosis:
    """The diagnosis with its recommendation. One that is there stays, with the time of its routes worked out again."""
    found = d.recommendation or recommend(d.evidence, d.verdict, d.setting.get("online", "opd_full"), bool(d.stopped))
    spent = _costs([r.route for r in found.routes], d)
    routes = tuple(
        dataclasses.replace(r, updates=spent[r.route][0], cost=spent[r.route][1]) if r.route in spent else r
        for r in found.routes
    )
    return dataclasses.replace(d, recommendation=dataclasses.replace(found, routes=routes))


def recommend(
    evidence: Evidence,
    verdict: Verdict,
    online: str | None = "opd_full",
    stopped: bool = False,
    model: VerdictModel | None = None,
    analogs: Analogs | None = None,
) -> Recommendation:
    """Without costs. online: the online method of the diagnosis; None: the expert allows none. stopped: at the
    headroom gate."""
    analogs, model = analogs or load(), model or load_model()
    if not evidence.scored:
        online = None
    names = [name for name in ROUTES if _possible(name, online, evidence.has_verifier)]
    seen = features(evidence) if evidence.has_verifier else None
    visible = max(1, math.ceil(analogs.visible / (evidence.budget.get("sequences") or 64.0)))
    if seen is None:
        return _by_cases(names, online, analogs, visible)
    forecast = model.forecast(seen)
    now = min(max(seen.student.value, 0.0), 1.0)
    sft, opd = draws(forecast, now, model.freedom)
    drawn = analogs.draw(now, seen.expert.value if seen.expert else math.nan, sft, opd)
    if online is None:  # the budget is that of SFT itself
        drawn["sft"] = sft
    gated = verdict.answer == NEITHER and (stopped or no_headroom(evidence.measures))
    if gated:  # the gate's own statement, which the forecast does not know
        drawn = {name: np.minimum(x, now + MARGIN) for name, x in drawn.items()}
    best = mean_best(drawn, names)
    means = {name: float(drawn[name].mean()) for name in names}
    chosen = _choice(means, verdict, gated)
    rows = tuple(
        RouteForecast(
            _written(name, online), interval(drawn[name], METHOD, seen.student, analogs.stretch),
            float((best - drawn[name]).mean()), float((drawn[name] < now - HARM).mean()),
        ) for name in names
    )  # fmt: skip
    second = _second(chosen, means, online)
    first = None
    if "+" in chosen:
        first = interval(drawn[FIRST], METHOD, seen.student, analogs.stretch)
    adds = _adds(drawn, chosen, second, now)
    return Recommendation(
        _written(chosen, online), rows, first, _written(second, online), adds, visible,
        now, f"{SOURCES[forecast.variant]}, and {_cases(analogs)}", len(analogs.cases),
    )  # fmt: skip


def _possible(name: str, online: str | None, rewards: bool) -> bool:
    """gkd needs the expert's whole distribution, as opd_full does; gkd_reward a verifier too."""
    if "gkd" in name:
        return online == "opd_full" and (rewards or name != "gkd_reward")
    return "opd" not in name or online is not None


def _written(name: str, online: str | None) -> str:
    """As `understudy train --route` reads it."""
    return name.replace("opd", online) if online else name


def _choice(means: Mapping[str, float], verdict: Verdict, gated: bool) -> str:
    if gated:
        return "nothing"
    trained = {name: mean for name, mean in means.items() if name != "nothing"}
    top = max(trained.values())
    if top - means["nothing"] < (MARGIN if verdict.answer == NEITHER else LEAST):
        return "nothing"
    best = cases_.favourite(trained)
    if best == cases_.preferred(trained):
        return best
    return next(name for name, mean in trained.items() if mean >= top - TIE)


def _second(chosen: str, means: Mapping[str, float], online: str | None) -> str:
    """The online method of the route, or the better one after SFT; empty: none is possible."""
    if chosen in ("nothing", "sft"):
        after = {name: mean for name, mean in means.items() if name.startswith("sft+")}
        return max(after, key=lambda name: after[name]).removeprefix("sft+") if after and chosen == "sft" else ""
    return chosen.removeprefix("sft+")


def _adds(drawn: Mapping[str, Floats], chosen: str, second: str, now: float) -> float:
    """See Recommendation.adds. Of a route "sft": of the better second phase, to half of the SFT."""
    if not second:
        return math.nan
    before = drawn[FIRST] if "sft" in chosen else np.full(len(drawn[FIRST]), now)
    end = drawn[f"sft+{second}" if "sft" in chosen else chosen]
    return float((end - before > MARGIN).mean())


def _cases(analogs: Analogs) -> str:
    """How many, and how good they are."""
    notes = sum(c.source == "notes" for c in analogs.cases)
    worth = "" if not notes else f" ({notes if notes < len(analogs.cases) else 'all'} of them notes at unequal costs)"
    return f"{len(analogs.cases)} known cases{worth}"


def _by_cases(names: Sequence[str], online: str | None, analogs: Analogs, visible: int) -> Recommendation:
    """From the known cases alone: the largest mean gain, and the mean distance from the best of each case."""
    ends = {name: analogs.ends(name) for name in names}
    best, share = mean_best(ends, names), analogs.shares
    means = {name: float(share @ ends[name]) for name in names}
    chosen = max((name for name in names if name != "nothing"), key=lambda name: means[name])
    rows = tuple(
        RouteForecast(_written(name, online), None, float(share @ (best - ends[name])),
                      float(share @ (ends[name] < ends["nothing"] - HARM))) for name in names
    )  # fmt: skip
    second, adds = _second(chosen, means, online), math.nan
    if "+" in chosen:
        adds = float(share @ (ends[chosen] - analogs.ends(FIRST) > MARGIN))
    rests = f"{_cases(analogs)} alone, as no reward is known here"
    return Recommendation(
        _written(chosen, online), rows, None, _written(second, online), adds, visible, math.nan, rests,
        len(analogs.cases),
    )  # fmt: skip


# --- what the routes cost ----------------------------------------------------------------------------


def _costs(routes: Sequence[str], d: Diagnosis) -> dict[str, tuple[tuple[int, ...], Cost]]:
    """Route -> (updates of its phases, cost), all at the FLOPs of the online training; empty: lengths are unknown."""
    lengths, weights, paces = (d.setting.get(name) for name in ("lengths", "parameters", "paces"))
    if not isinstance(lengths, dict) or not isinstance(weights, dict):
        return {}
    updates, sequences = (d.evidence.budget.get(name, 0.0) for name in ("updates", "sequences"))
    known = {k: Cost.from_dict(v) for k, v in paces.items()} if isinstance(paces, dict) else {}
    speed = finite(d.setting.get("device_flops")) or 0.0
    return costs.of_routes(routes, d.setting.get("online"), updates, sequences, lengths, weights, known, speed)
