"""What the completions look like: lengths, keyword counts, and the same prompt side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from understudy.evaluation import intervals
from understudy.report.comparison import figures
from understudy.report.comparison.load import Entry
from understudy.report.comparison.summary import Arm, Summary
from understudy.report.figures.svg import EXPERT, colour
from understudy.report.text import label, mapping, number, visible

SHOWN = 6  # prompts per expert
LONGEST = 1500  # characters per completion
_BINS = 24


@dataclass(frozen=True)
class Cell:
    """One completion. All of it is text for the template to escape."""

    who: str
    hue: str
    text: str
    verdict: str


def side_by_side(s: Summary, expert: str) -> list[tuple[str, list[Cell]]]:
    """(prompt, completions of the expert and each method): the first prompts all have, of the first such
    seed."""
    arms = s.of(expert)
    for seed in s.seeds:
        tables: list[tuple[str, str, dict[str, dict[str, Any]]]] = []
        of_expert: dict[str, dict[str, Any]] = {}
        for arm in arms:
            entry = next((e for e in arm.entries if e.seed == seed), None)
            rows = _latest(entry, "student")
            if rows:
                tables.append((arm.name, colour(arm.method, s.c.methods), rows))
            of_expert |= {key: row for key, row in _latest(entry, "expert").items() if key not in of_expert}
        if not tables:
            continue
        if of_expert:
            tables.insert(0, (f"{label(expert, 24)} (expert)", EXPERT, of_expert))
        keys = [key for key in tables[0][2] if all(key in rows for _, _, rows in tables)]
        if keys:
            return [(_prompt(tables, key), [_cell(*t, key) for t in tables]) for key in keys[:SHOWN]]
    return []


def _prompt(tables: list[tuple[str, str, dict[str, dict[str, Any]]]], key: str) -> str:
    row = tables[0][2][key]
    return visible(row.get("rendered") or row.get("prompt", ""), LONGEST)


def _cell(who: str, hue: str, rows: dict[str, dict[str, Any]], key: str) -> Cell:
    row = rows[key]
    reward = row.get("reward")
    verdict = "" if not isinstance(reward, (int, float)) else "right" if reward >= 0.5 else "wrong"
    if row.get("ended") is False:
        verdict = "cut off" if verdict in ("", "wrong") else f"{verdict}, cut off"
    return Cell(who, hue, visible(row["completion"], LONGEST), verdict)


def _latest(entry: Entry | None, actor: str) -> dict[str, dict[str, Any]]:
    """{prompt key: sample} of the last step that has any; the first sample of each prompt, test split
    first."""
    rows = [row for row in entry.run.samples if row.get("actor") == actor] if entry else []
    test = [row for row in rows if row.get("split") == "test"] or rows
    steps = [row["step"] for row in test if isinstance(row.get("step"), (int, float))]
    last = max(steps, default=None)
    found: dict[str, dict[str, Any]] = {}
    for row in test:
        if row.get("step") == last:
            found.setdefault(str(row.get("key", row.get("prompt", ""))), row)
    return found


# --- lengths -------------------------------------------------------------------------


def length_panel(s: Summary, expert: str, name: str, size: float) -> tuple[Markup, str] | None:
    """The histogram of one expert and its students, and what it says about total variation."""
    own = s.lengths(expert)
    arms = [(arm, data) for arm in s.of(expert) if len(data := s.lengths(arm))]
    if not arms:
        return None
    longest = int(max([data.max() for _, data in arms] + ([own.max()] if len(own) else [])))
    width = max(1, -(-(longest + 1) // _BINS))
    bins = np.arange(0.0, longest + 1 + width, width)
    counts = [(arm, np.histogram(data, bins)[0].astype(float)) for arm, data in arms]
    expert_counts = np.histogram(own, bins)[0].astype(float)
    figure = figures.lengths(bins, expert_counts, counts, s, name, label(expert, 30), size)
    if not len(own):
        return figure, ""
    distances = []
    for arm, histogram in counts:
        value, chance = intervals.total_variation(expert_counts, histogram)
        distances.append(f"{arm.name} {value:.2f} (by chance {chance:.2f})")
    return figure, "Distance from the expert: " + ", ".join(distances)


# --- keywords ------------------------------------------------------------------------


def keyword_rows(s: Summary, expert: str) -> list[tuple[str, str, dict[str, float]]]:
    """(who, colour, {word: mean count per completion}); the expert first where its completions are known."""
    rows = []
    for arm in s.of(expert):
        counts = [found for entry in arm.drawn if (found := _keywords(entry))]
        if counts:
            words = [w for w in counts[0] if all(w in c for c in counts)]
            mean = {w: float(np.mean([c[w] for c in counts])) for w in words}
            rows.append((arm.name, colour(arm.method, s.c.methods), mean))
    own = _expert_keywords(s.of(expert), list(rows[0][2]) if rows else [])
    return [("expert", EXPERT, own), *rows] if own else rows


def _keywords(entry: Entry) -> dict[str, float]:
    for line in reversed(entry.run.evaluations("test")):
        words = line.get("keywords")
        if isinstance(words, dict) and words:
            return {str(w): float(v) for w, v in words.items() if isinstance(v, (int, float))}
    return {}


def _expert_keywords(arms: list[Arm], words: list[str]) -> dict[str, float]:
    runs = [entry.run for arm in arms for entry in arm.finished]
    for run in runs:
        lines = [mapping(line.get("expert")) for line in run.evaluations("test")]
        for measured in [mapping(line.get("keywords")) for line in reversed(lines)]:
            if found := {w: float(measured[w]) for w in words if number(measured.get(w)) is not None}:
                return found
    texts = [r["completion"] for run in runs for r in run.samples if r.get("actor") == "expert"]
    return {w: float(np.mean([text.count(w) for text in texts])) for w in words} if texts else {}
