"""The guard's decisions on simulated phases: error rates with the real constants, collapses, and what it keeps."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from understudy.evaluation.sequential import PairedTest
from understudy.training.guard import CONFIRM, Guard, Rules, confirmation_prompts, reference_prompts
from understudy.training.monitor import Seen

UPDATES, PROMPTS = 40, 64


def phase(rng: np.random.Generator, accuracy: Callable[[int], float], rules: Rules | None = None) -> Guard:
    """A phase whose student has accuracy(t) at update t (from 0), with a checkpoint every ten updates."""
    guard = Guard(rules or Rules(UPDATES))
    n = reference_prompts(UPDATES, PROMPTS)
    guard.reference = Seen(n, float(rng.binomial(n, accuracy(0))), 0.0)
    for t in range(UPDATES):
        if t and t % 10 == 0:
            guard.checkpoint(t)
        if guard.observe(t + 1, Seen(PROMPTS, float(rng.binomial(PROMPTS, accuracy(t))), 0.0)):
            break
    return guard


def test_false_alarms_over_whole_phases() -> None:
    """The rule as it would act at collapse = 1, where it is tightest: the accuracy is exactly the margin below the
    start, in every update. P(stop) <= error."""
    rng, repeats, rules = np.random.default_rng(1), 100, Rules(UPDATES, margin=0.02, error=0.1, collapse=1.0)
    stops = sum(phase(rng, lambda t: 0.5 if t == 0 else 0.48, rules).stop is not None for _ in range(repeats))
    assert stops / repeats <= rules.error + 2 * math.sqrt(rules.error / repeats)
    usual = [phase(rng, lambda t: 0.5 - 0.02 * (t > 0)).stop for _ in range(50)]
    assert usual == [None] * 50


def test_final_model_is_no_worse() -> None:
    """Whole phases that end exactly the margin below their start: the end is kept with probability <= error."""
    rng, repeats, error, kept = np.random.default_rng(2), 100, 0.1, 0
    for _ in range(repeats):
        guard = phase(rng, lambda t: 0.5 - 0.02 * min(1.0, t / 20), Rules(UPDATES, error=error))
        if guard.candidate(UPDATES) == 0:
            continue
        test, limit = PairedTest(0.02, error), confirmation_prompts(UPDATES, PROMPTS)
        while test.n < limit and not test.verdict:
            test.add(rng.binomial(1, 0.48, 128).astype(float) - rng.binomial(1, 0.5, 128))
        kept += test.verdict == "accept"
    assert kept / repeats <= error + 2 * math.sqrt(error / repeats)


@pytest.mark.parametrize("at", [2, 15, 35])
def test_collapse_stops(at: int) -> None:
    """.55 -> .01: seen within five updates, dated to where it began, and no checkpoint from after it is a candidate."""
    rng = np.random.default_rng(3)
    for _ in range(10):
        guard = phase(rng, lambda t: 0.01 if t >= at else 0.55 + 0.01 * min(t, 12))
        assert guard.stop is not None
        assert guard.stop.kind == "harm"
        assert at + 1 <= guard.stop.step <= at + 5
        assert abs(guard.stop.since - at - 1) <= 2
        assert guard.candidate(guard.stop.step) <= at + 1
        assert guard.candidate(guard.stop.step) in guard.kept


def test_dip_does_not_stop() -> None:
    """Recorded phases dip by a third and end above their start: that is left to the confirmation."""
    rng = np.random.default_rng(4)
    for _ in range(20):
        guard = phase(rng, lambda t: 0.63 - 0.21 * (5 <= t < 20) + 0.15 * (t >= 30))
        assert guard.stop is None
        assert guard.candidate(UPDATES) == UPDATES


def test_slow_loss_keeps_an_earlier_checkpoint() -> None:
    """Up to .8 and down to .5 without an alarm: the best checkpoint is the candidate, and it was not deleted."""
    guard = phase(np.random.default_rng(5), lambda t: 0.5 + 0.3 * math.sin(math.pi * t / UPDATES))
    assert guard.stop is None
    assert guard.candidate(UPDATES) in (20, 30)
    assert guard.candidate(UPDATES) in guard.kept
    assert 0 in guard.kept


def test_gain_that_is_out_of_reach() -> None:
    """guard_gain: futility half-way, plateau where little is left; both off by default."""
    rng = np.random.default_rng(6)
    flat, full = (lambda t: 0.3), (lambda t: min(0.97, 0.6 + 0.04 * t))
    assert phase(rng, flat).stop is None
    futile = phase(rng, flat, Rules(UPDATES, gain=0.2)).stop
    assert futile is not None
    assert (futile.kind, futile.step) == ("futility", 20)
    rising = phase(rng, lambda t: 0.3 + 0.01 * t, Rules(UPDATES, gain=0.2)).stop
    assert rising is None
    stays = phase(rng, full, Rules(UPDATES, gain=0.05)).stop
    assert stays is not None
    assert stays.kind == "plateau"


@pytest.mark.parametrize("what", ["limit", "kl", "entropy", "nothing"])
def test_without_rewards(what: str) -> None:
    """Run-away length, divergence and entropy; ordinary noise is no run-away."""
    rng, guard = np.random.default_rng(7), Guard(Rules(UPDATES))
    for t in range(UPDATES):
        late = t >= 20
        cut = rng.binomial(PROMPTS, 0.95 if late and what == "limit" else 0.1)
        kl = rng.uniform(0.2, 0.4) * (6 if late and what == "kl" else 1)
        entropy = rng.uniform(0.5, 0.8) * (5 if late and what == "entropy" else 1)
        if guard.observe(t + 1, Seen(PROMPTS, None, float(cut)), kl, entropy):
            break
        if t % 10 == 9:
            guard.checkpoint(t + 1)
    if what == "nothing":
        assert guard.stop is None
        assert guard.candidate(UPDATES) == UPDATES
        return
    assert guard.stop is not None
    assert guard.stop.kind == "runaway"
    assert 21 <= guard.stop.step <= 26
    assert guard.candidate(guard.stop.step) in (10, 20)


def test_state_survives_json() -> None:
    """The rest of a phase, watched by a guard that was read back at every update, gives the same decisions."""
    rng = np.random.default_rng(8)
    rewards = [Seen(PROMPTS, float(rng.binomial(PROMPTS, 0.5 if t < 30 else 0.02)), 3.0) for t in range(UPDATES)]
    whole = Guard(Rules(UPDATES))
    whole.reference = Seen(100, 52.0, 0.0)
    state = json.loads(json.dumps(whole.as_dict()))
    for t, entry in enumerate(rewards):
        part = Guard(Rules(UPDATES), state)
        assert part.observe(t + 1, entry) == whole.observe(t + 1, entry)
        if t % 7 == 6:
            part.checkpoint(t + 1), whole.checkpoint(t + 1)
        state = json.loads(json.dumps(part.as_dict()))
        assert state == json.loads(json.dumps(whole.as_dict()))
    assert whole.stop is not None


def test_cost_is_a_small_share() -> None:
    """The reference look of the shortest guarded phase and of long ones; the confirmation is bounded."""
    assert reference_prompts(10, 64) == 64
    for updates in (20, 100, 1000):
        assert reference_prompts(updates, 64) <= max(0.051 * updates * 64, 64)
    assert confirmation_prompts(10_000, 64) == CONFIRM[1]


def test_needs_no_torch() -> None:
    """Recorded phases are replayed without it."""
    code = "import sys, understudy.training.guard; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def trial(rewards: list[float], ahead: float = 1.0) -> str:
    """Why a guard with a trial at a fifth against .56 stops these updates of 64, from a start at one half.

    ahead: how much faster the budget goes than the updates."""
    guard = Guard(Rules(100, trial=0.2, reach=0.56))
    guard.reference = Seen(256, 128.0, 0.0)
    for step, reward in enumerate(rewards, start=1):
        if guard.observe(step, Seen(64, 64 * reward, 0.0), progress=ahead * step / 100) is not None:
            return f"{guard.stop.kind} at {guard.stop.step}"  # type: ignore[union-attr]
    return ""


def test_a_trial_asks_for_an_accuracy_once() -> None:
    """Catches a trial at the wrong place of a phase that its budget ends, and one that is repeated."""
    assert trial([0.5] * 40) == "trial at 20"
    assert trial([0.5] * 40, ahead=2.0) == "trial at 10"
    assert trial([0.5] * 10 + [0.6] * 10 + [0.5] * 60) == ""
    assert trial([0.5] * 19) == ""


def test_a_trial_that_failed_gives_the_start_back() -> None:
    guard = Guard(Rules(100, trial=0.2, reach=0.56))
    guard.reference = Seen(256, 128.0, 0.0)
    for step in range(1, 21):
        guard.observe(step, Seen(64, 32.0, 0.0))
    assert guard.stop is not None
    assert guard.stop.kind == "trial"
    assert guard.candidate(20) == 0
