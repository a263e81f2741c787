"""python -m tools.docs [--check]: write the generated parts of docs/ again, or only say which are out of date."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tools import docs_algorithms, docs_defaults, docs_export, docs_measures, docs_recipes, docs_tasks, docs_watch

PAGES = {
    "docs/algorithms.md": docs_algorithms.page,
    "docs/tasks.md": docs_tasks.page,
    "docs/recipes.md": docs_recipes.page,
    "docs/diagnose.md": docs_measures.page,
    "docs/export.md": docs_export.page,
    "docs/watch.md": docs_watch.page,
    "docs/defaults.md": docs_defaults.page,
}
"""Page -> its text now -> its text as it should be."""


def main(argv: Sequence[str], root: Path = Path()) -> int:
    """Exit status: 0 all is written, or up to date; 1 --check found a page out of date; 2 there is no docs/ here."""
    status = 0
    for name, page in PAGES.items():
        path = root / name
        if not path.is_file():
            print(f"error: {name}: is not here: run this from the root of the source tree", file=sys.stderr)
            return 2
        text = path.read_text(encoding="utf-8")
        new = page(text)
        if new == text:
            continue
        if "--check" in argv:
            print(f"{name}: out of date: run make docs")
            status = 1
        else:
            path.write_text(new, encoding="utf-8")
            print(name)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
