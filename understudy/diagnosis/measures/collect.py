"""Stages 1 and 2: what student and expert write on the same prompts, its reward, and its likelihood under both.

The prompts are drawn from the task's `train` stream under a seed of their own; those that the pilots will train on are
left out. The test split is never used.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from understudy.diagnosis.cost import Sizes
from understudy.diagnosis.measures.takeover import DEPTHS, continued
from understudy.diagnosis.types import Cost
from understudy.evaluation.sampled import compared as compared_with
from understudy.methods import divergences
from understudy.policy import Policy
from understudy.policy.sampling import draw
from understudy.protocols import Expert, Task
from understudy.randomness import seed_from
from understudy.runs.directory import RunDir
from understudy.training.rollouts import pack, unpack
from understudy.types import Prompt, Rollout

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """The models and the task. room: most tokens per completion. reward: whether the verifier may be used."""

    task: Task
    student: Policy
    expert: Expert
    sizes: Sizes
    room: int
    seed: int
    reward: bool
    graded: bool = False
    """Whether the gradient score of the expert's text is measured: where several experts are compared."""
    drawn: dict[tuple[str, ...], list[Rollout]] = dataclasses.field(default_factory=dict)
    """Completions of the student by the prompts' keys, drawn for all experts that are compared."""


@dataclass(frozen=True)
class Table:
    """Completions of one actor, prompt-major, `samples` per prompt. All arrays are (P, K); nan = not known.

    kl: nats per sequence, the exact KL(actor, other) of the next-token distributions summed along the completion.
    """

    rollouts: list[Rollout]
    samples: int
    student_logp: Floats
    expert_logp: Floats
    kl: Floats
    cost: Cost

    @property
    def reward(self) -> Floats:
        return self._grid([math.nan if r.reward is None else float(r.reward) for r in self.rollouts])

    @property
    def length(self) -> Floats:
        return self._grid([float(len(r.ids)) for r in self.rollouts])

    def _grid(self, values: Sequence[float]) -> Floats:
        return np.array(values, dtype=np.float64).reshape(-1, self.samples)


def draw_prompts(setting: Setting, n: int, trained: int) -> tuple[list[Prompt], int]:
    """(n prompts, how many of them the first `trained` training prompts contain).

    Independent draws from the law of the train stream. Those in the training part are replaced while the task has
    others; a task of few problems may not, and then all draws stay, and the second number counts them.
    """
    task, student, seed = setting.task, setting.student, setting.seed
    seen = {p.text for p in task.prompts("train", trained, seed)}
    draw_seed = seed_from("diagnose prompts", seed) % 2**31
    drawn = task.prompts("train", 4 * n, draw_seed)
    fresh = [p for p in drawn if p.text not in seen][:n]
    kept = fresh if len(fresh) == n else drawn[:n]
    placed = [dataclasses.replace(p, key=f"{p.key}@diagnose-{i}") for i, p in enumerate(kept)]
    encoded = student.encode(placed)
    student.check_room(encoded, setting.room)
    return encoded, sum(p.text in seen for p in kept)


def sampling_seed(setting: Setting) -> int:
    """The same uniforms for the student before training and every pilot: their differences lose sampling noise."""
    return seed_from("diagnose samples", setting.seed)


def sample_student(setting: Setting, policy: Policy, prompts: Sequence[Prompt], samples: int) -> list[Rollout]:
    args = (policy.start, policy.decode, policy.end_ids, prompts, samples, sampling_seed(setting), setting.room)
    return _rewarded(setting, draw(*args, "student", vocabulary=policy.vocabulary, device=policy.device.type))


def _rewarded(setting: Setting, rollouts: list[Rollout]) -> list[Rollout]:
    return setting.task.verify_all(rollouts) if setting.reward else rollouts


def compared(
    setting: Setting, policy: Policy, expert: Expert, rollouts: Sequence[Rollout], actor: str
) -> dict[str, Floats]:
    """Per rollout: student_logp, expert_logp and kl(actor, other), in nats per sequence; nan = not known."""
    out = {name: np.full(len(rollouts), math.nan) for name in ("student_logp", "expert_logp", "kl")}
    if "distribution" not in expert.capabilities:
        out["student_logp"][:] = [float(x.double().sum()) for x in policy.score(rollouts)]
        if "score" in expert.capabilities:
            out["expert_logp"][:] = [float(x.double().sum()) for x in expert.score(rollouts)]
        return out

    def scores(s: Tensor, e: Tensor, ids: Tensor) -> Tensor:
        first, second = (s, e) if actor == "student" else (e, s)
        taken = (x.gather(-1, ids[:, None])[:, 0] for x in (s, e))
        return torch.stack([*taken, divergences.kl(first, second)], 1)

    values = np.array(compared_with(policy, expert, rollouts, scores))
    for i, name in enumerate(out):
        out[name][:] = values[:, i]
    return out


def collect(setting: Setting, run: RunDir, prompts: list[Prompt], samples: int, actor: str, name: str) -> Table:
    """Completions of student or expert with all their scores, from the cache when resumed."""
    student, expert, sizes = setting.student, setting.expert, setting.sizes

    def make() -> dict[str, Tensor]:
        began = time.perf_counter()
        drawn = setting.drawn.get(tuple(p.key for p in prompts))
        if actor == "student":
            rollouts = drawn or sample_student(setting, student, prompts, samples)
        else:
            seed = seed_from("diagnose expert", setting.seed)
            rollouts = _rewarded(setting, expert.sample(prompts, samples, seed, setting.room))
        known = compared(setting, student, expert, rollouts, actor)
        tokens = sum(len(r.ids) for r in rollouts)
        scored = tokens if "score" in expert.capabilities else 0
        sampled = tokens if actor == "expert" else 0
        # the student's own pass over the tokens counts like sampling them
        passes, n = 2 if actor == "student" and not drawn else 1, len(prompts)
        read = (n * (bool(scored) + bool(sampled)), n * passes, 0)
        cost = sizes.cost(sampled, scored, passes * tokens, 0, time.perf_counter() - began, read)
        tensors = {k: torch.tensor(v, dtype=torch.float64) for k, v in known.items()}
        return pack(rollouts) | tensors | {"cost": cost_tensor(cost)}

    cached = run.cache(name, make)
    rollouts = unpack(cached, prompts, samples, student, actor)
    if not setting.reward:
        rollouts = [dataclasses.replace(r, reward=None) for r in rollouts]
    grid = {k: cached[k].numpy().reshape(-1, samples) for k in ("student_logp", "expert_logp", "kl")}
    return Table(rollouts, samples, **grid, cost=cost_of(cached["cost"]))


def draw_for_all(setting: Setting, run: RunDir, prompts: list[Prompt], samples: int) -> Cost:
    """Put the student's completions into `setting.drawn`, from the cache when resumed; what drawing them took."""

    def make() -> dict[str, Tensor]:
        began = time.perf_counter()
        rollouts = sample_student(setting, setting.student, prompts, samples)
        tokens, seconds = sum(len(r.ids) for r in rollouts), time.perf_counter() - began
        cost = setting.sizes.cost(sampled=tokens, seconds=seconds, prompts=(0, len(prompts), 0))
        return pack(rollouts) | {"cost": cost_tensor(cost)}

    cached = run.cache("student", make)
    rollouts = unpack(cached, prompts, samples, setting.student, "student")
    if not setting.reward:
        rollouts = [dataclasses.replace(r, reward=None) for r in rollouts]
    setting.drawn[tuple(p.key for p in prompts)] = rollouts
    return cost_of(cached["cost"])


def takeover(setting: Setting, run: RunDir, table: Table) -> tuple[dict[int, tuple[Floats, Floats]], Cost]:
    """Depth -> (reward of the expert's continuation, of the student's) per prompt, both (P,), from each prompt's first
    student sample. Empty without a verifier or without an expert that can be pushed tokens."""
    if not setting.reward or not can_continue(setting.expert):
        return {}, Cost()
    firsts = [r for r in table.rollouts if r.sample == 0]
    student, seed = setting.student, seed_from("diagnose takeover", setting.seed)
    begin: dict[str, Callable[..., Any]] = {"expert": setting.expert.start, "student": student.start}

    def make() -> dict[str, Tensor]:
        began = time.perf_counter()
        out: dict[str, Tensor] = {}
        tokens = {"expert": 0, "student": 0}
        for depth in DEPTHS:
            for actor, start in begin.items():
                done = setting.task.verify_all(continued(
                    start, student.decode, student.end_ids, firsts, depth, seed, setting.room, actor
                ))  # fmt: skip
                out[f"{actor}-{depth}"] = torch.tensor([float(r.reward or 0) for r in done], dtype=torch.float64)
                tokens[actor] += sum(len(r.ids) for r in done)
        n = len(firsts) * len(DEPTHS)
        seconds = time.perf_counter() - began
        cost = setting.sizes.cost(tokens["expert"], 0, tokens["student"], 0, seconds, (n, n, 0))
        return out | {"cost": cost_tensor(cost)}

    cached = run.cache("takeover", make)
    pairs = {d: (cached[f"expert-{d}"].numpy(), cached[f"student-{d}"].numpy()) for d in DEPTHS}
    return pairs, cost_of(cached["cost"])


def can_continue(expert: Expert) -> bool:
    """Whether it decodes step by step, so that a student's tokens can be pushed first."""
    return "distribution" in expert.capabilities


def cost_tensor(cost: Cost) -> Tensor:
    return torch.tensor([float(getattr(cost, f.name)) for f in dataclasses.fields(Cost)], dtype=torch.float64)


def cost_of(tensor: Tensor) -> Cost:
    a, b, c, d, flops, seconds, *prompts = tensor.tolist()  # earlier versions counted no prompts
    return Cost(int(a), int(b), int(c), int(d), flops, seconds, *map(int, prompts))
