"""Provides comparison and run directories with the schema of docs/run-directory.md and invented numbers.

The curves have the shapes that a prototype measured; nothing here is a result. Everything is a function of the
arguments.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

PROMPTS, SAMPLES, BASE = 96, 4, 0.44
EVERY, UPDATES = 25, 200

# final sampled accuracy of the expert, sft, sft with 5 times the budget, opd; KLs before and after, in nats
EXPERTS: dict[str, dict[str, Any]] = {
    "R": {
        "spec": "runs/grpo-0/final",
        "realizable": True,
        "mechanism": "GRPO from the student’s own base: the same network, so the student can be it.",
        "provenance": {"kind": "local model", "made_by": "grpo", "updates": 60, "parameters": 121_856},
        "own": 0.68, "sft": 0.665, "opd": 0.672, "length": (19, 6),
        "kl_es": (1.82, 0.31, 0.24), "kl_se": (2.6, 0.22, 0.15),
    },
    "solver": {
        "spec": "solver:p_right=0.995",
        "realizable": False,
        "mechanism": "Finds a right expression by hidden search before its first token, which the "
        "student cannot compute. It hardly ever errs, so its samples never show how to recover from a "
        "mistake: this gap is built into the expert.",
        "provenance": {"kind": "program", "p_right": 0.995, "p_verdict": 1.0, "smoothing": 0.02},
        "own": 0.998, "sft": 0.66, "sft5": 0.80, "opd": 0.885, "length": (12, 2),
        "kl_es": (1.31, 0.86, 1.74), "kl_se": (13.6, 8.6, 4.1),
    },
    "larger": {
        "spec": "runs/larger/final",
        "realizable": False,
        "mechanism": "A network eight times as large, trained longer on better traces. Whether the student "
        "can represent it is not known beforehand; the divergence at the end says how far it got.",
        "provenance": {"kind": "local model", "parameters": 985_344, "trained_on": "traces with p_right 0.5"},
        "own": 0.83, "sft": 0.71, "opd": 0.75, "length": (17, 5),
        "kl_es": (1.05, 0.52, 0.61), "kl_se": (3.9, 1.9, 1.1),
    },
    "style": {
        "spec": "styled:filler=hash",
        "realizable": False,
        "mechanism": "The solver with filler words that are a hash of the prompt. The student cannot predict "
        "them and the reward ignores them.",
        "provenance": {"kind": "program", "p_right": 0.995, "filler": "hash of the prompt, 4 tokens"},
        "own": 0.997, "sft": 0.65, "opd": 0.64, "length": (22, 3),
        "kl_es": (16.8, 11.3, 12.9), "kl_se": (21.0, 15.2, 9.9),
    },
}  # fmt: skip
HOSTILE = "<script>alert(1)</script></pre><b>bold</b> \x1b[31mred\x1b[0m \x00 \u202egnp.exe \ud800 &amp; $x^2$"


def comparison(
    root: Path,
    seeds: int = 3,
    experts: dict[str, dict[str, Any]] | None = None,
    hostile: bool = False,
    shared_prompts: bool = True,
    prompts: int = PROMPTS,
) -> Path:
    """A whole comparison directory at `root`."""
    experts = EXPERTS if experts is None else experts
    runs = []
    for seed in range(seeds):
        problems = Problems(prompts, 0 if shared_prompts else seed)
        write(root / f"base/seed-{seed}/final.json", {"splits": problems.splits(seed, "base", BASE, 0.62, 20, 7)})
        for label, expert in experts.items():
            for method, budget in [("sft", 1), ("opd", 1)] + [("sft", 5)] * ("sft5" in expert):
                path = f"runs/{folder(label)}-{method}-x{budget}-seed{seed}"
                run(root / path, label, expert, method, budget, seed, problems, hostile)
                runs.append({"expert": label, "method": method, "seed": seed, "path": path, "budget": budget})
    keys = ("spec", "mechanism", "realizable")
    write(
        root / "compare.json",
        {
            "title": "Countdown: study the script, or rehearse with the expert?",
            "axis": "updates",
            "experts": {label: {key: e[key] for key in keys if key in e} for label, e in experts.items()},
            "methods": ["sft", "opd"],
            "runs": runs,
            "base": {str(seed): {"path": f"base/seed-{seed}"} for seed in range(seeds)},
            "settings": {
                "task": "countdown:max_number=9,n_numbers=3", "student": "scratch:width=64,layers=2",
                "lr": 1e-3, "updates": UPDATES, "prompts_per_update": 64, "final_prompts": prompts,
                "final_samples": SAMPLES,
            },
            "command": ["understudy", "demo", "--seeds", str(seeds), "--out", "runs/demo"],
            "flags": ["samples_per_prompt differs between grpo (8) and the others (1)"] if seeds > 1 else [],
        },
    )  # fmt: skip
    return root


class Problems:
    """Held-out problems, each with a difficulty; runs that share problems get the same ones."""

    def __init__(self, n: int, seed: int) -> None:
        rng = np.random.default_rng([seed, n])
        self.seed, self.n = seed, n
        self.ease = {split: rng.normal(0, 1.3, n) for split in ("test", "ood")}

    def right(self, split: str, mean: float, seed: int, who: str, k: int) -> np.ndarray:
        """(P, k) outcomes 0/1 with about this mean; easier problems are solved more often."""
        rng = np.random.default_rng([seed, k, *who.encode(errors="replace"), *split.encode()])
        if mean >= 0.99:
            return (rng.random((self.n, k)) < mean).astype(int)
        ease = self.ease[split] + rng.normal(0, 0.4, self.n)
        shift = np.linspace(-8, 8, 400)
        means = (1 / (1 + np.exp(-(ease[None] + shift[:, None])))).mean(1)
        chance = 1 / (1 + np.exp(-(ease + shift[np.argmin(abs(means - mean))])))
        return (rng.random((self.n, k)) < chance[:, None]).astype(int)

    def splits(self, seed: int, who: str, mean: float, greedy: float, at: float, spread: float) -> dict[str, Any]:
        rng = np.random.default_rng([seed, *who.encode(errors="replace")])
        lengths = np.clip(rng.normal(at, spread, (self.n, SAMPLES)), 4, 48).astype(int)
        return {
            split: {
                "keys": [f"{split}-{self.seed}-{i}" for i in range(self.n)],
                "sampled": self.right(split, mean * drop, seed, who, SAMPLES).tolist(),
                "greedy": self.right(split, greedy * drop, seed, who, 1)[:, 0].tolist(),
                "lengths": lengths.tolist(),
            }
            for split, drop in (("test", 1.0), ("ood", 0.62))
        }


def run(
    path: Path, label: str, expert: dict[str, Any], method: str, budget: int, seed: int, problems: Problems,
    hostile: bool = False,
) -> Path:  # fmt: skip
    """One finished run directory."""
    who = f"{label}-{method}-{budget}"
    rng = np.random.default_rng([seed, *who.encode(errors="replace")])
    updates, steps = UPDATES * budget, range(0, UPDATES * budget + 1, EVERY * budget)
    goal = float(np.clip(expert["sft5" if budget == 5 else method] + rng.normal(0, 0.012), 0, 1))
    online = method == "opd"
    at, spread = expert["length"] if not online else (expert["length"][0] + 6, 7)

    def ledger(step: int) -> dict[str, float]:
        tokens = step * 64 * at
        return {
            "expert_calls": step * 64,
            "expert_tokens_scored": tokens if online else 0,
            "expert_tokens_sampled": 0 if online else tokens,
            "student_tokens_sampled": tokens if online else 0,
            "student_tokens_trained": tokens,
            "updates": step,
            "train_seconds": step * (0.11 if online else 0.04) * (1 + 0.05 * seed),
            "eval_seconds": 1.2 * (step // EVERY),
        }

    lines: list[dict[str, Any]] = []
    for step in range(0, updates + 1, updates // 40):
        done = step / updates
        if step:
            lines.append({
                "kind": "train", "step": step, "loss": 1.4 * np.exp(-3 * done) + 0.3 + rng.normal(0, 0.03),
                "lr": 1e-3, "grad_norm": 1.0 + rng.gamma(2, 0.1), "tokens": 64 * at,
                "reward": BASE + (goal - BASE) * done if online else None, "length": at + rng.normal(0, 0.5),
                "entropy": 1.5 - done, "expert_entropy": 0.4 + 0.1 * done if online else None,
                "logp_drift": 1e-6, "ratio_clipped": 0.0, "seconds": 0.1, "ledger": ledger(step),
            })  # fmt: skip
        if step in steps:
            dip = 0.09 * np.exp(-((done - 0.12) ** 2) / 0.006) if online and label != "R" else 0.0
            mean = BASE + (goal - BASE) * (1 - np.exp(-5 * done)) / (1 - np.exp(-5)) - dip
            lines.append(evaluation(step, done, mean, expert, online, rng, ledger(step), at, spread))
    final = {
        "splits": problems.splits(seed, who, goal, min(goal + 0.05, 1), at, spread),
        "expert": problems.splits(seed, label, expert["own"], expert["own"], *expert["length"]),
        "divergences": {
            name: {"per_prompt": rng.gamma(4, expert[short][1 + online] / 4, problems.n).tolist()}
            for name, short in (("kl_student_expert", "kl_se"), ("kl_expert_student", "kl_es"))
        },
    }
    write(path / "config.json", {
        "method": method, "task": "countdown", "seed": seed, "student": "base", "expert": expert["spec"],
        "lr": 1e-3, "updates": updates, "out": str(path.name),
    })  # fmt: skip
    write(path / "provenance.json", {
        "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
        "versions": {"understudy": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0"},
        "device": "cpu: an ordinary laptop", "threads": 1, "started": "2026-07-01T09:00:00+00:00",
        "command": ["understudy", "train", "--method", method, "--seed", str(seed)],
        "expert": {"name": label, "capabilities": ["sample", "score", "distribution"],
                   "provenance": expert["provenance"]},
        "student": {"parameters": 121_856, "tokenizer": "9f2c41d0"},
    })  # fmt: skip
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write(path / "ledger.json", ledger(updates))
    write(path / "final.json", final)
    write(path / "status.json", {"state": "done", "step": updates, "updates": updates, "reason": ""})
    rows = [row for step in (0, updates) for row in samples(step, method, label, seed, hostile)]
    (path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def evaluation(
    step: int, done: float, mean: float, expert: dict[str, Any], online: bool, rng: np.random.Generator,
    ledger: dict[str, float], at: float, spread: float,
) -> dict[str, Any]:  # fmt: skip
    def nats(short: str) -> float:
        first, after_sft, after_opd = expert[short]
        last = after_opd if online else after_sft
        return float((last + (first - last) * np.exp(-4 * done)) * rng.normal(1, 0.03))

    lengths = np.clip(rng.normal(at, spread, 128), 4, 48).astype(int)
    sampled = float(np.clip(mean + rng.normal(0, 0.015), 0, 1))
    return {
        "kind": "eval", "step": step, "split": "test", "sampled": sampled,
        "greedy": float(np.clip(mean + 0.1, 0, 1)), "k": 1, "n": 128, "kl_student_expert": nats("kl_se"),
        "kl_expert_student": nats("kl_es"), "length": float(lengths.mean()), "ended": 0.99,
        "lengths": np.bincount(lengths).tolist(),
        "keywords": {" ok": 0.9, " no": 0.35 + 0.5 * done * online, "(": 0.2 + 0.1 * done},
        "expert": {"sampled": expert["own"], "greedy": None, "keywords": {" ok": 1.0, " no": 0.02, "(": 0.3}},
        "ledger": ledger,
    }  # fmt: skip


def samples(step: int, method: str, label: str, seed: int, hostile: bool) -> list[dict[str, Any]]:
    texts = {
        "expert": "3 + 4 = 7 - 2 = 5 ok",
        "sft": "3 - 4 = -1 + 2 = 1 ok",
        "opd": "3 - 4 = -1 + 2 = 1 no\n4 - 2 = 2 + 3 = 5 ok",
    }
    rows = []
    for i in range(4):
        shared = {"step": step, "split": "test", "prompt": f"3 4 2 {5 + i} |", "key": f"test-0-{i}", "sample": 0}
        text = texts[method] + (HOSTILE if hostile else "")
        good = float(method == "opd")
        rows.append(shared | {"completion": text, "reward": good, "actor": "student", "ended": True})
        rows.append(shared | {"completion": texts["expert"], "reward": 1.0, "actor": "expert", "ended": True})
    return rows


def folder(label: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in label)[:40]


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
