"""Accuracy of one model, run or programmatic expert: what `understudy eval` prints and keeps."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from understudy import running
from understudy.errors import Interrupted, UserError
from understudy.evaluation.completions import COMPLETIONS, Completions, Row, summary
from understudy.evaluation.config import EvalConfig, checked
from understudy.evaluation.numbers import duration
from understudy.evaluation.sampled import Sampled, held_out, sample_expert, sample_policy, sampling_seed
from understudy.experts import is_programmatic, load_expert
from understudy.policy import Policy, load_policy
from understudy.policy.room import check_lengths
from understudy.policy.templates import lost_note
from understudy.protocols import Task
from understudy.tasks import load_task
from understudy.terminal import Progress, no_progress
from understudy.types import Prompt, Rollout

PART, PART_DEVICE = 128, 512
"""Completions drawn before they are kept, on a CPU and on another device."""


@dataclasses.dataclass(frozen=True)
class _Subject:
    """What is evaluated. policy: reads the prompts (of a program: a stand-in with the task's tokenizer)."""

    task: Task
    policy: Policy
    sample: Callable[[list[Prompt]], Sampled]


def evaluate_model(
    config: EvalConfig, progress: Progress = no_progress, note: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """{"measures": {name: {"value", "low", "high"}}, "prompts", "samples", "length", "ended", ...}; 95% intervals.

    measures are empty where the split is not graded. With config.out, completions are kept as they are drawn, and the
    same call resumes. note: gets a line where the model does not read a part of the prompts. UserError: a mistake,
    before anything is written. Interrupted: by Ctrl-C or SIGTERM.
    """
    config = checked(config)
    with running.interruptible(lambda: True, lambda number: True), ExitStack() as stack:
        progress("loading", 0, 1, config.model)
        task = load_task(config.task)
        if config.split not in task.splits:
            raise UserError("split", config.split, f"unknown; one of {', '.join(task.splits)}")
        subject = _loaded(config, task)
        room = config.max_new_tokens or task.max_new_tokens
        check_lengths(task, subject.policy, (config.split,), room)
        prompts = held_out(task, subject.policy, config.split, config.prompts, config.eval_seed, room)
        if line := lost_note(subject.policy.tokenizer, prompts, subject.policy.name):
            note(line)
        progress("loading", 1, 1, f"{len(prompts)} prompts")
        kept = stack.enter_context(Completions.opened(config, task.digest(), len(prompts)))
        try:
            _complete(subject, prompts, config, kept, progress)
        except Interrupted as stop:
            raise Interrupted(_where(config, kept), stop.number) from None
        result = summary(kept.rows, config.samples, config.k, task.passes)
        kept.finish(result)
    return result


def _loaded(config: EvalConfig, task: Task) -> _Subject:
    room = config.max_new_tokens or task.max_new_tokens
    seed = sampling_seed(config.seed, config.eval_seed)
    if is_programmatic(config.model) and not config.model.startswith("scratch"):
        for name in ("temperature", "top_p"):
            if getattr(config, name) != 1:
                raise UserError(name, getattr(config, name), "a programmatic expert samples from what it scores: use 1")
        for name in ("device", "dtype", "trust_remote_code"):
            if getattr(config, name) != getattr(EvalConfig, name):
                hint = f"has no effect on {config.model}, which is a program: leave --{name.replace('_', '-')} out"
                raise UserError(name, getattr(config, name), hint)
        scratch = load_policy("scratch", "model", task.tokenizer())  # only for its tokenizer and context
        expert = load_expert(config.model, task, scratch)
        return _Subject(task, scratch, lambda part: sample_expert(expert, task, part, config.samples, seed, room))
    policy = load_policy(
        config.model, "model", task.tokenizer(), config.seed, config.device, config.dtype, config.trust_remote_code
    ).add_stop_tokens(task.stop)

    def sample(part: list[Prompt]) -> Sampled:
        t, p = config.temperature, config.top_p
        return sample_policy(policy, task, part, config.samples, seed, room, True, t, p)

    return _Subject(task, policy, sample)


def _complete(
    subject: _Subject, prompts: Sequence[Prompt], config: EvalConfig, kept: Completions, progress: Progress
) -> None:
    """Draw and keep what is missing, part by part."""
    rows = PART if subject.policy.device.type == "cpu" else PART_DEVICE
    size = max(1, rows // config.samples)
    left = [i for i in range(len(prompts)) if i not in kept.complete]
    each = config.samples + 1  # a greedy one too
    clock = _Clock(len(prompts) * each, len(left) * each, kept, progress)
    for at in range(0, len(left), size):
        part = left[at : at + size]
        with running.reporting(clock.listener):
            done = subject.sample([prompts[i] for i in part])
        kept.add(_rows(subject, part, done))
        clock.finished(len(part) * each)


class _Clock:
    """Shows how far an evaluation is, and what it still takes: at the pace of the parts before, else at most."""

    def __init__(self, total: int, left: int, kept: Completions, progress: Progress) -> None:
        self.total, self.left, self.kept, self.progress = total, left, kept, progress
        self.began = self.part_began = time.monotonic()
        self.done = 0

    def listener(self, done: int, total: int, left: float) -> None:
        now = time.monotonic()
        if self.done:
            pace = (self.part_began - self.began) / self.done
            self.show(
                done, f"about {duration(max(0.0, pace * (self.left - self.done) - (now - self.part_began)))} left"
            )
        else:
            pace = (now - self.began + left) / max(total, 1)
            self.show(done, f"at most {duration(left + pace * max(0, self.left - total))} left")

    def finished(self, rows: int) -> None:
        self.done += rows
        self.part_began = time.monotonic()
        pace = (self.part_began - self.began) / self.done
        rest = pace * (self.left - self.done)
        self.show(0, f"about {duration(rest)} left" if rest else "")

    def show(self, rows: int, note: str) -> None:
        at = self.total - self.left + self.done + rows
        self.progress("evaluation", min(at, self.total), self.total, ", ".join(filter(None, (self.kept.shown, note))))


def _rows(subject: _Subject, part: Sequence[int], done: Sampled) -> list[Row]:
    """Lines of completions.jsonl of some prompts, given by their numbers."""
    numbers = {p.key: i for p, i in zip(done.prompts, part)}
    out = []
    for kind, rollouts in (("sampled", done.rollouts), ("greedy", done.greedy or [])):
        for r in rollouts:
            out.append(_row(subject, numbers[r.prompt.key], kind, r))
    return sorted(out, key=lambda row: (row["prompt_number"], row["kind"], row["sample"]))


def _row(subject: _Subject, number: int, kind: str, r: Rollout) -> Row:
    read = subject.policy.tokenizer.decode(list(r.prompt.ids), skip_special_tokens=False)
    return {
        "prompt_number": number, "key": r.prompt.key, "kind": kind, "sample": r.sample, "prompt": r.prompt.text,
        "rendered": read, "completion": r.text, "reward": r.reward, "ended": r.ended, "tokens": len(r.ids),
    }  # fmt: skip


def _where(config: EvalConfig, kept: Completions) -> str:
    """What an interrupted evaluation says."""
    if not config.out:
        return "nothing was kept: with --out DIR the same command resumes"
    n = len(kept.complete)
    return f"{n} of {kept.prompts} prompts are in {config.out}/{COMPLETIONS}; the same command resumes from there"
