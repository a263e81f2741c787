"""What a run is told: one frozen dataclass, the same for the command line and the library.

The docstring under each field is its `--help`. `None` means "as the method's row has it"; `resolve` fills those in,
refuses illegal cells with the reason, and gives the concrete configuration that is written to the run directory.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from understudy.errors import UserError
from understudy.methods import table
from understudy.servers import urls
from understudy.specs import build
from understudy.types import LEDGER_AXES


@dataclass(frozen=True)
class ExpertSpec:
    """All that naming an expert needs."""

    expert: str
    """A model directory or hub id, a server's address, or a programmatic expert of the task."""
    score_cache: str = ""
    """Folder of its kept scores. "" = none."""
    temperature: float = 1.0
    """Sampling temperature of a model or server; scores are always of the plain softmax."""
    top_p: float = 1.0
    """Nucleus of its samples, likewise."""
    device: str = "auto"
    dtype: str = "float32"
    trust_remote_code: bool = False
    task: str = ""
    """The task as text, by which a score cache tells the programmatic experts of two tasks apart."""
    seed: int = 0
    """Picks the prompts on which a server is checked."""


@dataclass(frozen=True)
class TrainConfig:
    method: str = "opd"
    """Row of the table: sft, seq_kd, word_kd, gkd, dagger, opd, opd_full, base_opd, grpo, rft (docs/algorithms.md)."""
    student: str = ""
    """What is trained: a Hugging Face model directory or hub id, or `scratch:width=64,layers=2` for a new tiny one."""
    expert: str = ""
    """Who is imitated (= teacher): a model directory or hub id, a task's programmatic expert such as `solver`, its
    traces (`recorded`, docs/tasks.md), or a server: http://HOST:PORT/v1 (docs/servers.md)."""
    base: str = ""
    """Frozen reference for behavior=base. Default: the student before training."""
    score_cache: str = ""
    """Folder of expert scores: read, and added to. With it an expert that is not here can have scored before
    (`understudy score`)."""
    sampler: str = "local"
    """Who draws the student's completions: local, or a vLLM server that is given the new weights before each draw:
    http://HOST:PORT/v1 (docs/servers.md)."""
    task: str = "countdown"
    """Prompts and verifier, with options: `countdown:max_number=9,n_numbers=3`."""
    out: str = ""
    """Run directory. Default: runs/METHOD-SEED. The same command again resumes it."""
    seed: int = 0
    """Everything random derives from it: prompts, samples, coins, the scratch model."""

    behavior: str | None = None
    """Cell: who acts. expert, student, base, mixture_batch, mixture_token. Default: the row's."""
    target: str | None = None
    """Cell: what each position is pulled toward. token, expert_token, distribution. Default: the row's."""
    weight: str | None = None
    """Cell: how strongly. one, log_ratio, advantage, passed. Default: the row's."""
    replay: str | None = None
    """Cell: how fresh the data is. fixed, fresh, aggregate, round. Default: the row's."""
    importance: str | None = None
    """Ratio that corrects for the behavior policy. none, token, prefix. Default: the row's."""
    divergence: str | None = None
    """kl_expert_student, kl_student_expert or jsd, for a distribution target. Default: the row's."""
    beta: float | None = None
    """Weight of the expert in the mixture of jsd, between 0 and 1. Default: 0.5."""
    gamma: float | None = None
    """Discount of the log-ratio to go, 0 (this token only) to 1 (sequence reverse KL). Default: 0."""
    clip: float | None = None
    """PPO clip range of the token ratio. Default: none (grpo: 0.2)."""
    importance_cap: float | None = None
    """Cap of the prefix ratio (importance=prefix). Default: 5."""
    advantage_norm: str | None = None
    """std or none: whether group advantages are divided by the group's standard deviation. Default: std."""
    student_share: float | None = None
    """mixture_batch: probability that a batch is the student's. Default: 0.5."""
    expert_share: float | None = None
    """mixture_token: probability, to the power of the round, that the expert picks a token. Default: 0.5."""
    round_updates: int | None = None
    """Updates a round for replay aggregate and round. Default: 20."""
    top_k: int = 0
    """Coarsen both distributions to this many top tokens plus one tail bucket. 0 = the whole vocabulary."""
    top_k_of: str = "student"
    """Whose top tokens: student or expert."""
    reduction: str = "token_mean"
    """token_mean, sequence_mean (reweights states by 1/length) or sequence_sum."""

    updates: int = 200
    """Optimizer updates."""
    budget_axis: str = "updates"
    """Ledger column that `budget` limits, such as train_seconds or expert_tokens_scored."""
    budget: float = 0.0
    """Stop once that column has reached this much, or at `updates`, whichever comes first. 0 = no limit."""
    prompts_per_update: int = 64
    """Prompts an update."""
    samples_per_prompt: int | None = None
    """Completions a prompt. Default: 1 (grpo 8, rft 4)."""
    updates_per_rollout: int = 1
    """Updates on the same fresh rollouts (needs the token ratio)."""
    prompt_pool: int | None = None
    """Distinct training prompts, cycled. 0 = never repeat. Default: 0 (base_opd 512)."""
    max_new_tokens: int = 0
    """Longest completion. 0 = what the task asks for."""
    temperature: float = 1.0
    """Sampling temperature of the behavior policy."""
    top_p: float = 1.0
    """Nucleus of the behavior policy."""

    lr: float = 1e-3
    """Peak learning rate of AdamW."""
    schedule: str = "constant"
    """Learning rate after warm-up: constant, linear or cosine (both to zero)."""
    warmup: int = 0
    """Updates of linear warm-up."""
    weight_decay: float = 0.0
    """AdamW's decoupled weight decay."""
    adam_beta2: float = 0.95
    """AdamW's second-moment decay (the first is 0.9)."""
    grad_clip: float = 1.0
    """Largest gradient norm. 0 = no clipping."""
    micro_batch: int = 0
    """Rows a forward pass, sorted by length. 0 = all. Same gradient up to rounding."""
    micro_tokens: int = 0
    """Tokens a forward pass, padding included: as many rows as fit. 0 = all. Same gradient up to rounding."""
    logit_chunk: int = 0
    """Tokens whose logits exist at a time. 0 = all. For large vocabularies."""
    drift_limit: float = 0.5
    """Stop when recomputed minus recorded log-probs of fresh samples differ by more than this (nats, mean a token)."""

    lora_rank: int = 0
    """Train a low-rank adapter of this rank instead of all weights (needs peft). 0 = all weights."""
    lora_alpha: float = 0.0
    """The adapter's change is lora_alpha / lora_rank times B A. 0 = twice the rank."""
    lora_dropout: float = 0.0
    """Dropout in front of the adapter while training."""
    lora_targets: str = "all-linear"
    """Layers that get one: all-linear, or the last part of their names, by comma: q_proj,v_proj."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, about a third more time."""

    eval_expert: bool = True
    """Measure the divergences from the expert, and the expert itself, when evaluating (loads it)."""
    eval_every: int = 25
    """Updates between evaluations. 0 = only at the end."""
    eval_prompts: int = 128
    """Held-out prompts an evaluation."""
    eval_samples: int = 1
    """Samples a prompt while training."""
    final_prompts: int = 256
    """Held-out prompts of the last evaluation."""
    final_samples: int = 4
    """Samples a prompt in the last evaluation (avg@k and pass@k)."""
    eval_splits: str = "test,ood"
    """Splits of the last evaluation, by comma. `ood` is left out where the task has none."""
    eval_seed: int = 0
    """Picks the held-out prompts; the same for runs to be compared."""
    eval_temperature: float = 1.0
    """Sampling temperature of evaluations, of the student and of a model as expert. Programs sample at 1."""
    eval_top_p: float = 1.0
    """Nucleus of evaluations, likewise."""
    eval_during: str = "test"
    """Splits of the evaluations while training, by comma."""
    eval_divergences: bool = True
    """Measure both KLs from the expert when evaluating: the whole vocabulary at every token, so for small models."""
    save_every: int = 50
    """Updates between checkpoints. 0 = only at the end."""
    keep: int = 2
    """Checkpoints kept."""
    tracker: str = ""
    """Curves in tensorboard, wandb or trackio too, by comma. Default: none; metrics.jsonl has everything."""
    processes: int = 0
    """How many torchrun must have started (docs/scaling.md). 0 = as many as there are."""
    threads: int = 1
    """CPU threads. One a process is the safe default (FAQ in docs/concepts.md)."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0, mps."""
    dtype: str = "float32"
    """Weights while training: float32, bfloat16, or mixed (float32 weights, bfloat16 products). For GPUs."""
    trust_remote_code: bool = False
    """Run code that comes with a model. Off unless you ask for it."""

    @property
    def expert_spec(self) -> ExpertSpec:
        """The part of the configuration that names the expert."""
        return ExpertSpec(
            self.expert, self.score_cache, self.temperature, self.top_p, self.device, self.dtype,
            self.trust_remote_code, self.task, self.seed,
        )  # fmt: skip


SECTIONS = {
    "who and what": "method",
    "cells of the method's row": "behavior",
    "budget": "updates",
    "optimizer": "lr",
    "adapter and memory": "lora_rank",
    "evaluation": "eval_expert",
    "checkpoints and machine": "save_every",
}
"""Headings of the help, by the first field under each."""

VOLATILE = frozenset({"out", "keep", "score_cache", "processes", "tracker"})
"""Fields that may differ when a run is resumed: they do not touch the result."""

_FALLBACK: dict[str, Any] = {
    "beta": 0.5, "gamma": 0.0, "importance_cap": 5.0, "advantage_norm": "std", "student_share": 0.5,
    "expert_share": 0.5, "round_updates": 20, "samples_per_prompt": 1, "prompt_pool": 0, "divergence": "",
}  # fmt: skip
_CHOICES: dict[str, tuple[str, ...]] = {
    "behavior": tuple(table.BEHAVIORS), "target": tuple(table.TARGETS),
    "weight": tuple(table.WEIGHTS), "replay": tuple(table.REPLAYS),
    "importance": tuple(table.IMPORTANCES), "schedule": ("constant", "linear", "cosine"),
    "divergence": ("", "kl_expert_student", "kl_student_expert", "jsd"),
    "reduction": ("token_mean", "sequence_mean", "sequence_sum"), "top_k_of": ("student", "expert"),
    "advantage_norm": ("std", "none"), "dtype": ("float32", "bfloat16", "mixed"), "budget_axis": LEDGER_AXES,
}  # fmt: skip
_AT_LEAST = {
    "updates": 1, "prompts_per_update": 1, "samples_per_prompt": 1, "updates_per_rollout": 1, "prompt_pool": 0,
    "max_new_tokens": 0, "warmup": 0, "micro_batch": 0, "micro_tokens": 0, "logit_chunk": 0, "eval_every": 0,
    "eval_prompts": 1, "eval_samples": 1, "final_prompts": 1, "final_samples": 1, "save_every": 0, "keep": 1,
    "round_updates": 1, "top_k": 0, "lr": 0, "grad_clip": 0, "weight_decay": 0, "importance_cap": 1,
    "threads": 1, "processes": 0, "budget": 0, "drift_limit": 0, "lora_rank": 0, "lora_alpha": 0, "lora_dropout": 0,
}  # fmt: skip


def resolve(config: TrainConfig) -> TrainConfig:
    """Every field concrete; raises UserError for an unknown method, a value out of range or an illegal cell."""
    row = table.TABLE.get(config.method)
    if row is None:
        raise UserError("method", config.method, f"unknown; one of {', '.join(table.TABLE)}")
    fill: dict[str, Any] = {}
    for name in (f.name for f in dataclasses.fields(config)):
        if getattr(config, name) is None:
            cell = getattr(row, name, None)
            value = row.defaults.get(name, cell if cell is not None else _FALLBACK.get(name))
            fill[name] = value
    # changing a cell away from the row's also drops what only made sense there
    other_weight = config.weight not in (None, row.weight)
    if config.target not in (None, "distribution") and config.divergence is None:
        fill["divergence"] = ""
    if other_weight and config.importance is None:
        fill["importance"] = "token" if config.weight in ("log_ratio", "advantage") else "none"
    # by resolved cells alone, so that config.json means the same when it is read back
    if config.clip is None and (other_weight or fill.get("importance", config.importance) != "token"):
        fill["clip"] = None
    if not config.out:
        fill["out"] = f"runs/{config.method}-{config.seed}"
    config = dataclasses.replace(config, **fill)
    _check(config)
    return config


def _check(config: TrainConfig) -> None:
    for name, choices in _CHOICES.items():
        if getattr(config, name) not in choices:
            raise UserError(name, getattr(config, name), f"unknown; one of {', '.join(c for c in choices if c)}")
    for name, least in _AT_LEAST.items():
        if not getattr(config, name) >= least:
            raise UserError(name, getattr(config, name), f"must be at least {least}")
    for name in ("student_share", "expert_share"):
        if not 0 <= getattr(config, name) <= 1:
            raise UserError(name, getattr(config, name), "must lie in [0, 1]")
    for name in ("top_p", "eval_top_p"):
        if not 0 < getattr(config, name) <= 1:
            raise UserError(name, getattr(config, name), "must lie in (0, 1]: a nucleus of no mass holds no token")
    if not config.eval_temperature > 0:
        raise UserError("eval_temperature", config.eval_temperature, "must be positive")
    if config.lr > 1e30:
        raise UserError("lr", config.lr, "must be at most 1e30: beyond it a step overflows float32")
    if not 0 <= config.adam_beta2 < 1:
        raise UserError("adam_beta2", config.adam_beta2, "must lie in [0, 1)")
    if config.clip is not None and not config.clip > 0:
        raise UserError("clip", config.clip, "must be positive: it is the width of the range around a ratio of 1")
    if not config.lora_dropout < 1:
        raise UserError("lora_dropout", config.lora_dropout, "must lie in [0, 1)")
    if not config.lora_rank and (config.lora_alpha or config.lora_dropout or config.lora_targets != "all-linear"):
        changed = "lora_alpha" if config.lora_alpha else "lora_dropout" if config.lora_dropout else "lora_targets"
        raise UserError(changed, getattr(config, changed), "there is no adapter: give --lora-rank too")
    if not -(2**63) <= config.seed < 2**63:
        raise UserError("seed", config.seed, "must fit in 64 bits")
    if not any(name.strip() for name in config.eval_splits.split(",")):
        raise UserError("eval_splits", config.eval_splits, "must name at least one split, for example test,ood")
    if not config.temperature > 0:
        raise UserError("temperature", config.temperature, "must be positive (greedy accuracy is always evaluated)")
    _check_servers(config)
    for rule in table.RULES:
        if rule.illegal(config):
            raise UserError(
                rule.field, getattr(config, rule.field), f"not legal for method {config.method}: {rule.reason}"
            )
    if not config.student:
        raise UserError("student", "", "missing: give a model directory, a hub id, or scratch:width=64,layers=2")
    if table.needs_expert(config) and not config.expert:
        raise UserError("expert", "", f"missing: method {config.method} imitates one; give a model or `solver`")


def _check_servers(config: TrainConfig) -> None:
    """No secret may reach a file or a message; and a model that is trained cannot be somebody else's server."""
    for name in ("student", "base", "expert", "sampler"):
        value = getattr(config, name)
        if urls.names_server(value):
            urls.pieces(value, name)
            if name in ("student", "base"):
                raise UserError(name, value, "is a server: what is trained must be a model directory or hub id")
    if config.sampler != "local":
        if not urls.names_server(config.sampler):
            raise UserError("sampler", config.sampler, "local, or the address of a vLLM server: http://HOST:PORT/v1")
        if config.behavior not in ("student", "mixture_batch"):
            hint = f"draws whole completions of the student, which behavior={config.behavior} has none of: use local"
            raise UserError("sampler", config.sampler, hint)


def to_dict(config: TrainConfig) -> dict[str, Any]:
    return dataclasses.asdict(config)


def load(path: str | Path) -> TrainConfig:
    """The configuration in a run directory's config.json, or in a JSON or YAML file of fields."""
    path = Path(path)
    path = path / "config.json" if os.path.isdir(path) else path
    in_yaml = path.suffix in (".yaml", ".yml")
    try:
        text = path.read_text(encoding="utf-8")
        data = yaml.safe_load(text) if in_yaml else json.loads(text)
    except FileNotFoundError:
        raise UserError("config", path, "no such file; give a run directory or its config.json") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError("config", path, f"cannot be read as {'YAML' if in_yaml else 'JSON'} ({error})") from None
    if not isinstance(data, dict):
        kind = "YAML mapping" if in_yaml else "JSON object"
        raise UserError("config", path, f"must be a {kind} of configuration fields")
    return build(TrainConfig, {str(name): value for name, value in data.items()}, "config")
