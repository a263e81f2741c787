"""`understudy theory`: run the claims, print a closed form, or point the falsifiers at an instance."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from understudy.cli import options
from understudy.errors import UserError
from understudy.terminal import Board, console

WIDTH = 116  # of tables where there is no terminal to ask

HELP = """understudy theory: the paper's claims as exact, runnable statements

Our own derivations, consistent with the paper's abstract and captions, not taken from its text:
docs/theory.md has each statement, its proof, the test that guards it, and what would refute it.

  understudy theory                       every claim: computed, bound, observed, holds; a page with figures
  understudy theory NAME ... [options]    only these claims, every row
  understudy theory list                  the claims, and which options each reads
  understudy theory value QUANTITY ...    any closed form at any parameters, full precision (--json)
  understudy theory falsify [options]     search for a counter-example; --instance FILE for your own bandit

examples
  understudy theory bottleneck --eps .001 --n 4096
  understudy theory value regret --family F --l 8 --eps .01 --kappa .1 --n 64 --info OFF-S --json
  understudy theory falsify --instance mine.json        (--schema and --example show the format)

Exit status: 0 everything holds, 1 something does not, 2 a mistake in the command or the file.
"""


@dataclass(frozen=True)
class ClaimsConfig:
    names: tuple[str, ...] = ()
    """Claims to run. Default: all."""
    l: int | None = None  # noqa: E741
    """Contexts."""
    eps: float | None = None
    """Mass the expert puts on actions that students can play."""
    kappa: float | None = None
    """Expert's error rate."""
    n: int | None = None
    """Rounds of data, instead of the claim's grid."""
    H: int | None = None
    """Horizon, instead of the claim's grid."""
    seed: int = 0
    """Seed of everything random."""
    out: str = "runs/theory"
    """Directory for theory.html and claims.json."""
    rows: bool = False
    """Print every row, not only the headline ones (always so when claims are named)."""
    page: bool = True
    """Write the page with figures."""


def theory_main(argv: Sequence[str]) -> int:
    """Run `understudy theory ARGV`; the exit status. Raises UserError for a user's mistake."""
    argv = list(argv)
    if argv and argv[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if argv and argv[0] == "value":
        return _value(argv[1:])
    if argv and argv[0] == "falsify":
        from understudy.cli.theory_falsify import falsify_main

        return falsify_main(argv[1:])
    if argv and argv[0] == "list":
        return _list()
    return _claims(argv)


def _claims(argv: Sequence[str]) -> int:
    config = options.parse(ClaimsConfig, argv, "understudy theory", HELP, positional="names")
    from understudy.theory.claims import registry as claims
    from understudy.theory.claims.claim import Options

    chosen = [claims.find(name) for name in config.names] or list(claims.CLAIMS)
    told = Options(config.l, config.eps, config.kappa, config.n, config.H, config.seed)
    if told.given() and not config.names:
        flag = sorted(told.given())[0]
        raise UserError(flag, getattr(told, flag), "name the claim it is for (understudy theory list)")
    for claim in chosen:
        claim.check(told)
    began, results, seconds = time.perf_counter(), [], []
    with Board() as board:
        for i, claim in enumerate(chosen):
            board.show("", "claims", i, len(chosen), claim.title)
            start = time.perf_counter()
            results.append((claim, claim.checked(told)))
            seconds.append(time.perf_counter() - start)
        board.show("", "claims", len(chosen), len(chosen), "all computed")
    every_row = config.rows or bool(config.names)
    _print_table(results, every_row)
    total = sum(len(result.rows) for _, result in results)
    broken = sum(not row.holds for _, result in results for row in result.rows)
    out = Path(config.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "claims.json").write_text(json.dumps(_record(results, seconds, config.seed), indent=1) + "\n")
        if config.page:
            from understudy.theory.page.page import write_page

            page = write_page(out / "theory.html", results, told)
            console.print(f"page with figures: {page}", markup=False)
    except OSError as error:
        raise UserError("out", out, f"cannot be written ({error.strerror}): give another directory") from None
    verdict = "all hold" if not broken else f"{broken} DO NOT HOLD"
    took = time.perf_counter() - began
    console.print(f"{len(results)} claims, {total} rows, {verdict}; {took:.0f} s, seed {config.seed}")
    return 1 if broken else 0


def _print_table(results: Sequence[tuple[Any, Any]], every_row: bool) -> None:
    from understudy.theory.claims.claim import number

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("claim", style="bold", no_wrap=True)
    table.add_column("computed", ratio=1)
    table.add_column("bound", justify="right", no_wrap=True)
    table.add_column("observed", justify="right", no_wrap=True)
    table.add_column("holds", no_wrap=True)
    for claim, result in results:
        shown = result.rows if every_row else result.headlines
        for i, row in enumerate(shown):
            name = f"{claim.name} ({sum(r.holds for r in result.rows)}/{len(result.rows)})" if i == 0 else ""
            holds = Text("yes", "green") if row.holds else Text("NO", "bold red")
            table.add_row(name, Text(row.computed), row.bound_text, number(row.observed), holds)
    print_wide(table)


def print_wide(table: Table) -> None:
    """Print a table at the terminal's width, or wide enough to read when piped to a file."""
    if console.is_terminal:
        console.print(table)
    else:
        Console(width=WIDTH, highlight=False).print(table)


def _record(results: Sequence[tuple[Any, Any]], seconds: Sequence[float], seed: int) -> dict[str, Any]:
    """claims.json: every row in full precision."""

    def finite(x: float) -> float | None:
        return x if math.isfinite(x) else None

    return {
        "seed": seed,
        "claims": [
            {
                "name": claim.name,
                "section": claim.section,
                "holds": result.holds,
                "seconds": round(spent, 3),
                "rows": [
                    {
                        "computed": row.computed,
                        "relation": row.relation,
                        "bound": finite(row.bound),
                        "observed": finite(row.observed),
                        "tolerance": row.tolerance,
                        "holds": row.holds,
                    }
                    for row in result.rows
                ],
            }
            for (claim, result), spent in zip(results, seconds)
        ],
    }


def _list() -> int:
    from understudy.theory.claims.registry import CLAIMS

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("claim", "statement of docs/theory.md", "what it says", "options"):
        table.add_column(heading)
    for claim in CLAIMS:
        flags = " ".join(f"--{o}" for o in sorted(claim.options))
        table.add_row(claim.name, Text(claim.section), Text(claim.title), flags)
    print_wide(table)
    return 0


def _value(argv: Sequence[str]) -> int:
    from understudy.theory import values

    if not argv or argv[0] in ("-h", "--help"):
        print("usage: understudy theory value QUANTITY [options] [--json]    (QUANTITY --help: its options)\n")
        for name, cls in values.QUANTITIES.items():
            print(f"  {name:17s} {' '.join(str(cls.__doc__).split())} [{cls.source}]")
        return 0
    name, rest = argv[0], [word for word in argv[1:] if word != "--json"]
    cls = values.find(name)
    quantity = options.parse(cls, rest, f"understudy theory value {name}", str(cls.__doc__))
    record = values.record(name, quantity)
    if "--json" in argv:
        print(json.dumps(record))
    elif record["value"] is None:
        print("inf" if record["infinite"] == "+" else "-inf")
    else:
        print(repr(record["value"]))
    return 0
