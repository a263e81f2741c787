"""Routes: closed forms of Examples C and H against enumeration over words, tokens and integration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from understudy.errors import UserError
from understudy.theory.exact.decompose import split
from understudy.theory.exact.flows import Flow
from understudy.theory.families.coin import Coin, CoinTable
from understudy.theory.families.hidden import Hidden, arithmetic, geometric
from understudy.theory.production import kl_expert_student, kl_student_expert

INSIDE = st.floats(0.02, 0.98)


@given(st.integers(2, 7), INSIDE, INSIDE, INSIDE)
def test_example_c_by_all_words(length: int, a: float, w: float, p: float) -> None:
    """L, its slope, the mean bit and V from the 2^H words, one by one."""
    family = Coin(length, a, w)
    words = np.array(list(itertools.product((0, 1), repeat=length)))
    ones = words.sum(1)
    expert = np.where(ones == 0, (1 - a) * (1 - w), np.where(ones == length, (1 - a) * w, a / (2**length - 2)))
    assert expert.sum() == pytest.approx(1)

    def student(q: float) -> np.ndarray:
        return q**ones * (1 - q) ** (length - ones)

    assert family.reverse(p) == pytest.approx(float(kl_student_expert(student(p), expert)), abs=1e-9)
    assert family.value(p) == pytest.approx(student(p)[(ones == 0) | (ones == length)].sum())
    assert family.offline == pytest.approx(expert @ ones / length)
    by_count = float(kl_student_expert(family.policy(p), family.expert)[0])
    assert by_count == pytest.approx(family.reverse(p), abs=1e-9)
    h = 1e-6
    assert float(family.slope(p)) == pytest.approx((family.reverse(p + h) - family.reverse(p - h)) / (2 * h), abs=1e-3)
    bend = (float(family.slope(p + h)) - float(family.slope(p - h))) / (2 * h)
    assert family.curvature(p) == pytest.approx(bend, rel=1e-4, abs=1e-3)
    offline = [float(kl_expert_student(student(q), expert)) for q in (family.offline, family.offline + 0.01)]
    assert offline[0] < offline[1]


def test_example_c_reference_numbers() -> None:
    family = Coin()
    assert family.stationary == pytest.approx([0.000162270, 0.263124933, 0.5, 0.736875067, 0.999837730], abs=1e-9)
    assert family.barriers == pytest.approx((0.263124933, 0.736875067), abs=1e-9)
    assert family.end(0.87) == family.stationary[4]
    assert family.end(0.7) == family.stationary[2]
    assert family.end(0.2) == family.stationary[0]
    assert CoinTable(family, 0.87).forward().exp().detach().numpy() == pytest.approx(family.policy(0.87))
    with pytest.raises(UserError, match="strict local minimum"):
        _ = Coin(H=4).barriers


@given(st.integers(1, 4), st.integers(2, 5), st.integers(0, 10**6))
def test_blind_students_see_one_arithmetic_and_one_geometric_expert(contexts: int, actions: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mu, expert = rng.dirichlet(np.ones(contexts)), rng.dirichlet(np.ones(actions), contexts) + 1e-3
    expert /= expert.sum(-1, keepdims=True)
    mean, (best, floor) = arithmetic(mu, expert), geometric(mu, expert)
    students = np.stack([mean, best, *rng.dirichlet(np.ones(actions), 30)])
    parts = split(mu, np.repeat(students[:, None], contexts, 1), expert, np.zeros((contexts, actions)))
    assert parts.forward[0] <= parts.forward.min() + 1e-12
    assert parts.reverse[1] <= parts.reverse.min() + 1e-12
    assert parts.reverse[1] == pytest.approx(floor, abs=1e-9)
    assert parts.forward == pytest.approx(parts.forward[0] + kl_expert_student(students, mean), abs=1e-9)


@pytest.mark.parametrize("lenient", [False, True])
def test_example_h_by_hand(lenient: bool) -> None:
    family = Hidden(m=3, eps=0.1, delta=0.01, kappa=0.1, rho=0.2, lenient=lenient)
    expert = family.expert
    assert expert.sum(1) == pytest.approx(np.ones(3))
    assert expert[1] == pytest.approx([0.09, 0.01, 0.002, 0.008, 0.88 * 0.9, 0.88 * 0.1, 0.002, 0.008])
    right = 0.09 + 0.88 * 0.9 + (0.004 if lenient else 0)
    assert float((expert * family.reward).sum(-1) @ family.mu) == pytest.approx(right)
    guess = family.mixed[0, 0]
    assert family.value(guess) == pytest.approx(0.9 if lenient else 0.3)
    assert family.value(family.mixed[1, 0]) == pytest.approx(0.9)


@given(st.floats(0.05, 0.95), st.floats(-4, 6), st.floats(-6, 3))
def test_speeds_are_the_gradients_of_the_two_losses(alpha: float, goal: float, z: float) -> None:
    """Descent on two logits: dz/dt = -2 dLoss/dz."""
    flow, h = Flow(alpha, goal), 1e-5
    coin = np.array([1 - alpha, alpha])
    target = np.array([expit(-goal), expit(goal)])

    def policy(y: float) -> np.ndarray:
        return np.array([expit(-y), expit(y)])

    def slope(loss: object) -> float:
        return float((loss(policy(z + h)) - loss(policy(z - h))) / (2 * h))  # type: ignore[operator]

    assert flow.speed("sft", z) == pytest.approx(-2 * slope(lambda p: kl_expert_student(p, coin)), abs=1e-6)
    assert flow.speed("opd", z) == pytest.approx(-2 * slope(lambda p: kl_student_expert(p, target)), abs=1e-6)


def test_flow_times() -> None:
    flow = Flow(0.2, 3.0)
    for phase, start, end in (("opd", -5.0, 2.0), ("opd", 5.0, 3.5), ("sft", 1.0, -1.0), ("sft", -3.0, -2.0)):
        assert flow.run(start, [(phase, flow.time(phase, start, end))]) == pytest.approx(end, abs=1e-8)
    assert flow.time("sft", 0.0, 1.0) == math.inf
    assert flow.time("opd", 0.0, 0.0) == 0.0
    assert flow.shortest(-5.0, 2.0) <= flow.time("opd", -5.0, 2.0)
    moved = 3.0 + (-5.0 - 3.0) * math.exp(-flow.natural(-5.0, 2.0))  # dz/dt = goal - z
    assert moved == pytest.approx(2.0)


def test_the_switch_is_where_the_speeds_cross() -> None:
    flow = Flow(0.6, 4.0)
    z = flow.switch
    assert flow.speed("sft", z) == pytest.approx(flow.speed("opd", z), abs=1e-10)
    assert flow.speed("sft", z - 0.5) > flow.speed("opd", z - 0.5)
    assert flow.speed("sft", z + 0.5) < flow.speed("opd", z + 0.5)
    assert [name for name, _ in flow.route(-4.0, 10.0)] == ["sft", "opd"]
    assert flow.route(z + 1, 10.0)[0][1] == 0.0
    assert flow.route(-4.0, 0.1)[1][1] == 0.0
    with pytest.raises(UserError, match="do not cross"):
        _ = Flow(0.05, -3.0).switch
    realizable = Flow(0.9, float(logit(0.9)))  # the expert is within reach: SFT first pays here too
    assert realizable.switch < realizable.goal


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Coin(H=1),
        lambda: Coin(a=0.0),
        lambda: Hidden(m=1),
        lambda: Hidden(delta=0.2),
        lambda: Hidden(rho=1.0),
        lambda: Flow(1.0, 0.0),
        lambda: Flow(0.5, math.inf),
    ],
)
def test_parameters_out_of_range(bad: object) -> None:
    with pytest.raises(UserError):
        bad()  # type: ignore[operator]
