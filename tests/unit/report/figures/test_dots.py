"""Charts of dots: text is text, positions follow the axis, words over close lines do not touch."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

from understudy.report.figures.dots import Dot, Group, Mark, Row, chart
from understudy.report.figures.svg import standalone


def drawn(*rows: Row, marks: tuple[Mark, ...] = ()) -> str:
    return str(chart([Group(rows, "title", marks=marks)], (0.0, 1.0), "what it shows", lambda v: f"{v:g}"))


def test_labels_are_text() -> None:
    svg = drawn(Row("<script>", [Dot(0.5, "#000")], "\x1b[31m<b>"), marks=(Mark("</svg>", 0.2, "#000"),))
    assert "<script>" not in svg
    assert "<b>" not in svg
    root = ElementTree.fromstring(standalone(svg))
    assert "<script>" in "".join(root.itertext())


def test_dots_stand_where_the_axis_says() -> None:
    svg = drawn(Row("a", [Dot(0.25, "#000", 0.2, 0.4)]))
    assert re.findall(r'<circle cx="([^"]*)"', svg) == ["25.00%"]
    assert 'x1="20.00%" x2="40.00%"' in svg


def test_words_over_close_lines_point_away_from_each_other() -> None:
    def anchors(low: float, high: float) -> list[str]:
        marks = (Mark("base", low, "#000"), Mark("expert", high, "#000"))
        svg = drawn(Row("a", [Dot(0.5, "#000")]), marks=marks)
        texts = [re.findall(rf"<text[^>]*>{word}<", svg)[0] for word in ("base", "expert")]
        return [(re.findall(r'text-anchor="(\w+)"', text) or ["start"])[0] for text in texts]

    assert anchors(0.2, 0.9) == ["middle", "middle"]
    assert anchors(0.5, 0.6) == ["end", "start"]
    assert anchors(0.6, 0.5) == ["start", "end"]


def test_a_long_label_gets_a_line_of_its_own() -> None:
    heights = [
        float(re.findall(r"height:([\d.]+)px", drawn(Row(label, [Dot(0.5, "#000")])))[0])
        for label in ("short", "a label of thirty characters.")
    ]
    assert heights[1] > heights[0]


def test_a_hollow_dot_beside_others_keeps_its_edge() -> None:
    drawn = chart([Group([Row("a", [Dot(0.3, "#111111", hollow=True), Dot(0.5, "#222222")])])], (0, 1), "", str)
    circles = re.findall(r'<circle [^>]*fill="([^"]*)" stroke="([^"]*)"', drawn)
    assert circles == [("#fff", "#111111"), ("#222222", "#fff")]
