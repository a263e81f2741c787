"""How many faults are injected and how many wrong inputs are given: `python -m tests.faults.count` prints a table.

A test counts by its marker, each row of its table once: `pytest.mark.fault(KIND)` for what a machine, a server or a
file does, `pytest.mark.wrong_input(KIND)` for what a user gives. Each of them states the line that is expected.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections import Counter
from pathlib import Path
from typing import Any

MARKERS = ("fault", "wrong_input")
FOLDER = Path(__file__).parent


class _Collected:
    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def pytest_collection_finish(self, session: Any) -> None:
        for item in session.items:
            for name in MARKERS:
                if (marker := item.get_closest_marker(name)) is not None:
                    self.counts[name, marker.args[0]] += 1


def counted() -> Counter[tuple[str, str]]:
    """(marker, kind) -> tests in this folder."""
    import pytest  # the module is imported by a test, which has it

    found = _Collected()
    options = ["--collect-only", "-qq", "-p", "no:cacheprovider", "--capture=no", str(FOLDER)]
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main(options, plugins=[found])
    return found.counts


def main() -> None:
    counts = counted()
    for name in MARKERS:
        kinds = sorted((kind, n) for (marker, kind), n in counts.items() if marker == name)
        print(f"{sum(n for _, n in kinds):5} {name.replace('_', ' ')}s")
        for kind, n in kinds:
            print(f"{n:9} {kind}")


if __name__ == "__main__":
    sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]
    main()
