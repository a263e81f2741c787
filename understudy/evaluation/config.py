"""Options of `understudy eval` and `understudy prompts`. Needs no torch, so that their --help is fast."""

from __future__ import annotations

from dataclasses import dataclass

from understudy.config import DTYPES
from understudy.errors import UserError
from understudy.servers.urls import names_server, pieces
from understudy.specs import ROWS, check, option, together


@dataclass(frozen=True)
class EvalConfig:
    model: str = option("", heading="model and task")
    """Model to evaluate: a model directory, a run directory, a hub id, or a programmatic expert such as `solver`."""
    task: str = "countdown"
    """Prompts and verifier, with options, such as `countdown:max_number=9`."""
    split: str = "test"
    """test, ood or train."""
    prompts: int = option(256, least=1, most=ROWS)
    """Held-out prompts; all of a smaller split."""
    samples: int = option(4, least=1, most=ROWS)
    """Samples per prompt."""
    k: tuple[int, ...] = (1,)
    """Report pass@k for these k; none may exceed `samples`."""
    temperature: float = option(
        1.0, heading="sampling", within="(0, inf)", why="greedy accuracy is always reported beside it"
    )
    """Sampling temperature. A programmatic expert samples at 1."""
    top_p: float = option(1.0, within="(0, 1]", why="a nucleus of no mass holds no token")
    """Nucleus of the samples."""
    max_new_tokens: int = option(0, least=0)
    """Longest completion, in tokens. 0 = as the task sets it."""
    seed: int = 0
    """Seed of the sampled completions (the prompts depend on eval_seed alone)."""
    eval_seed: int = 0
    """Selects the held-out prompts."""
    out: str = option("", heading="output and machine")
    """Directory that keeps the completions (completions.jsonl) and results.json; the same command again resumes."""
    device: str = "auto"
    """auto, cpu, cuda."""
    dtype: str = option("float32", choices=DTYPES)
    """Type of the weights: float32 or bfloat16 (mixed: the same as bfloat16 here)."""
    trust_remote_code: bool = False
    """Run code that comes with a model. Off by default."""
    json: bool = False
    """Print JSON."""


VOLATILE = frozenset({"out", "json", "k"})
"""Fields that may differ when an evaluation is resumed: they change no completion."""


def checked(config: EvalConfig) -> EvalConfig:
    """The same. UserError: what could not run, before anything is loaded."""
    check(config)
    together(config, "prompts", "samples")
    if not config.model:
        raise UserError("model", "", "missing: give a model or run directory, a hub id, or `solver`")
    if names_server(config.model):
        pieces(config.model, "model")  # a password in it is refused without being repeated
        raise UserError("model", config.model, "is a server: a model directory or hub id is needed here")
    too_large = [k for k in config.k if not 1 <= k <= config.samples]
    if too_large:
        raise UserError("k", too_large[0], f"must be 1..samples={config.samples}: raise --samples or lower --k")
    return config


@dataclass(frozen=True)
class PromptsConfig:
    task: str = "countdown"
    """Prompts and verifier, with options, such as `data:path=q.jsonl,template=chat`."""
    student: str = ""
    """Whose tokenizer and template: a model directory, run directory, hub id, or `scratch`."""
    expert: str = option("", several=True)
    """Also as this one reads them (= teacher): a model, a server, or a programmatic expert; several, with --expert-of:
    each prompt as its own one does."""
    expert_of: str = ""
    """With several experts: field of a prompt's row whose value is the name of its expert (docs/experts.md)."""
    split: str = "train"
    """train, test or ood."""
    n: int = option(3, least=1)
    """Prompts to show (-n)."""
    seed: int = 0
    """Seed of the prompts, as in training."""
    max_new_tokens: int = option(0, least=0)
    """Longest completion, in tokens. 0 = as the task sets it."""
    trust_remote_code: bool = False
    """Run code that comes with a tokenizer. Off by default."""
    json: bool = False
    """Print JSON."""
