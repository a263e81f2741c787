"""docs/theory.md, section 1: reference numbers of the realizable case, and its bounds by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from understudy.errors import UserError
from understudy.theory.families.realizable import (
    ONLINE_RATIO_LIMIT,
    StochasticRealizable,
    TokenClass,
    Unvisited,
    deterministic_mean_bound,
    online_ratio,
    unvisited_lower_bound,
)
from understudy.theory.information import Info


@pytest.mark.parametrize(
    ("g", "n", "off_s", "off_g"),
    [(0.1, 64, 0.057490185, 0.000019432), (0.25, 64, 0.036955444, 0.000048580), (0.05, 256, 0.028619654, None)],
)
def test_stochastic_realizable_reference(g: float, n: int, off_s: float, off_g: float | None) -> None:
    family = StochasticRealizable(8, g)
    assert family.regret(Info.OFF_S, n) == pytest.approx(off_s, abs=1e-9)
    if off_g is not None:
        assert family.regret(Info.OFF_G, n) == pytest.approx(off_g, abs=1e-9)
    assert family.regret(Info.OFF_G, n) == family.regret(Info.ON_G, n)


def test_online_ratio_limit() -> None:
    assert pytest.approx(3.768338771, abs=1e-9) == ONLINE_RATIO_LIMIT
    assert online_ratio(2**10_000, 10**9) == pytest.approx(ONLINE_RATIO_LIMIT, rel=1e-3)


def test_unvisited_is_maximal_at_one_over_n_plus_one() -> None:
    for n in (16, 64, 256):
        best = Unvisited(8, 1 / (n + 1)).regret(Info.ON_G, n)
        assert best >= unvisited_lower_bound(8, n)
        assert best <= deterministic_mean_bound(2**8, n)
        for zeta in (0.8 / (n + 1), 1.2 / (n + 1)):
            if 7 * zeta <= 1:
                assert Unvisited(8, zeta).regret(Info.ON_G, n) < best


def test_all_information_models_are_equal_for_a_deterministic_realizable_expert() -> None:
    family = Unvisited(8, 0.02)
    values = {family.regret(info, 40) for info in (Info.OFF_S, Info.OFF_G, Info.OFF_L, Info.ON_G)}
    assert len(values) == 1
    assert family.regret(Info.ON_G_STAR, 7) == 0


def test_token_classes_are_distributions_and_contain_the_expert() -> None:
    rng = np.random.default_rng(0)
    for horizon in (1, 3, 6):
        tokens = TokenClass.random(16, horizon, 2, rng)
        assert tokens.policies.sum(-1) == pytest.approx(np.ones((16, 2)))
        assert tokens.hellinger2()[0] == 0
        tv = 0.5 * np.abs(tokens.policies - tokens.policies[0]).sum(-1) @ tokens.mu
        assert (tv <= np.sqrt(tokens.hellinger2()) + 1e-12).all()


def test_mle_picks_the_expert_with_enough_data() -> None:
    rng = np.random.default_rng(1)
    tokens = TokenClass.random(8, 2, 2, rng)
    far = np.flatnonzero(tokens.hellinger2() > 0.02)
    picked = tokens.sample_mle(20_000, 50, rng)
    assert not np.isin(picked, far).any()


def test_bad_parameters() -> None:
    with pytest.raises(UserError, match="zeta"):
        Unvisited(8, 0.5)
    with pytest.raises(UserError, match="margin"):
        StochasticRealizable(8, 0.7)
