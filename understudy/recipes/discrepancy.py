"""Fig. 2: two files of completions, their lengths, their words, and what these prove."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator, NullLocator

from understudy.diagnosis.types import Estimate
from understudy.evaluation.numbers import percent
from understudy.policy.sampling import rows_together
from understudy.recipes.cost import DEVICES, Machine, sampling
from understudy.recipes.models import MODELS
from understudy.recipes.paper.fig2_discrepancy import PROBLEMS, SAMPLES, STUDENT
from understudy.recipes.recipe import Claim, Drawing, Recipe, Scale
from understudy.recipes.texts import TextGap
from understudy.recipes.tiny import COUNTDOWN
from understudy.report.figures.dots import Dot, Group, Row, chart
from understudy.report.figures.svg import AREA, FAINT, ONLINE, drawing, panel, to_svg
from understudy.report.text import label
from understudy.runs.files import write_bytes
from understudy.specs import parse_spec
from understudy.tasks import load_task

FAR = 0.1
"""A lower bound on total variation that is called wide."""


def requirements(recipe: Recipe) -> list[str]:
    """What the real figure needs: two files, and what sampling them takes."""
    lengths, machine = recipe.lengths["aime24"], Machine(DEVICES["h100"])
    flops, seconds = sampling(MODELS[STUDENT], lengths, PROBLEMS * SAMPLES, machine, rows := rows_together(33_000))
    tokens = PROBLEMS * SAMPLES * lengths.completion / 1e6
    return [
        f"{recipe.name}: {recipe.title}", recipe.shows, "", "settings",
        *(f"  {s.name}: {s.value} ({s.source})" for s in recipe.settings), f"  {recipe.unknown}", "",
        f"It trains nothing. Two files of {PROBLEMS} x {SAMPLES} completions, {tokens:.1f} million tokens each at "
        f"{lengths.completion:,} per completion (an assumption).",
        f"Sampling the student's: {flops / 1e15:,.0f} PFLOPs, {seconds / 3600:,.1f} GPU-hours on one "
        f"{machine.device.name}, {rows} rows decoded together. The expert (671B parameters) by its server.",
        "Then: understudy run fig2_discrepancy --a expert.jsonl --b student.jsonl", "",
    ]  # fmt: skip


def stand_ins(scale: Scale) -> tuple[Path, Path]:
    """Completions of a program that searches in secret and of a mediocre one, as two files."""
    task = load_task(COUNTDOWN)
    tokenizer = task.tokenizer()
    prompts = task.prompts("test", scale.times(200, 8), 0)
    prompts = [p.encoded(tokenizer(p.text)["input_ids"]) for p in prompts]
    files = []
    for name, spec in (("expert", "solver"), ("student", "mediocre")):
        rollouts = task.expert(parse_spec(spec, "expert"), tokenizer).sample(
            prompts, 4, scale.first_seed, task.max_new_tokens
        )
        rows = [json.dumps({"key": r.prompt.key, "completion": r.text, "tokens": len(r.ids)}) for r in rollouts]
        path = scale.out / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, ("\n".join(rows) + "\n").encode())
        files.append(path)
    return files[0], files[1]


def draw(d: TextGap) -> Drawing:
    panels = (
        (f"Lengths: TV is at least {percent(d.length_bound.low)}", lengths(d)),
        (f"Words: TV is at least {percent(d.word_bound.low)}", keywords(d)),
    )
    how = "paired by problem" if d.shared else "the files share no problems"
    caption = (
        f"{label(d.a.name)} (grey, {d.lengths_a.size} completions of {len(d.lengths_a)} problems) and "
        f"{label(d.b.name)} (blue, "
        f"{d.lengths_b.size} of {len(d.lengths_b)}), {how}; lengths in {d.a.unit}. The bounds hold with "
        f"probability 95% each, "
        "whatever the distributions. The plug-in TV of the drawn bins is biased up and proves nothing."
    )
    claims = (
        bound("response lengths differ widely", "TV of lengths", d.length_bound),
        bound("keyword frequencies differ widely", "TV by the best keyword", d.word_bound),
    )
    return Drawing(panels, claims, caption)


def bound(says: str, what: str, e: Estimate) -> Claim:
    seen = f"({e.method}; seen {e.value:.3f}, {e.n} problems)"
    measured = f"{what} is at least {e.low:.3f} with probability {e.level:.2f} {seen}"
    return Claim(says, measured, None, "shown" if e.low >= FAR else "open")


def lengths(d: TextGap) -> Markup:
    """Two histograms on common bins."""
    both = np.concatenate([d.lengths_a.ravel(), d.lengths_b.ravel()])
    bins = np.histogram_bin_edges(both, bins=min(40, max(8, len(np.unique(both)))))
    with drawing():
        ax = panel(620, 200, "", margins=(8, 8, 8, 40))
        for values, hue, fill in ((d.lengths_a, AREA, True), (d.lengths_b, ONLINE, False)):
            ax.stairs(np.histogram(values, bins)[0] / values.size, bins, fill=fill, color=hue, lw=2)
        ax.yaxis.set_major_locator(NullLocator())
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.set_xlabel(f"{d.a.unit} per completion")
        means = f"means {d.lengths_a.mean():.1f} and {d.lengths_b.mean():.1f}"
        return to_svg(ax, "lengths", f"Lengths of completions, {means} {d.a.unit}")


def keywords(d: TextGap) -> Markup:
    """Share of completions with each word, one line per word, and the bound on the difference."""
    rows = [
        Row(
            label(w.word, 22),
            [Dot(w.p, FAINT), Dot(w.q, ONLINE)],
            f"TV at least {w.low:.2f}" if w.low > 0 else "no bound",
        )
        for w in d.words
    ]
    shares = "; ".join(f"{label(w.word, 22)}: {percent(w.p)} and {percent(w.q)}" for w in d.words)
    aria = f"Share of completions with each word. {shares}"
    return chart([Group(rows)], (0.0, 1.0), aria, lambda v: percent(v, 0))
