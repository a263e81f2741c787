"""A first look at a route's models: how long prompts and completions are, how large the models, how long an update."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from understudy import distributed
from understudy.config import Resolved, TrainConfig
from understudy.errors import UserError
from understudy.experts import load_expert
from understudy.experts.extrapolated import Extrapolated
from understudy.experts.local import LocalExpert
from understudy.methods import table
from understudy.methods.price import Lengths, Sizes
from understudy.policy import Policy, check_same_language
from understudy.protocols import Expert, Task
from understudy.randomness import seed_from
from understudy.routes.route import RouteConfig, resolved_phases
from understudy.tasks import load_task
from understudy.terminal import Progress
from understudy.training.acting import Actor
from understudy.training.checks import before_loading, before_training, check_capabilities, room_of, with_room
from understudy.training.labels import label
from understudy.training.session import fit, load_model
from understudy.training.update import update
from understudy.types import Ledger, Prompt, Rollout, flops_of

T = TypeVar("T")


@dataclass(frozen=True)
class Models:
    """The task, the student before training, and the expert where a phase imitates one."""

    task: Task
    student: Policy
    expert: Expert | None

    @property
    def sizes(self) -> Sizes:
        """The weights that the ledger counts (training.session)."""
        weights = self.expert.provenance.get("parameters") if self.expert is not None else 0
        return Sizes(float(self.student.describe()["parameters"]), float(weights or 0))


@dataclass(frozen=True)
class Measured:
    """What the plan of a route rests on, and what it cost to measure."""

    lengths: Lengths
    sizes: Sizes
    paces: Mapping[str, float]
    """Method -> seconds per update."""
    ledger: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Measured:
        return cls(Lengths(**data["lengths"]), Sizes(**data["sizes"]), data["paces"], data["ledger"])


def here(shared: TrainConfig) -> TrainConfig:
    """With the devices of this process, where it is one of several."""
    expert = distributed.device(shared.expert_device) if shared.expert_device else ""
    return dataclasses.replace(shared, device=distributed.device(shared.device), expert_device=expert)


def route_here(config: RouteConfig) -> RouteConfig:
    """Likewise."""
    return dataclasses.replace(config, train=here(config.train))


def load_models(config: RouteConfig, note: Callable[[str], None]) -> Models:
    """UserError: one cannot be loaded, or a phase asks what the expert or the task cannot do."""
    phases = resolved_phases(config)
    task = load_task(config.train.task)
    for phase in phases:
        if (phase.reads_advantages or phase.weight == "passed") and not task.verified:
            hint = f"task {task.name} has no verifier, whose reward method {phase.method} learns from"
            raise UserError("route", config.route, hint)
        before_loading(phase, task)
    student = load_model(config.train.student, "student", phases[0], task)
    fit(student, phases[0], note)
    before_training(with_room(phases[0], task, student)[0], task, student)
    expert = None
    for phase in filter(table.needs_expert, phases):
        if expert is None:
            expert = load_expert(phase.expert_spec, task, student)
            check_same_language(student, expert, phase.expert)
        check_capabilities(phase, expert)
    return Models(task, student, expert)


def look(config: RouteConfig, models: Models, show: Progress) -> Measured:
    """Student and expert complete some training prompts, and an update of every method is timed on these.

    The weights of models.student stay as they are, its gradients do not.
    """
    phases = [with_room(phase, models.task, models.student)[0] for phase in resolved_phases(config)]
    room = room_of(phases[0], models.task)
    prompts = fresh_prompts(models, config.look_prompts, config.train.seed, "route look", 0, room)
    ledger = Ledger()
    paces: dict[str, float] = {}
    steps = len({phase.method for phase in phases}) + 2
    show("look", 0, steps, "student samples")
    student, sampling = _timed(lambda: _act(models, phases[0], "student", prompts, ledger))
    show("look", 1, steps, "expert samples")
    expert: list[Rollout] = []
    asking = 0.0
    if models.expert is not None and "sample" in models.expert.capabilities:
        expert, asking = _timed(lambda: _act(models, phases[0], "expert", prompts, ledger))
    for phase in {phase.method: phase for phase in phases}.values():
        show("look", 2 + len(paces), steps, phase.method)
        share = {"expert": 1.0, "mixture_batch": 1 - phase.student_share}.get(phase.behavior, 0.0)
        each, completions = 0.0, phase.prompts_per_update * phase.samples_per_prompt
        text = phase.text_prompts / phase.prompts_per_update
        imitated = dataclasses.replace(  # sft_alpha's text
            phase, behavior="expert", target="token", weight="one", signal="expert", importance="none", clip=math.inf
        )
        parts = (
            (share, expert, asking, phase),
            (1 - share, student, sampling, phase),
            (text, expert, asking, imitated),
        )
        for part, rollouts, drawing, cells in parts:
            if part and rollouts:
                some = rollouts[:completions]  # one update at most: a look must cost less than the training
                spent = _timed(lambda r=some, c=cells: _trained(models, c, r, ledger))[1]  # type: ignore[misc]
                each += part * (drawing / len(prompts) + spent / len(some))
        paces[phase.method] = each * completions
    ledger.train_seconds = sampling + asking + sum(paces.values())
    sizes = models.sizes
    ledger.flops = flops_of(ledger.as_dict(), sizes.student, sizes.expert)
    passed = sum(float(r.reward or 0) for r in student) / len(student)
    prompt, own = sum(len(p.ids) for p in prompts) / len(prompts), models.expert
    as_expert = own.prompt_tokens(prompts) / len(prompts) if own is not None and own.own_prompts else 0.0
    lengths = Lengths(prompt, _mean_length(student), _mean_length(expert), max(passed, 0.05), as_expert)
    show("look", steps, steps, "")
    return distributed.agreed(Measured(lengths, sizes, paces, ledger.as_dict()))


def fresh_prompts(models: Models, n: int, seed: int, name: str, trained: int, room: int) -> list[Prompt]:
    """`n` encoded training prompts of a stream of their own, or all of a smaller task.

    Those among the first `trained` of the training are left out while the task has others.
    """
    size = models.task.size("train")
    n = n if size is None else min(n, size)
    seen = {p.text for p in models.task.prompts("train", trained, seed)} if trained else set()
    drawn = models.task.prompts("train", 4 * n if seen else n, seed_from(name, seed) % 2**31)
    fresh = [p for p in drawn if p.text not in seen][:n]
    kept = fresh if len(fresh) == n else drawn[:n]
    encoded = models.student.encode([dataclasses.replace(p, key=f"{p.key}@{name}-{i}") for i, p in enumerate(kept)])
    models.student.check_room(encoded, room)
    return encoded


def _act(models: Models, phase: Resolved, who: str, prompts: Sequence[Prompt], ledger: Ledger) -> list[Rollout]:
    """One completion of each prompt by student or expert."""

    def expert() -> Expert:
        assert models.expert is not None
        return models.expert

    config = dataclasses.replace(phase, behavior=who, samples_per_prompt=1)
    actor = Actor(config, models.task, models.student, expert, lambda: models.student)
    rollouts = actor.act(prompts, "route look")
    actor.count(rollouts, ledger)
    return rollouts


def _trained(models: Models, phase: Resolved, rollouts: Sequence[Rollout], ledger: Ledger) -> None:
    """What an update of `phase` does with these rollouts, without a step."""
    if phase.weight in ("advantage", "passed"):  # their rewards may pull nothing: every row is computed
        phase = dataclasses.replace(phase, weight="one", importance="none", clip=math.inf)
    if phase.weight == "expert_reward":  # one completion per prompt has no group
        weight = "log_ratio" if phase.target == "token" else "one"
        phase = dataclasses.replace(phase, weight=weight, importance="none", clip=math.inf)
    spent, expert = Ledger(), models.expert
    if phase.extrapolates and expert is not None:  # the student has not moved: it is the base
        base = LocalExpert(models.student).fit(models.student.vocabulary)
        expert = Extrapolated(expert, base, phase.extrapolation)
    labelled = label(distributed.share(rollouts), phase, models.student, expert, spent)
    counted = list(spent.as_dict())
    for name, total in zip(counted, distributed.total([getattr(spent, name) for name in counted])):
        setattr(ledger, name, getattr(ledger, name) + total)
    still = torch.optim.SGD(models.student.trained().values(), lr=0.0)
    metrics = update(models.student, still, labelled, phase)
    still.zero_grad(set_to_none=True)
    ledger.student_tokens_trained += metrics["tokens"]
    ledger.student_prompt_tokens_trained += metrics["prompt_tokens"]


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    out = work()
    return out, time.perf_counter() - began


def _mean_length(rollouts: Sequence[Rollout]) -> float:
    return sum(len(r.ids) for r in rollouts) / len(rollouts) if rollouts else 0.0
