"""The figures: report's own panels, arranged as the paper's, and what each says as claims with intervals.

Writes figure.svg for each panel and one self-contained figure.html. Torch-free, from run directories alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from understudy.evaluation.intervals import Interval
from understudy.evaluation.numbers import points_interval
from understudy.recipes.recipe import Claim, Drawing, Recipe, word
from understudy.report.comparison.figures import accuracies, panel_width
from understudy.report.comparison.panels import curves
from understudy.report.comparison.summary import Arm, Summary
from understudy.report.figures.svg import drawing, standalone
from understudy.report.html import filled
from understudy.report.text import OFFLINE, ONLINE, family, visible
from understudy.runs.files import write_bytes, write_json

NEAR = 0.05
"""Two accuracies within this of each other count as matching."""


def offline(s: Summary, expert: str) -> Arm | None:
    return next((a for a in s.of(expert) if family(a.method) in OFFLINE and a.budget == 1), None)


def online(s: Summary, expert: str) -> Arm | None:
    return next((a for a in s.of(expert) if family(a.method) in ONLINE and a.budget == 1), None)


def claim(says: str, what: str, interval: Interval | None, direction: int, margin: float = 0.0) -> Claim:
    """direction: 1 greater, -1 smaller, 0 alike within `margin`."""
    measured = f"{what}: {points_interval(interval)} points" if interval else f"{what}: not measured"
    return Claim(says, measured, interval, word(interval, direction, margin))


def over_training(s: Summary, split: str, title: str = "") -> list[tuple[str, Markup]]:
    """A panel per expert: accuracy of every arm against updates, with the expert's own as a line."""
    panels = []
    for i, expert in enumerate(s.experts):
        drawn = [(a, c) for a in s.of(expert) if (c := s.curve(a, split)) is not None]
        if not drawn:
            continue
        own = s.accuracy(expert, split)
        top = max([float(c.high.max()) for _, c in drawn] + ([own.value] if own else []))
        low = min(float(c.low.min()) for _, c in drawn)
        marks = [("expert", own.value)] if own else []
        head = f"{title}: {expert}" if title else expert
        span = max(0.0, low - 0.05), min(1.02, top + 0.05)
        with drawing():
            svg = curves(drawn, s, f"curve-{split}-{i}", "updates", head, f"sampled accuracy, {split}", panel_width(2),
                         span, marks=marks)  # fmt: skip
        panels.append(("", svg))
    return panels


def finals(s: Summary, split: str, title: str) -> list[tuple[str, Markup]]:
    """A panel over the whole width: accuracy of every arm after training; none where no run has finished."""
    svg = accuracies(s, split)
    return [] if svg is None else [(title, svg)]


def matching(s: Summary, expert: str, split: str = "test") -> list[Claim]:
    """SFT on a realizable expert comes near it, and OPD adds nothing."""
    sft, opd = offline(s, expert), online(s, expert)
    return [
        claim(f"SFT on a realizable expert matches it ({split})", f"SFT minus expert, {expert}",
              s.difference(sft, expert, split), 0, NEAR),
        claim(f"and OPD then adds nothing ({split})", f"OPD minus SFT, {expert}", s.difference(opd, sft,
            split), 0, NEAR),
    ]  # fmt: skip


def gap(s: Summary, expert: str, split: str = "test") -> list[Claim]:
    """SFT on a non-realizable expert stays far below it; online comes closer."""
    sft, opd = offline(s, expert), online(s, expert)
    out = [claim(f"SFT on a non-realizable expert leaves a gap ({split})", f"SFT minus expert, {expert}",
                 s.difference(sft, expert, split), -1)]  # fmt: skip
    if opd is not None and sft is not None:
        out.append(claim(f"online imitation of it does better ({split})", f"OPD minus SFT, {expert}",
                         s.difference(opd, sft, split), 1))  # fmt: skip
    return out


# --- files -------------------------------------------------------------------------------------------------


def write(recipe: Recipe, drawn: Drawing, folder: Path, stand_ins: str = "") -> Path:
    """figure-N.svg for each panel, claims.json, figure.html; the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("figure-*.svg"):
        old.unlink()
    for i, (_, svg) in enumerate(drawn.panels, 1):
        write_bytes(folder / f"figure-{i}.svg", standalone(str(svg)).encode())
    rows = [
        {"says": c.says, "measured": c.measured, "word": c.word,
         "interval": [c.interval.value, c.interval.low, c.interval.high] if c.interval else None}
        for c in drawn.claims
    ]  # fmt: skip
    write_json(folder / "claims.json", {"recipe": recipe.name, "tiny": bool(stand_ins), "claims": rows})
    values = {
        "title": recipe.title, "shows": recipe.shows, "stand_ins": stand_ins, "panels": drawn.panels,
        "eyebrow": f"{recipe.figure} of arXiv 2606.30445, recipe {recipe.name}", "caption": drawn.caption,
        "claims": drawn.claims, "settings": recipe.settings, "unknown": recipe.unknown, "near": f"{100 * NEAR:.0f}",
    }  # fmt: skip
    page = filled("figure.html.j2", ("style.css",), values, Path(__file__).parent)
    target = folder / "figure.html"
    write_bytes(target, page.encode("utf-8", errors="replace"))
    return target


def claim_lines(claims: Sequence[Claim]) -> list[str]:
    return [visible(f"{c.word}: {c.says}. {c.measured}") for c in claims]
