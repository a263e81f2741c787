"""python -m tests.fuzz NAME --minutes 10 | --all: tries random inputs, and goes on where it stopped."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.run import limit_memory, run
from fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("name", nargs="?", choices=sorted(TARGETS))
    parser.add_argument("--all", action="store_true", help="every target, one after the other")
    parser.add_argument("--minutes", type=float, default=10.0, help="of each target, all its runs together")
    parser.add_argument("--state", type=Path, default=Path("fuzz-state"), help="folder of what has been done")
    args = parser.parse_args()
    if not args.all and not args.name:
        parser.error("give a name or --all")
    args.state.mkdir(parents=True, exist_ok=True)
    limit_memory()
    found = 0
    for name in TARGETS if args.all else [args.name]:
        done = run(name, 60 * args.minutes, args.state / f"{name}.json")
        print(
            f"{name}: {done['examples']:,} inputs in {done['seconds']:.0f} s, slowest {done['slowest']:.2f} s",
            flush=True,
        )
        for finding in done["findings"]:
            found += 1
            print(finding)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
