"""What the real runs of several recipes share: model ids, fields for large models, arms over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.config import TrainConfig
from understudy.experiments.job import Job, training
from understudy.experiments.plan import PlannedRun, slug
from understudy.recipes.recipe import OURS, PAPER, PUBLIC, Scale, Setting
from understudy.specs import parse_spec

R1_STUDENT = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
R1_7B = "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"
SKYWORK = "Skywork/Skywork-OR1-7B"

LARGE: dict[str, Any] = {
    "dtype": "mixed", "activation_checkpointing": True, "micro_tokens": 16_384, "logit_chunk": 2048,
    "schedule": "constant", "warmup": 10,
    "adam_beta2": 0.999, "eval_divergences": False, "save_every": 50, "keep": 1,
}  # fmt: skip
"""For models with large vocabularies."""

ONLINE_METHOD = Setting(
    "online method", "opd_full: KL(student || expert) over the whole vocabulary at every token",
    f"{OURS}: the paper's estimator is not known to us",
)  # fmt: skip
OPTIMIZER = (
    Setting("SFT learning rate, optimizer", "1e-5, AdamW", f"{PAPER}: the warm-up's; used for every SFT here"),
    Setting("OPD learning rate", "1e-6", PUBLIC),
    Setting("schedule", "10 updates of warm-up, then constant; no weight decay", OURS),
    Setting("precision", "float32 weights and optimizer, bfloat16 products", OURS),
)
RUNS = Setting("runs", "three seeds of each student; experts are made once", f"{PAPER}: mean of three runs (Fig. 6)")
RL_SETTINGS = (
    Setting("RL of the experts", "grpo, 64 prompts x 8 samples, lr 1e-6, clip 0.2, 200 updates",
            f"{OURS}; the paper says only: RL with verifiable rewards, DAPO/GRPO family"),
)  # fmt: skip


def with_data(task: str, data: Mapping[str, str]) -> str:
    """The task with local files where --data names them: its own rows, and those of its other splits."""
    spec = parse_spec(task, "task")
    more = {}
    if spec.name in data:
        more["data" if spec.name == "countdown" else "path"] = data[spec.name]
    for split in ("test", "ood", "forget"):
        named = spec.args.get(split, "")
        if named in data and named != spec.name:
            more[f"{split}_path"] = data[named]
    if not more:
        return task
    args = ",".join(f"{k}={v}" for k, v in {**spec.args, **more}.items())
    return f"{spec.name}:{args}"


def job(scale: Scale, name: str, needs: Sequence[str], *, task: str, folder: Path, updates: int, **fields: Any) -> Job:
    """A run that makes a base or an expert. Fields given replace LARGE's."""
    known: dict[str, Any] = {"eval_expert": False, "seed": scale.first_seed, "updates": scale.times(updates)}
    known["eval_every"] = max(1, scale.times(updates) // 4)
    config = TrainConfig(task=with_data(task, scale.data), out=str(folder), **(LARGE | known | fields))
    return training(name, config, tuple(needs))


def runs(
    scale: Scale, label: str, *, student: str, expert: str, task: str, methods: Mapping[str, Mapping[str, Any]],
    updates: int, eval_every: int, **fields: Any,
) -> list[PlannedRun]:  # fmt: skip
    """method -> its own fields, for every seed, from one student and one expert."""
    out = []
    for seed in scale.all_seeds:
        for method, own in methods.items():
            config = TrainConfig(
                method=method, student=student, expert=expert, task=with_data(task, scale.data), seed=seed,
                out=str(scale.out / f"{slug(label)}-{method}-{seed}"), updates=scale.times(updates),
                **(LARGE | {"eval_every": scale.times(eval_every)} | fields | dict(own)),
            )  # fmt: skip
            out.append(PlannedRun(label, method, seed, 1, config))
    return out
