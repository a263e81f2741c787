"""Measure Understudy against its peers on this machine and write docs/results/speed.md: `make bench`.

    python -m benchmarks.speed                             all sections, three repeats
    python -m benchmarks.speed --only rollouts,opd         some of them
    python -m benchmarks.speed --quick                     the smallest measurement of each; writes into --out

What is measured is kept in --out, one line each: the same command goes on where it was stopped, until the revision of
the source changes. Use it on an idle machine; contenders take turns, but a neighbour's load still widens the ranges.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.page import page
from benchmarks.plan import SECTIONS, Item, items
from benchmarks.turns import ratios, spread

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results" / "speed.md"


def revision() -> str:
    """Of the source; "" outside a git checkout."""
    done = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def read(path: Path) -> list[dict[str, Any]]:
    """The kept records. A last line that was cut off is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def open_items(wanted: Sequence[Item], records: Sequence[dict[str, Any]], settings: dict[str, Any]) -> list[Item]:
    """Those that no record with these settings holds."""
    done = {(r["section"], r["name"]) for r in records if all(r.get(k) == v for k, v in settings.items())}
    return [item for item in wanted if (item.section, item.name) not in done]


def groups(todo: Sequence[Item]) -> list[list[Item]]:
    """Items that share a process: those of a section, but each one of `memory` has its own."""
    keyed = groupby(enumerate(todo), lambda x: (x[1].section, x[0] if x[1].section == "memory" else -1))
    return [[item for _, item in group] for _, group in keyed]


def measured(group: Sequence[Item], repeats: int) -> Generator[dict[str, Any], None, None]:
    """What a child process answers, item by item. It ends with this generator, with everything that it has started."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child"], cwd=ROOT, env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=said, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            request = [{"section": i.section, "name": i.name, "args": dict(i.args)} for i in group]
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(json.dumps({"items": request, "repeats": repeats}))
            child.stdin.close()
            for line in child.stdout:
                yield json.loads(line)
            if child.wait():
                said.seek(0)
                sys.exit(f"error: {group[0].section}: {said.read().strip()[-1500:]}")
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGTERM)
                child.wait()


def summary(record: dict[str, Any]) -> str:
    """One line for the screen."""
    seconds = record["result"].get("seconds", {})
    peers = [name for name in seconds if name != "understudy"] if "understudy" in seconds else []
    return ", ".join(f"{spread(ratios(record['result'], peer))} x {peer}" for peer in peers)


def clock(seconds: float) -> str:
    """`12 min`, or `40 s`."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def run(todo: Sequence[Item], repeats: int, settings: dict[str, Any], kept: Path) -> None:
    """Measure, and keep each result at once."""
    total, past, number, began = sum(i.seconds(repeats) for i in todo), 0.0, 0, time.perf_counter()
    with ExitStack() as stack:
        file = stack.enter_context(kept.open("a", encoding="utf-8"))
        for group in groups(todo):
            waiting = iter(group)
            answers = stack.enter_context(closing(measured(group, repeats)))
            for answer in answers:
                item = next(waiting)
                record = settings | {"section": item.section} | answer
                file.write(json.dumps(record) + "\n")
                file.flush()
                past, number = past + item.seconds(repeats), number + 1
                left = (total - past) * (time.perf_counter() - began) / past
                print(
                    f"[{number}/{len(todo)}] {item.section}: {item.name}: {answer['took']:.0f} s, "
                    f"about {clock(left)} left. {summary(record)}",
                    flush=True,
                )


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"sections, of {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="the smallest measurements, to see that it works")
    parser.add_argument("--repeats", type=int, default=3, help="counted rounds of each measurement")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench", help="folder of what is kept")
    parser.add_argument("--again", action="store_true", help="measure anew what is kept already")
    o = parser.parse_args(words)
    only = [name.strip() for name in o.only.split(",") if name.strip()]
    if bad := [name for name in only if name not in SECTIONS]:
        parser.error(f"--only: no section {bad[0]!r}; there are {', '.join(SECTIONS)}")
    if o.repeats < 1:
        parser.error("--repeats must be at least 1")
    if {"opd", "others"} & set(only) and importlib.util.find_spec("trl") is None:
        parser.error("TRL is not installed: pip install -e '.[bench]', or --only without opd and others")
    o.out.mkdir(parents=True, exist_ok=True)
    kept = o.out / ("quick.jsonl" if o.quick else "results.jsonl")
    settings = {"revision": revision(), "repeats": o.repeats}
    wanted = items(only, o.quick)
    todo = wanted if o.again else open_items(wanted, read(kept), settings)
    minutes = clock(sum(i.seconds(o.repeats) for i in todo))
    print(
        f"{len(todo)} measurements, {len(wanted) - len(todo)} more are kept; about {minutes} on one idle core "
        f"(scaling takes two). Kept in {o.out}"
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the child is in a session of its own: end it too
    try:
        run(todo, o.repeats, settings, kept)
    except KeyboardInterrupt:
        print("\nstopped; what is measured is kept, the same command goes on")
        return 130
    target = o.out / "speed.md" if o.quick else PAGE
    target.write_text(page(read(kept)), encoding="utf-8")
    print(f"written: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
