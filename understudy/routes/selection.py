"""The end of a route: start and phases complete the same fresh training prompts, and the best becomes final/."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.evaluation import intervals
from understudy.evaluation.sampled import sample_policy
from understudy.evaluation.schedule import Evaluator
from understudy.policy import Policy
from understudy.randomness import seed_from
from understudy.routes.look import Models, fresh_prompts
from understudy.routes.route import RouteConfig, resolved_phases
from understudy.runs.directory import RunDir
from understudy.runs.files import files_in
from understudy.tasks import load_task
from understudy.terminal import Progress
from understudy.training.card import card, span
from understudy.training.session import lazy_expert, load_model
from understudy.types import Ledger, flops_of, prompt_tokens

START = "start"
CARD = "README.md"


@dataclass(frozen=True)
class Candidate:
    """A model that a route may end with. rewards: of its completions, one per prompt; empty where nothing verifies."""

    name: str
    """`start`, or the name of the phase's folder."""
    path: str
    rewards: tuple[float, ...] = ()

    @property
    def mean(self) -> float | None:
        return sum(self.rewards) / len(self.rewards) if self.rewards else None

    def to_dict(self) -> dict[str, Any]:
        interval = intervals.bootstrap_prompts(self.rewards) if self.rewards else None
        seen = {"mean": interval.value, "low": interval.low, "high": interval.high} if interval else {}
        return {"name": self.name, "path": self.path} | seen | {"rewards": list(self.rewards)}


def select(
    config: RouteConfig, phases: Sequence[Path], trained: int, student_size: float, show: Progress
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(which candidate is best and what each did, as route.json holds it; the ledger of finding out).

    The best mean on the same prompts and random numbers wins, the later of two equals. Without a verifier, or
    without prompts, it is the last phase. trained: prompts of the train stream that the phases may have seen.
    """
    task = load_task(config.train.task)
    candidates = [Candidate(START, config.train.student), *(Candidate(path.name, str(path)) for path in phases)]
    ledger = Ledger()
    if task.verified and config.select_prompts:
        began = time.perf_counter()
        for i, candidate in enumerate(candidates):
            show("selection", i, len(candidates), candidate.name)
            candidates[i] = _tried(config, candidate, trained, ledger)
        show("selection", len(candidates), len(candidates), "")
        ledger.eval_seconds = time.perf_counter() - began
        ledger.flops = flops_of(ledger.as_dict(), student_size, 0.0)
    best = max(range(len(candidates)), key=lambda i: (candidates[i].mean or 0.0, i))
    prompts = len(candidates[best].rewards)
    listed = [c.to_dict() | {"path": _relative(c.path, config.out)} for c in candidates]
    return {"best": candidates[best].name, "prompts": prompts, "candidates": listed}, ledger.as_dict()


def _tried(config: RouteConfig, candidate: Candidate, trained: int, ledger: Ledger) -> Candidate:
    """The candidate with its rewards."""
    c, task = resolved_phases(config)[0], load_task(config.train.task)
    room = c.max_new_tokens or task.max_new_tokens
    policy = load_model(candidate.path, "student", c, task)
    models = Models(task, policy, None)
    prompts = fresh_prompts(models, config.select_prompts, c.seed, "route selection", trained, room)
    done = sample_policy(policy, task, prompts, 1, seed_from("route selection", c.seed), room, greedy=False)
    ledger.student_tokens_sampled += sum(len(r.ids) for r in done.rollouts)
    ledger.student_prompt_tokens_sampled += prompt_tokens(done.rollouts)
    return dataclasses.replace(candidate, rewards=tuple(float(r.reward or 0) for r in done.rollouts))


def evaluate_start(config: RouteConfig, run: RunDir, show: Progress) -> tuple[Policy, dict[str, Any]]:
    """(the student before training, its evaluation as final.json of a run holds it)."""
    c, task = resolved_phases(config)[0], load_task(config.train.task)
    student = load_model(c.student, "student", c, task)
    expert = lazy_expert(c, task, student) if c.expert else None
    final = Evaluator(c, task, student, expert, run, Ledger(), show).final(0)
    return student, final


def copy_model(source: Path, target: Path) -> None:
    """Fill the folder `target` with the files of `source` but its card: hard links where the file system has them."""
    for path in files_in(source):
        place = target / path.relative_to(source)
        if place.name == CARD:
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, place)
        except OSError:
            shutil.copy2(path, place)


def route_card(
    config: Mapping[str, Any], provenance: Mapping[str, Any], final: Mapping[str, Any], state: Mapping[str, Any],
    ledger: Mapping[str, Any],
) -> str:  # fmt: skip
    """The model card: that of a run, with the route before its recipe. state: route.json; ledger: of the route."""
    selection = state["selection"]
    seen = {candidate["name"]: candidate for candidate in selection["candidates"]}

    def accuracy(name: str) -> str:
        c = seen[name]
        return f"{c['mean']:.3f} [{c['low']:.3f}, {c['high']:.3f}]" if "mean" in c else "-"

    chosen = "the last phase's: no other was tried"
    if selection["prompts"]:
        best = selection["best"]
        which = "the student before training" if best == START else f"the one after phase {span(best)}"
        chosen = f"{which}, which was the best on {selection['prompts']} training prompts that no phase had used"
    rows = [f"| {START} | | | {accuracy(START)} |"]
    for phase in state["phases"]:
        spent = phase["spent"]
        cells = (span(phase["folder"]), str(spent["updates"]), f"{spent['flops']:.3g}", accuracy(phase["folder"]))
        rows.append(f"| {' | '.join(cells)} |")
    lines = [
        "## Route", "", f"The phases ran one after the other, each from the model of the one before. This model is "
        f"{chosen}.", "", "| phase | updates | FLOPs | accuracy there |", "|---|---|---|---|", *rows, "", "## Recipe",
    ]  # fmt: skip
    return card(config, provenance, ledger, final).replace("## Recipe", "\n".join(lines), 1)


def _relative(path: str, out: str) -> str:
    """The place of a phase in its route directory; a start as it was given."""
    inside = Path(path).is_relative_to(out)
    return os.path.relpath(path, out) if inside else path
