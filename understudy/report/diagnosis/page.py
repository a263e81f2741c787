"""The page of a diagnosis: one self-contained HTML file from diagnosis.json. Loads no model, needs no torch.

    build(Path("runs/diagnose-solver-0"))    -> runs/diagnose-solver-0/diagnosis.html

The verdict first, then what each route is expected to reach and costs, then all that it rests on. A part without data
is left out with one sentence why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from understudy.evaluation.numbers import count, duration, large, percent
from understudy.report.diagnosis import curves, words
from understudy.report.diagnosis import plots as figures
from understudy.report.diagnosis.data import FILE, Data, estimate, load, number, rows
from understudy.report.diagnosis.data import columns as columns_of
from understudy.report.figures import plots
from understudy.report.figures.svg import EXPERT, drawing
from understudy.report.html import filled, save
from understudy.report.runs import mapping
from understudy.report.text import flat, label, visible

PAGE = "diagnosis.html"
LONGEST = 1500  # characters of a completion
WORDS = 10  # keywords in the plot
_HIDDEN = frozenset({"meanings", "paces", "mechanism"})
_SPENT = ("expert_tokens_sampled", "expert_tokens_scored", "student_tokens_sampled", "student_tokens_trained")


def is_diagnosis(path: Path) -> bool:
    return (Path(path) / FILE).is_file()


def build(path: Path, out: Path | None = None) -> Path:
    """Write the page of the diagnosis in directory `path`; returns its path.

    out: the HTML file, by default diagnosis.html beside the JSON. Replaced whole or not at all. UserError when the
    JSON is missing, damaged or newer than this version, or when `out` cannot be written.
    """
    page = render(load(Path(path)))
    return save(page, Path(path) / PAGE if out is None else Path(out), PAGE)


def render(d: Data) -> str:
    """The page as text."""
    with drawing():
        return filled("diagnosis/page.html.j2", ("style.css", "diagnosis/style.css"), _context(d))


def _context(d: Data) -> dict[str, Any]:
    who = [_name(d.setting.get(part)) for part in ("student", "expert", "task")]
    title = f"Diagnosis: {who[0]} → {who[1]} on {who[2]}"
    return {
        "title": title,
        "headline": words.headline(d),
        "advice": words.advice(d),
        "answer": d.answer,
        "dial": _pair(lambda name, width: figures.dial(d.chances, d.answer, name, width), "dial") if d.chances else [],
        "margin": words.margin(d),
        "rule": label(d.rule, 80),
        "routes": _routes(d),
        "online": _online(d),
        "costs": _costs(d),
        "time": words.time(d),
        "reasons": [words.said(line) for line in dict.fromkeys(d.reasons)],
        "would_change": [words.said(line) for line in d.would_change],
        "curves": _curves(d),
        "ranking": _ranking(d),
        "looks": _looks(d),
        "samples": _samples(d),
        "controls": _controls(d),
        "preflight": [_check(c) for c in d.preflight],
        "measures": _measures(d),
        "assumptions": [visible(line, 1000) for line in d.assumptions],
        "mechanism": visible(d.setting.get("mechanism") or "", 1200),
        "command": visible(words.command(d.setting), 4000),
        "directory": visible(d.setting.get("out") or d.path.name, 300),
        "setting": flat({k: v for k, v in d.setting.items() if k not in _HIDDEN}),
    }


def _pair(draw: Any, name: str) -> list[Markup]:
    """For a screen, and for a phone."""
    return [draw(name, plots.WIDE), draw(f"{name}-narrow", plots.NARROW)]


def _name(value: Any) -> str:
    """Short: the end of a long path says more than its beginning."""
    text = label(value or "?", 300)
    parts = text.replace("\\", "/").split("/")
    short = "…/" + "/".join(parts[-2:]) if len(text) > 40 and len(parts) > 2 else text
    return label(short.partition(":")[0] if len(short) > 60 else short, 60)


# --- routes --------------------------------------------------------------------------------------------------------


def _online(d: Data) -> bool:
    """Whether there is an online route at all."""
    return d.scored and not ("online" in d.setting and d.setting["online"] is None)


def _routes(d: Data) -> list[Markup]:
    measured = {who: d.measures.get(f"{who}_accuracy") for who in ("student", "expert")}
    found = [
        ("student", "student now", d.expected.get("student") or measured["student"], False),
        ("sft", "offline (SFT)", d.expected.get("sft"), True),
        ("opd", "online (OPD), an estimate", d.expected.get("opd") if _online(d) else None, True),
        ("expert", "expert", d.expected.get("expert") or measured["expert"], False),
    ]
    known = [(who, told, e, forecast) for who, told, e, forecast in found if e is not None]
    return _pair(lambda name, width: figures.routes(known, name, width), "routes") if known else []


def _costs(d: Data) -> list[dict[str, Any]]:
    names = {"sft": "offline (SFT)", "opd": "online (OPD)", "diagnosis": "this diagnosis"}
    both = sum(number(mapping(d.costs.get(who)).get("flops")) or 0.0 for who in ("sft", "opd"))
    of = "both trainings" if "opd" in d.costs else "the training"
    out = []
    for who, name in names.items():
        cost = d.costs.get(who)
        if cost is None:
            continue
        spent = number(cost.get("flops"))
        share = f"{100 * spent / both:.3g}% of {of}" if who == "diagnosis" and both > 0 and spent is not None else ""
        cells = [count(number(cost.get(field))) for field in _SPENT]
        cells += [large(number(cost.get("flops")), " "), duration(number(cost.get("seconds")))]
        out.append({"name": name, "hue": figures.HUES.get(who, ""), "cells": cells, "share": share})
    return out


# --- curves --------------------------------------------------------------------------------------------------------


def _curves(d: Data) -> dict[str, Any]:
    """Panels with their notes, and why some are missing."""
    panels: list[tuple[Markup, str]] = []
    why: list[str] = []
    if not d.curve("sft") and not d.curve("opd"):
        return {"panels": [], "why": [words.without_pilots(d)]}
    forward = curves.forward(d)
    if forward is not None:
        panels.append((forward, _floor_words(d)))
    elif d.curve("sft"):
        why.append(words.missing(d, "The pilots’ distance to the expert", reward=False))
    accuracy = curves.accuracy(d, _online(d))
    if accuracy is not None:
        panels.append((accuracy, _end_words(d)))
    else:
        why.append(words.missing(d, "The pilots’ accuracy", scores=False))
    reward, reverse = curves.online_reward(d), curves.reverse(d)
    if not d.curve("opd"):
        told = "it is not possible here" if not _online(d) else "none was trained"
        why.append(f"There is no online pilot: {told}.")
    if reward is not None:
        panels.append((reward, "Share right among the sequences of each update (thin), and its running mean."))
    if reverse is not None:
        told = "KL(student, expert) on texts that the student writes after each pilot. OPD lowers it directly."
        panels.append((reverse, told))
    return {"panels": panels, "why": why}


def _floor_words(d: Data) -> str:
    start = "KL(expert, student) on held-out prompts, with 95% intervals."
    if d.floor is None:
        return f"{start} No floor was fitted: that takes pilots of three sizes."
    a = d.floor.a
    told = f"{start} Fit: {a.value:.2f} + {d.floor.b:.3g} / n^{d.floor.c:.2g}."
    if d.floor.rejects_zero:
        return f"{told} With endless data {a.value:.2f} nats [{a.low:.2f}, {a.high:.2f}] would stay."
    return f"{told} Whether a floor stays cannot be told: anything from {a.low:.2g} to {a.high:.2f} nats fits."


def _end_words(d: Data) -> str:
    told = []
    for kind, name in (("sft", "SFT"), ("opd", "OPD (an estimate)")):
        e = d.expected.get(kind)
        if e is not None and (kind == "sft" or _online(d)):
            told.append(f"{name} {percent(e.value)} [{100 * e.low:.0f}, {100 * e.high:.0f}]")
    if not told or not d.full:
        return "Measured on held-out prompts, with 95% intervals."
    return f"Hollow: expected after {count(d.full)} sequences. {', '.join(told)}."


# --- what the expert's scores say ----------------------------------------------------------------------------------


def _ranking(d: Data) -> dict[str, Any]:
    panels: list[tuple[Markup, str]] = []
    why: list[str] = []
    points = rows(d.series.get("scatter"), 3) if d.verified else []
    if len(points) > 1:
        figure, seen = figures.scatter(points, "scatter", curves.SIZE)
        panels.append((figure, _scatter_words(d, seen)))
    else:
        why.append(words.missing(d, "Score against reward"))
    curve = columns_of(d.series.get("tilt"), "t", "value", "low", "high")
    if len(curve) > 1:
        ceiling, expert = d.measures.get("tilt_ceiling"), d.measures.get("expert_accuracy")
        panels.append((figures.tilt(curve, ceiling, expert, "tilt", curves.SIZE), _tilt_words(d)))
    else:
        why.append(words.missing(d, "The tilt curve"))
    return {"panels": panels, "why": why}


def _scatter_words(d: Data, seen: dict[str, float]) -> str:
    told = f"One dot an answer of the student. {seen['mixed']:.0f} of {seen['prompts']:.0f} prompts have answers of "
    told += "different reward (large dots; bars are their means); only these can tell whether the expert ranks right "
    told += "above wrong."
    if auc := d.measures.get("auc"):
        told += f" It does in {percent(auc.value, 0)} of pairs [{100 * auc.low:.0f}, {100 * auc.high:.0f}]."
    if seen["outside"]:
        told += f" {seen['outside']:.0f} dots lie further out and are drawn at the edge."
    return told


def _tilt_words(d: Data) -> str:
    told = "Accuracy if the student only re-weighed its own answers; at t = 1 as likely as the expert finds them."
    if ceiling := d.measures.get("tilt_ceiling"):
        told += f" Ceiling: {percent(ceiling.value)} [{100 * ceiling.low:.1f}, {100 * ceiling.high:.1f}]."
    effective = columns_of(d.series.get("tilt"), "t", "effective")
    if effective:
        told += f" At t = {effective[-1][0]:g} the weights leave {percent(effective[-1][1], 0)} of the answers."
    return told


# --- completions ---------------------------------------------------------------------------------------------------


def _looks(d: Data) -> dict[str, Any]:
    panels: list[tuple[Markup, str]] = []
    why: list[str] = []
    counts = mapping(d.series.get("lengths"))
    student, expert = (_counts(counts.get(who)) for who in ("student", "expert"))
    if student.sum() > 0 or expert.sum() > 0:
        figure = figures.lengths(student, expert, "lengths", curves.SIZE)
        panels.append((figure, "Area: the expert. Line: the student."))
    else:
        why.append(words.missing(d, "Lengths", False, False))
    found = {
        str(word): (number(mapping(pair).get("student")), number(mapping(pair).get("expert")))
        for word, pair in mapping(d.series.get("keywords")).items()
    }
    known = {word: (s, e) for word, (s, e) in found.items() if s is not None and e is not None}
    shown = sorted(known, key=lambda w: -abs(known[w][0] - known[w][1]))[:WORDS]
    if shown:
        lines = [
            ("expert", EXPERT, {w: known[w][1] for w in shown}),
            ("student", figures.STUDENT, {w: known[w][0] for w in shown}),
        ]
        figure = plots.keywords(shown, lines, "keywords", "Keywords", curves.SIZE)
        panels.append((figure, "Mean count. Upper dots, black: the expert; lower ones: the student."))
    else:
        why.append("Keywords cannot be shown: the task names none.")
    return {"panels": panels, "why": why}


def _counts(raw: Any) -> np.ndarray:
    values = [number(x) for x in raw[:100_000]] if isinstance(raw, list) else []
    return np.array([max(v or 0.0, 0.0) for v in values], dtype=float)


def _samples(d: Data) -> list[dict[str, Any]]:
    found = d.series.get("samples")
    out = []
    for item in found if isinstance(found, list) else []:
        row = mapping(item)
        if not isinstance(row.get("student"), str) and not isinstance(row.get("expert"), str):
            continue
        cells = [
            {
                "who": who,
                "hue": figures.HUES[who],
                "text": visible(row.get(who) if isinstance(row.get(who), str) else "", LONGEST),
                "verdict": _reward(row.get(f"{who}_reward")),
            }
            for who in ("student", "expert")
        ]
        out.append({"prompt": visible(row.get("prompt", ""), LONGEST), "cells": cells})
    return out


def _reward(value: Any) -> str:
    reward = number(value)
    if reward is None:
        return ""
    return "right" if reward == 1 else "wrong" if reward == 0 else f"reward {reward:.2g}"


# --- tables --------------------------------------------------------------------------------------------------------


def _controls(d: Data) -> list[dict[str, str]]:
    out = []
    for name, control in d.checks.items():
        title, asks = words.CONTROLS.get(name, (label(name.replace("_", " "), 60), ""))
        difference = words.nats(estimate(control.get("difference")))
        found = label(control.get("told") or "", 400).removeprefix("not run: ")
        found = "it does not fit into the budget" if found == "budget" else found
        state = {True: "passed", False: "not passed"}.get(control.get("passed"), "ran")  # type: ignore[arg-type]
        ran = control.get("ran") is True
        out.append({"name": title, "asks": asks, "found": found, "state": state if ran else "not run",
                    "difference": difference})  # fmt: skip
    return out


def _check(raw: dict[str, Any]) -> dict[str, Any]:
    passed = raw.get("passed") is True
    told = label(raw.get("value") or "", 300)
    hint = label(raw.get("hint") or raw.get("mend") or "", 400)
    return {"name": label(raw.get("name") or "?", 120), "passed": passed, "value": told, "hint": "" if passed else hint}


def _measures(d: Data) -> list[dict[str, Any]]:
    meanings = mapping(d.setting.get("meanings"))
    out = []
    for name, e in d.measures.items():
        pair = meanings.get(name)
        texts = (
            [str(x) for x in pair[:2]] if isinstance(pair, list) and len(pair) >= 2 else [name.replace("_", " "), ""]
        )
        out.append({
            "name": label(texts[0], 80), "meaning": label(texts[1], 300), "shown": words.measure(name, e),
            "unit": words.unit(name, e), "n": count(e.n) if e.n else "–", "method": label(e.method, 120),
        })  # fmt: skip
    return out
