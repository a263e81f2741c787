"""Provides diagnoses as plain JSON data, written by hand: a complete one, and ones that lack parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def estimate(value: float, half: float, unit: str = "accuracy", n: int = 96) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": n, "unit": unit,
            "method": "t over prompts", "level": 0.95}  # fmt: skip


def pilot(
    kind: str, samples: int, accuracy: float, forward: float, reverse: float, label: str = "curve"
) -> dict[str, Any]:
    return {
        "kind": kind, "samples": samples, "updates": samples // 8, "accuracy": estimate(accuracy, 0.08, n=48),
        "kl_expert_student": estimate(forward, 0.15, "nats per sequence", 48),
        "kl_student_expert": estimate(reverse, 0.4, "nats per sequence", 48), "label": label,
        "cost": cost(1e9, 3.0),
    }  # fmt: skip


def cost(flops: float, seconds: Any) -> dict[str, Any]:
    return {"expert_tokens_sampled": 12_345, "expert_tokens_scored": 0, "student_tokens_sampled": 2_345_678,
            "student_tokens_trained": 99, "flops": flops, "seconds": seconds}  # fmt: skip


def diagnosis() -> dict[str, Any]:
    """A complete diagnosis with the verdict "go online", 83%."""
    nats, probability = "nats per sequence", "probability"
    measures = {
        "student_accuracy": estimate(0.41, 0.05), "expert_accuracy": estimate(0.97, 0.02),
        "headroom": estimate(0.56, 0.05),
        "kl_student_expert": estimate(9.1, 1.1, nats), "kl_expert_student": estimate(2.2, 0.3, nats),
        "tv_pooled": estimate(0.8, 0.02, probability), "auc": estimate(0.9, 0.03, probability),
        "tilt_ceiling": estimate(0.88, 0.05),
        "length_tv_bound": {**estimate(0.65, 0.0, probability), "low": 0.48, "high": 1.0},
        "keyword_tv_bound": {**estimate(0.69, 0.0, probability), "low": 0.57, "high": 1.0},
        "takeover_gain": estimate(0.5, 0.07),
    }  # fmt: skip
    pilots = [
        pilot("sft", 0, 0.40, 2.25, 9.0, "start"), pilot("opd", 0, 0.40, 2.25, 9.0, "start"),
        pilot("sft", 64, 0.42, 2.0, 8.0), pilot("sft", 128, 0.45, 1.8, 7.5), pilot("sft", 256, 0.47, 1.7, 7.2),
        pilot("opd", 256, 0.55, 2.1, 4.0),
    ]  # fmt: skip
    scatter = [
        [i // 4, (i % 4) * 2.0 - 3 + 0.1 * (i // 4), float(i % 4 > 1 and i % 3 > 0), -5.0, 9] for i in range(160)
    ]
    controls = {
        "stability": {"ran": True, "told": "twice the steps change little", "points": [], "passed": True,
                      "difference": estimate(0.05, 0.1, nats)},
        "capacity_ladder": {"ran": False, "told": "not run: budget", "points": [], "difference": None,
        "passed": None},
    }  # fmt: skip
    return {
        "version": 1,
        "setting": {
            "student": "runs/base", "expert": "solver", "task": "countdown:max_number=12", "budget": "5%",
            "updates": 200,
            "prompts_per_update": 64, "set": ["lr=1.5e-3", "schedule=cosine"], "controls": "budget", "pilots": True,
            "verifier": True, "prompts": 96, "samples": 4, "expert_samples": 2, "seed": 7, "out": "runs/d",
            "device": "auto",
            "trust_remote_code": False, "expert_parameters": 0.0, "device_flops": 4e14, "json": False,
            "price_per_hour": 0.0, "price_per_million": 0.0, "dry_run": False,
            "offline": "sft",
            "online": "opd_full", "stopped": "", "margin": 0.05, "machine": "this machine (cpu)",
            "mechanism": "searches",
            "meanings": {"auc": ["ranking", "how often it puts a right answer above a wrong one"]},
        },
        "preflight": [{"name": "context length", "passed": True, "value": "82 tokens fit", "hint": ""}],
        "evidence": {
            "measures": measures, "pilots": pilots,
            "floor": {"a": {**estimate(0.9, 0.4, nats), "n": 3}, "b": 9.0, "c": 0.4, "rejects_zero": True},
            "checks": controls, "budget": {"updates": 200.0, "sequences": 64.0, "share": 0.05}, "has_verifier": True,
            "capabilities": ["distribution", "sample", "score"],
        },
        "verdict": {
            "answer": "go online",
            "probabilities": {"offline suffices": 0.04, "go online": 0.83, "neither": 0.01, "undecided": 0.12},
            "expected": {"student": estimate(0.41, 0.05), "expert": estimate(0.97, 0.02), "sft": estimate(0.6, 0.12),
                         "opd": estimate(0.85, 0.1)},
            "reasons": ["the online pilot gains most"], "would_change": ["an SFT pilot that gains +0.30"],
            "rule": "hand-1",
        },
        "costs": {"diagnosis": cost(2.5e10, 298.0), "sft": cost(1.147e11, 77.0), "opd": cost(4.07e11, "nan")},
        "series": {
            "scatter": scatter,
            "tilt": {"t": [0.0, 0.5, 1.0], "value": [0.41, 0.7, 0.85], "low": [0.36, 0.6, 0.7], "high": [0.46, 0.8,
            1.0],
                     "effective": [1.0, 0.5, 0.3]},
            "lengths": {"student": [0, 0, 3, 9, 4, 1], "expert": [0, 5, 9, 1]},
            "keywords": {" ok": {"student": 0.7, "expert": 1.0}, " no": {"student": 1.9, "expert": 0.02}},
            "samples": [{"prompt": f"7 {i} 8>9", "student": f"10-{i}=2", "student_reward": 0.0,
            "expert": f"1+{i}=9 ok",
                         "expert_reward": 1.0} for i in range(4)],
            "online_reward": [[8.0 * i, 0.4 + 0.005 * i] for i in range(1, 33)],
            "floor_curve": {"n": [256.0, 2048.0, 12800.0], "value": [1.7, 1.3, 1.1], "low": [1.6, 1.0, 0.7],
                            "high": [1.8, 1.6, 1.5]},
        },
        "assumptions": ["Prompts are drawn from the train stream."],
    }  # fmt: skip


def without_verifier() -> dict[str, Any]:
    d = diagnosis()
    d["evidence"]["has_verifier"] = False
    for name in ("student_accuracy", "expert_accuracy", "headroom", "auc", "tilt_ceiling", "takeover_gain"):
        del d["evidence"]["measures"][name]
    for point in d["evidence"]["pilots"]:
        point["accuracy"] = None
    del d["series"]["tilt"]
    d["series"]["online_reward"] = []
    d["series"]["scatter"] = [[i, a, "nan", s, n] for i, a, _, s, n in d["series"]["scatter"]]
    for sample in d["series"]["samples"]:
        sample["student_reward"] = sample["expert_reward"] = None
    d["verdict"] |= {"answer": "undecided", "expected": {}, "probabilities": _sure("undecided")}
    return d


def black_box() -> dict[str, Any]:
    d = diagnosis()
    d["setting"]["online"] = None
    d["evidence"]["capabilities"] = ["sample"]
    for name in ("kl_student_expert", "kl_expert_student", "tv_pooled", "auc", "tilt_ceiling", "takeover_gain"):
        del d["evidence"]["measures"][name]
    d["evidence"]["pilots"] = [p for p in d["evidence"]["pilots"] if p["kind"] == "sft"]
    for point in d["evidence"]["pilots"]:
        point["kl_expert_student"] = point["kl_student_expert"] = None
    d["evidence"]["floor"] = None
    d["series"] |= {"online_reward": [], "floor_curve": {}}
    del d["series"]["scatter"], d["series"]["tilt"], d["costs"]["opd"]
    d["verdict"] |= {"answer": "offline suffices", "probabilities": {"offline suffices": 0.9962, "neither": 0.0038}}
    return d


def stopped() -> dict[str, Any]:
    d = diagnosis()
    d["setting"]["stopped"] = "no headroom, no training"
    d["evidence"] |= {"pilots": [], "floor": None, "checks": {}}
    for name in ("online_reward", "floor_curve"):
        del d["series"][name]
    d["verdict"] |= {"answer": "neither", "probabilities": {"neither": 0.96, "offline suffices": 0.04}}
    return d


def no_floor() -> dict[str, Any]:
    d = diagnosis()
    d["evidence"]["floor"] = {
        "a": {**estimate(0.0, 1.0), "value": "nan"},
        "b": "nan",
        "c": "nan",
        "rejects_zero": False,
    }
    d["series"]["floor_curve"] = {}
    return d


def undecided() -> dict[str, Any]:
    d = diagnosis()
    chances = {"offline suffices": 0.51, "go online": 0.2, "neither": 0.1, "undecided": 0.19}
    d["verdict"] |= {"answer": "undecided", "probabilities": chances}
    return d


def nearly_nothing() -> dict[str, Any]:
    return {"version": 1, "verdict": {"answer": "undecided"}}


def _sure(answer: str) -> dict[str, float]:
    return {a: float(a == answer) for a in ("offline suffices", "go online", "neither", "undecided")}


def write(path: Path, d: Any) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "diagnosis.json").write_text(d if isinstance(d, str) else json.dumps(d), encoding="utf-8")
    return path
