"""`understudy theory`: run the claims, print a closed form, or point the falsifiers at an instance.

The theory itself is imported inside the functions: it needs torch, and --help must not wait for that.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from understudy import __version__
from understudy.cli import options
from understudy.errors import UserError
from understudy.terminal import Board, console

WIDTH = 116  # of tables that are not printed to a terminal

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

FALSIFY = """Look for a counter-example to the theory (docs/theory.md, section 6).

Without --instance: random instances of one kind, a hill climb for the largest loss, and six offline learners.
With --instance FILE: every falsifier and identity on your own finite bandit (JSON; see --schema, --example).
A benign instance on which SFT matches the expert refutes nothing: the lower bound is about a family's average.
Exit status 1 if anything is refuted."""


@dataclass(frozen=True)
class ClaimsConfig:
    names: tuple[str, ...] = ()
    """Claims to run. Default: all."""
    l: int | None = None
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


@dataclass(frozen=True)
class FalsifyConfig:
    instance: str = ""
    """A JSON file with a finite bandit."""
    kind: str = "generic"
    """Random instances: generic, planted-tau, planted-noisy, planted-const."""
    count: int = 20000
    """How many random instances."""
    dmax: float = 0.05
    """Keep instances with Delta at most this (nats)."""
    tol: float | None = None
    """'Matches' means at most this far below V_e. Default: sqrt(dmax / 2)."""
    n: int = 64
    """Rounds of data for the finite-sample falsifiers."""
    runs: int = 2000
    """Data sets for the finite-sample falsifiers."""
    delta: float = 0.1
    """Confidence of Theorem 4's bounds."""
    seed: int = 0
    """Seed of everything random."""
    worst: str = ""
    """Write the worst instance that the hill climb found to this file."""
    json: bool = False
    """Print the findings as JSON."""
    schema: bool = False
    """Print the JSON schema of an instance file."""
    example: bool = False
    """Print an example instance file (the trap, with an alternative world)."""

    def __post_init__(self) -> None:
        for name in ("count", "n", "runs"):
            if getattr(self, name) < 1:
                raise UserError(name, getattr(self, name), "must be at least 1")
        if not 0 < self.delta < 1:
            raise UserError("delta", self.delta, "must lie strictly between 0 and 1")
        if self.dmax < 0:
            raise UserError("dmax", self.dmax, "nats, at least 0")


def theory_main(argv: Sequence[str]) -> int:
    """Run `understudy theory ARGV`; returns the exit status. UserError for a mistake of the user."""
    argv = list(argv)
    if argv and argv[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    commands = {"value": _value, "falsify": _falsify, "list": _list}
    return commands[argv[0]](argv[1:]) if argv and argv[0] in commands else _claims(argv)


# --- claims ------------------------------------------------------------------------------------------------


def _claims(argv: Sequence[str]) -> int:
    config = options.parse(ClaimsConfig, argv, "understudy theory", HELP, positional="names")
    from understudy.theory.claims import registry
    from understudy.theory.claims.claim import Options

    chosen = [registry.find(name) for name in config.names] or list(registry.CLAIMS)
    requested = Options(config.l, config.eps, config.kappa, config.n, config.H, config.seed)
    if requested.given() and not config.names:
        flag = sorted(requested.given())[0]
        raise UserError(flag, getattr(requested, flag), "name the claim it is for (understudy theory list)")
    for claim in chosen:
        claim.check(requested)
    start, results, seconds = time.perf_counter(), [], []
    with Board() as board:
        for i, claim in enumerate(chosen):
            board.show("", "claims", i, len(chosen), claim.title)
            before = time.perf_counter()
            results.append((claim, claim.checked(requested)))
            seconds.append(round(time.perf_counter() - before, 3))
        board.show("", "claims", len(chosen), len(chosen), "all computed")
    _print_claims(results, config.rows or bool(config.names))
    out = Path(config.out)
    record = [claim.record(result) | {"seconds": s} for (claim, result), s in zip(results, seconds)]
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "claims.json").write_text(json.dumps({"seed": config.seed, "claims": record}, indent=1) + "\n")
        if config.page:
            from understudy.report.html import save
            from understudy.theory.page.page import render

            page = save(render(results, requested, __version__), out / "theory.html", "theory.html")
            console.print(f"page with figures: {page}", markup=False)
    except OSError as error:
        raise UserError("out", out, f"cannot be written ({error.strerror}): give another directory") from None
    rows = [row for _, result in results for row in result.rows]
    failed = sum(not row.holds for row in rows)
    verdict = f"{failed} DO NOT HOLD" if failed else "all hold"
    took = time.perf_counter() - start
    console.print(f"{len(results)} claims, {len(rows)} rows, {verdict}; {took:.0f} s, seed {config.seed}")
    return 1 if failed else 0


def _print_claims(results: Sequence[tuple[Any, Any]], every_row: bool) -> None:
    from understudy.theory.claims.claim import number

    table = _table()
    table.add_column("claim", style="bold", no_wrap=True)
    table.add_column("computed", ratio=1)
    table.add_column("bound", justify="right", no_wrap=True)
    table.add_column("observed", justify="right", no_wrap=True)
    table.add_column("holds", no_wrap=True)
    for claim, result in results:
        for i, row in enumerate(result.rows if every_row else result.headlines):
            name = f"{claim.name} ({sum(r.holds for r in result.rows)}/{len(result.rows)})" if i == 0 else ""
            holds = Text("yes", "green") if row.holds else Text("NO", "bold red")
            table.add_row(name, Text(row.computed), row.bound_text, number(row.observed), holds)
    _print(table)


def _list(argv: Sequence[str]) -> int:
    from understudy.theory.claims.registry import CLAIMS

    table = _table("claim", "statement of docs/theory.md", "what it says", "options")
    for claim in CLAIMS:
        flags = " ".join(f"--{o}" for o in sorted(claim.options))
        table.add_row(claim.name, Text(claim.section), Text(claim.title), flags)
    _print(table)
    return 0


def _value(argv: Sequence[str]) -> int:
    from understudy.theory import values

    if not argv or argv[0] in ("-h", "--help"):
        print("usage: understudy theory value QUANTITY [options] [--json]    (QUANTITY --help: its options)\n")
        for name, quantity in values.QUANTITIES.items():
            print(f"  {name:17s} {quantity.summary} [{quantity.source}]")
        return 0
    name, rest = argv[0], [word for word in argv[1:] if word != "--json"]
    quantity = values.find(name)
    args = options.parse(quantity.options, rest, f"understudy theory value {name}", quantity.summary)
    record = values.record(name, vars(args))
    if "--json" in argv:
        print(json.dumps(record))
    elif record["value"] is None:
        print("inf" if record["infinite"] == "+" else "-inf")
    else:
        print(repr(record["value"]))
    return 0


# --- falsify -----------------------------------------------------------------------------------------------


def _falsify(argv: Sequence[str]) -> int:
    config = options.parse(FalsifyConfig, argv, "understudy theory falsify", FALSIFY)
    from understudy.theory.falsify import instance_file

    if config.schema:
        print(json.dumps(instance_file.SCHEMA, indent=2))
        return 0
    if config.example:
        print(json.dumps(instance_file.example(), indent=1))
        return 0
    return _examine(config) if config.instance else _search(config)


def _examine(config: FalsifyConfig) -> int:
    """The falsifiers on the instance of a file."""
    from understudy.theory.falsify.examine import examine
    from understudy.theory.falsify.instance_file import load

    bandit = load(config.instance)
    result = examine(bandit, config.n, config.runs, config.delta, config.seed)
    if config.json:
        record = {"name": bandit.name, "refuted": result.refuted, "story": result.story}
        print(json.dumps(record | {"findings": [f.record() for f in result.findings]}))
    else:
        k, x, y = bandit.shape
        console.print(Text(f"{bandit.name}: {x} contexts, {y} actions, {k} students", "bold"))
        for line in result.story:
            console.print(Text("  " + line))
        _print_findings(result.findings)
        console.print("REFUTED: see the red lines" if result.refuted else "nothing refuted on this instance")
    return 1 if result.refuted else 0


def _search(config: FalsifyConfig) -> int:
    """The search for a counter-example among random instances."""
    from understudy.theory.falsify import examine, instance_file

    with Board() as board:
        result = examine.examine_random(
            config.kind, config.count, config.dmax, config.tol, config.n, config.runs, config.delta, config.seed,
            lambda done, note: None if config.json else board.show("", "falsify", done, 4, note),
        )  # fmt: skip
    if config.worst and result.worst is not None:
        try:
            text = json.dumps(instance_file.dump(result.worst), indent=1) + "\n"
            Path(config.worst).write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError("worst", config.worst, f"cannot be written ({error.strerror})") from None
    if config.json:
        counts = {k: v for k, v in vars(result.tally).items() if k != "value_gaps"}
        findings = [f.record() for f in result.findings]
        print(json.dumps({"refuted": result.refuted, "tally": counts, "findings": findings}))
    else:
        for line in result.story:
            console.print(line, markup=False)
        _print_findings(result.findings)
        console.print("REFUTED: see the red lines" if result.refuted else "nothing refuted")
    return 1 if result.refuted else 0


def _print_findings(findings: Iterable[Any]) -> None:
    verdicts = {None: ("n/a", "dim"), True: ("REFUTED", "bold red"), False: ("stands", "green")}
    table = _table("", "statement")
    table.add_column("observed", justify="right")
    table.add_column("bound", justify="right")
    table.add_column("verdict")
    table.add_column("note", style="dim")
    for f in findings:
        observed, bound = ("" if math.isnan(v) else f"{v:.6g}" for v in (f.observed, f.bound))
        table.add_row(f.code, Text(f.statement), observed, bound, Text(*verdicts[f.refuted]), Text(f.note))
    _print(table)


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        table.add_column(heading)
    return table


def _print(table: Table) -> None:
    """Print a table at the terminal's width, or wide enough to read if the output goes to a file."""
    if console.is_terminal:
        console.print(table)
    else:
        Console(width=WIDTH, highlight=False).print(table)
