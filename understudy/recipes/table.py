"""docs/recipes.md: the part of it that is generated from the recipes. `python -m understudy.recipes.table`
writes it."""

from __future__ import annotations

from pathlib import Path

from understudy.recipes import NAMES, load_recipe
from understudy.recipes.recipe import SOURCES

START, END = "<!-- recipes:start (generated: python -m understudy.recipes.table) -->", "<!-- recipes:end -->"


def generated() -> str:
    """Every recipe with its numbers and whose they are."""
    out = ["| source | what it is |", "|---|---|"]
    out += [f"| {name} | {told} |" for name, told in SOURCES.items()]
    for name in NAMES:
        r = load_recipe(name)
        out += ["", f"### {name}", "", f"{r.figure}. {r.shows}", "", "| setting | value | source |", "|---|---|---|"]
        for s in r.settings:
            cells = (x.replace("|", "\\|").replace("*", "\\*") for x in (s.name, s.value, s.source))
            out.append("| " + " | ".join(cells) + " |")
        out += ["", r.unknown, "", f"`--tiny`: {r.tiny_told}"]
    return "\n".join(out)


def page(text: str) -> str:
    """The page with its generated part made anew."""
    before, _, rest = text.partition(START)
    return f"{before}{START}\n{generated()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    target = Path("docs/recipes.md")
    target.write_text(page(target.read_text(encoding="utf-8")), encoding="utf-8")
    print(target)
