"""The finding states what the numbers support, and no more."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from fake_runs import EXPERTS, comparison
from rich.console import Console

from understudy import report
from understudy.evaluation.intervals import Interval
from understudy.evaluation.numbers import count, duration, percent, points
from understudy.report.comparison.finding import headline, rises
from understudy.report.comparison.flags import limits
from understudy.report.comparison.summary import Contrast, summarise
from understudy.report.text import label, listed, method_name, visible


def expert(sft: float, opd: float, realizable: bool | None, own: float = 0.95, **more: Any) -> dict[str, Any]:
    return EXPERTS["larger"] | {"sft": sft, "opd": opd, "realizable": realizable, "own": own} | more


def finding_of(tmp_path: Path, **experts: dict[str, Any]) -> list[str]:
    return report.finding(report.load([comparison(tmp_path / "c", experts=experts, prompts=160)]))


def test_online_better(tmp_path: Path) -> None:
    lines = finding_of(tmp_path, out=expert(0.62, 0.86, False))
    assert lines[0].startswith("OPD beat SFT with out (+2")
    assert lines[1].startswith("Out of reach: OPD was ahead of SFT with out (+2")
    assert "95% interval +" in lines[1]
    assert "Not as expected" not in " ".join(lines)


def test_no_difference_is_said_with_what_the_interval_allows(tmp_path: Path) -> None:
    lines = finding_of(tmp_path, R=expert(0.70, 0.70, True, own=0.70))
    assert lines[0].startswith("No difference between OPD and SFT was found with R")
    assert lines[1].startswith("Within reach: no difference was found with R (")
    assert f"95% interval {chr(0x2212)}" in lines[1]
    assert "points above the base, so matching it is not trivial" in lines[1]
    assert "no difference was found" in lines[1]
    assert "beat" not in " ".join(lines)


def test_online_worse_is_said_plainly(tmp_path: Path) -> None:
    lines = finding_of(tmp_path, bad=expert(0.80, 0.55, False))
    assert lines[0].startswith(f"OPD did worse than SFT with bad ({chr(0x2212)}2")
    assert "Not as expected with bad, where we expected OPD to be ahead." in lines[1]


def test_the_expected_headline_needs_every_expert(tmp_path: Path) -> None:
    expected = {"R": expert(0.70, 0.70, True, own=0.7), "out": expert(0.6, 0.86, False)}
    assert finding_of(tmp_path / "a", **expected)[0].startswith("Rehearsing with the expert (OPD) beat studying")
    failed = expected | {"also": expert(0.7, 0.7, False)}
    lines = finding_of(tmp_path / "b", **failed)
    assert lines[0].startswith("OPD beat SFT with out (+2")
    assert "no difference was found with R and also" in lines[0]
    assert "Not as expected with also, where we expected OPD to be ahead." in lines[1]
    none = {name: expert(0.7, 0.7, reach) for name, reach in (("a", True), ("b", False), ("c", None))}
    assert finding_of(tmp_path / "c", **none)[0] == "No difference between OPD and SFT was found with any expert."


def test_a_stated_expectation_replaces_the_default_one(tmp_path: Path) -> None:
    root = comparison(tmp_path, experts={"style": expert(0.7, 0.7, False)}, prompts=160)
    data = json.loads((root / "compare.json").read_text())
    data["experts"]["style"]["expect"] = "none"
    (root / "compare.json").write_text(json.dumps(data))
    assert "Not as expected" not in " ".join(report.finding(report.load([root])))


def test_an_expert_near_the_base_is_a_weak_test(tmp_path: Path) -> None:
    lines = finding_of(tmp_path, R=expert(0.48, 0.48, True, own=0.48))
    assert "a gain below 20 points makes matching it a weak test" in lines[1]


def test_five_times_the_budget_names_all_three_costs(tmp_path: Path) -> None:
    lines = finding_of(tmp_path, solver=EXPERTS["solver"])
    line = next(x for x in lines if x.startswith("Five times the budget: SFT ×5 narrows the gap with solver"))
    assert "5× the updates" in line
    assert "the expert tokens" in line
    assert "the training seconds of OPD" in line


def test_the_lesson_of_the_divergences_needs_the_data(tmp_path: Path) -> None:
    lines = finding_of(tmp_path / "a", solver=EXPERTS["solver"])
    lesson = [line for line in lines if line.startswith("Discrepancy: ")]
    assert len(lesson) == 1
    assert "kl(expert, student) went from 1.3" in lesson[0]
    shrinking = EXPERTS["solver"] | {"kl_es": (6.0, 0.5, 0.05)}
    assert not [x for x in finding_of(tmp_path / "b", solver=shrinking) if x.startswith("Discrepancy")]
    flat = EXPERTS["solver"] | {"opd": 0.44, "sft": 0.44, "sft5": 0.44}  # nothing rose: nothing to explain
    assert not [x for x in finding_of(tmp_path / "c", solver=flat) if x.startswith("Discrepancy")]


def test_the_bound_is_a_bound(tmp_path: Path) -> None:
    divergences = rises(summarise(report.load([comparison(tmp_path)])))
    assert divergences
    for d in divergences:
        assert 0 <= d.allowed <= 1
        assert d.allowed**2 == pytest.approx(1 - 2.718281828459045 ** -d.nats[1])


def test_one_seed_and_several_say_what_the_intervals_cover(tmp_path: Path) -> None:
    one = summarise(report.load([comparison(tmp_path / "1", seeds=1, experts={"R": EXPERTS["R"]})]))
    assert "One seed" in limits(one)[0]
    three = summarise(report.load([comparison(tmp_path / "3", experts={"R": EXPERTS["R"]})]))
    assert "3 seeds" in limits(three)[0]


def test_table_rows_and_cells(tmp_path: Path) -> None:
    loaded = report.load([comparison(tmp_path)])
    rows = report.table(loaded)
    assert [(r.expert, r.method) for r in rows[:5]] == [
        ("R", "SFT"), ("R", "OPD"), ("solver", "SFT"), ("solver", "SFT ×5"), ("solver", "OPD"),
    ]  # fmt: skip
    heads = report.headers(loaded)
    assert "OPD minus this" in heads
    assert all(len(row.cells) == len(heads) for row in rows)
    sft, opd = rows[2], rows[4]
    assert sft.difference is not None
    assert sft.sampled is not None
    assert opd.sampled is not None
    assert sft.difference.value == pytest.approx(opd.sampled.value - sft.sampled.value)
    assert sft.difference.excludes_zero
    assert opd.difference is None
    assert opd.gain is not None
    assert opd.gain.low < opd.gain.value  # the base has outcomes, so the gain has an interval
    assert sft.budgets["updates"] == 200


def test_shared_and_fresh_problems_are_distinguished(tmp_path: Path) -> None:
    """Fresh problems for each seed are more evidence: the interval is narrower."""
    only = {"larger": EXPERTS["larger"]}
    widths = []
    for shared in (True, False):
        root = comparison(tmp_path / str(shared), experts=only, shared_prompts=shared)
        sampled = report.table(report.load([root]))[0].sampled
        assert sampled is not None
        widths.append(sampled.high - sampled.low)
    assert widths[0] > 1.1 * widths[1]


@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_terminal_table_fits_and_cuts_no_cell(tmp_path: Path, width: int) -> None:
    loaded = report.load([comparison(tmp_path, seeds=1)])
    console = Console(width=max(width, 70), file=io.StringIO())
    console.print(report.terminal(loaded, width))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in shown
    assert shown.count("solver") == 1
    assert all(row.cells[2] in shown for row in report.table(loaded))
    assert max(map(len, shown.splitlines())) <= max(width, 70)
    assert ("updates" in shown) == (width >= 120)


# --- small words ---------------------------------------------------------------------


def test_numbers_read_well() -> None:
    assert [points(x) for x in (0.2164, -0.004, 0.0, -0.00001)] == ["+21.6", "−0.4", "±0.0", "±0.0"]
    assert [percent(x) for x in (0.8823, None, float("nan"))] == ["88.2%", "–", "–"]
    assert [count(x) for x in (12345, 1_234_567, 2.5e9, None, True)] == ["12,345", "1.23M", "2.50B", "–", "–"]
    assert [duration(x) for x in (3.21, 42, 200, 7200)] == ["3.2 s", "42 s", "3.3 min", "2.0 h"]
    assert [listed(x) for x in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
    assert method_name("opd", 5) == "OPD ×5"
    assert method_name("opd:gamma=1") == "OPD gamma=1"
    assert method_name("my method") == "my method"
    assert Interval(0.1, -0.2, 0.1, 1, 1).reach == 0.2


def test_acting_characters_become_visible_ones() -> None:
    assert visible("a\x00b\x1b[31m\x7f") == "a⟨NUL⟩b⟨ESC⟩[31m⟨U+007F⟩"
    assert visible("\u202egnp.exe\u2066\ufeff") == "⟨U+202E⟩gnp.exe⟨U+2066⟩⟨U+FEFF⟩"
    assert visible("\ud800\ufffe") == "\ufffd\ufffd"
    assert visible("line\n\tשלום 👩\u200d🚀 <b>") == "line\n\tשלום 👩\u200d🚀 <b>"
    assert visible("x" * 30, 10) == "x" * 10 + "… (20 more characters)"
    assert label("one\ntwo   three") == "one two three"
    visible("".join(map(chr, range(0x3000)))).encode()  # everything can be written


def test_a_sure_but_small_difference_is_called_small(tmp_path):
    """2.5 points whose interval excludes zero are no reason to go online, and no surprise within reach."""
    root = comparison(tmp_path / "c", seeds=1)
    arm = summarise(report.load([root])).arms[0]
    sure = {v: Contrast("R", True, arm, arm, Interval(v, v - 0.02, v + 0.02, 100, 1)) for v in (0.025, 0.141, -0.03)}
    assert [v.small for v in sure.values()] == [True, False, True]
    assert not Contrast("R", True, arm, arm, Interval(0.01, -0.01, 0.03, 100, 1)).small, "not even sure"
    assert "less than 5 points apart" in headline([sure[0.025]])
    assert "beat" in headline([sure[0.141]])
