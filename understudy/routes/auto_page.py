"""auto.json: an auto in one file, for people (report/auto) and programs; and its lines in the model card."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.evaluation import intervals
from understudy.routes.auto_config import AutoConfig
from understudy.routes.budget import Budget, seconds_of
from understudy.routes.decisions import read_decisions
from understudy.routes.policy import REWARDED, START, Gains, Known, Node, Policy, Value
from understudy.runs.files import write_json
from understudy.runs.read import read_final, read_ledger
from understudy.training.card import span

VERSION, FILE = 1, "auto.json"
ROUTES = {
    "sft": (("sft", 1.0),),
    "opd_full": (("opd_full", 1.0),),
    "gkd": (("gkd", 1.0),),
    REWARDED: ((REWARDED, 1.0),),
    "sft+opd_full": (("sft", 0.5), ("opd_full", 0.5)),
    "sft+gkd": (("sft", 0.5), ("gkd", 0.5)),
}
"""Fixed routes, whose expected accuracy stands beside what was done: (method, share of the budget) each."""


def write_auto(
    folder: Path, state: str, config: AutoConfig, budget: Budget, seen: Mapping[str, Any], policy: Policy, gains: Gains,
    known: Known, parts: Sequence[tuple[str, Mapping[str, Any]]], final: Mapping[str, Any] | None,
) -> dict[str, Any]:  # fmt: skip
    """Write auto.json and return what it holds."""
    decisions = read_decisions(folder)
    chosen = {f"{d['number']}-{d['training']['method']}": d for d in decisions if d["training"]}
    ends = (final or {}).get("splits", {})
    summary = {
        "version": VERSION, "state": state,
        "setting": {
            "student": config.student, "expert": config.expert, "task": config.task, "seed": config.seed,
            "budget": config.budget, "axis": budget.axis, "amount": budget.amount,
            "price_per_hour": budget.per_hour, "price_per_million": budget.per_million,
        },
        "measured": {name: seen["measured"][name] for name in ("lengths", "sizes", "paces")},
        "policy": {"name": "offline first, online while it pays", "fields": dataclasses.asdict(policy)},
        "expert": _value(known.expert),
        "nodes": [_node(folder, node, budget, chosen) for node in known.nodes],
        "decisions": decisions,
        "costs": [{"part": what} | _cost(budget, ledger) for what, ledger in parts],
        "alternatives": _alternatives(known, budget, gains),
        "best": known.best.name, "spent": sum(budget.spent(ledger) for _, ledger in parts),
        "final": {split: _interval(o["sampled"]) for split, o in ends.items() if o["sampled"] is not None},
        "reason": decisions[-1]["why"] if decisions and decisions[-1]["training"] is None
        and "expert" not in decisions[-1] else "",
    }  # fmt: skip
    write_json(folder / FILE, summary)
    return summary


def _node(folder: Path, node: Node, budget: Budget, chosen: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {"name": node.name, "parent": node.parent or None, "look": _value(node.look)}
    if node.name == START:
        return out
    path = folder / "phases" / node.name
    ledger = read_ledger(path)
    decision = chosen[node.name]
    planned = next(o["budget"] for o in decision["options"] if o["action"] == decision["chosen"])
    return out | {
        "method": node.method, "folder": f"phases/{node.name}", "planned": planned, "spent": budget.spent(ledger),
        "updates": ledger.get("updates", 0), "guard": (read_final(path) or {}).get("guard"), "state": "done",
    } | {k: v for k, v in _cost(budget, ledger).items() if k != "amount"}  # fmt: skip


def _cost(budget: Budget, ledger: Mapping[str, Any]) -> dict[str, float]:
    return {"amount": budget.spent(ledger), "seconds": seconds_of(ledger), "flops": float(ledger.get("flops") or 0),
            "money": budget.money(ledger)}  # fmt: skip


def _alternatives(known: Known, budget: Budget, gains: Gains) -> list[dict[str, Any]]:
    """What the fixed routes were expected to give from the start, at the same budget."""
    out = []
    for route, phases in ROUTES.items():
        if not {method for method, _ in phases} <= set(known.methods):
            continue
        node = known.start
        expected: tuple[float | None, float | None, float | None] = (None, None, None)
        for i, (method, _) in enumerate(phases):
            expected = gains.expect(method, node, known.expert)
            if expected[0] is None:
                break
            node = Node(f"{i}-{method}", look=Value(expected[0], expected[1] or 0.0, expected[2] or 1.0, 0))
        source = f"bank of {gains.units} trainings" if gains.units else "not known: the bank is empty"
        out.append({"route": route, "expected": expected[0], "low": expected[1], "high": expected[2],
                    "price": budget.amount, "source": source})  # fmt: skip
    return out


def _value(value: Value | None) -> dict[str, Any] | None:
    return dataclasses.asdict(value) if value is not None else None


def _interval(outcomes: Any) -> dict[str, Any]:
    i = intervals.bootstrap_prompts(outcomes)
    return {"mean": i.value, "low": i.low, "high": i.high, "prompts": i.n_prompts}


def card_lines(summary: Mapping[str, Any]) -> list[str]:
    """Markdown: the path, and why."""
    looks = {node["name"]: node["look"] for node in summary["nodes"]}
    rows = []
    for d in summary["decisions"]:
        name = f"{d['number']}-{d['training']['method']}" if d["training"] else ""
        look = looks.get(name)
        accuracy = f"{look['mean']:.3f} [{look['low']:.3f}, {look['high']:.3f}]" if look else "-"
        rows.append(f"| {span(d['chosen'])} | {d['why']} | {accuracy} |")
    return ["## Decisions", "", f"`understudy auto` chose these phases one after the other. This model is "
            f"{span(summary['best'])}, the best of all on fresh training prompts.", "",
            "| chosen | because | accuracy there |", "|---|---|---|", *rows]  # fmt: skip
