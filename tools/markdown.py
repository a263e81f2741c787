"""Markdown of the generated pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def row(cells: Sequence[str]) -> str:
    """One line of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with its headings."""
    return "\n".join([row(headings), "|" + "---|" * len(headings), *map(row, rows)])


def replaced(text: str, name: str, part: str) -> str:
    """`text` with `part` between the comments that mark the generated part `name`. ValueError: they are not there."""
    start, end = f"<!-- {name}:start (generated: make docs) -->\n", f"<!-- {name}:end -->"
    before, _, rest = text.partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"no part marked {start.strip()} ... {end}")
    return f"{before}{start}{part}\n{end}{after}"
