"""Options of `understudy eval`. Needs no torch, so that its --help is fast."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EvalConfig:
    model: str = ""
    """Model to evaluate: a model directory, a run directory, a hub id, or a programmatic expert such as `solver`."""
    task: str = "countdown"
    """Prompts and verifier, with options, such as `countdown:max_number=9`."""
    split: str = "test"
    """test, ood or train."""
    prompts: int = 256
    """Held-out prompts."""
    samples: int = 4
    """Samples per prompt, at T = 1, top-p = 1."""
    k: tuple[int, ...] = (1,)
    """Report pass@k for these k; none may exceed `samples`."""
    max_new_tokens: int = 0
    """Longest completion, in tokens. 0 = as the task sets it."""
    seed: int = 0
    """Seed of the sampled completions (the prompts depend on eval_seed alone)."""
    eval_seed: int = 0
    """Selects the held-out prompts."""
    device: str = "auto"
    """auto, cpu, cuda."""
    trust_remote_code: bool = False
    """Run code that comes with a model. Off by default."""
    json: bool = False
    """Print JSON."""
