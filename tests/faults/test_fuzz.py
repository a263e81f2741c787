"""A second of random input for every parser of other people's text; `python -m tests.fuzz --all` takes longer."""

from __future__ import annotations

import pytest
from fuzz.run import run
from fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_any_text_gives_a_result_or_a_user_error(name: str) -> None:
    done = run(name, 1.0)
    assert done["findings"] == []
    assert done["examples"] > 10
