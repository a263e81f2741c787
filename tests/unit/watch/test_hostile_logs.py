"""Numbers that no training logs end no command: they count as not logged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from understudy.errors import UserError
from understudy.watch.names import number, whole
from understudy.watch.watch import watch

LINES = {
    "digits": '{"step": 1, "train_mean_nll": 1.0, "progress/done_frac": ' + "9" * 400 + "}",
    "steps without end": '{"step": 1e999, "train_mean_nll": 1.0}',
    "a step of many digits": '{"step": ' + "9" * 400 + ', "train_mean_nll": 1.0}',
    "a share of nothing": '{"step": 1, "train_mean_nll": 1.0, "progress/done_frac": 5e-324}',
    "updates without end": '{"global_step/max_steps": "1/inf", "loss": 1.0}',
    "updates that are none": '{"global_step/max_steps": "1/nan", "loss": 1.0}',
    "verl's digits": f"step:{'9' * 5000} - actor/loss:1.0",
    "verl's numbers": "step:1 - actor/pg_loss:1e999 - actor/entropy:nan",
    "Python that is deep": "{'loss': " + "[" * 5000 + "]" * 5000 + "}",
}


@pytest.mark.parametrize("name", LINES)
def test_lines(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(LINES[name] + "\n")
    try:
        verdicts = watch(tmp_path / "a.log")
    except UserError as error:
        verdicts = []
        assert error.field == "log"  # noqa: PT017 - either is right
    assert all(v.log.updates < 10**15 and len(v.log.rows) == 1 for v in verdicts)


def test_state_of_a_trainer(tmp_path: Path) -> None:
    history = [{"loss": 1.0, "step": 1}, {"loss": 10**400, "step": 2}, {"loss": "1e999", "step": 10**400}]
    text = json.dumps({"max_steps": 10**400, "log_history": history})
    (tmp_path / "trainer_state.json").write_text(text.replace('"1e999"', "1e999"))
    (verdict,) = watch(tmp_path)
    assert verdict.log.updates == 0
    assert [row.step for row in verdict.log.rows] == [1, 3]


def test_numbers() -> None:
    assert number(10**400) is None
    assert [whole(x) for x in (None, -1, 0, "7", 7.9, float("inf"), float("nan"), 10**400, 1e16, [1])] == [
        0, 0, 0, 7, 7, 0, 0, 0, 0, 0,
    ]  # fmt: skip
