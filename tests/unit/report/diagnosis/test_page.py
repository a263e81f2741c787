"""The page of a diagnosis: self-contained, escaped, deterministic, and built from incomplete diagnoses."""

from __future__ import annotations

import copy
import html.parser
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from diagnosis_by_hand import (
    black_box,
    diagnosis,
    estimate,
    nearly_nothing,
    no_floor,
    stopped,
    undecided,
    without_verifier,
    write,
)

from understudy.cli.main import main
from understudy.diagnosis.forecast.explain import chances
from understudy.diagnosis.types import Diagnosis
from understudy.errors import UserError
from understudy.report.diagnosis import page
from understudy.report.diagnosis.figures import dial
from understudy.report.diagnosis.words import command, measure
from understudy.report.figures.svg import INK, drawing

HOSTILE = (
    "<script>alert(1)</script></pre>\"'><img src=x onerror=alert(1)> \x1b[31m \x00 \u202egnp {{ 7 * 7 }} &amp; $x^2$"
)
VOID = {"meta", "link", "br", "img", "input", "hr"}
SECTIONS = ("routes", "reasons", "curves", "ranking", "looks", "samples", "controls", "preflight", "measures",
            "assumptions", "reproduce")  # fmt: skip


class Page(html.parser.HTMLParser):
    """Tags, attributes and text of a page, by section; checks that tags nest and ids are not used twice."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[tuple[str, str | None]] = []
        self.by_section: dict[str, str] = {}
        self.feed(self.source)
        self.close()
        assert not self.open, self.open
        ids = [attrs["id"] for _, attrs in self.tags if "id" in attrs]
        assert len(ids) == len(set(ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("id")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1][0] == tag, (self.open[-3:], tag)
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1][0] == "style":
            return
        section = next((i for tag, i in reversed(self.open) if tag == "section" and i), "top")
        self.by_section[section] = self.by_section.get(section, "") + " " + data

    def words(self, section: str = "") -> str:
        texts = [self.by_section.get(section, "")] if section else list(self.by_section.values())
        return " ".join(" ".join(texts).split())

    def why(self, section: str) -> bool:
        return re.search(rf'<section id="{section}">(?:(?!</section>).)*class="why"', self.source, re.S) is not None


def built(path: Path, d: Any) -> Page:
    return Page(page.build(write(path, d)))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return built(tmp_path_factory.mktemp("full"), diagnosis())


def test_verdict_first_then_all_it_rests_on(full: Page) -> None:
    assert full.words("top").startswith("Diagnosis: runs/base → solver on countdown:max_number=12")
    h1 = re.search(r"<h1>(.*?)</h1>", full.source)
    assert h1 is not None
    assert h1.group(1) == "Go online, with a probability of 83%"
    assert [attrs["id"] for tag, attrs in full.tags if tag == "section"] == list(SECTIONS)
    assert not any(full.why(section) for section in SECTIONS), "nothing is missing here"
    top = full.words("top")
    for p in ("83%", "4%", "1%", "12%"):  # the dial names all four
        assert p in top
    assert "85.0% right, against 60.0% offline and 41.0% now" in top
    assert "more than 5 points" in top


def test_what_each_section_shows(full: Page) -> None:
    routes = full.words("routes")
    for text in (
        "online (OPD), an estimate",
        "85.0%",
        "[75.0, 95.0]",
        "60.0%",
        "12,345",
        "2.35M",
        "115 G",
        "407 G",
        "77 s",
    ):
        assert text in routes
    assert "4.79% of both trainings" in routes  # 25 / (114.7 + 407)
    assert "The online pilot gains most" in full.words("reasons")
    assert "An SFT pilot that gains +0.30" in full.words("reasons")
    curves = full.words("curves")
    assert "0.90 nats [0.50, 1.30] would stay" in curves
    assert "expected after 12,800 sequences" in curves
    assert "13k" in curves  # the axis reaches the full training
    assert "Ceiling: 88.0% [83.0, 93.0]" in full.words("ranking")
    assert "90% of pairs [87, 93]" in full.words("ranking")
    assert re.search(r"student wrong .*expert right", full.words("samples"))
    assert "Twice the steps passed twice the steps change little" in full.words("controls")
    assert "0.05 [−0.05, 0.15] nats" in full.words("controls")
    assert "82 tokens fit" in full.words("preflight")
    table = full.words("measures")
    assert "ranking how often it puts a right answer above a wrong one 0.90 [0.87, 0.93]" in table
    assert "+56.0 [+51.0, +61.0] points" in table
    assert "0.65 [0.48, 1.00]" in table, "a measure of an earlier version is shown too"
    assert table.count("t over prompts") == len(diagnosis()["evidence"]["measures"])


def test_no_network_no_script_no_style_from_outside(full: Page) -> None:
    for tag, attrs in full.tags:
        assert tag not in ("script", "iframe", "object", "embed", "form", "base")
        assert not any(name.startswith("on") for name in attrs)
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            value = attrs.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
    assert "@import" not in full.source
    assert not re.search(r"url\(\s*['\"]?(?!#)", full.source)
    assert not re.search(r"""https?://(?!www\.w3\.org/)""", full.source)
    policy = next(a["content"] for t, a in full.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def everywhere(value: Any, text: str) -> Any:
    """A diagnosis with all texts replaced by `text`, except those that the page branches on; keys of keywords too."""
    keep = {"answer", "kind", "label", "version"}
    if isinstance(value, dict):
        return {k: v if k in keep else everywhere(v, text) for k, v in value.items()}
    if isinstance(value, list):
        return [everywhere(v, text) for v in value]
    return text if isinstance(value, str) else value


def test_hostile_text_is_text_everywhere(tmp_path: Path, full: Page) -> None:
    d = everywhere(diagnosis(), HOSTILE)
    d["series"]["keywords"] = {HOSTILE: {"student": 1.0, "expert": 0.0}}
    d["setting"][HOSTILE] = HOSTILE
    d["evidence"]["checks"][HOSTILE] = d["evidence"]["checks"]["stability"]
    d["evidence"]["measures"][HOSTILE] = d["evidence"]["measures"]["auc"]
    page = built(tmp_path, d)  # the tags nest
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in full.tags}
    assert "<script>alert(1)</script>" in page.words("samples"), "shown, as text"
    assert "49" not in re.findall(r"\b49\b", page.words("samples"))
    for char in ("\x00", "\x1b", "\u202e"):
        assert char not in page.source
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)


@pytest.mark.parametrize(
    ("make", "sentences"),
    [
        (
            without_verifier,
            {
                "top": "No reward is known",
                "routes": "No accuracy can be given: no reward is known here",
                "curves": "The pilots’ accuracy cannot be shown. No reward is known",
                "ranking": "Score against reward cannot be shown. No reward is known",
            },
        ),
        (
            black_box,
            {
                "top": "Offline suffices, with a probability of >99%",
                "routes": "Online training is no route here: the expert only gives samples",
                "curves": "The pilots’ distance to the expert cannot be shown. The expert only gives samples",
                "ranking": "The tilt curve cannot be shown. The expert only gives samples",
            },
        ),
        (
            stopped,
            {
                "top": "Neither, with a probability of 96%",
                "curves": "the diagnosis stopped at the headroom gate (no headroom, no training)",
                "controls": "There were no pilots to control.",
            },
        ),
        (no_floor, {"curves": "No floor was fitted"}),
        (undecided, {"top": "The likeliest of the three answers is “offline suffices”, and its 51% is not enough"}),
        (
            nearly_nothing,
            {
                "top": "there is no dial",
                "routes": "The diagnosis holds no costs.",
                "reasons": "gives no reasons",
                "curves": "No pilots were trained",
                "looks": "Lengths cannot be shown",
                "samples": "No completions were kept.",
                "preflight": "holds no preflight checks",
                "measures": "Nothing could be measured.",
                "assumptions": "No assumptions were written down.",
                "reproduce": "there is no command",
            },
        ),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(
    make: Callable[[], dict[str, Any]], sentences: dict[str, str], tmp_path: Path, full: Page
) -> None:
    page = built(tmp_path, make())
    for section, sentence in sentences.items():
        assert sentence in page.words(section), page.words(section)
        if section in SECTIONS and make is not no_floor:
            assert page.why(section)
        assert sentence not in full.words(section)


def test_no_figure_is_drawn_of_nothing(tmp_path: Path) -> None:
    assert "<svg" not in built(tmp_path, nearly_nothing()).source
    assert "online (OPD)" not in built(tmp_path, black_box()).words("routes")


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each part of a JSON value; of lists, only the first entry."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*at, key)
            yield from paths(item, (*at, key))
    elif isinstance(value, list) and value:
        yield (*at, 0)
        yield from paths(value[0], (*at, 0))


def understood(raw: Any) -> Diagnosis:
    return Diagnosis.from_dict(raw, tolerant=True)


def context(d: Diagnosis) -> None:
    """All figures and words; the template only lays them out."""
    with drawing():
        page.context(d, Path("d"))


def test_any_part_may_be_absent_or_of_the_wrong_kind() -> None:
    """Reading never raises, whatever part is changed; the page is drawn for one change of each part."""
    whole = diagnosis()
    whole["series"]["scatter"] = whole["series"]["scatter"][:8]
    for place in paths(whole):
        if place[:2] == ("verdict", "answer") or place in (("verdict",), ("version",)):
            continue
        for wrong in ("absent", None, "x", [], {}, 10**400, "nan", [[1]], {"value": -1e300}):
            assert understood(changed(whole, place, wrong)).verdict.answer == "go online"
    parts = ("setting", "evidence", "costs", "series", "preflight", "assumptions")
    for wrong in ("x", {"x": [None, {"y": "z"}]}, [{"x": 1}]):
        context(understood(whole | dict.fromkeys(parts, wrong)))
    odd = {"student": "x", "t": [0, 1], "value": [1e29, -1e29], "low": [0, 0], "high": [0, 0], "n": [1, 1]}
    for wrong in (odd, [[1, 2, 3]] * 2, [[1e29, -1e29, 1e29], [0, 0, 0]]):
        context(understood(whole | {"series": dict.fromkeys(whole["series"], wrong)}))
    for change in ({"samples": 1}, {"samples": 1e29, "accuracy": None}, {"kl_expert_student": estimate(-1e29, 1.0)}):
        pilots = [p | change for p in whole["evidence"]["pilots"]]
        d = whole | {"evidence": whole["evidence"] | {"pilots": pilots}, "series": {}}
        context(understood(d))


def changed(value: Any, place: tuple[Any, ...], wrong: Any) -> Any:
    """A copy in which the part at `place` is `wrong`, or absent."""
    out = copy.copy(value)
    if len(place) > 1:
        out[place[0]] = changed(value[place[0]], place[1:], wrong)
    elif wrong == "absent":
        del out[place[0]]
    else:
        out[place[0]] = wrong
    return out


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "nonsense", "{}", '{"verdict": {"answer": "maybe"}}', '{"verdict": 3}',
     '{"version": 2, "verdict": {"answer": "neither"}}', "[" * 100_000],
)  # fmt: skip
def test_a_damaged_file_is_one_plain_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "d", text)
    with pytest.raises(UserError, match="diagnosis"):
        page.build(tmp_path / "d")
    assert main(["report", str(tmp_path / "d")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "d" / page.PAGE).exists()


def test_a_missing_file_is_a_plain_line_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        page.build(tmp_path)


def test_again_gives_the_same_bytes_and_the_command_does_it(tmp_path: Path) -> None:
    first = page.build(write(tmp_path / "d", diagnosis()))
    before = first.read_bytes()
    first.unlink()
    assert main(["report", str(tmp_path / "d")]) == 0
    assert first.read_bytes() == before
    assert main(["report", str(tmp_path / "d"), "--out", str(tmp_path / "other.html")]) == 0
    assert (tmp_path / "other.html").read_bytes() == before
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["diagnosis.html", "diagnosis.json"]
    assert main(["report", str(tmp_path / "d"), str(tmp_path / "d")]) == 2


def test_it_needs_no_torch(tmp_path: Path) -> None:
    write(tmp_path, diagnosis())
    code = (
        "import sys, pathlib; from understudy.report.diagnosis import page; page.build(pathlib.Path(sys.argv[1]));"
        "print([m for m in ('torch', 'transformers', 'understudy.diagnosis.pipeline') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_on_the_page_asks_the_same_question(tmp_path: Path, full: Page) -> None:
    from understudy.cli import options
    from understudy.diagnosis.config import DiagnoseConfig

    for setting in (
        diagnosis()["setting"],
        diagnosis()["setting"] | {"verifier": False, "pilots": False, "controls": "all", "device": "cuda:1",
                                  "trust_remote_code": True, "student": "a b'c", "device_flops": 0.0},
        diagnosis()["setting"] | {"expert": "a=runs/a b=runs/b", "expert_of": "kind"},
    ):  # fmt: skip
        words = shlex.split(command(setting))
        assert words[:2] == ["understudy", "diagnose"]
        config = options.parse(DiagnoseConfig, words[2:], "understudy diagnose", "")
        for name in DiagnoseConfig.__dataclass_fields__:
            value = setting.get(name, getattr(DiagnoseConfig(), name))  # of an earlier version: without new fields
            assert getattr(config, name) == (tuple(value) if isinstance(value, list) else value), name
    assert command(diagnosis()["setting"]) in full.words("reproduce")
    assert command({}) == ""


def test_the_dial_is_cut_in_proportion(tmp_path: Path) -> None:
    """Angles are read back from the drawing: the answer's piece is outlined in ink and 83% of half a turn wide."""
    d = Diagnosis.load(write(tmp_path, diagnosis()), tolerant=True)

    with drawing():
        svg = str(dial(chances(d.verdict), d.verdict.answer))
    root = ElementTree.fromstring(svg)
    outlined = [
        e for e in root.iter() if e.tag.endswith("path") and f"stroke: {INK}; stroke-width: 2" in e.get("style", "")
    ]
    assert len(outlined) == 1
    numbers = [float(x) for x in re.findall(r"-?[\d.]+", outlined[0].get("d", ""))]
    xs = numbers[0::2]
    # from 180 * (1 - .04 - .01 - .12) = 149.4 degrees to 0: outer radius 158, inner 104, centre 196
    assert min(xs) == pytest.approx(196 + 158 * -0.8607, abs=1.0)
    assert max(xs) == pytest.approx(196 + 158, abs=0.5)


def test_numbers_for_people(tmp_path: Path) -> None:
    measures = Diagnosis.load(write(tmp_path, diagnosis())).evidence.measures
    assert measure("kl_student_expert", measures["kl_student_expert"]) == "9.10 [8.00, 10.2]"
    assert measure("student_accuracy", measures["student_accuracy"]) == "41.0% [36.0, 46.0]"
