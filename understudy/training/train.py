"""The one loop: roll out, label, update, evaluate, save. It reads top to bottom and knows no method's name."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from understudy import distributed
from understudy.config import VOLATILE, TrainConfig, resolve, to_dict
from understudy.errors import UserError
from understudy.evaluation.sampled import held_out, splits_of
from understudy.evaluation.schedule import Evaluator
from understudy.experts import load_expert
from understudy.experts.local import provenance_of
from understudy.methods import table
from understudy.policy import Policy, check_same_language, load_policy, resolve_device
from understudy.policy.sharding import shard
from understudy.protocols import Expert, Task
from understudy.runs.directory import RunDir, to_stderr
from understudy.runs.provenance import provenance
from understudy.runs.read import is_run, read_provenance
from understudy.runs.shared import SharedRun
from understudy.runs.trackers import names_of, open_trackers
from understudy.tasks import load_task
from understudy.training import state as training_state
from understudy.training.card import card, find_diagnosis
from understudy.training.rollouts import Source
from understudy.training.state import seed_all
from understudy.training.update import check_finite, check_weights, update
from understudy.types import Ledger

Progress = Callable[[str, int, int, str], None]
"""progress(phase, done, total, note): called as work goes on."""


class Interrupted(Exception):
    """Ctrl-C: everything is saved; str() says how to resume."""


def train(config: TrainConfig, progress: Progress | None = None, note: Callable[[str], None] = to_stderr) -> Path:
    """Train one run to its end, or resume it, and return its directory. A finished run is returned at once.

    Raises UserError for a mistake that the user can mend (nothing is lost), Interrupted after Ctrl-C.
    """
    asked = config = resolve(config)
    torch.set_num_threads(config.threads)
    names_of(config.tracker)
    distributed.join(config.processes)
    config = dataclasses.replace(config, device=distributed.device(config.device))
    if not distributed.is_main():  # one speaks for all
        progress, note = None, lambda _: None
    show = progress or (lambda *_: None)

    def opened() -> RunDir:
        def made() -> dict[str, Any]:
            return provenance(device=str(resolve_device(config.device)))

        kind = RunDir if distributed.size() == 1 else SharedRun
        return kind.open(
            config.out,
            to_dict(asked),
            made,
            volatile=VOLATILE,
            defaults=to_dict(TrainConfig()),
            keep=config.keep,
            note=note,
        )

    with ExitStack() as stack:
        run = None
        # another's run is refused before a model is loaded
        if distributed.agreed(is_run(Path(config.out))):
            run = stack.enter_context(opened())
            if run.done:
                return run.path
        task = load_task(config.task)
        student = load_policy(
            config.student, "student", task.tokenizer(), config.seed, config.device, config.dtype,
            config.trust_remote_code,
        ).add_stop_tokens(task.stop)  # fmt: skip
        _fit(student, config, note)
        expert, base = _lazy_expert(config, task, student), _lazy_base(config, task, student)
        # a mistake should show before anything is written; a script that is cached needs no expert
        cached = os.path.exists(Path(config.out) / "data" / "fixed.safetensors")
        wanted = (config.expert and config.eval_expert) or (table.needs_expert(config) and not cached)
        facts = _facts(expert()) if wanted else {}
        _preflight(config, task, student)
        sampler = _sampler(config, student, task)
        if distributed.size() > 1:
            note(shard(student))
        run = run or stack.enter_context(opened())
        if sampler is not None:
            stack.callback(sampler.close)
        interrupted = stack.enter_context(_interruptible())
        ledger = Ledger()
        optimizer = torch.optim.AdamW(
            student.trained().values(), lr=config.lr, betas=(0.9, config.adam_beta2), weight_decay=config.weight_decay
        )
        # everything below is a function of (config, step, weights, random state), so this is all that a resume needs
        seed_all(config.seed)
        first, found = 0, run.restore()
        if found is not None:
            first, ledger = found.step, Ledger(**found.state["ledger"])
            training_state.load(found, student, optimizer, config.seed)
        if distributed.is_main():
            trackers = open_trackers(config.tracker, run.path, to_dict(asked), first, note)
            run.listeners.append(stack.enter_context(trackers).on_record)
        run.describe(student=student.describe() | provenance_of(config.student), **facts)
        source = Source(config, task, student, expert, base, run, ledger, show, sampler)
        evaluator = Evaluator(config, task, student, expert if config.expert else None, run, ledger, show)

        def save(step: int) -> None:
            check_weights(student, step)
            state = {"ledger": ledger.as_dict(), "updates": config.updates}
            training_state.save(run, step, student, optimizer, state)

        def stopped(step: int) -> Interrupted:
            run.status("stopped", "interrupted", step=step)
            return Interrupted(f"saved at update {step} of {config.updates}; the same command resumes from there")

        for step in range(first, config.updates):
            if config.budget and distributed.agreed(getattr(ledger, config.budget_axis)) >= config.budget:
                break
            boundary = step % config.updates_per_rollout == 0
            if boundary and distributed.any_of(interrupted()):
                save(step)
                raise stopped(step)
            if boundary and step > first and _due(step, config.save_every):
                save(step)  # before the evaluation: a resume repeats it and must not log it twice
            if _due(step, config.eval_every):
                with student.gathered_weights():
                    evaluator.during(step)
            began = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, step)
            with student.gathered_weights():
                labelled = source.labelled(step)
            told = update(student, optimizer, labelled, config)
            check_finite(told, step, labelled, config)
            ledger.updates += 1
            ledger.student_tokens_trained += told["tokens"]
            ledger.train_seconds += time.perf_counter() - began
            run.log(
                {"kind": "train", "step": step + 1, "lr": learning_rate(config, step)} | told | _ledgered(ledger, began)
            )
            show(
                "train", step + 1, config.updates, f"loss {told['loss']:.3f}" if told["loss"] is not None else "no data"
            )
        save(ledger.updates)
        if distributed.any_of(interrupted()):
            raise stopped(ledger.updates)
        with student.gathered_weights():
            final = evaluator.final(ledger.updates)

        def write_final(folder: Path) -> None:
            student.save(folder)
            if distributed.is_main():
                told = (to_dict(asked), read_provenance(run.path), ledger.as_dict(), final)
                text = card(*told, find_diagnosis(run.path, told[0]))
                (folder / "README.md").write_text(text, encoding="utf-8")

        run.finish(write_final, final)
        return run.path


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up to lr, then the schedule, at update `step` (from 0)."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    if config.schedule == "constant":
        return config.lr
    progress = (step - config.warmup) / max(1, config.updates - config.warmup)
    return config.lr * (1 - progress if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress)))


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _ledgered(ledger: Ledger, began: float) -> dict[str, Any]:
    return {"seconds": time.perf_counter() - began, "ledger": ledger.as_dict()}


def _lazy_expert(config: TrainConfig, task: Any, student: Policy) -> Callable[[], Expert]:
    made: list[Expert] = []

    def load() -> Expert:
        if not made:
            expert = load_expert(config.expert_spec, task, student)
            check_same_language(student, expert, config.expert)
            _check_capabilities(config, expert)
            made.append(expert)
        return made[0]

    return load


def _check_capabilities(config: TrainConfig, expert: Expert) -> None:
    implied = {"top_k"} if "distribution" in expert.capabilities else set()
    missing = table.capabilities(config) - expert.capabilities - implied
    if missing:
        raise UserError(
            "expert",
            config.expert,
            f"cannot {' or '.join(sorted(missing))}, which method {config.method} needs; it can "
            f"{', '.join(sorted(expert.capabilities)) or 'nothing'}{': ' if expert.hint else ''}{expert.hint}",
        )


def _sampler(config: TrainConfig, student: Policy, task: Task) -> Any:
    if config.sampler == "local":
        return None
    if distributed.size() > 1:
        hint = "one process gives a server its weights: use --sampler local with several"
        raise UserError("sampler", config.sampler, hint)
    from understudy.training.server_sampler import ServerSampler

    return ServerSampler(config, student, task)


def _fit(student: Policy, config: TrainConfig, note: Callable[[str], None]) -> None:
    """The adapter, the memory and the precision that `config` asks for."""
    if config.dtype != "float32" and student.device.type == "cpu":
        note(f"dtype {config.dtype} on a CPU: matrix products can be 100 times slower than in float32")
    if config.lora_rank:
        alpha = config.lora_alpha or 2.0 * config.lora_rank
        student.adapt(config.lora_rank, alpha, config.lora_dropout, config.lora_targets, config.seed)
    if config.activation_checkpointing:
        student.save_memory()


def _lazy_base(config: TrainConfig, task: Any, student: Policy) -> Callable[[], Policy]:
    if config.behavior != "base":
        return lambda: student  # never called
    c = config
    if student.adapter is not None and c.base in ("", c.student):
        return student.reference  # the same weights without the adapter: no second copy
    base = load_policy(
        c.base or c.student, "base", task.tokenizer(), c.seed, c.device, c.dtype, c.trust_remote_code
    ).add_stop_tokens(task.stop)
    check_same_language(student, base, c.base or c.student)
    return lambda: base


def _facts(e: Expert) -> dict[str, Any]:
    return {"expert": {"name": e.name, "capabilities": sorted(e.capabilities), "provenance": e.provenance}}


def _preflight(config: TrainConfig, task: Task, student: Policy) -> None:
    """Refuse now what would stop the run at its first batch, or after hours at its last evaluation."""
    room = config.max_new_tokens or task.max_new_tokens
    for split in splits_of(f"{config.eval_splits},{config.eval_during}", task):
        held_out(task, student, split, config.final_prompts, config.eval_seed, room)
    student.check_room(student.encode(task.prompts("train", config.prompts_per_update, config.seed)), room)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C asks for a stop after this update, the second one stops at once."""
    asked = threading.Event()

    def handler(number: int, _: Any) -> None:
        if asked.is_set() and (distributed.size() == 1 or number == signal.SIGINT):
            # (torchrun sends each of its processes a SIGTERM after a Ctrl-C that has reached them already)
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for s, old in before.items():
            signal.signal(s, old)
