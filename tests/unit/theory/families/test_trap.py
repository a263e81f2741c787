"""Example T: reference numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from understudy.errors import UserError
from understudy.theory.exact.decompose import guarantee, split_bandit
from understudy.theory.families.trap import Trap


def test_reference_numbers() -> None:
    parts = split_bandit(Trap().bandit())
    assert parts.reverse == pytest.approx([2.995732249, 5.118493193], abs=1e-9)
    assert parts.forward == pytest.approx([19.488587302, 7.452890031], abs=1e-9)
    assert float(parts.delta) == pytest.approx(0.010851669, abs=1e-9)
    assert parts.value[parts.online()] == pytest.approx(0.98)
    assert parts.value[parts.offline()] == pytest.approx(0.30)
    promise = guarantee(0.98, float(parts.delta))
    assert promise.kl_inverse == pytest.approx(0.956169, abs=5e-7)
    assert promise.pinsker == pytest.approx(0.906340, abs=5e-7)


def test_mle_by_enumeration_of_all_data_sets() -> None:
    b = Trap().bandit()
    expert, students = b.expert[0], b.students[:, 0]
    for n in (1, 2, 3):
        total = 0.0
        for data in itertools.product(range(4), repeat=n):
            ratio = float(np.log(students[1, list(data)]).sum() - np.log(students[0, list(data)]).sum())
            total += float(np.prod(expert[list(data)])) * (0.5 if abs(ratio) < 1e-9 else float(ratio > 0))
        assert Trap().mle_picks_second(n) == pytest.approx(total, abs=1e-12)
    assert Trap().mle_picks_second(1) == pytest.approx(0.951, abs=1e-12)
    assert Trap().mle_picks_second(5) > 0.99999


def test_bad_parameters() -> None:
    with pytest.raises(UserError, match="strictly between"):
        Trap(rho=0.0)
