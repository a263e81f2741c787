"""What was seen while the phases trained: the student's rewards and evaluations, against the budget spent.

Amounts are of the budget's axis, cumulated over the phases; shares are between 0 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from understudy.evaluation.intervals import Floats
from understudy.report.auto.load import Auto, Node
from understudy.report.text import label, mapping, number
from understudy.runs.read import read_lines, read_or_note

_Z = 1.96
SMOOTH = 20  # a window is 1/20 of a phase's updates,
LEAST, MOST = 5, 40  # and at least and at most so many

FEW = 32
"""An evaluation on fewer prompts is not drawn."""


@dataclass(frozen=True, eq=False)
class Series:
    """A share against the amount spent, with a 95% band; all (N,). held_out: of evaluations."""

    x: Floats
    mean: Floats
    low: Floats
    high: Floats
    held_out: bool = False


@dataclass(frozen=True, eq=False)
class Track:
    """One phase: where it begins and ends on the axis, and what was seen between.

    kept: up to where its result comes from; behind it everything was thrown away.
    """

    node: Node
    begin: float
    end: float
    kept: float
    reward: Series | None
    evals: Series | None

    @property
    def curve(self) -> Series | None:
        """The reward of the student's own completions, or evaluations where there is none."""
        return self.reward or self.evals

    @property
    def thrown(self) -> bool:
        """Whether nothing of it led to the result."""
        return self.kept <= self.begin and not self.node.running


def tracks(auto: Auto, notes: list[str]) -> list[Track]:
    """One per phase, in the order of training. Phases that cannot be read have no curves, and a note says so."""
    out: list[Track] = []
    # between phases, looks and probes cost something too
    begun, spent = auto.begun(), {decision.number: decision.spent for decision in auto.decisions}
    begins = {node.name: spent[number] for number, node in begun.items()}
    at = 0.0
    on_path = {node.name for node in auto.path()}
    for node in auto.phases:
        begin = max(at, begins.get(node.name, at))
        out.append(_track(auto, node, begin, node.name in on_path, notes))
        at = out[-1].end
    return out


def _track(auto: Auto, node: Node, begin: float, on_path: bool, notes: list[str]) -> Track:
    found: list[str] = []
    lines = read_lines(auto.folder / node.folder / "metrics.jsonl", found) if _inside(node.folder) else []
    config = read_or_note(auto.folder / node.folder / "config.json", found) if _inside(node.folder) else {}
    if not _inside(node.folder):
        found.append("its folder is not in this directory, so its curves are not shown")
    notes += [f"{label(node.folder or node.name, 80)}: {line}" for line in found]
    train = [x for x in lines if x.get("kind") == "train" and number(x.get("step")) is not None]
    raw: dict[float, float] = {}
    last = 0.0
    for line in lines:
        if number(line.get("step")) is not None:
            last = max(last, _amount(auto, line))
            raw.setdefault(float(line["step"]), _amount(auto, line))  # an evaluation comes after its update
    spent = node.spent if node.spent and not node.running else max(last, node.spent)
    scale = spent / last if last > 0 and not node.running else 1.0

    def place(steps: Sequence[float]) -> Floats:
        return begin + scale * np.array([raw[step] for step in steps])

    own = [x for x in train if number(x.get("reward")) is not None and _own(x, config)]
    steps = [float(x["step"]) for x in own]
    reward = None
    if len(own) >= 2:
        values = np.array([float(x["reward"]) for x in own])
        reward = Series(place(steps), *_smooth(values, number(config.get("prompts_per_update")) or 0.0))
    seen = [x for x in lines if x.get("kind") == "eval" and x.get("split") == "test" and number(x.get("step")) in raw]
    seen = [x for x in seen if number(x.get("sampled")) is not None and (number(x.get("n")) or 0) >= FEW]
    evals = None
    if seen:
        p = np.array([float(x["sampled"]) for x in seen])
        n = np.array([max(number(x.get("n")) or 1.0, 1.0) for x in seen])
        evals = Series(place([float(x["step"]) for x in seen]), p, *_wilson(p, n), held_out=True)
    return Track(
        node, begin, begin + spent, _kept(node, begin, spent, on_path, auto.running, raw, scale), reward, evals
    )


def _kept(
    node: Node, begin: float, spent: float, on_path: bool, running: bool, raw: Mapping[float, float], scale: float
) -> float:  # fmt: skip
    """Where on the axis the model comes from that a phase gave; its beginning where nothing of it was kept."""
    if node.running or (running and not node.restored):
        return begin + spent
    if not on_path or node.thrown_away:
        return begin
    if node.restored and raw:
        return begin + scale * max((x for at, x in raw.items() if at <= node.kept_step), default=0.0)
    return begin + spent


def _inside(folder: str) -> bool:
    parts = folder.replace("\\", "/").split("/")
    return bool(folder) and not folder.startswith(("/", "\\")) and ".." not in parts


def _own(line: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether the completions of an update were the student's: the reward of an expert's says nothing about it."""
    if "actor" in line:
        return line["actor"] != "expert"
    if "at_limit" in line:  # of the student's own completions; null where there were none
        return line["at_limit"] is not None
    return config.get("behavior") not in ("expert", None)


def _amount(auto: Auto, line: Mapping[str, Any]) -> float:
    """What the phase had spent at a record, in the budget's axis; without such a column in seconds or updates."""
    ledger = mapping(line.get("ledger"))
    seconds = (number(ledger.get("train_seconds")) or 0.0) + (number(ledger.get("eval_seconds")) or 0.0)
    if auto.axis == "money":
        price = number(auto.setting.get("price_per_hour")) or 0.0
        million = number(auto.setting.get("price_per_million")) or 0.0
        tokens = sum(number(ledger.get(f"expert_tokens_{what}")) or 0.0 for what in ("sampled", "scored"))
        paid = price * seconds / 3600 + million * tokens / 1e6
        return paid or seconds
    known = number(ledger.get(auto.axis))
    return known if known is not None else float(line["step"])


def _smooth(values: Floats, prompts: float) -> tuple[Floats, Floats, Floats]:
    """(mean, low, high) over a window around each update. prompts: per update; 0: not known, the spread is used."""
    n = len(values)
    half = max(1, int(np.clip(n / SMOOTH, LEAST, MOST)) // 2)
    left, right = np.maximum(np.arange(n) - half, 0), np.minimum(np.arange(n) + half + 1, n)
    sums, squares = (np.concatenate([[0.0], np.cumsum(values**power)]) for power in (1, 2))
    size = right - left
    mean = np.clip((sums[right] - sums[left]) / size, 0.0, 1.0)
    if prompts > 0:
        return mean, *_wilson(mean, prompts * size)
    variance = np.maximum((squares[right] - squares[left]) / size - mean**2, 0.0)
    spread = _Z * np.sqrt(variance / np.maximum(size - 1, 1))
    return mean, np.clip(mean - spread, 0, 1), np.clip(mean + spread, 0, 1)


def _wilson(p: Floats, n: Floats) -> tuple[Floats, Floats]:
    """Wilson's 95% interval of shares of n prompts, at one time each."""
    p = np.clip(p, 0.0, 1.0)
    centre, half = p + _Z**2 / (2 * n), _Z * np.sqrt(p * (1 - p) / n + (_Z / (2 * n)) ** 2)
    return np.clip((centre - half) / (1 + _Z**2 / n), 0, 1), np.clip((centre + half) / (1 + _Z**2 / n), 0, 1)
