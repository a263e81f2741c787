"""The theory page is one safe file; plain-text mathematics becomes HTML."""

from __future__ import annotations

import dataclasses
import re

from understudy.theory.claims.claim import Options
from understudy.theory.claims.registry import find
from understudy.theory.page.page import render
from understudy.theory.page.typeset import greek, typeset


def test_page_is_one_safe_file() -> None:
    hostile = dataclasses.replace(find("trap"), title="<script>alert(1)</script>")
    page = render([(hostile, hostile.run(Options()))], Options())
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in re.sub(r"http-equiv|http://www\.w3\.org/\S+", "", page)
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert "RuntimeWarning" not in page


def test_typesetting() -> None:
    assert greek("eps = 0.01, steps") == "ε = 0.01, steps"
    assert str(typeset("kl(V || V_e) <= Delta")) == "kl(V ∥ V<sub>e</sub>) ≤ Δ"
    assert str(typeset("(zeta/2)(l-1)(1-zeta)^n")) == "(ζ/2)(l−1)(1−ζ)<sup>n</sup>"
    assert "<b>" not in str(typeset("<b>"))
