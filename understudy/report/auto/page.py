"""The page of a training by `auto`: one self-contained HTML file, and its picture as a file of its own.

    build(Path("runs/auto-0"))       -> runs/auto-0/report.html

The path first, then every fork with its evidence, then costs and the roads not taken.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from understudy.evaluation.numbers import DASH, decimal, duration, large, percent
from understudy.report.auto import figures, words
from understudy.report.auto.load import KINDS, START, STOP, Auto, Decision, Known, Node, load
from understudy.report.auto.track import Track, tracks
from understudy.report.figures import svg
from understudy.report.html import filled, save
from understudy.report.text import flat, label, mapping, method_name, number, visible

PAGE = "report.html"
_SMALL = 0.005  # of the budget: a part of the costs that gets no piece of the bar


def build(folder: Path, out: Path | None = None) -> Path:
    """Write the page of the auto directory `folder`; returns its path.

    out: the HTML file, by default report.html in the folder. Replaced whole or not at all. UserError when auto.json is
    missing, is no record or is newer than this version, or when `out` cannot be written.
    """
    target = Path(folder) / PAGE if out is None else Path(out)
    return save(render(load(folder)), target, PAGE)


def render(auto: Auto) -> str:
    """The page as text."""
    with svg.drawing():
        return filled("auto/page.html.j2", ("style.css", "diagnosis/style.css", "auto/style.css"), context(auto))


def picture(folder: Path, target: Path) -> Path:
    """Write the picture of the path to `target`, an SVG or, by its name, a PNG. UserError as `build`."""
    auto = load(folder)
    with svg.drawing():
        drawn = figures.picture(auto, tracks(auto, []))
        if target.suffix.lower() == ".png":
            buffer = io.BytesIO()
            drawn.savefig(buffer, format="png", dpi=144, facecolor="white")
            target.write_bytes(buffer.getvalue())
        else:
            inline = svg.to_svg(drawn, "path", figures.described(auto))
            target.write_text(svg.standalone(str(inline)), encoding="utf-8")
    return target


def context(auto: Auto) -> dict[str, Any]:
    """What the template lays out: all figures and words."""
    notes = list(auto.notes)
    found = tracks(auto, notes)
    head, *more = words.finding(auto)
    student, expert, task = (label(auto.setting.get(part) or "?", 60) for part in ("student", "expert", "task"))
    return {
        "title": f"Auto: {student} → {expert} on {task}",
        "headline": head,
        "lead": more,
        "running": auto.running,
        "steps": _steps(auto),
        "wide": svg.to_svg(figures.picture(auto, found), "wide", figures.described(auto)) if found else "",
        "narrow": svg.to_svg(figures.picture(auto, found, figures.NARROW), "narrow", figures.described(auto))
        if found else "",
        "headroom": None if found else figures.headroom(auto),
        "key": _key(found),
        "unseen": [f"{words.named(t.node)} has no curve: no update and no evaluation was recorded." for t in found
                   if t.curve is None],
        "forks": [_fork(auto, d) for d in auto.decisions],
        "bar": _bar(auto),
        "costs": _costs(auto),
        "money": any(cost.money for cost in auto.costs) and auto.axis != "money",
        "unit": words.UNITS.get(auto.axis, label(auto.axis, 40).replace("_", " ")),
        "total": _total(auto),
        "roads": figures.roads(auto) if auto.alternatives else None,
        "alternatives": [
            (words.route(a.route), words.accuracy(a.expected), words.amount(auto, a.price), a.source)
            for a in auto.alternatives
        ],
        "measured": _measured(auto),
        "policy": [(name, value) for name, value in flat(auto.policy)],
        "setting": flat(auto.setting),
        "directory": visible(auto.folder, 300),
        "notes": [visible(line, 400) for line in notes],
    }  # fmt: skip


def _steps(auto: Auto) -> list[dict[str, Any]]:
    """The path as a row of cards: the models that led to the result, each with what was tried from it in vain."""
    path = [auto.start, *auto.path()]
    on_path = {node.name for node in path}
    out = []
    for node in path:
        tried = []
        for n in auto.phases:
            if n.parent == node.name and n.name not in on_path:
                what = "is being trained" if n.running else words.guarded(n) or "not kept"
                spent = "" if n.running else words.amount(auto, n.spent)
                tried.append({"name": method_name(n.method), "hue": svg.colour(n.method), "spent": spent, "why": what})
        out.append(
            {
                "name": "Student" if node.name == START else method_name(node.method),
                "hue": figures.STUDENT if node.name == START else svg.colour(node.method),
                "accuracy": percent(node.look.value) if node.look else DASH,
                "interval": _interval(node),
                "spent": "" if node.name == START else words.amount(auto, node.spent),
                "guard": words.guarded(node),
                "last": node is path[-1],
                "tried": tried,
            }
        )
    return out


def _interval(node: Node) -> str:
    look = node.look
    return f"{100 * look.low:.1f} to {100 * look.high:.1f}" if look and look.low < look.high else ""


def _key(found: list[Track]) -> list[tuple[str, str]]:
    """(colour, method) of the phases, each once."""
    names = dict.fromkeys(track.node.method for track in found)
    return [(svg.colour(method), method_name(method)) for method in names]


# --- forks ---------------------------------------------------------------------------------------------------------


def _fork(auto: Auto, decision: Decision) -> dict[str, Any]:
    came = auto.begun().get(decision.number)
    look = came.look if came and not came.thrown_away else None
    rows = [
        (words.action(auto, o), words.accuracy(o.expected), "" if o.probability is None else percent(o.probability, 0),
         words.amount(auto, o.budget) if o.method != STOP else "", o.action == decision.chosen)
        for o in decision.options
    ]  # fmt: skip
    chosen = words.action(auto, decision.choice, decision.chosen)
    return {
        "number": decision.number + 1,
        "title": chosen[:1].upper() + chosen[1:],
        "hue": svg.colour(decision.choice.method) if decision.choice and decision.choice.method != STOP else svg.INK,
        "at": f"after {words.amount(auto, decision.spent)}" if decision.spent else "at the start",
        "left": words.amount(auto, decision.left) if decision.left is not None else "",
        "why": decision.why,
        "would_change": decision.would_change,
        "came": f"It came to {words.accuracy(look)}." if look is not None else "",
        "undone": words.guarded(came) if came and came.restored else "",
        "guard": _sentence(came),
        "cost": _evidence(auto, decision),
        "chart": figures.fork(auto, decision, look),
        "known": [(k.what, _fact(auto, k)) for k in decision.known],
        "options": rows,
        "chances": any(row[2] for row in rows),
    }


def _sentence(node: Node | None) -> str:
    """What the guard says of a phase."""
    said = visible(node.guard.get("reason") or "", 600) if node and not node.running else ""
    return "" if said in ("", *KINDS) else f"Guard: {said.rstrip('.')}."


def _evidence(auto: Auto, decision: Decision) -> str:
    if not decision.cost:
        return "Its evidence cost nothing more."
    share = words.of_budget(auto, decision.cost)
    time = f", {duration(decision.seconds)}" if decision.seconds and not auto.axis.endswith("seconds") else ""
    of = f" ({share} of the budget{time})" if share else ""
    return f"Its evidence cost {words.amount(auto, decision.cost)}{of}."


def _fact(auto: Auto, known: Known) -> str:
    """The value of a fact with its interval."""
    if known.value is None:
        return ""
    if known.unit in ("accuracy", "share"):
        bounds = "" if known.low is None or known.high is None else f" [{100 * known.low:.1f}, {100 * known.high:.1f}]"
        return percent(known.value) + bounds
    form = (lambda x: words.amount(auto, x)) if known.unit == "amount" else decimal
    bounds = "" if known.low is None or known.high is None else f" [{form(known.low)}, {form(known.high)}]"
    unit = f" {label(known.unit, 30)}" if known.unit not in ("", "amount") else ""
    return form(known.value) + bounds + unit


# --- costs ---------------------------------------------------------------------------------------------------------


def _bar(auto: Auto) -> list[dict[str, Any]]:
    """Pieces of the bar of costs, in percent of the budget."""
    whole = max(auto.amount, auto.spent, sum(c.amount for c in auto.costs))
    if whole <= 0:
        return []
    pieces: list[dict[str, Any]] = []
    for cost in auto.costs:
        share = cost.amount / whole
        if share >= _SMALL:
            node = auto.node(cost.part.removeprefix("phases/"))
            undone = node is not None and node.restored
            name = words.part(auto, cost).partition(" (")[0]
            pieces.append({"name": name, "share": f"{100 * share:.2f}", "hue": _hue(node), "undone": undone,
                           "roomy": share > 0.012 * len(name) + 0.02, "phase": node is not None})  # fmt: skip
    rest = 100 - sum(float(piece["share"]) for piece in pieces)
    if rest > 100 * _SMALL:
        name = "left" if auto.running else "not spent"
        pieces.append({"name": name, "share": f"{rest:.2f}", "hue": "", "undone": False, "roomy": rest > 14,
                       "phase": False})  # fmt: skip
    return pieces


def _hue(node: Node | None) -> str:
    return svg.colour(node.method) if node is not None and node.name != START else svg.AREA


def _costs(auto: Auto) -> list[dict[str, Any]]:
    return [
        {"name": words.part(auto, cost), "hue": _hue(node) if (node := _of(auto, cost.part)) else "",
         "cells": _cells(auto, cost.amount, cost.flops, cost.seconds, cost.money)} for cost in auto.costs
    ]  # fmt: skip


def _of(auto: Auto, part: str) -> Node | None:
    return auto.node(part.removeprefix("phases/"))


def _total(auto: Auto) -> list[str]:
    def total(name: str) -> float | None:
        values = [getattr(cost, name) for cost in auto.costs]
        return sum(v for v in values if v is not None) if any(v is not None for v in values) else None

    return _cells(auto, auto.spent, total("flops"), total("seconds"), total("money"))


def _cells(
    auto: Auto, amount: float, flops: float | None, seconds: float | None, money: float | None
) -> list[str]:  # fmt: skip
    """Amount, its share of the budget, FLOPs, time and money, less what the amount already says."""
    cells = [words.amount(auto, amount), words.of_budget(auto, amount) or DASH]
    if auto.axis != "flops":
        cells.append(large(flops, " "))
    cells.append(duration(seconds))
    if any(cost.money for cost in auto.costs) and auto.axis != "money":
        cells.append(words.money(auto, money))
    return cells


# --- what was measured before --------------------------------------------------------------------------------------


def _measured(auto: Auto) -> list[tuple[str, str]]:
    out = []
    lengths, sizes, paces = (mapping(auto.measured.get(name)) for name in ("lengths", "sizes", "paces"))
    for names, form, unit in ((lengths, decimal, "tokens"), (sizes, large, "weights")):
        kind = "length" if unit == "tokens" else "size"
        for name, value in names.items():
            known = number(value)
            if known:
                out.append((f"{kind} of {label(name, 30)}", f"{form(known)} {unit}"))
    for name, value in paces.items():
        if (known := number(value)) is not None:
            out.append((f"pace of {method_name(str(name))}", f"{duration(known, 2)} per update"))
    return out
