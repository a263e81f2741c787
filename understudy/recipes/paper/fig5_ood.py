"""Fig. 5, left: the runs of fig1_countdown, evaluated on a larger number range."""

from __future__ import annotations

from dataclasses import replace

from understudy.recipes import figures
from understudy.recipes.paper import fig1_countdown
from understudy.recipes.recipe import OURS, PAPER, Drawing, Recipe, Setting
from understudy.report.comparison.summary import Summary

__all__ = ["RECIPE"]


def draw(s: Summary) -> Drawing:
    panels = figures.finals(s, "test", "The usual number range")
    panels += figures.finals(s, "ood", "Out of distribution: larger numbers")
    claims = []
    for expert in s.experts:
        sft, opd = figures.offline(s, expert), figures.online(s, expert)
        if s.realizable(expert):
            claims += figures.matching(s, expert, "ood")
        else:
            claims += figures.gap(s, expert, "ood")
            claims.append(
                figures.claim("OPD matches the expert out of distribution too", f"OPD minus expert, {expert}",
                              s.difference(opd, expert, "ood"), 0, figures.NEAR)
            )  # fmt: skip
            own = figures.offline(s, next((e for e in s.experts if s.realizable(e)), expert))
            claims.append(
                figures.claim("SFT from a non-realizable expert generalises worse than from a realizable one",
                              "SFT on it minus SFT on the realizable expert", s.difference(sft, own, "ood"), -1)
            )  # fmt: skip
    return Drawing(
        tuple(panels),
        tuple(claims),
        "Sampled accuracy; means over seeds with 95% intervals. Line: expert; dotted: base.",
    )


RECIPE: Recipe = replace(
    fig1_countdown.RECIPE, name="fig5_ood", figure="Fig. 5 (left)", title="Out of distribution: larger numbers",
    shows="Countdown with a larger number range than in training: OPD, and SFT from a realizable expert, match the "
    "expert; SFT from a non-realizable expert generalises much worse.",
    unknown="Not known to us: both number ranges. The runs are those of fig1_countdown and are shared with it.",
    settings=(
        Setting("out of distribution", "at least one number of 21 to 30, where training has 1 to 20",
                f"{PAPER}: a larger number range; which is {OURS}"),
        *fig1_countdown.RECIPE.settings,
    ),
    draw=draw,
)  # fmt: skip
