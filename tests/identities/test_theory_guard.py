"""Error rates of the guard's rules: the folded trees against plain enumeration, and rules that must be caught."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from understudy.evaluation.sequential import FallAlarm, PairedTest
from understudy.theory.exact import looks


def _goes_off(rule: looks.Rule, values: tuple[int, ...], size: int) -> bool:
    sums = [sum(values[i : i + size]) for i in range(0, len(values), size)]
    return any(rule(sums[:t]) for t in range(1, len(sums) + 1))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_ever_against_every_path_of_single_values(size: int) -> None:
    """Constant means by summing over the 2^6 paths, and 20 random policies that react to the past: none is worse."""
    batches, bound, rng = 6 // size, 0.5, np.random.default_rng(size)
    for rule in (looks.fixed_look(size, bound, 0.2), looks.unweighted(size, bound, 0.3)):
        exact = looks.ever(rule, size, batches, bound, (0.5, 0.8))
        paths = list(itertools.product((0, 1), repeat=6))
        off = np.array([_goes_off(rule, path, size) for path in paths])
        ones = np.array(paths).sum(1)
        for column, mean in enumerate((0.5, 0.8), 1):
            chance = mean**ones * (1 - mean) ** (6 - ones)
            assert exact[-1, column] == pytest.approx(chance @ off, abs=1e-14)
        assert (np.diff(exact, axis=0) >= 0).all()
        for _ in range(20):
            means = {path[:i]: rng.uniform(bound, 1) for path in paths for i in range(6)}
            laws = [math.prod(means[p[:i]] if p[i] else 1 - means[p[:i]] for i in range(6)) for p in paths]
            assert sum(laws) == pytest.approx(1)
            assert float(np.array(laws) @ off) <= exact[-1, 0] + 1e-12


def test_the_production_alarm_over_every_path() -> None:
    """Not through checkpoints: one `FallAlarm` per path."""
    size, batches, bound, alpha = 2, 4, 0.5, 0.4
    total = 0.0
    for values in itertools.product((0, 1), repeat=size * batches):
        alarm = FallAlarm(bound, batches, alpha)
        for i in range(0, len(values), size):
            alarm.add(sum(values[i : i + size]), size)
        total += alarm.alarmed / 2**8
    exact = looks.ever(looks.fall_alarm(size, batches, bound, alpha), size, batches, bound, (bound,))
    assert total > 0
    assert exact[-1, 1] == pytest.approx(total, abs=1e-14)
    assert exact[-1, 0] == pytest.approx(total, abs=1e-14)  # nothing above the bound sets it off more often


def test_rewards_between_0_and_1_alarm_no_more_often() -> None:
    """The chord: laws on 0, 1/2, 1 with their mean at the bound stay below the worst policy of 0 and 1."""
    size, batches, bound, alpha = 2, 3, 0.5, 0.5
    worst = looks.ever(looks.fall_alarm(size, batches, bound, alpha), size, batches, bound)[-1, 0]
    chance = dict.fromkeys(((0.5, 0.0, 0.5), (0.4, 0.2, 0.4), (0.25, 0.5, 0.25), (0.05, 0.9, 0.05)), 0.0)
    for path in itertools.product(range(3), repeat=size * batches):
        alarm = FallAlarm(bound, batches, alpha)
        for i in range(0, len(path), size):
            alarm.add(sum(path[i : i + size]) / 2, size)
        for law in chance:
            chance[law] += alarm.alarmed * math.prod(law[value] for value in path)
    assert chance[0.5, 0.0, 0.5] == pytest.approx(worst, abs=1e-14)
    assert 0 < chance[0.4, 0.2, 0.4] < worst <= alpha
    assert max(chance.values()) <= worst + 1e-14


def test_a_rule_with_too_many_false_alarms_is_caught() -> None:
    assert looks.ever(looks.unweighted(2, 0.5, 0.2), 2, 6, 0.5)[-1, 0] > 0.2
    assert looks.ever(looks.fixed_look(4, 0.5, 0.05), 4, 4, 0.5)[-1, 0] > 0.05


def test_fixed_looks_by_recursion() -> None:
    for size, batches, bound, alpha in ((1, 8, 0.5, 0.2), (3, 4, 0.7, 0.05)):
        tree = looks.ever(looks.fixed_look(size, bound, alpha), size, batches, bound, (bound,))[:, 1]
        assert looks.fixed_looks(size, batches, bound, alpha) == pytest.approx(tree, abs=1e-14)


def test_delay() -> None:
    assert looks.delay(lambda sums: sum(s == 0 for s in sums) >= 2, 3, 5, 0, 9) == 2
    assert looks.delay(lambda sums: False, 3, 5, 0, 9) == math.inf


@pytest.mark.parametrize("margin", [0.1, 0.3])
def test_acceptance_against_every_path(margin: float) -> None:
    """Independent laws with mean -margin by summing over the paths; none exceeds the worst policy or the error."""
    alpha, size, batches = 0.4, 2, 3
    worst = looks.accepted(margin, alpha, size, batches)
    assert 0 < worst <= alpha
    paths = list(itertools.product((-1, 0, 1), repeat=size * batches))
    kept = np.array([_kept(margin, alpha, path, size) for path in paths])
    counts = np.array([[path.count(d) for d in (-1, 0, 1)] for path in paths])
    for law in (
        (margin, 1 - margin, 0.0),
        ((1 + margin) / 2, 0.0, (1 - margin) / 2),
        (margin + 0.2, 0.6 - margin, 0.2),
    ):
        assert sum(law) == pytest.approx(1)
        chance = float((np.array(law) ** counts).prod(1) @ kept)
        assert chance <= worst + 1e-12
        if law[1] == 0:
            assert chance == pytest.approx(looks.accepted(margin, alpha, size, batches, -margin), abs=1e-14)


def _kept(margin: float, alpha: float, path: tuple[int, ...], size: int) -> bool:
    test = PairedTest(margin, alpha)
    for i in range(0, len(path), size):
        verdict = test.add([float(d) for d in path[i : i + size]])
    return verdict == "accept"


def test_the_best_look_by_enumeration() -> None:
    samples, start, margin = 3, 0.6, 0.2
    total = 0.0
    for counts in itertools.product(range(samples + 1), repeat=3):  # the start and two candidates
        chance = math.prod(
            math.comb(samples, c) * p**c * (1 - p) ** (samples - c)
            for c, p in zip(counts, (start, start - margin, start - margin))
        )
        total += chance * (max(counts[1:]) > counts[0])
    assert looks.best_look(2, samples, start, margin) == pytest.approx(total, abs=1e-14)


def test_whole_passes_over_the_same_rows() -> None:
    """Rows of different means m_i that average -margin: a pass multiplies the wealth by at most 1 in the mean, whatever
    the rows are. A part of a pass does not: the control, which a test within a pass would fall for."""
    margin, rng = 0.02, np.random.default_rng(0)
    bets = PairedTest(margin, 0.05)._up
    for _ in range(50):
        means = rng.uniform(-0.8, 0.8, 32)
        means = np.clip(means - means.mean() - margin, -1, 1)
        means -= max(0.0, means.mean() + margin)
        factors = 1 + bets[:, None] * (means + margin)
        assert (factors.prod(1) <= 1 + 1e-12).all()
        best_first = -np.sort(-factors, axis=1)[:, :8]
        assert best_first.prod(1).mean() > 1
