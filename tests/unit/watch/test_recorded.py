"""False alarms and misses of `reward-falls` on the recorded phases of the bank, whose outcomes are known."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from understudy.watch.checks import reward_falls
from understudy.watch.log import Log, Row

BANK = Path(__file__).resolve().parents[3] / "docs/results/bank.jsonl"
LEAST = 0.06
"""Accuracy below which there is nothing that could fall."""
SHOWN = 0.45
"""Of the accuracy before, that the last rewards of a collapsed phase are below."""
WEAK = 0.12
"""From less, a fall is not always seen: in three of six recorded phases it was not (sums-hidden, .10 to .02)."""


def share(outcomes: str) -> float:
    """Accuracy from the number of right completions of three, one digit per prompt."""
    return sum(map(int, outcomes)) / (3 * len(outcomes))


def outcome(row: dict[str, Any], name: str) -> str:
    """kept, lost, collapsed, weak (collapsed from little) or nothing: the accuracy after a branch and before it."""
    before = name.rpartition("+")[0]
    start = share(row["branches"][before]["end"]["test"] if before else row["start"]["test"])
    end = share(row["branches"][name]["end"]["test"])
    if start < LEAST:
        return "nothing"
    if end < start / 2 and start < WEAK:
        return "weak"
    rewards = [r for r in row["branches"][name]["reward"] if r is not None]
    last = sum(rewards[-(len(rewards) // 10) - 1 :]) / (len(rewards) // 10 + 1)
    if end < start / 2 and last < SHOWN * start:  # else it had risen again
        return "collapsed"
    return "lost" if end < start - 0.03 else "kept"


@pytest.mark.parametrize("counted", [True, False])
def test_recorded_phases(counted: bool):
    """No phase that kept its accuracy has a finding that still holds, and every collapse has one."""
    seen: Counter[tuple[str, str]] = Counter()
    for row in map(json.loads, BANK.read_text().splitlines()):
        for name, branch in row["branches"].items():
            rewards = [(i, r) for i, r in enumerate(branch["reward"], start=1) if r is not None]
            if len(rewards) < 20:
                continue
            rows = tuple(Row(i, {"reward": r}) for i, r in rewards)
            prompts = row["rollouts"] // (4 if "reward" in name else 1)  # gkd_reward has four completions of each
            found = reward_falls(Log("understudy", name, rows, prompts=prompts if counted else 0))
            seen[outcome(row, name), "none" if found is None else "over" if found.over else "present"] += 1
    assert seen["kept", "present"] == 0, seen
    assert seen["collapsed", "none"] + seen["collapsed", "over"] == 0, seen
    assert seen["collapsed", "present"] >= 6
    assert seen["weak", "present"] >= 3
    assert seen["kept", "none"] >= 70
