"""The page of a diagnosis: one self-contained HTML file from diagnosis.json. Loads no model, needs no torch.

    build(Path("runs/diagnose-solver-0"))    -> runs/diagnose-solver-0/diagnosis.html

What to do and how sure that is, then what each route is expected to reach and costs, then all that it rests on. A part
without data is left out with one sentence why.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from understudy.diagnosis.codec import finite
from understudy.diagnosis.forecast import choice
from understudy.diagnosis.forecast.advice import advice, cells, headings
from understudy.diagnosis.forecast.advice import name as route_name
from understudy.diagnosis.forecast.explain import ROUTES, chance, chances, explain
from understudy.diagnosis.types import FILE, Check, Diagnosis
from understudy.evaluation.numbers import count, duration, large, percent, with_bounds
from understudy.report.comparison.figures import keywords
from understudy.report.diagnosis import curves, figures, words
from understudy.report.diagnosis.series import columns, rows
from understudy.report.figures.svg import EXPERT, STUDENT, drawing
from understudy.report.html import filled, save
from understudy.report.text import flat, label, mapping, visible

PAGE = "diagnosis.html"
LONGEST = 1500  # characters of a completion
WORDS = 10  # keywords in the plot
_HIDDEN = frozenset({"meanings", "paces", "mechanism"})

Panels = tuple[list[tuple[Markup, str]], list[str]]
"""(figures with their notes, sentences that say why others are missing)."""


def is_diagnosis(path: Path) -> bool:
    return (Path(path) / FILE).is_file()


def build(path: Path, out: Path | None = None) -> Path:
    """Write the page of the diagnosis in directory `path`; returns its path.

    out: the HTML file, by default diagnosis.html beside the JSON. Replaced whole or not at all. UserError when the
    JSON is missing, is not JSON, holds no verdict or is newer than this version, or when `out` cannot be written.
    """
    page = render(Diagnosis.load(Path(path), tolerant=True), Path(path))
    return save(page, Path(path) / PAGE if out is None else Path(out), PAGE)


def render(d: Diagnosis, path: Path) -> str:
    """The page as text."""
    with drawing():
        return filled("diagnosis/page.html.j2", ("style.css", "diagnosis/style.css"), context(d, path))


def context(d: Diagnosis, path: Path) -> dict[str, Any]:
    """What the template lays out: all figures and words."""
    student, expert, task = (_name(d.setting.get(part)) for part in ("student", "expert", "task"))
    e, p, advised = explain(d), chances(d.verdict), advice(d)
    verdict = e.title + (f", with a probability of {e.probability}" if e.probability else "")
    return {
        "title": f"Diagnosis: {student} → {expert} on {task}",
        "headline": visible(choice.best(d) if d.candidates else advised.headline, 400) if advised else verdict,
        "candidates": _candidates(d),
        "advice": visible(advised.certainty if advised else e.advice, 2000),
        "recommended": _recommended(d),
        "rests": [visible(line, 400) for line in (advised.rests, advised.auto)] if advised else [],
        "dial": figures.dial(p, d.verdict.answer) if p else "",
        "answers": _answers(p, d.verdict.answer),
        "margin": e.margin,
        "rule": label(d.verdict.rule, 80),
        "routes": _routes(d),
        "online": d.has_online_route,
        "costs": _costs(d),
        "time": words.time(d),
        "reasons": [_sentence(line) for line in e.reasons],
        "would_change": [_sentence(line) for line in e.would_change],
        "curves": _curves(d),
        "ranking": _ranking(d),
        "looks": _looks(d),
        "samples": _samples(d),
        "controls": _controls(d),
        "preflight": [_check(c) for c in d.preflight],
        "measures": _measures(d),
        "assumptions": [visible(line, 1000) for line in d.assumptions if line.strip()],
        "mechanism": visible(d.setting.get("mechanism") or "", 1200),
        "command": visible(words.command(d.setting), 4000),
        "directory": visible(d.setting.get("out") or path.name, 300),
        "setting": flat({k: v for k, v in d.setting.items() if k not in _HIDDEN}),
    }


def _answers(p: Mapping[str, float], chosen: str) -> list[dict[str, Any]]:
    """The list beside the dial."""
    return [
        {"answer": answer, "name": answer.replace(" ", "-"), "chance": chance(share), "means": words.MEANS[answer],
         "chosen": answer == chosen} for answer, share in p.items()
    ]  # fmt: skip


def _name(value: Any) -> str:
    """Short: the end of a long path says more than its beginning."""
    text = label(value or "?", 300)
    parts = text.replace("\\", "/").split("/")
    short = "…/" + "/".join(parts[-2:]) if len(text) > 40 and len(parts) > 2 else text
    return label(short.partition(":")[0] if len(short) > 60 else short, 60)


def _sentence(line: str) -> str:
    return visible(line[:1].upper() + line[1:], 1000)


# --- several experts ------------------------------------------------------------------------------------------------


def _candidates(d: Diagnosis) -> dict[str, Any]:
    """The table of all experts, the best first; empty where there is one."""
    if not d.candidates:
        return {}
    rows = [[label(cell, 60) or "–" for cell in choice.cells(c)] for c in d.candidates if not c.left_out]
    left = [f"{label(c.name, 60)} is left out: {visible(c.left_out, 400)}" for c in d.candidates if c.left_out]
    return {"head": choice.HEADINGS, "rows": rows, "why": visible(choice.why(d.candidates), 600), "left_out": left}


# --- routes --------------------------------------------------------------------------------------------------------


def _recommended(d: Diagnosis) -> dict[str, Any]:
    """The table of all routes at the same FLOPs; empty where there is no recommendation."""
    if d.recommendation is None:
        return {}
    rows = [{"cells": [label(c, 60) or "–" for c in cells(d, row)], "chosen": row.route == d.recommendation.route}
            for row in d.recommendation.routes]  # fmt: skip
    return {"head": headings(d), "rows": rows}


def _routes(d: Diagnosis) -> Markup | None:
    shown = []
    if d.recommendation is not None:
        known = [(r.route, e) for r in d.recommendation.routes if (e := r.expected)]
        shown = [(figures.who(r), _chart_name(r), e, r != "nothing") for r, e in known]
        expert = d.verdict.expected.get("expert") or d.evidence.measures.get("expert_accuracy")
        shown += [("expert", ROUTES["expert"], expert, False)] if expert and shown else []
        return figures.routes(shown) if shown else None
    for who, name in ROUTES.items():
        e = d.verdict.expected.get(who)
        if who in ("student", "expert"):
            e = e or d.evidence.measures.get(f"{who}_accuracy")
        if e is not None and (who != "opd" or d.has_online_route):
            shown.append((who, name, e, who in ("sft", "opd")))
    return figures.routes(shown) if shown else None


def _chart_name(route: str) -> str:
    return ROUTES["student"] if route == "nothing" else label(route_name(route), 60)


def _costs(d: Diagnosis) -> list[dict[str, Any]]:
    of, out = "both trainings" if "opd" in d.costs else "the training", []
    for who, name in (("sft", "offline (SFT)"), ("opd", "online (OPD)"), ("diagnosis", "this diagnosis")):
        cost, share = d.costs.get(who), d.cost_share
        if cost is None:
            continue
        tokens = (cost.expert_tokens_sampled, cost.expert_tokens_scored, cost.student_tokens_sampled,
                  cost.student_tokens_trained)  # fmt: skip
        out.append({
            "name": name, "hue": figures.HUES.get(who, ""),
            "cells": [*map(count, tokens), large(cost.flops, " "), duration(cost.seconds)],
            "share": f"{100 * share:.3g}% of {of}" if who == "diagnosis" and share is not None else "",
        })  # fmt: skip
    return out


# --- pilots --------------------------------------------------------------------------------------------------------


def _curves(d: Diagnosis) -> Panels:
    sft, opd = d.evidence.curve("sft"), d.evidence.curve("opd")
    if not sft and not opd:
        return [], [words.without_pilots(d)]
    panels: list[tuple[Markup, str]] = []
    why: list[str] = []
    if (figure := curves.forward(d)) is not None:
        panels.append((figure, _floor_words(d)))
    elif sft:
        why.append(words.missing(d, "The pilots’ distance to the expert", reward=False))
    if (figure := curves.accuracy(d)) is not None:
        panels.append((figure, _end_words(d)))
    else:
        why.append(words.missing(d, "The pilots’ accuracy", scores=False))
    if not opd:
        why.append(
            f"There is no online pilot: {'none was trained' if d.has_online_route else 'it is not possible here'}."
        )
    if (figure := curves.online_reward(d)) is not None:
        panels.append((figure, "Share right among the sequences of each update (thin), and its running mean."))
    if (figure := curves.reverse(d)) is not None:
        note = "KL(student, expert) on texts that the student writes after each pilot. OPD lowers it directly."
        panels.append((figure, note))
    return panels, why


def _floor_words(d: Diagnosis) -> str:
    note, floor = "KL(expert, student) on held-out prompts, with 95% intervals.", d.evidence.floor
    if floor is None:
        return f"{note} No floor was fitted: that takes pilots of three sizes."
    a = floor.a
    note += f" Fit: {a.value:.2f} + {floor.b:.3g} / n^{floor.c:.2g}."
    if floor.rejects_zero:
        return f"{note} With endless data {a.value:.2f} nats [{a.low:.2f}, {a.high:.2f}] would stay."
    return f"{note} Whether a floor stays is open: anything from {a.low:.2g} to {a.high:.2f} nats fits."


def _end_words(d: Diagnosis) -> str:
    parts = []
    for kind, name in (("sft", "SFT"), ("opd", "OPD (an estimate)")):
        e = d.verdict.expected.get(kind)
        if e is not None and (kind == "sft" or d.has_online_route):
            parts.append(f"{name} {percent(e.value)} [{100 * e.low:.0f}, {100 * e.high:.0f}]")
    if not parts or not d.evidence.full_sequences:
        return "Measured on held-out prompts, with 95% intervals."
    return f"Hollow: expected after {count(d.evidence.full_sequences)} sequences. {', '.join(parts)}."


# --- what the expert's scores say ----------------------------------------------------------------------------------


def _ranking(d: Diagnosis) -> Panels:
    panels: list[tuple[Markup, str]] = []
    why: list[str] = []
    m = d.evidence.measures
    points = rows(d.series.get("scatter"), 3) if d.evidence.has_verifier else []
    if len(points) > 1:
        figure, seen = figures.scatter(points)
        panels.append((figure, _scatter_words(d, seen)))
    else:
        why.append(words.missing(d, "Score against reward"))
    curve = columns(d.series.get("tilt"), "t", "value", "low", "high")
    if len(curve) > 1:
        panels.append((figures.tilt(curve, m.get("tilt_ceiling"), m.get("expert_accuracy")), _tilt_words(d)))
    else:
        why.append(words.missing(d, "The tilt curve"))
    return panels, why


def _scatter_words(d: Diagnosis, seen: dict[str, int]) -> str:
    note = (
        f"One dot per answer of the student. {seen['mixed']} of {seen['prompts']} prompts have answers of "
        "different reward (large dots; bars are their means); only these can say whether the expert ranks right above "
        "wrong."
    )
    if auc := d.evidence.measures.get("auc"):
        note += f" It does in {percent(auc.value, 0)} of pairs [{100 * auc.low:.0f}, {100 * auc.high:.0f}]."
    if seen["outside"]:
        note += f" {seen['outside']} dots lie further out and are drawn at the edge."
    return note


def _tilt_words(d: Diagnosis) -> str:
    note = "Accuracy if the student only re-weighed its own answers; at t = 1 as likely as the expert finds them."
    if ceiling := d.evidence.measures.get("tilt_ceiling"):
        note += f" Ceiling: {percent(ceiling.value)} [{100 * ceiling.low:.1f}, {100 * ceiling.high:.1f}]."
    if effective := columns(d.series.get("tilt"), "t", "effective"):
        note += f" At t = {effective[-1][0]:g} the weights leave {percent(effective[-1][1], 0)} of the answers."
    return note


# --- completions ---------------------------------------------------------------------------------------------------


def _looks(d: Diagnosis) -> Panels:
    panels: list[tuple[Markup, str]] = []
    why: list[str] = []
    counts = mapping(d.series.get("lengths"))
    student, expert = (_counts(counts.get(who)) for who in ("student", "expert"))
    if student.sum() > 0 or expert.sum() > 0:
        panels.append((figures.lengths(student, expert), "Area: the expert. Line: the student."))
    else:
        why.append(words.missing(d, "Lengths", False, False))
    known = {}
    for word, pair in mapping(d.series.get("keywords")).items():
        student_mean, expert_mean = (finite(mapping(pair).get(who)) for who in ("student", "expert"))
        if student_mean is not None and expert_mean is not None:
            known[str(word)] = student_mean, expert_mean
    shown = sorted(known, key=lambda w: -abs(known[w][0] - known[w][1]))[:WORDS]
    if shown:
        lines = [
            ("expert", EXPERT, {w: known[w][1] for w in shown}),
            ("student", STUDENT, {w: known[w][0] for w in shown}),
        ]
        panels.append(
            (keywords(shown, lines, "Keywords"), "Mean count. Upper dots, black: the expert; lower ones: the student.")
        )
    else:
        why.append("Keywords cannot be shown: the task names none.")
    return panels, why


def _counts(raw: Any) -> np.ndarray:
    values = [finite(x) for x in raw[:100_000]] if isinstance(raw, list) else []
    return np.array([max(v or 0.0, 0.0) for v in values], dtype=float)


def _samples(d: Diagnosis) -> list[dict[str, Any]]:
    samples = d.series.get("samples")
    out = []
    for row in map(mapping, samples if isinstance(samples, list) else []):
        texts = {who: text for who in ("student", "expert") if isinstance(text := row.get(who), str)}
        cells = [
            {
                "who": who, "hue": figures.HUES[who], "text": visible(texts.get(who, ""), LONGEST),
                "verdict": _reward(row.get(f"{who}_reward")),
            } for who in ("student", "expert")
        ]  # fmt: skip
        if texts:
            out.append({"prompt": visible(row.get("prompt", ""), LONGEST), "cells": cells})
    return out


def _reward(value: Any) -> str:
    reward = finite(value)
    if reward is None:
        return ""
    return "right" if reward == 1 else "wrong" if reward == 0 else f"reward {reward:.2g}"


# --- tables --------------------------------------------------------------------------------------------------------


def _controls(d: Diagnosis) -> list[dict[str, str]]:
    out = []
    for name, control in d.evidence.checks.items():
        title, asks = words.CONTROLS.get(name, (label(name.replace("_", " "), 60), ""))
        outcome = label(control.told, 400).removeprefix("not run: ")
        outcome = "it does not fit into the budget" if outcome == "budget" else outcome
        state = "ran" if control.passed is None else "passed" if control.passed else "not passed"
        difference = "" if control.difference is None else f"{with_bounds(control.difference)} nats"
        out.append({"name": title, "asks": asks, "outcome": outcome, "state": state if control.ran else "not run",
                    "difference": difference})  # fmt: skip
    return out


def _check(check: Check) -> dict[str, Any]:
    hint = "" if check.passed else label(check.hint, 400)
    return {"name": label(check.name or "?", 120), "passed": check.passed, "value": label(check.value, 300),
            "hint": hint}  # fmt: skip


def _measures(d: Diagnosis) -> list[dict[str, Any]]:
    meanings = mapping(d.setting.get("meanings"))
    out = []
    for name, e in d.evidence.measures.items():
        pair = meanings.get(name)
        title, meaning = name.replace("_", " "), ""
        if isinstance(pair, list) and len(pair) >= 2:
            title, meaning = str(pair[0]), str(pair[1])
        out.append({
            "name": label(title, 80), "meaning": label(meaning, 300), "shown": words.measure(name, e),
            "unit": words.unit(name, e), "n": count(e.n) if e.n else "–", "method": label(e.method, 120),
        })  # fmt: skip
    return out
