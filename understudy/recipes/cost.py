"""The predicted cost of a plan: tokens, FLOPs, GPU-hours and memory, by formulas that are printed with the numbers.

With M = weights that a token is multiplied with, L layers, A = heads x head dimension, P prompt tokens, T completion
tokens, c the mean number of tokens that a token attends to:
    forward   2 M + 4 L A c            FLOPs per token (multiply and add; scores and values of attention)
    train     3 x forward              backward is twice the forward; 4 x with activation checkpointing
    sample    forward of P + T tokens  with c = (P + T) / 2; so does scoring
    seconds   training and scoring: FLOPs / (device FLOPs x utilisation);
              sampling: the larger of that and T steps that each read the weights and the caches once from memory
The utilisation and the mean lengths are assumptions; our local sampler is slower than this ideal one, a server's is
nearer to it. Memory per GPU: see docs/recipes.md.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from understudy.config import Resolved
from understudy.errors import UserError
from understudy.policy.sampling import rows_together
from understudy.recipes.models import Shape
from understudy.recipes.recipe import Lengths


@dataclass(frozen=True)
class Device:
    """Dense bfloat16 FLOPs per second, bytes per second and bytes of memory of one GPU, from its data sheet."""

    name: str
    flops: float
    bandwidth: float
    memory: float
    kind: str = "cuda"
    """As torch names it: how many logits exist at a time depends on it."""


DEVICES = {
    "a100": Device("NVIDIA A100 SXM 80 GB", 312e12, 2.0e12, 80e9),
    "h100": Device("NVIDIA H100 SXM 80 GB", 989e12, 3.35e12, 80e9),
    "h200": Device("NVIDIA H200 SXM 141 GB", 989e12, 4.8e12, 141e9),
}


@dataclass(frozen=True)
class Machine:
    """The GPUs that costs are computed for."""

    device: Device
    gpus: int = 1
    utilisation: float = 0.4

    def __post_init__(self) -> None:
        for name, value, good in (
            ("gpus", self.gpus, self.gpus >= 1),
            ("utilisation", self.utilisation, 0 < self.utilisation <= 1),
            ("device_flops", self.device.flops, self.device.flops > 0),
        ):
            if not good:
                raise UserError(name, value, "must lie in (0, 1]" if name == "utilisation" else "must be positive")


@dataclass(frozen=True)
class PhaseCost:
    """Of one run, or of all runs of a phase. Tokens are completion tokens; `seconds` are of one GPU."""

    student_sampled: float = 0.0
    expert_sampled: float = 0.0
    expert_scored: float = 0.0
    trained: float = 0.0
    evaluated: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: PhaseCost) -> PhaseCost:
        return PhaseCost(*(a + b for a, b in zip(astuple(self), astuple(other))))

    def __mul__(self, times: float) -> PhaseCost:
        return PhaseCost(*(a * times for a in astuple(self)))

    @property
    def gpu_hours(self) -> float:
        return self.seconds / 3600


def forward(shape: Shape, context: float) -> float:
    """FLOPs of one token that attends to `context` tokens."""
    return 2 * shape.matrices + 4 * shape.layers * shape.heads * shape.head * context


def sequence(shape: Shape, lengths: Lengths) -> float:
    """FLOPs of one forward pass over a mean prompt and completion."""
    tokens = lengths.prompt + lengths.completion
    return tokens * forward(shape, tokens / 2)


def sampling(
    shape: Shape | None, lengths: Lengths, rows: float, machine: Machine, together: int
) -> tuple[float, float]:
    """(FLOPs, seconds of one GPU) of sampling `rows` completions, `together` at a time; a program costs nothing."""
    if shape is None or not rows:
        return 0.0, 0.0
    flops = rows * sequence(shape, lengths)
    context = lengths.prompt + lengths.completion / 2
    batch = min(rows, together)
    step = 2 * shape.matrices + 2 * batch * shape.cache * context  # bytes, bfloat16
    reading = rows / batch * lengths.completion * step / machine.device.bandwidth
    return flops, max(flops / (machine.device.flops * machine.utilisation), reading)


def train_cost(
    c: Resolved, student: Shape, expert: Shape | None, lengths: Lengths, machine: Machine, recorded: bool
) -> PhaseCost:
    """One run of the table, training and its evaluations. recorded: the expert's samples exist already."""
    trained = c.updates * c.prompts_per_update * c.samples_per_prompt
    rollouts = trained / c.updates_per_rollout
    if c.replay == "fixed" and c.prompt_pool:
        rollouts = min(rollouts, c.prompt_pool * c.samples_per_prompt)
    share = {"expert": 1.0, "mixture_batch": 1 - c.student_share, "mixture_token": 0.5}.get(c.behavior, 0.0)
    by_student, by_expert = rollouts * (1 - share), 0.0 if recorded else rollouts * share
    batch = rows_decoded(c, lengths, machine, student.vocabulary)
    student_flops, student_seconds = sampling(student, lengths, by_student, machine, batch)
    expert_flops, expert_seconds = sampling(expert, lengths, by_expert, machine, batch)
    scored = rollouts if c.target in ("distribution", "expert_token") or c.reads_scores else 0.0
    flops = scored * sequence(expert, lengths) if expert is not None else 0.0
    flops += trained * (4 if c.activation_checkpointing else 3) * sequence(student, lengths)
    seconds = flops / (machine.device.flops * machine.utilisation)
    t = lengths.completion
    training = PhaseCost(
        by_student * t, by_expert * t, scored * t, trained * t, 0.0,
        flops + student_flops + expert_flops, seconds + student_seconds + expert_seconds,
    )  # fmt: skip
    return training + evaluation(c, student, expert, lengths, machine)


def rows_decoded(c: Resolved, lengths: Lengths, machine: Machine, vocabulary: int = 0) -> int:
    """Rows that a GPU decodes together while training: at most what the sampler takes, and what an update has."""
    most = rows_together(lengths.prompt + (c.max_new_tokens or lengths.completion), vocabulary, machine.device.kind)
    if c.replay == "fixed":
        return most
    return max(1, min(most, c.prompts_per_update * c.samples_per_prompt // machine.gpus))


def evaluation(c: Resolved, student: Shape, expert: Shape | None, lengths: Lengths, machine: Machine) -> PhaseCost:
    """Sampled and greedy completions while training and at the end, and the expert's own where it is evaluated."""
    looks = 1 + c.updates // c.eval_every if c.eval_every else 0
    splits = len([s for s in c.eval_splits.split(",") if s])
    during = len([s for s in c.eval_during.split(",") if s])
    rows = looks * during * c.eval_prompts * (c.eval_samples + 1)
    rows += splits * c.final_prompts * (c.final_samples + 1)
    batch = rows_together(
        lengths.prompt + (c.max_new_tokens or lengths.completion), student.vocabulary, machine.device.kind
    )
    flops, seconds = sampling(student, lengths, rows, machine, batch)
    if c.eval_expert and expert is not None:
        once = c.eval_prompts * (c.eval_samples + 1) + splits * c.final_prompts * (c.final_samples + 1)
        more = sampling(expert, lengths, once, machine, batch)
        rows, flops, seconds = rows + once, flops + more[0], seconds + more[1]
    return PhaseCost(evaluated=rows * lengths.completion, flops=flops, seconds=seconds)


FORMULA = (__doc__ or "").partition("\n\n")[2].strip()
"""Printed below the table."""
