"""Print the structure of the package, and exit with 1 where it breaks a rule: `python -m tools.structure`.

Rules: no import circle (imports inside functions and under TYPE_CHECKING count), neither between modules nor between
the parts of any folder; at most 10 modules in the root; no module over 400 lines.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import grimp

MAX_ROOT_MODULES, MAX_LINES = 10, 400

Edges = Mapping[str, set[str]]
"""Node -> the nodes that it imports."""


def circles(edges: Edges) -> list[list[str]]:
    """Groups of nodes that import each other, directly or not."""
    reached = {node: _reachable(edges, node) for node in edges}
    groups = {frozenset(m for m in reached[node] if node in reached[m]) for node in edges if node in reached[node]}
    return sorted(sorted(group) for group in groups)


def _reachable(edges: Edges, start: str) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        new = edges[todo.pop()] - seen
        seen |= new
        todo += new
    return seen


def between_parts(edges: Edges, folder: str) -> dict[str, set[str]]:
    """The imports between the modules and subfolders of `folder`, each subfolder as one node."""

    def part(module: str) -> str:
        rest = module.removeprefix(folder).removeprefix(".")
        return rest.partition(".")[0] or "__init__"

    inside = [m for m in edges if m == folder or m.startswith(f"{folder}.")]
    out: dict[str, set[str]] = {part(m): set() for m in inside}
    for module in inside:
        targets = {part(t) for t in edges[module] if t == folder or t.startswith(f"{folder}.")}
        out[part(module)] |= targets - {part(module)}
    return out


def layers(edges: Edges) -> list[list[str]]:
    """The nodes of a graph without circles, lowest layer first: each imports only from the layers before its own."""
    out: list[list[str]] = []
    done: set[str] = set()
    while len(done) < len(edges):
        out.append(sorted(node for node in edges if node not in done and edges[node] <= done))
        done |= set(out[-1])
    return out


def lines_of(folder: Path) -> dict[str, int]:
    """File below `folder` -> its number of lines, for all Python files."""
    return {
        f.relative_to(folder.parent).as_posix(): len(f.read_text(encoding="utf-8").splitlines())
        for f in sorted(folder.rglob("*.py"))
    }


def main(root: Path = Path(__file__).parents[1], package: str = "understudy") -> int:
    """Print the structure of the package in `root`, which must be importable; 1 where it breaks a rule, else 0."""
    graph = grimp.build_graph(package, cache_dir=None)
    edges = {m: set(graph.find_modules_directly_imported_by(m)) for m in sorted(graph.modules)}
    folders = [m for m in edges if any(n.startswith(f"{m}.") for n in edges)]
    loops = [" <-> ".join(circle) for circle in circles(edges)]
    for folder in folders:
        loops += [f"in {folder}: {' <-> '.join(circle)}" for circle in circles(between_parts(edges, folder))]
    library, tests = lines_of(root / package), lines_of(root / "tests")
    root_modules = sorted(f.stem for f in (root / package).glob("*.py"))
    long = [f"{name} ({n} lines)" for name, n in library.items() if n > MAX_LINES]

    print(f"{package}: {sum(library.values()):,} lines in {len(library)} modules; tests: {sum(tests.values()):,} lines")
    print(f"root modules ({len(root_modules)}, at most {MAX_ROOT_MODULES}): {', '.join(root_modules)}")
    top = between_parts(edges, package)
    if not circles(top):
        print("layers, lowest first:")
        for i, names in enumerate(layers(top), start=1):
            print(f"  {i:2d} {', '.join(names)}")
    for title, lines in (("import circles", loops), (f"modules over {MAX_LINES} lines", long)):
        print(f"{title}: {len(lines)}")
        for line in lines:
            print(f"  {line}")
    return int(bool(loops or long or len(root_modules) > MAX_ROOT_MODULES))


if __name__ == "__main__":
    sys.exit(main())
