"""docs/recipes.md: every recipe with its numbers and their sources."""

from __future__ import annotations

from tools.markdown import replaced, table
from understudy.recipes import NAMES
from understudy.recipes.loading import load_recipe
from understudy.recipes.recipe import SOURCES


def page(text: str) -> str:
    parts = [table(("source", "what it is"), SOURCES.items())]
    for name in NAMES:
        r = load_recipe(name)
        cells = ([x.replace("*", "\\*") for x in (s.name, s.value, s.source)] for s in r.settings)
        parts += [f"### {name}", f"{r.figure}. {r.shows}", table(("setting", "value", "source"), cells)]
        parts += [r.unknown, f"`--tiny`: {r.stand_ins}"]
    return replaced(text, "recipes", "\n\n".join(parts))
