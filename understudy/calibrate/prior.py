"""The prior of the rule, as stated coefficients.

Its terms were chosen on the first 30 scenarios (LAB_LOG.md). Its numbers are round on purpose, and follow what was
measured before any of them (one or few runs each; a prior, not a result):

expert           headroom  full SFT's gain  full online gain  reverse KL after an SFT pilot
RL-made               .24        .24 .. .29               .24                       .19
search, recovers      .57        .18 .. .24               .45                       8.6
search                .53        .06 .. .13               .25                       4.7
weak search           .21             -.02              -.04    (9.3 before training)

So: SFT keeps what its pilot gained, and gains the rest of the headroom where the pilots got hold of the expert; a
fraction of it elsewhere, the more, the more of the forward KL is gone. There the online pilot's lead is most of the
online lead, and more where it is still rising.
"""

from __future__ import annotations

from understudy.diagnosis.forecast.model import SPREADS, TERMS, VARIANTS, Line, VerdictModel

SLOPES: dict[str, dict[str, float]] = {
    "sft": {"gain": 1.0, "near": 0.7, "fall": 0.2, "last fall": 0.2, "trend": 0.5, "dip": 0.3, "far": 0.0},
    "lead": {
        "lead": 0.7, "near lead": 0.2, "online trend": 0.5, "trend": -0.5, "far": 0.0, "takeover": 0.0, "fall": 0.0,
        "dip": 0.0, "tilt": 0.0,
    },
}  # fmt: skip
FLOOR = 0.02
SPREAD: dict[str, dict[str, float]] = {
    "sft": {"far": 0.25, "near": 0.1, "gain": 0.1, "stake": 0.1, "noise": 0.5},
    "lead": {"far": 0.25, "lead": 0.1, "near lead": 0.1, "stake": 0.1, "noise": 0.5},
}


def prior() -> VerdictModel:
    """The prior as coefficients, the same for every kind of evidence: what is not known adds nothing to a mean."""
    lines = {
        which: Line(
            tuple(SLOPES[which][name] for name in TERMS[which]),
            (FLOOR, *(SPREAD[which][name] for name in SPREADS[which])),
        )
        for which in TERMS
    }
    return VerdictModel(
        "prior", "prior (understudy/calibrate/prior.py)", {kind: dict(lines) for kind in VARIANTS},
        dict.fromkeys(VARIANTS, 0.0),
    )  # fmt: skip
