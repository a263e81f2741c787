"""Directories of `understudy auto` written by hand: after a collapse, without headroom, running, with money."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SFT, OPD, GKD = 1.0e15, 0.9e15, 1.4e15  # FLOPs of the phases
PROMPTS = 32
GIVEN_UP = {
    "state": "restored", "step": 0, "stopped": {"kind": "harm", "step": 120, "since": 60, "reason": "the reward fell"},
    "reason": "stopped at update 120: the reward fell; the start was restored, without a confirmation",
}  # fmt: skip


def look(mean: float, prompts: int = 512) -> dict[str, Any]:
    half = 1.96 * math.sqrt(mean * (1 - mean) / prompts)
    return {"mean": mean, "low": mean - half, "high": mean + half, "prompts": prompts}


def node(name: str, parent: str, spent: float, mean: float | None, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "parent": parent, "method": name.split("-", 1)[1], "folder": f"phases/{name}", "planned": spent,
        "spent": spent, "seconds": spent / 1e12, "flops": spent, "money": 0.0, "updates": 120,
        "look": None if mean is None else look(mean), "guard": {"state": "kept", "reason": ""}, "state": "done",
    } | more  # fmt: skip


def option(method: str, parent: str, expected: float | None, budget: float, p: float | None = None) -> dict[str, Any]:
    low = None if expected is None else expected - 0.08
    high = None if expected is None else expected + 0.09
    action = "stop" if method == "stop" else f"{method} from {parent}"
    return {"action": action, "method": method, "parent": parent, "budget": budget, "expected": expected, "low": low,
            "high": high, "probability": p}  # fmt: skip


def decision(
    number: int, at: str, spent: float, options: list[dict[str, Any]], chosen: str, **more: Any
) -> dict[str, Any]:
    return {
        "number": number, "at": at, "spent": spent, "left": 4e15 - spent, "options": options, "chosen": chosen,
        "known": [{"what": "accuracy of the model", "value": 0.31, "low": 0.27, "high": 0.35, "unit": "accuracy"},
                  {"what": "completions that ended", "value": 0.98, "low": None, "high": None, "unit": "share"}],
        "why": "It is expected to add the most for its price.", "cost": 0.05e15, "seconds": 50.0,
        "would_change": "An accuracy of the student above 60%.",
    } | more  # fmt: skip


def collapsed() -> dict[str, Any]:
    """sft, then opd_full that collapses and is given up, then gkd that is kept."""
    first = [option("sft", "start", 0.47, SFT, 0.9), option("opd_full", "start", 0.42, OPD, 0.6),
             option("stop", "start", 0.31, 0.0)]  # fmt: skip
    second = [option("opd_full", "0-sft", 0.60, OPD, 0.78), option("gkd", "0-sft", 0.56, GKD, 0.7),
              option("stop", "0-sft", 0.45, 0.0)]  # fmt: skip
    third = [option("gkd", "0-sft", 0.56, GKD, 0.7), option("stop", "0-sft", 0.45, 0.0)]
    last = [option("gkd", "2-gkd", 0.65, 0.5e15, 0.2), option("stop", "2-gkd", 0.63, 0.0)]
    ends = [0.05e15, 1.1e15, 2.05e15, 3.5e15]
    return {
        "version": 1, "state": "done",
        "setting": {"student": "scratch:width=64", "expert": "solver", "task": "countdown", "seed": 0, "budget": "4e15",
                    "axis": "flops", "amount": 4e15, "price_per_hour": 0, "price_per_million": 0},
        "measured": {"lengths": {"prompt": 12.0, "student": 30.5, "expert": 21.0},
                     "sizes": {"student": 120000, "expert": 0}, "paces": {"sft": 0.11, "opd_full": 0.35}},
        "policy": {"name": "greedy", "fields": {"margin": 0.02}},
        "expert": look(0.92),
        "nodes": [
            {"name": "start", "parent": None, "look": look(0.31)},
            node("0-sft", "start", SFT, 0.45),
            node("1-opd_full", "0-sft", OPD, 0.45, guard=GIVEN_UP),
            node("2-gkd", "0-sft", GKD, 0.63),
        ],
        "decisions": [
            decision(0, "start", ends[0], first, "sft from start"),
            decision(1, "0-sft", ends[1], second, "opd_full from 0-sft"),
            decision(2, "1-opd_full", ends[2], third, "gkd from 0-sft", why="OPD did harm; a mixed phase is safer."),
            decision(3, "2-gkd", ends[3], last, "stop", why="Nothing is expected to add 2 points."),
        ],
        "costs": [
            {"part": "looks", "amount": 0.15e15, "seconds": 150, "flops": 0.15e15, "money": 0},
            {"part": "0-sft", "amount": SFT, "seconds": 1000, "flops": SFT, "money": 0},
            {"part": "1-opd_full", "amount": OPD, "seconds": 900, "flops": OPD, "money": 0},
            {"part": "2-gkd", "amount": GKD, "seconds": 1400, "flops": GKD, "money": 0},
        ],
        "alternatives": [
            {"route": "sft", "expected": 0.52, "low": 0.44, "high": 0.6, "price": 3.5e15, "source": "forecast"},
            {"route": "opd_full", "expected": 0.4, "low": 0.2, "high": 0.66, "price": 3.5e15, "source": "forecast"},
            {"route": "gkd", "expected": 0.58, "low": 0.47, "high": 0.68, "price": 3.5e15, "source": "forecast"},
        ],
        "best": "2-gkd", "final": {"test": look(0.628, 1024)}, "spent": 3.55e15,
        "reason": "nothing is expected to add 2 points for what is left",
    }  # fmt: skip


def no_headroom() -> dict[str, Any]:
    out = collapsed()
    options = [option("sft", "start", 0.9, SFT, 0.1), option("stop", "start", 0.89, 0.0)]
    out |= {
        "expert": look(0.9), "nodes": [{"name": "start", "parent": None, "look": look(0.89)}],
        "decisions": [decision(0, "start", 0.05e15, options, "stop", why="The expert is within 2 points.")],
        "costs": [{"part": "looks", "amount": 0.05e15, "seconds": 50, "flops": 0.05e15, "money": 0}],
        "alternatives": [], "best": "start", "final": {}, "spent": 0.05e15,
        "reason": "the expert is no more than 2 points better than the student",
    }  # fmt: skip
    return out


def running() -> dict[str, Any]:
    """In the middle of its second phase."""
    out = collapsed()
    out["nodes"] = [*out["nodes"][:2], node("1-opd_full", "0-sft", 0.0, None, guard=None, state="running")]
    out["decisions"], out["costs"] = out["decisions"][:2], out["costs"][:2]
    return out | {"state": "running", "best": "0-sft", "final": {}, "alternatives": [], "spent": 1.15e15, "reason": ""}


def with_money() -> dict[str, Any]:
    """The first, with its amounts in dollars: 1e14 FLOPs are one."""

    def priced(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            out = {key: priced(item, key) for key, item in value.items()}
            if "money" in out:
                out["money"] = out.get("amount", out.get("spent"))
            return out
        if isinstance(value, list):
            return [priced(item) for item in value]
        return value / 1e14 if name in ("planned", "spent", "left", "budget", "cost", "amount", "price") else value

    out = collapsed()
    out["setting"] |= {"budget": 4e15, "price_per_hour": 36.0}
    out = priced(out)
    out["setting"] |= {"budget": "$40", "axis": "money"}
    return out


CURVES: dict[str, tuple[str, Callable[[float], float], float]] = {
    "sft": ("expert", lambda t: 0.31 + 0.14 * t**0.6, SFT),
    "opd_full": ("student", lambda t: 0.45 + 0.1 * t if t < 0.5 else max(0.04, 0.5 - 2.2 * (t - 0.5)), OPD),
    "gkd": ("mixture_batch", lambda t: 0.45 + 0.19 * (1 - math.exp(-4 * t)), GKD),
}


def write(folder: Path, data: dict[str, Any], updates: int = 120) -> Path:
    """The directory with auto.json and its phases. The rewards of a phase are drawn from its curve, always the same."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "auto.json").write_text(json.dumps(data), encoding="utf-8")
    for item in data["nodes"][1:]:
        behavior, curve, flops = CURVES[item["method"]]
        phase = folder / item["folder"]
        phase.mkdir(parents=True, exist_ok=True)
        config = {"method": item["method"], "behavior": behavior, "prompts_per_update": PROMPTS}
        (phase / "config.json").write_text(json.dumps(config), encoding="utf-8")
        rng = np.random.default_rng(len(item["method"]))
        done = updates if item["state"] == "done" else updates // 3
        lines = []
        for step in range(done + 1):
            share = step / updates
            ledger = {
                "updates": step,
                "flops": flops * share,
                "train_seconds": flops * share / 1e12,
                "eval_seconds": 0.0,
            }
            reward = 1.0 if behavior == "expert" else rng.binomial(PROMPTS, curve(share)) / PROMPTS
            if step:
                lines.append({"kind": "train", "step": step, "reward": reward, "ledger": ledger})
            if step % (updates // 6) == 0:
                sampled = rng.binomial(128, curve(share)) / 128
                lines.append({"kind": "eval", "step": step, "split": "test", "sampled": sampled, "n": 128, "k": 1,
                              "ledger": ledger})  # fmt: skip
        (phase / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines), encoding="utf-8")
    return folder
