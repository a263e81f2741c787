"""The prior of the rule: what was believed before any scenario was scored, as a chain of stated coefficients.

Each quantity is a weighted sum of earlier ones plus independent noise, in points of accuracy, for a case with a typical
headroom. The numbers are round on purpose. They follow what was measured before the first line was written (one
or few runs each; a prior, not a result):

expert           headroom  full SFT's gain  full online gain  reverse KL after an SFT pilot
RL-made               .24        .24 .. .29               .24                       .19
search, recovers      .57        .18 .. .24               .45                       8.6
search                .53        .06 .. .13               .25                       4.7
weak search           .21             -.02              -.04    (9.3 before training)

So: SFT gains about as much as the headroom where little reverse KL is left after the pilot, and a third of it where
much is; online training does better with distance to go; an expert can have headroom and be of no use either way.
"""

from __future__ import annotations

import numpy as np

from understudy.diagnose.forecast import FEATURES, TARGETS, VerdictModel

TYPICAL_HEADROOM = 0.35
CHAIN: dict[str, tuple[dict[str, float], float]] = {
    "headroom": ({}, TYPICAL_HEADROOM),
    "sft": ({"headroom": 0.5}, 0.14),
    "opd": ({"headroom": 0.4, "sft": 0.4}, 0.14),
    "sft_gain": ({"sft": 0.5}, 0.07),
    "sft_trend": ({"sft": 0.1}, 0.04),
    "sft_reverse": ({"sft": 0.4, "sft_gain": -0.4}, 0.06),
    "sft_forward": ({"sft": 0.4, "sft_gain": -0.4}, 0.10),
    "opd_gain": ({"opd": 0.5}, 0.08),
    "opd_reverse": ({"opd": 0.3, "opd_gain": -0.3}, 0.10),
    "takeover": ({"opd": 0.6}, 0.12),
    "tilt": ({"opd": 0.4}, 0.15),
}
STAKES = {"floor": 0.03, "headroom": 0.3, "takeover": 0.15}
NOISE = 0.02
"""Typical standard error of a feature, in points."""


def prior() -> VerdictModel:
    """The prior as coefficients."""
    names = [*FEATURES, *TARGETS]
    sources = list(CHAIN)
    weights = {name: np.zeros(len(sources)) for name in CHAIN}
    for i, (name, (parents, noise)) in enumerate(CHAIN.items()):
        for parent, slope in parents.items():
            weights[name] = weights[name] + slope * weights[parent]
        weights[name][i] = noise
    matrix = np.stack([weights[name] for name in names])
    scale2 = STAKES["floor"] ** 2 + sum(
        (w * float(np.linalg.norm(weights[k]))) ** 2 for k, w in STAKES.items() if k != "floor"
    )
    typical = np.full(len(FEATURES), NOISE**2 / scale2)
    return VerdictModel(
        "prior", "prior (understudy/calibrate/prior.py)", matrix @ matrix.T / scale2, typical, STAKES
    )
