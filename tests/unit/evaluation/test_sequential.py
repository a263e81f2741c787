"""Sequential inference: error rates under every kind of null, hand-worked values, and how soon a collapse shows."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from understudy.evaluation.sequential import PULL, FallAlarm, MeanBand, PairedTest, share_high, share_low


def first_alarm(alarm: FallAlarm, sums: np.ndarray, n: int = 64) -> int:
    """The batch (from 1) at which it goes off; 0 = never."""
    return next((i for i, total in enumerate(sums, 1) if alarm.add(float(total), n)), 0)


@pytest.mark.parametrize("means", ["at the bound", "drifts above it", "depends on the past"])
def test_false_alarms(means: str) -> None:
    """P(ever alarm) <= alpha over a phase of 60 updates, while no conditional mean is below the bound."""
    rng, bound, alpha, repeats = np.random.default_rng(1), 0.4, 0.1, 250
    alarms = 0
    for _ in range(repeats):
        alarm, hits = FallAlarm(bound, 60, alpha), 12
        for t in range(60):
            p = bound
            if means == "drifts above it":
                p += 0.3 * abs(math.sin(t / 9))
            elif means == "depends on the past":  # high after a good batch, so that the history looks like a fall
                p = 0.9 if hits >= 14 else bound
            hits = int(rng.binomial(32, p))
            alarm.add(hits, 32)
        alarms += alarm.alarmed
    assert alarms / repeats <= alpha + 2 * math.sqrt(alpha * (1 - alpha) / repeats)


def test_one_batch_by_hand() -> None:
    """E after one batch is w_1 times the mean likelihood ratio, plus the bets that have not begun."""
    alarm = FallAlarm(0.5, 4, 0.05)
    alarm.add(3, 10)
    ratios = [(0.5 * k / 0.5) ** 3 * ((1 - 0.5 * k) / 0.5) ** 7 for k in PULL]
    assert alarm.peak == pytest.approx(max(1, np.mean(ratios) / 4 + 3 / 4), rel=1e-12)
    assert FallAlarm(0.0, 4, 0.05).add(0, 1000) is False, "no mean is below zero"


def test_fractions_are_counted_by_their_sum() -> None:
    """The chord of the logarithm: values between 0 and 1 never win more than the same sum of zeros and ones would."""
    for k in PULL:
        q, bound, x = 0.4 * k, 0.4, np.linspace(0, 1, 21)
        exact = np.log1p((bound - q) / (bound * (1 - bound)) * (bound - x))
        chord = x * np.log(q / bound) + (1 - x) * np.log((1 - q) / (1 - bound))
        assert (exact >= chord - 1e-12).all()


def test_collapse_is_seen_within_three_updates() -> None:
    """.55 -> .09 with 64 rollouts per update, after 10 and after 90 good updates: a long good history hides nothing."""
    rng = np.random.default_rng(2)
    for good in (10, 90):
        delays = []
        for _ in range(40):
            alarm = FallAlarm(0.48, 100, 0.025)
            sums = np.concatenate([rng.binomial(64, 0.55, good), rng.binomial(64, 0.09, 10)])
            at = first_alarm(alarm, sums)
            delays.append(at - good)
            assert abs(alarm.since - good - 1) <= 2
        assert max(delays) <= 3


def test_alarm_state_survives_json() -> None:
    rng = np.random.default_rng(3)
    sums = rng.binomial(64, 0.42, 30)
    whole, state = FallAlarm(0.45, 30, 0.05), None
    for total in sums:
        whole.add(float(total), 64)
        part = FallAlarm(0.45, 30, 0.05, state)
        part.add(float(total), 64)
        state = json.loads(json.dumps(part.as_dict()))
        assert state == whole.as_dict()


def test_band_covers_at_every_time() -> None:
    rng, repeats, missed = np.random.default_rng(4), 300, 0
    for _ in range(repeats):
        band, inside = MeanBand(0.1), True
        for _ in range(40):
            x = rng.beta(0.6, 1.4, 16)  # mean 0.3
            band.add(float(x.sum()), 16, float((x * x).sum()))
            low, high = band.interval
            inside = inside and low <= 0.3 <= high
        missed += not inside
    assert missed / repeats <= 0.1
    assert band.interval[1] - band.interval[0] < 0.15, "640 values"


def test_band_by_hand() -> None:
    """Two batches of theorem 2, each quantity written out."""
    band = MeanBand(0.05)
    assert band.interval == (0.0, 1.0)
    band.add(3, 4)
    band.add(1, 4)
    first = min(0.5, math.sqrt(2 * math.log(40) / (0.25 * 4 * math.log(5))))
    mean, variance = 3.5 / 5, (0.25 + 4 * 0.25) / 5
    second = min(0.5, math.sqrt(2 * math.log(40) / (variance * 8 * math.log(9))))
    psi = [(-math.log(1 - b) - b) / 4 for b in (first, second)]
    spread = 4 * 4 * 0.25 * psi[0] + 4 * ((1 - mean) ** 2 + 3 * mean**2) * psi[1]
    total = 4 * (first + second)
    centre, half = (3 * first + second) / total, (math.log(40) + spread) / total
    assert band.interval == pytest.approx((max(0, centre - half), min(1, centre + half)))


def test_paired_test_error_rates() -> None:
    """P(accept | worse by the margin) <= alpha; a candidate that is better by 10 points is accepted soon."""
    rng, alpha, repeats = np.random.default_rng(5), 0.1, 300

    def run(mean: float, disagree: float = 0.3) -> PairedTest:
        test = PairedTest(0.05, alpha)
        while test.n < 640 and not test.verdict:
            u = rng.random(64)
            test.add(np.where(u < (disagree + mean) / 2, 1.0, np.where(u < disagree, -1.0, 0.0)))
        return test

    wrong = sum(run(-0.05).verdict == "accept" for _ in range(repeats))
    assert wrong / repeats <= alpha + 2 * math.sqrt(alpha * (1 - alpha) / repeats)
    assert sum(run(0.05, 0.2).verdict == "reject" for _ in range(100)) <= 2
    better = [run(0.1) for _ in range(50)]
    assert all(t.verdict == "accept" for t in better)
    assert np.mean([t.n for t in better]) < 250
    assert sum(run(-0.3, 0.4).verdict == "reject" for _ in range(50)) == 50


def test_shares_are_exact() -> None:
    """Clopper-Pearson against its definition: the tail of the binomial at the bound is alpha."""
    low = share_low(7, 20, 0.05)
    tail = sum(math.comb(20, k) * low**k * (1 - low) ** (20 - k) for k in range(7, 21))
    assert tail == pytest.approx(0.05)
    assert share_low(0, 20, 0.05) == 0.0
    assert share_high(20, 20, 0.05) == 1.0
    assert share_high(13, 20, 0.05) == pytest.approx(1 - low)
