"""docs/watch.md: the rules and the names of numbers, from the tables of understudy.watch."""

from __future__ import annotations

from tools.markdown import replaced, table
from understudy.watch.log import SIGNALS
from understudy.watch.names import TOOLS
from understudy.watch.rules import RULES


def page(text: str) -> str:
    rules = [(f"`{r.name}`", r.rule, r.remedy, r.source) for r in RULES]
    text = replaced(text, "rules", table(("finding", "when", "what to do", "source"), rules))
    return replaced(text, "signals", table(("number", *(t.title for t in TOOLS.values())), map(_row, SIGNALS)))


def _row(signal: str) -> list[str]:
    """The names of one number in each program."""
    cells = [f"`{signal}`: {SIGNALS[signal]}"]
    for tool in TOOLS.values():
        names = [
            f"1 - `{k}`" if v.startswith("-") else f"`{k}`" for k, v in tool.names.items() if v.strip("-") == signal
        ]
        cells.append("<br>".join(names))
    return cells
