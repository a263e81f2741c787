"""Reads the directory of `understudy auto` as it is on disk: running, done or damaged. No torch, no models.

What is missing or has an unexpected shape is left out, and `notes` says so; only an auto.json that is no JSON object
is an error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from understudy.errors import UserError, check_file
from understudy.report.text import label, mapping, number, visible

FILE = "auto.json"
VERSION = 1
START = "start"
STOP = "stop"
KINDS = {
    "harm": "the reward fell",
    "runaway": "its completions ran away",
    "futility": "it could not add enough any more",
    "plateau": "the reward did not rise any more",
    "trial": "it did not gain enough in its trial",
}
"""Why a guard ends a phase."""


@dataclass(frozen=True)
class Look:
    """A measured or expected number with its interval; prompts: how many it rests on (0: not known)."""

    value: float
    low: float
    high: float
    prompts: int = 0


@dataclass(frozen=True)
class Node:
    """A model that was reached: the student ("start") or the result of a phase. Amounts are of the budget's axis."""

    name: str
    parent: str = ""
    method: str = ""
    folder: str = ""
    planned: float = 0.0
    spent: float = 0.0
    seconds: float | None = None
    flops: float | None = None
    money: float | None = None
    updates: int = 0
    look: Look | None = None
    guard: dict[str, Any] = field(default_factory=dict)
    running: bool = False

    @property
    def thrown_away(self) -> bool:
        """Whether the guard gave the phase's training up and took its start again."""
        return self.restored and not self.kept_step

    @property
    def restored(self) -> bool:
        """Whether its result is not its last model."""
        return self.guard.get("state") == "restored"

    @property
    def kept_step(self) -> int:
        """The update whose model a restored phase gave; 0: its start."""
        return int(_positive(self.guard.get("step")))

    @property
    def stopped_by(self) -> str:
        """What ended it early: a key of KINDS, or ""."""
        kind = mapping(self.guard.get("stopped")).get("kind") or self.guard.get("reason")
        return kind if isinstance(kind, str) and kind in KINDS else ""


@dataclass(frozen=True)
class Known:
    """One fact that a decision rests on."""

    what: str
    value: float | None
    """None: the fact is in words alone."""
    low: float | None
    high: float | None
    unit: str


@dataclass(frozen=True)
class Option:
    """What a decision could choose. expected: accuracy at the end, None where nothing is expected of it."""

    action: str
    method: str
    parent: str
    budget: float | None
    expected: Look | None
    probability: float | None


@dataclass(frozen=True)
class Decision:
    """One fork. at: the node; spent, left, cost: amounts of the budget's axis."""

    number: int
    at: str
    spent: float
    left: float | None
    known: list[Known]
    options: list[Option]
    chosen: str
    why: str
    would_change: str
    cost: float
    seconds: float | None

    @property
    def choice(self) -> Option | None:
        return next((option for option in self.options if option.action == self.chosen), None)


@dataclass(frozen=True)
class Cost:
    """What one part of the work cost."""

    part: str
    amount: float
    seconds: float | None
    flops: float | None
    money: float | None


@dataclass(frozen=True)
class Alternative:
    """A route that was not taken. price: amount of the budget's axis; source: what the expectation rests on."""

    route: str
    expected: Look
    price: float | None
    source: str


@dataclass(frozen=True)
class Auto:
    """Everything that the page shows."""

    folder: Path
    running: bool
    setting: dict[str, Any]
    measured: dict[str, Any]
    policy: dict[str, Any]
    expert: Look | None
    start: Node
    phases: list[Node]
    decisions: list[Decision]
    costs: list[Cost]
    alternatives: list[Alternative]
    best: str
    final: dict[str, Look]
    spent: float
    reason: str
    notes: list[str]

    @property
    def axis(self) -> str:
        return str(self.setting.get("axis") or "updates")

    @property
    def amount(self) -> float:
        """The budget; 0: not known."""
        return number(self.setting.get("amount")) or 0.0

    def node(self, name: str) -> Node | None:
        return next((node for node in [self.start, *self.phases] if node.name == name), None)

    def path(self, name: str = "") -> list[Node]:
        """The phases that led to a node, by default to the best one, the first phase first."""
        out: list[Node] = []
        node = self.node(name or self.best)
        while node is not None and node.name != START and node not in out:
            out.insert(0, node)
            node = self.node(node.parent)
        return out

    def begun(self) -> dict[int, Node]:
        """Number of a decision -> the phase that it began."""
        return _begun(self.decisions, self.phases)

    @property
    def result(self) -> Look | None:
        """The best model's accuracy: of the final evaluation, or of its look."""
        node = self.node(self.best)
        return self.final.get("test") or (node.look if node else None)


def is_auto(path: Path) -> bool:
    return (Path(path) / FILE).is_file()


def load(folder: Path) -> Auto:
    """UserError when auto.json is missing, is no JSON object or is newer than this version."""
    folder = Path(folder)
    check_file(folder / FILE, FILE)
    try:
        raw = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(FILE, folder, f"cannot be read ({label(error, 120)}); run the same command again") from error
    if not isinstance(raw, dict):
        raise UserError(FILE, folder, "holds no record; run the same command again")
    if (number(raw.get("version")) or 0) > VERSION:
        raise UserError(FILE, folder, "was written by a newer version; update understudy")
    notes: list[str] = []
    nodes = [node for item in _rows(raw, "nodes", notes) if (node := _node(item, notes))]
    start = next((node for node in nodes if node.name == START), Node(START))
    phases = [node for node in nodes if node.name != START]
    decisions = [_decision(i, item) for i, item in enumerate(_rows(raw, "decisions", notes))]
    running = raw.get("state") != "done"
    if running:
        phases += _begun_last(decisions, phases)
    best = _text(raw.get("best"), 80) or START
    if best != START and best not in [node.name for node in phases]:
        notes.append(f"{FILE}: the best model, {label(best)}, is none of the nodes")
        best = START
    known = sum(node.spent for node in phases)
    spent = number(raw.get("spent"))
    return Auto(
        folder=folder,
        running=running,
        setting=mapping(raw.get("setting")),
        measured=mapping(raw.get("measured")),
        policy=mapping(raw.get("policy")),
        expert=_look(raw.get("expert")),
        start=start,
        phases=phases,
        decisions=decisions,
        costs=[_cost(item) for item in _rows(raw, "costs", notes)],
        alternatives=[
            a
            for item in _rows(raw, "alternatives", notes)
            if (a := _alternative(item)) and a.route.split("+") != [node.method for node in phases]
        ],
        best=best,
        final={str(k): look for k, v in mapping(raw.get("final")).items() if (look := _look(v))},
        spent=known if spent is None else spent,
        reason=_text(raw.get("reason")),
        notes=notes,
    )


def _begun(decisions: Sequence[Decision], phases: Sequence[Node]) -> dict[int, Node]:
    left = list(phases)
    out: dict[int, Node] = {}
    for decision in decisions:
        choice = decision.choice
        for node in left if choice is not None else ():
            if choice is not None and (node.method, node.parent) == (choice.method, choice.parent):
                out[decision.number] = node
                left = left[left.index(node) + 1 :]
                break
    return out


def _begun_last(decisions: Sequence[Decision], phases: Sequence[Node]) -> list[Node]:
    """The phase in training, which is no node yet: the last decision names it."""
    last = decisions[-1] if decisions else None
    choice = last.choice if last is not None else None
    if last is None or choice is None or choice.method in ("", STOP) or last.number in _begun(decisions, phases):
        return []
    name = f"{last.number}-{choice.method}"
    planned = choice.budget or 0.0
    return [Node(name, choice.parent, choice.method, f"phases/{name}", planned=planned, running=True)]


def _rows(raw: dict[str, Any], name: str, notes: list[str]) -> Iterator[dict[str, Any]]:
    items = raw.get(name)
    if not isinstance(items, list):
        notes.append(f"{FILE}: {name} are missing")
        return
    for item in items:
        if isinstance(item, dict):
            yield item
        else:
            notes.append(f"{FILE}: one of the {name} is no record and was left out")


def _node(item: dict[str, Any], notes: list[str]) -> Node | None:
    name = _text(item.get("name"), 80)
    if not name:
        notes.append(f"{FILE}: a node without a name was left out")
        return None
    return Node(
        name=name,
        parent=(_text(item.get("parent"), 80) or START) if name != START else "",
        method=_text(item.get("method"), 80),
        folder=_text(item.get("folder"), 400),
        planned=_positive(item.get("planned")),
        spent=_positive(item.get("spent")),
        seconds=number(item.get("seconds")),
        flops=number(item.get("flops")),
        money=number(item.get("money")),
        updates=int(_positive(item.get("updates"))),
        look=_look(item.get("look")),
        guard=mapping(item.get("guard")),
        running=name != START and item.get("state") != "done",
    )


def _look(item: Any, name: str = "mean") -> Look | None:
    """Also of an expectation, whose value has another `name`. Without an interval it is the value alone."""
    value = number(mapping(item).get(name))
    if value is None:
        return None
    low, high = number(item.get("low")), number(item.get("high"))
    low, high = value if low is None else low, value if high is None else high
    return Look(value, min(low, value), max(high, value), int(_positive(item.get("prompts"))))


def _decision(index: int, item: dict[str, Any]) -> Decision:
    given = number(item.get("number"))
    return Decision(
        number=index if given is None else int(given),
        at=_text(item.get("at"), 80) or START,
        spent=_positive(item.get("spent")),
        left=number(item.get("left")),
        known=[fact for k in _records(item.get("known")) if (fact := _known(k))],
        options=[_option(o) for o in _records(item.get("options"))],
        chosen=_text(item.get("chosen"), 120),
        why=_text(item.get("why")),
        would_change=_text(item.get("would_change")),
        cost=_positive(item.get("cost")),
        seconds=number(item.get("seconds")),
    )


def _records(items: Any) -> list[dict[str, Any]]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _known(item: dict[str, Any]) -> Known | None:
    value, what = number(item.get("value")), _text(item.get("what"), 300)
    low, high = number(item.get("low")), number(item.get("high"))
    return Known(what, value, low, high, _text(item.get("unit"), 40)) if what else None


def _option(item: dict[str, Any]) -> Option:
    return Option(_text(item.get("action"), 120), _text(item.get("method"), 80), _text(item.get("parent"), 80) or START,
                  number(item.get("budget")), _look(item, "expected"), number(item.get("probability")))  # fmt: skip


def _cost(item: dict[str, Any]) -> Cost:
    return Cost(_text(item.get("part"), 120) or "?", _positive(item.get("amount")), number(item.get("seconds")),
                number(item.get("flops")), number(item.get("money")))  # fmt: skip


def _alternative(item: dict[str, Any]) -> Alternative | None:
    expected = _look(item, "expected")
    route = _text(item.get("route"), 120)
    return Alternative(route, expected, number(item.get("price")), _text(item.get("source"), 200)) if expected else None


def _text(value: Any, limit: int = 1000) -> str:
    """Any value of the file as text that is safe to look at; "" for none. Markup is escaped by the template."""
    return "" if value is None else visible(value, limit)


def _positive(value: Any) -> float:
    known = number(value)
    return max(known, 0.0) if known is not None and math.isfinite(known) else 0.0
