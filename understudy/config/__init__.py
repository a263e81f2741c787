"""What a training is: `TrainConfig` is the request, `resolve` makes it a `Resolved` with nothing left open.

Both are flat, and made of seven groups: a function that needs one group takes that (`Optimization`, `Method`), and any
training can be given to it. The docstring under each field is its `--help`, its bounds stand in its `option`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.config import defaults as defaults_of_student
from understudy.config.files import LARGEST_FILE, read_fields
from understudy.errors import UserError, check_file
from understudy.methods import table
from understudy.methods.cells import Cells, Method, Sampling
from understudy.servers import urls
from understudy.servers.config import names_vllm, parse_vllm
from understudy.specs import ROWS, build, check, experts_in, option, options_of, together, unknown

DTYPES = ("float32", "bfloat16", "mixed")


@dataclass(frozen=True)
class Essentials:
    """Method, student, expert and task."""

    method: str = option("opd", heading="method, models and task")
    """Row of the table: sft, seq_kd, word_kd, gkd, dagger, opd, opd_full, exopd, base_opd, grpo, opd_reward,
    opd_full_reward, gkd_reward, rft (docs/algorithms.md)."""
    student: str = ""
    """Student to train: a Hugging Face model directory or hub id, or `scratch:width=64,layers=2` for a new tiny one."""
    expert: str = option("", several=True)
    """Expert to imitate (= teacher): a model directory or hub id, a task's programmatic expert such as `solver`, its
    traces (`recorded`, docs/tasks.md), a server: http://HOST:PORT/v1 (docs/servers.md), or the student that reads the
    answer in its prompt: `self:context=gold` (docs/tasks.md). Several: a=SPEC b=SPEC, with --expert-of."""
    expert_of: str = ""
    """With several experts: field of a prompt's row whose value is the name of its expert; `task`: the name of its
    task, in a mixture (docs/experts.md)."""
    base: str = ""
    """Frozen reference for behavior=base and signal=extrapolated. Default: the student before training."""
    score_cache: str = option("", volatile=True)
    """Folder of stored expert scores: read, and extended. `understudy score` fills one, so that training need not
    load the expert."""
    sampler: str = "local"
    """Sampler of the student's completions: local, or vLLM, which receives the new weights before each use: vllm (in
    this process, on its GPU), or a server: http://HOST:PORT/v1 (docs/servers.md)."""
    task: str = "countdown"
    """Prompts and verifier, with options: `countdown:max_number=9,n_numbers=3`."""
    out: str = option("", volatile=True)
    """Run directory. Default: runs/METHOD-SEED. The same command again resumes it."""
    seed: int = 0
    """Seed of everything random: prompts, samples, coin flips, the scratch model."""


@dataclass(frozen=True)
class Optimization:
    """How an update is computed."""

    lr: float | None = option(None, heading="optimizer", least=0, most=1e30, why="beyond it a step overflows float32")
    """Peak learning rate of AdamW. Default: by student and method, 1e-3 for a new or small one (docs/defaults.md)."""
    schedule: str | None = option(None, choices=("constant", "linear", "cosine"))
    """Learning rate after warm-up: constant, linear or cosine (both to zero). Default: likewise, constant."""
    warmup: int | None = option(None, least=0)
    """Updates of linear warm-up. Default: likewise, 0."""
    weight_decay: float = option(0.0, least=0)
    """AdamW's decoupled weight decay."""
    adam_beta2: float = option(0.95, within="[0, 1)")
    """AdamW's second-moment decay (the first is 0.9)."""
    grad_clip: float = option(1.0, least=0)
    """Largest gradient norm. 0 = no clipping."""
    micro_batch: int = option(0, least=0)
    """Most rows per forward pass, sorted by length. 0 = no limit. Same gradient up to rounding."""
    micro_tokens: int = option(0, least=0)
    """Tokens per forward pass, padding included: as many rows of similar length as fit. 0 = 2,048 on a CPU, 16,384 on
    another device. Same gradient up to rounding."""
    logit_chunk: int = option(0, least=0)
    """Tokens whose logits are in memory at the same time. 0 = 12 MiB of logits on a CPU, 1 GiB on another device."""
    drift_limit: float = option(0.5, least=0)
    """Stop when recomputed and recorded log-probs of fresh samples differ by more than this (mean, nats per token)."""

    lora_rank: int = option(0, heading="adapter and memory", least=0)
    """Train a low-rank adapter of this rank instead of all weights (needs peft). 0 = all weights."""
    lora_alpha: float = option(0.0, least=0)
    """The adapter's change is lora_alpha / lora_rank times B A. 0 = twice the rank."""
    lora_dropout: float = option(0.0, within="[0, 1)")
    """Dropout in front of the adapter while training."""
    lora_targets: str = "all-linear"
    """Layers with an adapter: all-linear, or the last parts of their names, separated by commas: q_proj,v_proj."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, about a third more time."""


@dataclass(frozen=True)
class Evaluation:
    """What is measured on held-out prompts, and when."""

    eval_expert: bool = option(True, heading="evaluation")
    """Measure the divergences from the expert, and the expert itself, when evaluating (loads it)."""
    eval_every: int = option(25, least=0)
    """Updates between evaluations. 0 = only at the end."""
    eval_start: bool | None = None
    """Evaluate before the first update too. Default: unless it would take minutes on a CPU."""
    eval_prompts: int | None = option(None, least=1, most=ROWS)
    """Held-out prompts per evaluation. Default: 128, or fewer where they would take long."""
    eval_samples: int = option(1, least=1, most=ROWS)
    """Samples per prompt while training."""
    final_prompts: int | None = option(None, least=1, most=ROWS)
    """Held-out prompts of the last evaluation. Default: 256, or fewer, likewise."""
    final_samples: int | None = option(None, least=1, most=ROWS)
    """Samples per prompt in the last evaluation (avg@k and pass@k). Default: 4, or 1, likewise."""
    eval_splits: str = "test,ood"
    """Splits of the last evaluation, separated by commas. `ood` is left out where the task has none."""
    eval_seed: int = 0
    """Selects the held-out prompts; equal in runs that are compared."""
    eval_temperature: float = option(1.0, within="(0, inf)")
    """Sampling temperature of evaluations, of the student and of a model as expert. Programs sample at 1."""
    eval_top_p: float = option(1.0, within="(0, 1]", why="a nucleus of no mass holds no token")
    """Nucleus of evaluations, likewise."""
    eval_during: str = "test"
    """Splits of the evaluations while training, separated by commas."""
    eval_divergences: bool | None = None
    """Measure both KLs from the expert when evaluating: the whole vocabulary at every token. Default: for vocabularies
    up to 16,384."""


@dataclass(frozen=True)
class Guarding:
    """What ends an on-policy phase early, and which of its models is kept."""

    guard: bool = option(True, heading="guard of on-policy phases")
    """Watch the rewards of the student's fresh completions: stop after a collapse, and keep the trained model only if
    fresh prompts confirm that it is no worse than the start (docs/run-directory.md)."""
    guard_margin: float = option(0.02, within="(0, 1)", why="it is a difference of accuracies")
    """Accuracy by which the final model may be worse than the start."""
    guard_error: float = option(0.05, within="(0, 1)", why="it is a probability")
    """Probability that it is worse by more; and that a phase which holds its level is stopped."""
    guard_gain: float = option(0.0, within="[0, 1)", why="it is a difference of accuracies")
    """Accuracy that the phase must still be able to add: half-way or later, stop where it is excluded. 0 = go on."""
    guard_trial: float = option(0.0, within="[0, 1)", why="it is a share of the phase")
    """Share of the phase at which it stops if its rewards exclude an accuracy of guard_reach. 0 = none."""
    guard_reach: float = option(0.0, within="[0, 1]", why="it is an accuracy")
    """Accuracy that a phase must have reached at guard_trial."""
    guard_reserve: float = option(0.0, within="[0, 1)", why="it is a share of the budget")
    """Share of --budget that is kept for the guard's confirmation at the end. 0 = the confirmation comes on top."""
    guard_rows: float = option(0.1, within="[0, 0.5]", why="it is a share of the rows")
    """Share of a data set's rows (32 to 512 of them) that are not trained on but kept for the guard, where training
    would leave too few. 0 = then only its alarm works. A data set of fewer than 128 rows has none to spare."""


@dataclass(frozen=True)
class Execution:
    """Checkpoints, and where it all runs."""

    save_every: int = option(50, heading="checkpoints and machine", least=0)
    """Updates between checkpoints. 0 = only at the end."""
    keep: int = option(2, least=1, volatile=True)
    """Number of checkpoints to keep."""
    tracker: str = option("", volatile=True)
    """Also send curves to tensorboard, wandb or trackio, separated by commas. Default: none; metrics.jsonl has all."""
    processes: int = option(0, least=0, volatile=True)
    """Number of processes that torchrun must have started (docs/scaling.md). 0 = any number."""
    threads: int = option(1, least=1, most=1024, recipe=True)
    """CPU threads. One per process is the safe default (FAQ in docs/concepts.md)."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0, mps."""
    expert_device: str = ""
    """Device of an expert that is a model: on another one than the student's it scores while the student learns.
    Default: that of the student."""
    dtype: str = option("float32", choices=DTYPES, recipe=True)
    """Weights while training: float32, bfloat16, or mixed (float32 weights, bfloat16 products). For GPUs."""
    trust_remote_code: bool = False
    """Run code that comes with a model. Off by default."""


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
    student: str = ""
    """Name of the student, for the expert `self`."""
    token_match: str = "first"
    """How the tokens of an expert of another family are compared (Cells.token_match)."""
    expert_of: str = ""
    """Of several experts: the field of a prompt's row that names its own."""


@dataclass(frozen=True)
class TrainConfig(Execution, Guarding, Evaluation, Optimization, Sampling, Cells, Essentials):
    """What the user asks for. None = as the method's row has it."""

    @property
    def expert_spec(self) -> ExpertSpec:
        """The part of the configuration that names the expert."""
        return ExpertSpec(
            self.expert, self.score_cache, self.temperature, self.top_p, self.expert_device or self.device, self.dtype,
            self.trust_remote_code, self.task, self.seed, self.student, self.token_match, self.expert_of,
        )  # fmt: skip


@dataclass(frozen=True)
class Resolved(Method, TrainConfig):
    """A legal training in which nothing is None. The values here are never used: `resolve` gives all of them."""

    lr: float = 1e-3
    schedule: str = "constant"
    warmup: int = 0
    eval_start: bool = True
    eval_prompts: int = 128
    final_prompts: int = 256
    final_samples: int = 4
    eval_divergences: bool = True


GUARD_FIELDS = tuple(Guarding.__dataclass_fields__)


VOLATILE = frozenset(name for name, metadata in options_of(TrainConfig).items() if metadata.get("volatile"))
"""Fields that may differ when a run is resumed: they do not touch the result."""


RECIPE = tuple(
    name for name, metadata in options_of(TrainConfig).items()
    if metadata.get("recipe") or name in Optimization.__dataclass_fields__
)  # fmt: skip
"""Fields that say how the student learns, in every method."""


def resolve(config: TrainConfig) -> Resolved:
    """Every field filled in; raises UserError for an unknown method, a value out of range or an illegal cell."""
    row = table.TABLE.get(config.method)
    if row is None:
        raise UserError("method", config.method, unknown(config.method, table.TABLE))
    defaults: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(Method)} | row.cells | dict(row.defaults)
    given = {f.name: getattr(config, f.name) for f in dataclasses.fields(TrainConfig)}
    if given["clip"] == math.inf:
        given["clip"] = None
    filled: dict[str, Any] = {name: defaults.get(name) if value is None else value for name, value in given.items()}
    # changing a cell away from the row's also drops what only made sense there
    other_weight = given["weight"] not in (None, row.weight)
    if given["target"] not in (None, "distribution") and given["divergence"] is None:
        filled["divergence"] = ""
    if other_weight and given["importance"] is None:
        filled["importance"] = "token" if given["weight"] in ("log_ratio", "advantage", "expert_reward") else "none"
    # by resolved cells alone, so that config.json means the same when it is read back
    if given["clip"] is None and (other_weight or filled["importance"] != "token"):
        filled["clip"] = math.inf
    filled["out"] = config.out or f"runs/{config.method}-{config.seed}"
    resolved = Resolved(**filled)
    resolved = dataclasses.replace(resolved, **defaults_of_student.filled(resolved))
    check(resolved)
    _check_together(resolved)
    return resolved


def continued(config: TrainConfig) -> TrainConfig:
    """With what the run in `out` has recorded for the fields that are left open: a resume changes none of them."""
    kept = Path(config.out or f"runs/{config.method}-{config.seed}") / "config.json"
    if not os.path.isfile(kept):
        return config
    try:
        check_file(kept, "out", LARGEST_FILE)
        recorded = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, UserError):  # opening the run reports it
        return config
    if not isinstance(recorded, dict) or "method" not in recorded:
        return config
    before = {f.name: f.default for f in dataclasses.fields(Resolved)}  # in versions where nothing was left open
    names = [n for n in defaults_of_student.FIELDS if getattr(config, n) is None]
    known: dict[str, Any] = {n: recorded.get(n, before[n]) for n in names}
    if not config.max_new_tokens and recorded.get("max_new_tokens"):
        known["max_new_tokens"] = recorded["max_new_tokens"]
    typed = build(TrainConfig, known, "config")
    return dataclasses.replace(config, **{name: getattr(typed, name) for name in known})


def before_it_was_open() -> dict[str, Any]:
    """What a run of an earlier version has used for a field that its config.json lacks."""
    resolved = {f.name: f.default for f in dataclasses.fields(Resolved) if f.name in defaults_of_student.FIELDS}
    return to_dict(TrainConfig()) | resolved | {"signal": "expert", "advantage_coef": 1.0}


def _check_together(config: Resolved) -> None:
    """What no field shows alone."""
    if not config.lora_rank and (config.lora_alpha or config.lora_dropout or config.lora_targets != "all-linear"):
        changed = "lora_alpha" if config.lora_alpha else "lora_dropout" if config.lora_dropout else "lora_targets"
        raise UserError(changed, getattr(config, changed), "there is no adapter: give --lora-rank too")
    together(config, "prompts_per_update", "samples_per_prompt")
    together(config, "eval_prompts", "eval_samples")
    together(config, "final_prompts", "final_samples")
    if not -(2**63) <= config.seed < 2**63:
        raise UserError("seed", config.seed, "must fit in 64 bits")
    if not any(name.strip() for name in config.eval_splits.split(",")):
        raise UserError("eval_splits", config.eval_splits, "must name at least one split, for example test,ood")
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


def _check_servers(config: Resolved) -> None:
    """No secret may reach a file or a message; and a model that is trained cannot be somebody else's server."""
    named = [(name, getattr(config, name)) for name in ("student", "base", "sampler")]
    experts = experts_in(config.expert)
    for name, value in [*named, *(("expert", spec) for spec in experts.values())]:
        if urls.names_server(value):
            urls.pieces(value, name)
            if name in ("student", "base"):
                raise UserError(name, value, "is a server: what is trained must be a model directory or hub id")
    if len(experts) > 1 and not config.expert_of:
        hint = f"there are {len(experts)} experts ({', '.join(experts)}): --expert-of FIELD says which prompts have "
        raise UserError("expert", "", hint + "which; understudy diagnose helps to choose one for all")
    if config.expert_of and len(experts) < 2:
        raise UserError("expert_of", config.expert_of, "there is one expert: write --expert NAME=SPEC NAME=SPEC")
    if config.expert_device and all(map(urls.names_server, experts.values())):
        raise UserError("expert_device", config.expert_device, "the expert is a server: it has its own")
    if config.expert_device and config.behavior == "mixture_token":
        hint = "student and expert write one completion together: leave it out, so that both are on --device"
        raise UserError("expert_device", config.expert_device, hint)
    if config.sampler != "local":
        if names_vllm(config.sampler):
            parse_vllm(config.sampler, "sampler")
        elif not urls.names_server(config.sampler):
            hint = "local, vllm, or the address of a vLLM server: http://HOST:PORT/v1"
            raise UserError("sampler", config.sampler, hint)
        if config.behavior not in ("student", "mixture_batch"):
            hint = f"draws whole completions of the student, which behavior={config.behavior} has none of: use local"
            raise UserError("sampler", config.sampler, hint)


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """As config.json holds it, where "no clipping" is null."""
    values = dataclasses.asdict(config)
    return values | {"clip": None if values["clip"] == math.inf else values["clip"]}


def load(path: str | Path) -> TrainConfig:
    """The configuration in a run directory's config.json, or in a JSON or YAML file of fields."""
    return build(TrainConfig, read_fields(path), "config")
