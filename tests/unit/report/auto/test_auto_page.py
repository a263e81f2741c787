"""The page of `understudy auto`: what it says of four trainings, its curves, and damage that costs only a note."""

from __future__ import annotations

import html.parser
import io
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from auto_by_hand import GKD, OPD, PROMPTS, collapsed, no_headroom, running, with_money, write
from rich.console import Console

from understudy.cli.main import main
from understudy.errors import UserError
from understudy.report import auto
from understudy.report.auto.load import load
from understudy.report.auto.terminal import sparkline
from understudy.report.auto.track import Series, Track, _smooth, tracks

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> \x1b[31m \u202egnp {{ 7 * 7 }} $x^2$"


class Page(html.parser.HTMLParser):
    """Tags and text of a page; checks that tags nest."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(self.source)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text = f"{self.text} {' '.join(data.split())}"


def shown(folder: Path, width: int = 110) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(auto.terminal(folder, width))
    return console.export_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("auto"), collapsed())


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    assert auto.build(folder) == folder / "report.html"
    return Page(folder / "report.html")


def test_the_page_shows_the_route_every_fork_costs_and_the_roads_not_taken(page: Page) -> None:
    assert [attrs["id"] for tag, attrs in page.tags if tag == "section"] == ["forks", "costs", "roads", "setting"]
    for text in ("SFT → GKD took the student from 31.0% to 62.8%", "OPD full undone: the reward fell", "1.4 PFLOPs",
                 "OPD did harm; a mixed phase is safer.", "What would have changed it: An accuracy of the student",
                 "78%", "Its evidence cost 50 TFLOPs (1% of the budget, 50 s).", "accuracy of the model",
                 "31.0% [27.0, 35.0]", "58.0% [47.0, 68.0]", "harm: undone", "not spent", "completions that ended",
                 "It came to 63.0%", "It was undone: the reward fell."):  # fmt: skip
        assert text in page.text, text
    assert "It came to 45.0% [40.7, 49.3]. It was undone" not in page.text  # that is the start's, which was restored


def test_the_page_needs_nothing_else(page: Page) -> None:
    assert not {"script", "iframe", "object", "img"} & {tag for tag, _ in page.tags}
    outside = [v for _, attrs in page.tags for k, v in attrs.items() if k in ("href", "src", "xlink:href")]
    assert all(v and v.startswith(("#", "data:")) for v in outside)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_finding_of_a_training_after_a_collapse(folder: Path) -> None:
    lines = auto.finding(folder)
    assert lines == [
        "SFT → GKD took the student from 31.0% to 62.8% (95% interval 59.8% to 65.8%); the expert has 92.0%.",
        "It cost 3.55 PFLOPs of 4 PFLOPs (89%) and 57.5 min; 4% of it was for evidence, not for training.",
        "OPD full (phase 2) was undone because the reward fell, after 900 TFLOPs.",
        "It stopped here: nothing is expected to add 2 points for what is left.",
        "Expected of the roads not taken: GKD 58% [47, 68], SFT 52% [44, 60] and OPD full 40% [20, 66]. "
        "None was expected to do better.",
    ]


def test_without_headroom_nothing_is_trained(tmp_path: Path) -> None:
    folder = write(tmp_path, no_headroom())
    assert auto.finding(folder)[0].startswith("No phase was trained: the student stays as it was at 89.0%")
    text = Page(auto.build(folder)).text
    assert "No phase was trained, so there is no curve." in text
    assert "Nothing was expected of any other route." in text
    assert "student 89.0%" in shown(folder)


def test_a_phase_in_training_is_shown_before_it_is_a_node(tmp_path: Path) -> None:
    folder = write(tmp_path, running())
    data = json.loads((folder / "auto.json").read_text())
    named = tracks(load(folder), [])
    data["nodes"].pop()  # auto.json is written between phases
    (folder / "auto.json").write_text(json.dumps(data))
    found = tracks(load(folder), [])
    assert [t.node.name for t in found] == [t.node.name for t in named] == ["0-sft", "1-opd_full"]
    assert found[1].node.running
    assert found[1].end - found[1].begin == pytest.approx(OPD / 3)  # a third of its updates are in the log
    assert auto.finding(folder)[0] == (
        "OPD full (phase 2) is being trained; the best model so far is SFT at 45.0% (95% interval 40.7% to 49.3%)."
    )
    assert auto.finding(folder)[1].startswith("It has cost at least 1.15 PFLOPs")  # auto.json is of its begin
    assert "running" in shown(folder)
    assert "yet" in Page(auto.build(folder)).text  # of the roads not taken


def test_money_is_the_same_picture_on_another_axis(tmp_path: Path, folder: Path) -> None:
    paid = write(tmp_path, with_money())
    assert auto.finding(paid)[1].startswith("It cost $35.50 of $40.00 (89%) and 57.5 min")
    for a, b in zip(tracks(load(folder), []), tracks(load(paid), [])):
        assert (a.begin / 1e14, a.end / 1e14, a.kept / 1e14) == pytest.approx((b.begin, b.end, b.kept))
        assert a.curve is not None
        assert b.curve is not None
        np.testing.assert_allclose(a.curve.x / 1e14, b.curve.x)
    assert "$10.00" in shown(paid)


# --- curves --------------------------------------------------------------------------------------------------------


def by_method(folder: Path) -> dict[str, Track]:
    return {track.node.method: track for track in tracks(load(folder), [])}


def test_curves_follow_each_other_on_the_axis_and_what_was_undone_is_not_kept(folder: Path) -> None:
    found = by_method(folder)
    sft, opd, gkd = found["sft"], found["opd_full"], found["gkd"]
    assert sft.begin == 0.05e15  # what the look before it had cost
    assert (opd.begin, opd.end) == (1.1e15, 1.1e15 + OPD)
    assert (opd.kept, opd.thrown) == (opd.begin, True)
    assert (gkd.kept, gkd.thrown) == (gkd.end, False)
    assert sft.reward is None
    assert sft.curve is sft.evals  # its completions are the expert's
    assert gkd.reward is not None
    assert gkd.reward.x[-1] == pytest.approx(gkd.begin + GKD)
    assert opd.reward is not None
    assert opd.reward.mean[-1] < 0.1 < 0.4 < opd.reward.mean[30]


def test_a_phase_taken_back_to_an_earlier_update_is_kept_up_to_there(tmp_path: Path) -> None:
    data = collapsed()
    data["nodes"][3]["guard"] = {"state": "restored", "step": 60, "stopped": None, "reason": "the model of update 60"}
    track = by_method(write(tmp_path, data))["gkd"]
    assert track.kept == pytest.approx(track.begin + GKD / 2)
    assert "GKD (phase 3) was undone back to update 60" in auto.finding(tmp_path)[2]


def test_update_of_the_expert_in_a_mixture_is_not_the_students(tmp_path: Path) -> None:
    write(tmp_path, collapsed())
    path = tmp_path / "phases/2-gkd/metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "train":
            own = line["step"] % 2 == 0
            line |= {"at_limit": 0.0} if own else {"at_limit": None, "reward": 1.0}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    reward = by_method(tmp_path)["gkd"].reward
    assert reward is not None
    assert len(reward.mean) == 60
    assert reward.mean.max() < 0.8


def test_smoothing_of_a_constant_is_the_constant_with_wilsons_band() -> None:
    mean, low, high = _smooth(np.full(100, 0.5), PROMPTS)
    assert mean == pytest.approx(np.full(100, 0.5))
    n = 5 * PROMPTS  # a window of five updates; for p = 1/2 the half width is z / 2 sqrt(n + z^2)
    assert high[50] - 0.5 == pytest.approx(1.96 / 2 / np.sqrt(n + 1.96**2))
    assert 0.5 - low[50] == pytest.approx(high[50] - 0.5)
    assert high[0] > high[50]  # the first window is shorter


def test_sparkline_covers_its_columns() -> None:
    x = np.linspace(0, 1, 80)
    assert sparkline(Series(x, x, x, x), 8) == "▁▂▃▄▅▆▇█"
    assert sparkline(None, 8) == ""


# --- damage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "x", 7, [], {}, [None, 3, {}], float("nan"), {"a": {"b": []}}])
def test_any_part_may_be_missing_or_damaged(tmp_path: Path, value: Any) -> None:
    whole = collapsed()
    write(tmp_path, whole, updates=12)
    for name in whole:
        if name == "version":
            continue
        (tmp_path / "auto.json").write_text(json.dumps(whole | {name: value}))
        assert auto.finding(tmp_path)
        assert shown(tmp_path)


@pytest.mark.parametrize("value", ["x", float("nan")])
def test_any_part_of_a_part_may_be_damaged(tmp_path: Path, value: Any) -> None:
    inner = {"nodes": ["parent", "method", "folder", "spent", "look", "guard"],
             "decisions": ["at", "spent", "left", "known", "options", "chosen", "cost", "why"],
             "costs": ["part", "amount", "seconds"], "alternatives": ["route", "expected", "price"]}  # fmt: skip
    broken = collapsed()
    write(tmp_path, broken, updates=12)
    for name, fields in inner.items():
        for item in broken[name]:
            item |= dict.fromkeys(fields, value)
    (tmp_path / "auto.json").write_text(json.dumps(broken))
    assert "Every fork" in Page(auto.build(tmp_path)).text


def test_missing_phases_cost_a_note(tmp_path: Path) -> None:
    write(tmp_path, collapsed())
    (tmp_path / "phases/2-gkd/config.json").unlink()
    path = tmp_path / "phases/1-opd_full/metrics.jsonl"
    path.write_text("not json\n" + path.read_text() + '{"kind": "tra')
    text = Page(auto.build(tmp_path)).text
    assert "phases/2-gkd: config.json is missing" in text
    assert "phases/1-opd_full: metrics.jsonl line 1 is damaged and was skipped" in text
    assert "half written" in text


def test_a_folder_outside_is_not_read(tmp_path: Path) -> None:
    data = collapsed()
    data["nodes"][1]["folder"] = "../elsewhere"
    notes: list[str] = []
    assert tracks(load(write(tmp_path / "a", data)), notes)[0].curve is None
    assert "not in this directory" in notes[0]


def test_text_is_data(tmp_path: Path) -> None:
    data = collapsed()
    data["setting"] |= {"student": HOSTILE, "task": HOSTILE}
    data["nodes"][3] |= {"method": HOSTILE}
    data["decisions"][0] |= {"why": HOSTILE, "would_change": HOSTILE}
    data["costs"][0]["part"] = data["reason"] = data["alternatives"][0]["source"] = HOSTILE
    data["nodes"][2]["guard"] |= {"reason": HOSTILE}
    (tmp_path / "auto.json").write_text(json.dumps(data))
    page = Page(auto.build(tmp_path))
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert not {"\x1b", "\u202e"} & set(page.source)
    assert "{{ 7 * 7 }}" in page.text
    assert "\x1b[31m" not in shown(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"version": 9}'])
def test_what_is_no_auto_directory_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "auto.json").write_text(text)
    with pytest.raises(UserError):
        auto.build(tmp_path)


# --- commands and pictures -----------------------------------------------------------------------------------------


def test_report_builds_the_page_of_an_auto_directory(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(folder), "--out", str(tmp_path / "page.html")]) == 0
    assert "SFT → GKD" in (tmp_path / "page.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["report", str(folder), str(folder / "phases/0-sft")]) == 2
    assert "report on it alone" in capsys.readouterr().err


def test_the_picture_is_a_file_of_its_own(tmp_path: Path, folder: Path) -> None:
    drawn = auto.picture(folder, tmp_path / "auto.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(drawn)
    assert "GKD" in "".join(root.itertext())
    assert auto.picture(folder, tmp_path / "auto.png").read_bytes().startswith(b"\x89PNG")
