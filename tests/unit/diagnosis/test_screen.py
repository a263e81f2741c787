"""The screen of a diagnosis on a terminal of 80 columns: nothing is cut, each route and its cost is one line."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from diagnosis_by_hand import black_box, diagnosis, no_floor, stopped, undecided, without_verifier
from rich.console import Console

from understudy.diagnosis.glossary import MEANINGS
from understudy.diagnosis.screen import show
from understudy.diagnosis.types import Diagnosis


def screen(d: dict[str, Any], width: int = 80) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True)
    show(Diagnosis.from_dict(d), console)
    return [line.rstrip() for line in console.export_text().splitlines()]


@pytest.mark.parametrize("make", [diagnosis, without_verifier, black_box, stopped, no_floor, undecided])
def test_nothing_is_cut_at_80_columns(make: Any) -> None:
    lines = screen(make())
    assert not [line for line in lines if "…" in line]
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    for word in ("route", "accuracy expected", "FLOPs", "time", "this diagnosis"):
        assert word in text


def test_a_route_is_one_line_however_large_its_numbers() -> None:
    d = diagnosis()
    whole = {"value": 1.0, "low": 1.0, "high": 1.0}
    d["verdict"]["expected"] = {who: e | whole for who, e in d["verdict"]["expected"].items()}
    for who, cost in d["costs"].items():
        d["costs"][who] = cost | {"expert_tokens_sampled": 123_456_789, "flops": 4.56e20, "seconds": 3600.0 * 9999}
    lines = screen(d)
    row = r"100% \[100%, 100%\] +123M +2.35M +456E +9,999 h$"
    for route in ("offline (SFT)", "online (OPD), an estimate"):
        assert [line for line in lines if re.match(re.escape(route) + " +" + row, line)], lines


def test_meanings_are_whole_at_80_columns() -> None:
    """Meanings wrap in the third column; joined again, no word is missing."""
    lines = screen(diagnosis())
    first = next(i for i, line in enumerate(lines) if line.startswith("evidence"))
    column = lines[first].index("what it means")
    text = " ".join(" ".join(line[column:] for line in lines[first:]).split())
    for name in ("headroom", "kl_student_expert", "auc", "takeover_gain"):
        assert MEANINGS[name][1] in text


def test_without_an_online_route_there_is_no_row_of_it() -> None:
    assert any(line.startswith("online (OPD)") for line in screen(diagnosis()))
    assert not any(line.startswith("online (OPD)") for line in screen(black_box()))


@pytest.mark.parametrize(("go", "text"), [(0.74, "go online is likeliest (74%)"), (0.4, "the evidence does not say")])
def test_an_open_verdict_names_what_is_likeliest(go: float, text: str) -> None:
    d = undecided()
    d["verdict"]["probabilities"] = {"offline suffices": 0.1, "go online": go, "neither": 0.1, "undecided": 0.8 - go}
    assert text in " ".join(screen(d)[:2])
