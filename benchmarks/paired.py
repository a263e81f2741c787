"""Time one command in two source trees, in turns: what a change that claims to be faster has to show.

    git worktree add ../before main
    .venv/bin/python benchmarks/paired.py --before ../before --after . --repeats 7 -- \\
        train --method opd --student scratch --expert solver --updates 20 --eval-every 0 --no-eval-expert --out OUT

The words after -- are an `understudy` command; OUT becomes a new folder each time. A pair runs both trees one after
the other, and the next pair in the other order, so that a machine that slows down slows both. The time is the run's
own `train_seconds` if it is a training run, else wall seconds.

The interval is the range of the ratios: if pairs are independent it covers their median with probability 1 - 2^(1-n).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def seconds(tree: Path, words: list[str]) -> float:
    """One run of `python -m understudy WORDS` in `tree`."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run"
        command = [sys.executable, "-m", "understudy", *(str(out) if word == "OUT" else word for word in words)]
        # `tree` first on the path: the installed package is one of the two trees at most
        environment = os.environ | {"PYTHONPATH": str(tree.resolve())}
        began = time.perf_counter()
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
        wall = time.perf_counter() - began
        if done.returncode:
            sys.exit(f"error: {tree}: the command ended with status {done.returncode}: {done.stderr.strip()[-300:]}")
        ledger = out / "ledger.json"
        return float(json.loads(ledger.read_text())["train_seconds"]) if ledger.is_file() else wall


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, metavar="TREE")
    parser.add_argument("--after", type=Path, required=True, metavar="TREE")
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="pairs, after one that is not counted")
    parser.add_argument("words", nargs="+", metavar="WORD", help="the understudy command, after --")
    o = parser.parse_args()
    if o.repeats < 1:
        parser.error("--repeats must be at least 1")
    for tree in (o.before, o.after):
        if not (tree / "understudy" / "__main__.py").is_file():
            parser.error(f"{tree} is not a source tree of Understudy")
    for tree in (o.before, o.after):
        seconds(tree, o.words)  # fills caches
    ratios = []
    print("pair   before s    after s   after / before")
    for i in range(o.repeats):
        order = (o.before, o.after) if i % 2 == 0 else (o.after, o.before)
        took = [seconds(tree, o.words) for tree in order]
        before, after = took if i % 2 == 0 else reversed(took)
        ratios.append(after / before)
        print(f"{i + 1:4} {before:10.3f} {after:10.3f} {ratios[-1]:16.3f}", flush=True)
    sure = 1 - 2.0 ** (1 - o.repeats)
    print(
        f"median of after / before {statistics.median(ratios):.3f}, range {min(ratios):.3f} to {max(ratios):.3f} "
        f"({o.repeats} pairs; the range covers the median with probability {sure:.3f})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
