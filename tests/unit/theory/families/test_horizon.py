"""docs/theory.md, section 5: reference numbers of the horizon families."""

from __future__ import annotations

import pytest

from understudy.errors import UserError
from understudy.theory.families.horizon import HZ, KINDS
from understudy.theory.information import Info

GRID = (1, 2, 4, 8, 16)
REFERENCE = {
    (64, "R-shared"): [0.000097160] * 5,
    (64, "R-indep"): [0.000097160, 0.000145739, 0.000182174, 0.000193560, 0.000194316],
    (64, "M-mode-shared"): [0.461535077] * 5,
    (64, "M-mode-indep"): [0.461535077, 0.692302615, 0.865378269, 0.919464410, 0.923056068],
    (64, "M-token-shared"): [0.461535077, 0.426328325, 0.364525782, 0.268691024, 0.150671109],
    (64, "M-token-indep"): [0.461535077, 0.709905991, 0.915671184, 0.992829198, 0.999946818],
    (16, "R-shared"): [0.059033544] * 5,
    (16, "R-indep"): [0.059033544, 0.088550315, 0.110687894, 0.117605887, 0.118065285],
    (16, "M-mode-shared"): [0.490093205] * 5,
    (16, "M-token-shared"): [0.490093205, 0.480466984, 0.462018713, 0.428095628, 0.370454606],
    (16, "M-token-indep"): [0.490093205, 0.739952919, 0.932331387, 0.995408846, 0.999978692],
}


@pytest.mark.parametrize(("n", "kind"), REFERENCE)
def test_reference_numbers(n: int, kind: str) -> None:
    got = [HZ(kind, 8, 0.01, 0.0, h).regret(Info.OFF_S, n) for h in GRID]
    assert got == pytest.approx(REFERENCE[n, kind], abs=1e-9)


def test_noisy_reference_numbers() -> None:
    got = [HZ("R-shared", 8, 0.01, 0.3, h).regret(Info.OFF_S, 64) for h in (1, 4, 16)]
    assert got == pytest.approx([0.050738054, 0.006644154, 0.000137784], abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_online_is_the_realizable_regret_of_the_same_bits(kind: str) -> None:
    bits = kind.rsplit("-", 1)[1]
    for h in GRID:
        realizable = HZ(f"R-{bits}", 8, 0.01, 0.0, h).regret(Info.OFF_S, 64)
        assert HZ(kind, 8, 0.01, 0.0, h).regret(Info.ON_G, 64) == realizable


def test_logits_help_token_styles_but_not_a_style_token() -> None:
    for h in GRID:
        token = HZ("M-token-indep", 8, 0.01, 0.0, h)
        assert token.regret(Info.OFF_L, 64) == token.regret(Info.ON_G, 64)
        mode = HZ("M-mode-indep", 8, 0.01, 0.0, h)
        assert mode.regret(Info.OFF_L, 64) == mode.regret(Info.OFF_S, 64)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"kind": "X"}, "kind"),
        ({"H": 0}, "H"),
        ({"eps": 0}, "eps"),
        ({"l": 0}, "l"),
        ({"kappa": 0.6}, "kappa"),
        ({"kind": "R-indep", "kappa": 0.1}, "kappa"),
    ],
)
def test_bad_parameters(arguments: dict, field: str) -> None:
    with pytest.raises(UserError) as error:
        HZ(**arguments)
    assert error.value.field == field
