"""`understudy theory falsify`: the search for a counter-example, or the same checks on an instance of your
own.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from understudy.cli import options
from understudy.cli.theory import print_wide
from understudy.errors import UserError
from understudy.terminal import Board, console

DESCRIPTION = """Look for a counter-example to the theory (docs/theory.md, section 6).

Without --instance: random instances of one kind, a hill climb for the largest loss, and six offline learners.
With --instance FILE: every falsifier and identity on your own finite bandit (JSON; see --schema, --example).
A benign instance on which SFT matches the expert refutes nothing: the lower bound is about a family's average.
Exit status 1 if anything is refuted."""


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


def falsify_main(argv: Sequence[str]) -> int:
    """Run `understudy theory falsify ARGV`; 0 nothing refuted, 1 something is."""
    config = options.parse(FalsifyConfig, argv, "understudy theory falsify", DESCRIPTION)
    if config.schema:
        from understudy.theory.families.instance import SCHEMA

        print(json.dumps(SCHEMA, indent=2))
        return 0
    if config.example:
        print(json.dumps(example(), indent=1))
        return 0
    for name in ("count", "n", "runs"):
        if getattr(config, name) < 1:
            raise UserError(name, getattr(config, name), "must be at least 1")
    if not 0 < config.delta < 1:
        raise UserError("delta", config.delta, "must lie strictly between 0 and 1")
    if config.dmax < 0:
        raise UserError("dmax", config.dmax, "nats, at least 0")
    return _own(config) if config.instance else _search(config)


def example() -> dict[str, object]:
    """An instance file that `parse` accepts: Example T, and the same world with the reward bit flipped."""
    from understudy.theory.families.instance import dump
    from understudy.theory.families.trap import Trap

    b = Trap().bandit()
    flipped = b.expert[:, [2, 3, 0, 1]]
    worlds = ((b.expert, b.reward), (flipped, 1 - b.reward))
    names = ("good, cannot fake the style", "bad, fakes it a little")
    return dump(dataclasses.replace(b, name="the trap", student_names=names, alternatives=worlds))


def _own(config: FalsifyConfig) -> int:
    from understudy.theory.falsify.examine import examine
    from understudy.theory.families.instance import load

    bandit = load(config.instance)
    found = examine(bandit, config.n, config.runs, config.delta, config.seed)
    if config.json:
        findings = [vars(f) | {"observed": _finite(f.observed), "bound": _finite(f.bound)} for f in found.findings]
        print(json.dumps({"name": bandit.name, "refuted": found.refuted, "story": found.story, "findings": findings}))
        return 1 if found.refuted else 0
    k, x, y = bandit.shape
    console.print(Text(f"{bandit.name}: {x} contexts, {y} actions, {k} students", "bold"))
    for line in found.story:
        console.print(Text("  " + line))
    _print(found.findings)
    console.print("REFUTED: see the red lines" if found.refuted else "nothing refuted on this instance")
    return 1 if found.refuted else 0


def _finite(x: float) -> float | None:
    return x if x == x and abs(x) != float("inf") else None


def _print(findings: Sequence[object]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading, justify in (("", "left"), ("statement", "left"), ("observed", "right"), ("bound", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    table.add_column("verdict")
    table.add_column("note", style="dim")
    for f in findings:
        refuted = f.refuted  # type: ignore[attr-defined]
        verdict = (
            Text("n/a", "dim")
            if refuted is None
            else Text("REFUTED", "bold red")
            if refuted
            else Text("stands", "green")
        )
        observed, bound = (f"{v:.6g}" if v == v else "" for v in (f.observed, f.bound))  # type: ignore[attr-defined]
        table.add_row(f.code, Text(f.statement), observed, bound, verdict, Text(f.note))  # type: ignore[attr-defined]
    print_wide(table)


def _search(config: FalsifyConfig) -> int:
    from understudy.theory.falsify import search as falsify
    from understudy.theory.falsify.examine import Finding
    from understudy.theory.falsify.generators import GENERATORS
    from understudy.theory.families.bandit import FamilyF
    from understudy.theory.families.instance import dump

    if config.kind not in GENERATORS:
        raise UserError("kind", config.kind, f"one of {', '.join(GENERATORS)}")
    with Board() as board:
        board.show("", "falsify", 0, 4, "random instances")
        tally = falsify.search(config.kind, config.count, config.dmax, config.seed, config.tol)
        board.show("", "falsify", 1, 4, "hill climb")
        climb = falsify.hill_climb(config.dmax, config.seed) if config.dmax > 0 else None
        board.show("", "falsify", 2, 4, "offline learners")
        learners = falsify.offline_learners(FamilyF(8, 0.05, 0.2), (config.n,), config.runs, config.seed)
        board.show("", "falsify", 3, 4, "base-policy bounds")
        bounds = falsify.theorem4_violations(
            falsify.random_instances(20, config.seed), config.n, config.runs, config.delta, config.seed
        )
        board.show("", "falsify", 4, 4, "done")
    events = f"events in {tally.instances} instances"
    findings = [
        Finding("F2", f"kl(V || V_e) > Delta, {events}", tally.violations, 0, tally.violations > 0),
        Finding("F3", f"Theorem 3A' broken, {events}", tally.local_violations, 0, tally.local_violations > 0),
    ]
    if climb is not None:
        statement, broken = "largest V_e - V_online of the hill climb", climb.gap > climb.proved + 1e-9
        findings.append(Finding("F2", statement, climb.gap, climb.proved, broken))
    for row in learners:
        statement = f"offline '{row.learner}', Family F, n = {row.n}"
        findings.append(Finding("F1", statement, row.regret, row.bayes, row.refutes))
    for violation in bounds:
        statement = f"Theorem {violation.theorem}: share of violations"
        findings.append(Finding("F4", statement, violation.share, violation.allowed, violation.refutes))
    refuted = any(f.refuted for f in findings)
    if config.worst and climb is not None:
        try:
            Path(config.worst).write_text(json.dumps(dump(climb.bandit), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError("worst", config.worst, f"cannot be written ({error.strerror})") from None
    if config.json:
        rows = [vars(f) for f in findings]
        counted = {k: v for k, v in vars(tally).items() if k != "value_gaps"}
        print(json.dumps({"refuted": refuted, "tally": counted, "findings": rows}))
        return 1 if refuted else 0
    for line in (
        f"{config.kind}: {tally.kept} of {tally.instances} instances have Delta <= {config.dmax:g}.",
        f"With unlimited data, not more than {tally.tol:.3g} below the expert: SFT {tally.sft_matches:.1%}, "
        f"online {tally.online_matches:.1%}.",
        f"Better than the other by more than that: SFT {tally.offline_better:.1%}, online {tally.online_better:.1%}.",
    ):
        console.print(line, markup=False)
    _print(findings)
    console.print("REFUTED: see the red lines" if refuted else "nothing refuted")
    return 1 if refuted else 0
