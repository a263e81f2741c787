"""Every estimator is tested against enumeration, by exact identities, for known bias, and for coverage."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import expit, logit
from worlds import World, make

from understudy.diagnosis.measures import estimators as E
from understudy.diagnosis.types import MEASURES, Estimate
from understudy.errors import UserError

pytestmark = pytest.mark.xdist_group("estimators")  # one worker makes `repeated`

WORLD = make(3)
A = WORLD.le - WORLD.ls
REPEATS, N, K, J = 1200, 100, 8, 4
SLOW = {"ceiling", "tilt_half"}  # slow: half as many repeats


# --- the truth, by going through all completions ---------------------------------------------------


def _values(w: World) -> tuple[np.ndarray, np.ndarray]:
    return (w.student * w.r).sum(1), (w.expert * w.r).sum(1)


def _covariances(w: World, score: np.ndarray) -> np.ndarray:
    pi = w.student
    return (pi * w.r * score).sum(1) - (pi * w.r).sum(1) * (pi * score).sum(1)


def _auc(w: World, score: np.ndarray) -> float:
    right = different = 0.0
    for pi, r, s in zip(w.student, w.r, score, strict=True):
        for y in np.nonzero(r == 1)[0]:
            for z in np.nonzero(r == 0)[0]:
                both = pi[y] * pi[z]
                different += both
                right += both * (1.0 if s[y] > s[z] + 1e-12 else 0.5 if s[y] > s[z] - 1e-12 else 0.0)
    return right / different


def _ceilings(w: World) -> np.ndarray:
    v, _ = _values(w)
    out = v.copy()
    for i, (pi, r, a) in enumerate(zip(w.student, w.r, w.le - w.ls, strict=True)):
        if 0 < r.sum() < len(r):
            right, wrong = pi * r / v[i], pi * (1 - r) / (1 - v[i])
            out[i] = expit(logit(v[i]) + right @ a - wrong @ a)
    return out


def _tilted_value(w: World, t: float) -> float:
    tilted = w.student * np.exp(t * (w.le - w.ls))
    return float(((tilted * w.r).sum(1) / tilted.sum(1)).mean())


def _truths() -> dict[str, float]:
    w, (v, v_e), pi, e = WORLD, _values(WORLD), WORLD.student, WORLD.expert
    kl = w.mean(pi, -A)
    return {
        "accuracy": v.mean(), "headroom": (v_e - v).mean(), "reverse_kl": kl, "reverse_full": kl,
        "forward_kl": w.mean(e, A), "forward_full": w.mean(e, A),
        "gap": _covariances(w, A).sum() / (v * (1 - v)).sum(), "auc": _auc(w, A),
        "ceiling": _ceilings(w).mean(), "tilt_half": _tilted_value(w, 0.5),
    }  # fmt: skip


TRUTH = _truths()


class Draws:
    """The samples of WORLD in one diagnosis: n prompts with K student and J expert completions."""

    def __init__(self, seed: int, n: int = N, k: int = K, j: int = J, world: World = WORLD) -> None:
        rng = np.random.default_rng(seed)
        x = rng.integers(0, len(world.r), n)
        y, z = world.draw(rng, world.student, x, k), world.draw(rng, world.expert, x, j)
        at, other = (x[:, None], y), (x[:, None], z)
        self.own = (world.ls[at], world.le[at])
        self.other = (world.ls[other], world.le[other])
        self.a = self.own[1] - self.own[0]
        self.r, self.r_e, self.length = world.r[at], world.r[other], world.length[at]
        self.kl, self.kl_e = world.kl_student[at], world.kl_expert[other]
        self.prompt = x


ESTIMATORS: dict[str, Callable[[Draws], Estimate]] = {
    "accuracy": lambda d: E.accuracy(d.r),
    "headroom": lambda d: E.headroom(d.r, d.r_e),
    "reverse_kl": lambda d: E.reverse_kl(*d.own),
    "reverse_full": lambda d: E.kl_from_tokens(d.kl),
    "forward_kl": lambda d: E.forward_kl(*d.other),
    "forward_full": lambda d: E.kl_from_tokens(d.kl_e),
    "gap": lambda d: E.gap_nats(d.r, d.a),
    "auc": lambda d: E.auc(d.r, d.a),
    "ceiling": lambda d: E.tilt_ceiling(d.r, d.a),
    "tilt_half": lambda d: E.tilt_curve(d.r, d.a, [0.5]).value[0],
}


@pytest.fixture(scope="module")
def repeated() -> dict[str, np.ndarray]:
    """Name -> (repeats, 3) of value, low, high in independent diagnoses of the same world."""
    draws = [Draws(seed) for seed in range(REPEATS)]
    results = {name: [of(d) for d in draws[:: 1 + (name in SLOW)]] for name, of in ESTIMATORS.items()}
    return {name: np.array([(e.value, e.low, e.high) for e in es]) for name, es in results.items()}


# the ratio and the corrected estimators have a bias of lower order than their error; the others have none
BIASED = {"gap": 0.2, "ceiling": 0.5, "tilt_half": 0.3}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_means_match_enumeration(repeated: dict[str, np.ndarray], name: str) -> None:
    value = repeated[name][:, 0]
    error = value.std(ddof=1) / math.sqrt(len(value))
    assert value.mean() == pytest.approx(TRUTH[name], abs=4 * error + BIASED.get(name, 0.0) * value.std())


@pytest.mark.parametrize("name", ESTIMATORS)
def test_intervals_cover(repeated: dict[str, np.ndarray], name: str) -> None:
    _, low, high = repeated[name].T
    covered = float(((low <= TRUTH[name]) & (TRUTH[name] <= high)).mean())
    print(f"{name} {covered:.3f}")
    assert 0.92 <= covered <= 0.97


def test_less_noise_where_it_is_promised(repeated: dict[str, np.ndarray]) -> None:
    sd = {name: values[:, 0].std() for name, values in repeated.items()}
    assert sd["reverse_full"] < 0.9 * sd["reverse_kl"]


# --- identities, exact in every sample -------------------------------------------------------------


def test_auc_of_graded_rewards() -> None:
    # pairs: (1, .5) right, (1, .2) tie, (.5, .2) wrong
    assert E.auc([[1.0, 0.5, 0.2]], [[2.0, 1.0, 2.0]]).value == pytest.approx(0.5)


@pytest.mark.parametrize("k", [2, 5, 6, 8])
def test_covariance_is_the_slope_of_the_tilt_curve(k: int) -> None:
    d, h = Draws(1, n=40, k=k), 1e-5
    covariance = float(np.mean([np.cov(r, a)[0, 1] for r, a in zip(d.r, d.a)]))
    up, down = (e.value for e in E.tilt_curve(d.r, d.a, [h, -h]).value)
    assert (up - down) / (2 * h) == pytest.approx(covariance, abs=1e-8)
    up, down = (e.value for e in E.tilt_curve(d.r, d.a, [h, -h], corrected=False).value)
    assert (up - down) / (2 * h) == pytest.approx((k - 1) / k * covariance, abs=1e-8)
    assert E.tilt_curve(d.r, d.a, [0.0]).value[0].value == pytest.approx(d.r.mean())


def test_enumerated_slope() -> None:
    h = 1e-5
    slope = (_tilted_value(WORLD, h) - _tilted_value(WORLD, -h)) / (2 * h)
    assert _covariances(WORLD, A).mean() == pytest.approx(slope, abs=1e-8)


# --- bias, where the theory says there is some ------------------------------------------------------


def test_tilt_ceiling_is_too_low_at_small_k_and_the_correction_helps() -> None:
    plug, corrected = {}, {}
    for k in (4, 8, 32):
        d = Draws(7, n=4000, k=k)
        truth = _ceilings(WORLD)[d.prompt].mean()  # of the very prompts drawn
        plug[k] = E.tilt_ceiling(d.r, d.a, corrected=False).value - truth
        corrected[k] = E.tilt_ceiling(d.r, d.a).value - truth
    print(plug, corrected)
    assert plug[4] < 1.5 * plug[8] < 0  # about -c / K
    assert plug[8] < 2 * plug[32]
    assert abs(corrected[4]) < 0.5 * abs(plug[4])
    assert abs(corrected[8]) < 0.5 * abs(plug[8])


def test_unmixed_prompts_stay_in_the_mean() -> None:
    r = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]], float)
    a = np.array([[1.0, 0, 1, 0], [5, 1, 2, 3], [4, 1, 0, 2]])
    assert E.gap_nats(r, a).value == pytest.approx(1.0)
    assert E.auc(r, a).value == 1.0
    ceiling = E.tilt_ceiling(r, a, corrected=False).value
    assert ceiling == pytest.approx((expit(1.0) + 0 + 1) / 3)


def test_auc_does_not_depend_on_k() -> None:
    """Pair-weighted AUC of K = 2 and of K = 16 estimate the same; the mean over mixed prompts would not."""
    few, many = Draws(5, n=40_000, k=2), Draws(6, n=6000, k=16)
    for d in (few, many):
        auc = E.auc(d.r, d.a)
        assert abs(auc.value - TRUTH["auc"]) < 2 * (auc.high - auc.low)
        assert auc.high - auc.low < 0.03


# --- infinite, empty and impossible input -----------------------------------------------------------


def test_an_expert_that_gives_a_completion_probability_zero() -> None:
    r = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    ls = np.log(np.full((3, 2), 0.5))
    le = np.array([[0.0, -np.inf], [-0.5, -1.0], [-2.0, -2.0]])
    a = E.advantage(ls, le)
    assert E.reverse_kl(ls, le).value == math.inf
    assert E.auc(r, a).value == pytest.approx((1 + 1 + 0.5) / 3)
    assert E.gap_nats(r, a).value == math.inf
    assert E.tilt_ceiling(r, a, corrected=False).value == pytest.approx((1 + expit(0.5) + 0.5) / 3)
    assert E.tilt_curve(r, a, [0.0, 1.0], corrected=False).value[0].value == 0.5
    nothing = np.full((3, 2), -np.inf)
    assert math.isnan(E.gap_nats(r, nothing).value)
    assert E.auc(r, nothing).value == 0.5
    assert E.tilt_ceiling(r, nothing, corrected=False).value == 0.5
    assert E.tilt_curve(r, nothing, [1.0]).value[0].value == 0.5


@pytest.mark.parametrize(
    "call",
    [
        lambda: E.reverse_kl([], []),
        lambda: E.reverse_kl([[np.nan]], [[0.0]]),
        lambda: E.reverse_kl([[-np.inf]], [[0.0]]),
        lambda: E.forward_kl([[0.0]], [[-np.inf]]),
        lambda: E.reverse_kl([[0.0]], [[np.inf]]),
        lambda: E.reverse_kl(np.zeros((2, 3)), np.zeros((3, 2))),
        lambda: E.auc([[1.0], [0.0]], [[1.0], [0.0]]),
        lambda: E.auc([[1.0, 2.0]], [[1.0, 0.0]]),
        lambda: E.tilt_ceiling([[1.0, 0.5]], [[1.0, 0.0]]),
        lambda: E.kl_from_tokens([[-1.0]]),
        lambda: E.headroom([[1.0]], [[1.0], [0.0]]),
    ],
)
def test_refused(call: Callable[[], Estimate]) -> None:
    with pytest.raises(UserError):
        call()


def test_nothing_to_compare() -> None:
    r, a = np.zeros((10, 4)), np.random.default_rng(0).normal(size=(10, 4))
    auc = E.auc(r, a)
    assert math.isnan(auc.value)
    assert (auc.low, auc.high) == (0.0, 1.0)
    assert math.isnan(E.gap_nats(r, a).value)
    assert E.tilt_ceiling(r, a).value == 0.0
    # never right in ten prompts: up to 31% of prompts may still differ
    assert E.accuracy(r).high == pytest.approx(1 - 0.025 ** (1 / 10))
    assert E.tilt_ceiling(r, a).high == pytest.approx(1 - 0.025 ** (1 / 10))
    assert E.accuracy(1 - r).low == pytest.approx(0.025 ** (1 / 10))


def test_prompts_are_the_unit() -> None:
    """Copies of a sample add no information: the interval must not shrink with K."""
    d = Draws(0, n=60, k=2)
    for of in (E.accuracy, lambda x: E.headroom(x, np.zeros_like(x))):
        once, often = of(d.r[:, :1]), of(np.repeat(d.r[:, :1], 10, axis=1))
        assert often.high - often.low == pytest.approx(once.high - once.low)


def test_rare_success_is_covered() -> None:
    """Accuracy 2%, 100 prompts, one sample each: a t interval would cover only 86%."""
    rng = np.random.default_rng(0)
    r = (rng.random((1500, 100)) < 0.02).astype(float)
    covered = np.mean([e.low <= 0.02 <= e.high for e in map(E.accuracy, r)])
    assert 0.92 <= covered <= 0.985


def test_measures_are_what_the_arrays_allow() -> None:
    d = Draws(0)
    student, expert = E.Side(*d.own, d.r), E.Side(*d.other, d.r_e)
    full = E.measures(student, expert)
    assert set(full) <= set(MEASURES)
    assert set(MEASURES) - set(full) == {"takeover_gain", "expert_at_work", "online_accuracy", "online_trend"}
    assert full["headroom"] == E.headroom(d.r, d.r_e)
    assert full["auc"] == E.auc(d.r, d.a)
    assert full["kl_student_expert"] == E.reverse_kl(*d.own)
    assert full["kl_expert_student"] == E.forward_kl(*d.other)
    assert E.measures(E.Side(*d.own, token_kl=d.kl))["kl_student_expert"] == E.kl_from_tokens(d.kl)
    assert set(E.measures(E.Side(r=d.r), E.Side(r=d.r_e))) == {"student_accuracy", "expert_accuracy", "headroom"}
    assert not {"auc", "student_accuracy"} & set(E.measures(E.Side(*d.own), E.Side(*d.other)))
